"""Rendered scenes: the same everywhere, their dots where the objects are, their prompts true."""

from __future__ import annotations

import shutil
import unicodedata
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scenes import render
from scenes.brush import NAMED_COLOURS
from scenes.compose import Canvas, Light, make_stamp
from scenes.drawings import DRAWINGS, draw
from scenes.nouns import (
    MATERIALS,
    MODELLED,
    NOUNS,
    PICTURED,
    SIZES,
    STRANGERS,
    Noun,
    noun_of,
)
from scenes.pictures import FOLDERS, LOOKS, dye
from scenes.render import Catalogue, Cutout, SceneConfig, render_scene, vocabulary
from scenes.wording import Group, absent_prompts

from clipcount_cli.errors import DataError

pytestmark = pytest.mark.slow

SMALL = SceneConfig(side_px=96, max_objects=60)


NAMES = ("apples", "oranges", "coins", "candies", "cars", "cells", "peas", "balls", "marbles")
CATALOGUE = Catalogue({name: NOUNS[name] for name in NAMES})


@pytest.fixture
def catalogue() -> Catalogue:
    return CATALOGUE


def test_a_scene_follows_from_its_seed_alone(catalogue):
    first = render_scene(7, catalogue, SMALL)
    render_scene(8, catalogue, SMALL)
    again = render_scene(7, Catalogue(catalogue.nouns), SMALL)

    assert np.array_equal(first.pixels, again.pixels)
    assert first.absent == again.absent
    assert list(first.points_px) == list(again.points_px)


def test_test_scenes_show_other_drawings_than_training(catalogue):
    rng = np.random.Generator(np.random.PCG64(0))
    train = {c.rgba.tobytes() for c in catalogue.cutouts("coins", "", rng, 200)}
    test = {c.rgba.tobytes() for c in catalogue.cutouts("coins", "", rng, 200, part="test")}

    assert len(train) > 20
    assert not train & test


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**40), part=st.sampled_from(["train", "test"]))
def test_prompts_of_any_scene_are_consistent(seed, part):
    scene = render_scene(seed, CATALOGUE, SMALL, part)

    assert scene.pixels.shape == (96, 96, 3)
    assert scene.pixels.dtype == np.uint8
    assert not set(scene.absent) & set(scene.points_px)
    total = len(scene.points_px.get("objects", ()))
    for points in scene.points_px.values():
        assert points.shape[1] == 2
        assert points.dtype == np.float32
        assert 0 < len(points) <= total
        assert points.min() >= 0
        assert points.max() <= 95
    nouns = [n for n in scene.points_px if n in NAMES]
    assert sum(len(scene.points_px[name]) for name in nouns) == total
    for name in nouns:
        asked = [f"{colour} {name}" for colour in NOUNS[name].colours]
        coloured = [scene.points_px[name] for name in asked if name in scene.points_px]
        assert sum(map(len, coloured)) in (0, len(scene.points_px[name]))


def test_some_scenes_are_empty_and_ask_only_for_what_is_absent(catalogue):
    scenes = [
        render_scene(seed, catalogue, SceneConfig(side_px=48, empty=1.0)) for seed in range(5)
    ]

    assert all(scene.points_px == {} for scene in scenes)
    assert all("objects" in scene.absent for scene in scenes)


def test_two_colours_of_one_noun_are_told_apart():
    config = SceneConfig(side_px=64, empty=0, grey=0, assorted=0, second_class=1, same_noun=1)
    catalogue = Catalogue({"candies": NOUNS["candies"]})
    scenes = [render_scene(seed, catalogue, config) for seed in range(4)]
    coloured = [[name for name in s.points_px if name.endswith(" candies")] for s in scenes]

    assert max(map(len, coloured)) >= 2
    assert any(name.endswith(" candies") for name in scenes[0].absent)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**40), part=st.sampled_from(["train", "test"]))
def test_two_sizes_of_a_noun_are_named_together_and_make_up_the_noun(seed, part):
    scene = render_scene(seed, CATALOGUE, replace(SMALL, two_sizes=1, assorted=0), part)
    sized = {prompt: points for prompt, points in scene.points_px.items() if size_of(prompt)}

    nouns = {noun_of(prompt) for prompt in sized}
    assert len(nouns) <= 1
    for noun in nouns:
        large, small = (
            next(points for prompt, points in sized.items() if prompt in names)
            for names in zip(
                *((f"{a} {noun}", f"{b} {noun}") for a, b in SIZES.items()), strict=True
            )
        )
        assert len(large) + len(small) == len(scene.points_px[noun])
    assert all(noun_of(prompt) not in nouns or len(prompt.split()) > 2
               for prompt in scene.absent if size_of(prompt))  # fmt: skip


def size_of(prompt: str) -> str:
    return prompt.split()[0] if prompt.split()[0] in (*SIZES, *SIZES.values()) else ""


def test_small_things_are_drawn_at_about_half_the_size_of_large_ones(monkeypatch):
    scales: list[float] = []

    def recorded(cutout, scale, *others):
        scales.append(scale * np.sqrt(np.prod(cutout.rgba.shape[:2])))
        return make_stamp(cutout, scale, *others)

    monkeypatch.setattr(render, "make_stamp", recorded)
    config = replace(SMALL, two_sizes=1, empty=0, assorted=0, second_class=0, stamps=2)
    ratios = []
    for seed in range(60):
        scales.clear()
        scene = render_scene(seed, Catalogue({"balls": NOUNS["balls"]}), config)
        if len(scales) == 6 and any(size_of(prompt) for prompt in scene.points_px):
            ratios.append(np.mean(scales[3:]) / np.mean(scales[:3]))

    assert len(ratios) > 30
    assert 0.3 < min(ratios) < max(ratios) < 0.85
    assert np.median(ratios) == pytest.approx(0.5, abs=0.1)


def test_a_material_is_named_and_nothing_that_might_be_said_of_it_is_called_absent():
    config = replace(SMALL, materials=1, empty=0, grey=0, assorted=0)
    rows = {name: NOUNS[name] for name in ("spoons", "coins", "beads", "peas")}
    rows["coins"] = replace(rows["coins"], synonyms=())  # every coin is one of the "metal coins"
    seen = set()
    for seed in range(80):
        scene = render_scene(seed, Catalogue(rows), config)
        looks = {p.split()[0]: noun_of(p) for p in scene.points_px if p.split()[0] in MATERIALS}
        seen |= {f"{look} {noun}" for look, noun in looks.items()}
        for look, noun in looks.items():
            alike = {f"{other} {noun}" for other in MATERIALS[look]}
            assert not alike & {*scene.absent, *scene.points_px}

    assert {"wooden spoons", "plastic spoons", "gold coins", "wooden beads"} <= seen
    assert "wooden peas" not in seen


def test_wood_is_brown_and_metal_is_grey():
    wood, silver = (
        np.concatenate([opaque(draw("spoons", look, number)) for number in range(12)])
        for look in ("wooden", "metal")
    )

    assert (np.median(wood, axis=0) @ [1, 0, -1]) > 50
    assert abs(np.median(silver, axis=0) @ [1, 0, -1]) < 20


def opaque(rgba: np.ndarray) -> np.ndarray:
    return rgba[rgba[..., 3] > 200][:, :3].astype(float)


def test_a_grey_photograph_names_no_colour(catalogue):
    config = SceneConfig(side_px=64, empty=0, grey=1, materials=1)
    scenes = [render_scene(seed, catalogue, config) for seed in range(12)]

    assert all(np.ptp(scene.pixels.astype(int), axis=2).max() == 0 for scene in scenes)
    names = {name for scene in scenes for name in scene.points_px if " " in name}
    looks = {name.split()[0] for name in names - {"green peas", "metal coins"}}
    assert not looks & {*NAMED_COLOURS, *MATERIALS}


def test_look_alikes_are_never_asked_for_as_absent(catalogue):
    for seed in range(30):
        scene = render_scene(seed, catalogue, SMALL)
        if "balls" in scene.points_px:
            assert not any(name.endswith(("marbles", "candies")) for name in scene.absent)


def square(side_px: int) -> Cutout:
    rgba = np.full((side_px, side_px, 4), 255, np.uint8)
    return Cutout("squares", (), rgba, "test", "train")


def test_a_hidden_object_is_hardly_visible_and_a_cut_one_half():
    light = Light(shadow_strength=0, shadow_reach=0, shadow_blur=0, pull=0, gain=1)
    mean = np.zeros(3, np.float32)
    small, large = (make_stamp(square(side), 1.0, 0.0, mean, light) for side in (10, 20))
    canvas = Canvas(np.zeros((64, 64, 3), np.float32), margin_px=30)
    canvas.put(small, (32, 32))
    canvas.put(large, (32, 32))
    canvas.put(large, (0, 10))

    assert canvas.visible() == pytest.approx([0, 1, 0.5], abs=0.06)
    assert canvas.picture()[32, 32].min() == 255
    assert canvas.picture()[60, 60].max() == 0


def test_dots_lie_on_the_objects():
    config = SceneConfig(side_px=128, empty=0, grey=0, second_class=0, plate=0, min_visible=0.95)
    pearls = Catalogue({"pearls": replace(NOUNS["pearls"], colours=("white",))})
    on, beside = [], []
    for seed in range(12):
        scene = render_scene(seed, pearls, config)
        brightness = scene.pixels.astype(float).mean(2)
        for points in (scene.points_px[name] for name in ("pearls",) if name in scene.points_px):
            x, y = np.round(points).astype(int).T
            on.append(brightness[y, x])
            beside.append(brightness[y, (x + 64) % 128])

    assert np.median(np.concatenate(on)) > np.median(np.concatenate(beside)) + 20


@pytest.mark.parametrize("noun", sorted(DRAWINGS))
def test_each_noun_can_be_drawn_and_stands_clear_of_its_border(noun):
    colour = (NOUNS[noun].colours or ("",))[0]
    rgba = draw(noun, colour, 3)

    assert rgba.shape == (96, 96, 4)
    assert 0.02 < (rgba[..., 3] > 128).mean() < 0.9
    assert rgba[[0, -1], :, 3].max() == 0


def test_every_pictured_noun_has_a_picture_and_every_drawn_one_a_drawing():
    assert set(NOUNS) == set(DRAWINGS)
    assert set(PICTURED) <= set(LOOKS) <= set(PICTURED) | set(NOUNS)


def test_dyeing_moves_the_main_colour_and_leaves_the_others():
    rgba = np.zeros((20, 20, 4), np.uint8)
    rgba[:, :15] = (200, 20, 20, 255)
    rgba[:, 15:] = (240, 240, 240, 255)
    dyed = dye(rgba, "blue", np.random.Generator(np.random.PCG64(0)))

    red, _, blue, _ = dyed[10, 5]
    assert blue > red + 60
    assert np.abs(dyed[10, 18].astype(int) - rgba[10, 18]).max() < 3


def test_dyeing_something_pale_colours_all_of_it():
    rgba = np.full((20, 20, 4), (200, 225, 230, 255), np.uint8)
    rgba[:2] = (30, 150, 220, 255)
    dyed = dye(rgba, "red", np.random.Generator(np.random.PCG64(0))).astype(int)

    assert (dyed[..., 0] > dyed[..., 2] + 60).all()


def test_a_synonym_of_what_is_there_is_not_called_absent():
    shells = Catalogue({"shells": Noun("shells", "shell", synonyms=("seashells",))})
    groups, there = [Group("shells", "", 3)], ("shells", "objects")
    absent = set()
    for seed in range(300):
        rng = np.random.default_rng(seed)
        absent.update(absent_prompts(groups, there, shells.nouns, False, rng))

    assert "seashells" in STRANGERS
    assert {"kettles", "lobsters"} < absent
    assert "seashells" not in absent


def test_missing_material_names_the_command_that_fetches_it(tmp_path):
    with pytest.raises(DataError) as caught:
        Catalogue.from_material(tmp_path)

    assert "scripts/scenes fetch" in (caught.value.hint or "")


@pytest.fixture
def material(tmp_path) -> Path:
    """A folder like that of scripts/scenes/fetch.py: red pictures, and blue views of models."""
    picture, view = (np.full((24, 24, 4), rgba, np.uint8) for rgba in (RED, BLUE))
    codes = {f"{ord(unicodedata.lookup(k.emoji.upper())):x}" for row in LOOKS.values() for k in row}
    for part, folder in FOLDERS.items():
        (tmp_path / folder).mkdir()
        for code in codes:
            Image.fromarray(picture).save(tmp_path / folder / f"{code}.png")
        for noun in (*MODELLED, "cars", "cats"):
            (tmp_path / "models" / part / noun).mkdir(parents=True)
            view[0, 0, 1] = part == "test"
            Image.fromarray(view).save(tmp_path / "models" / part / noun / "view.png")
    return tmp_path


RED, BLUE = (200, 20, 20, 255), (20, 20, 200, 255)


def sources(catalogue: Catalogue, noun: str, colour: str = "", part: str = "train") -> set[str]:
    rng = np.random.Generator(np.random.PCG64(0))
    chosen = [catalogue.cutouts(noun, colour, rng, 60, part) for _ in range(20)]
    return {cutout.source for row in chosen for cutout in row}


def test_views_of_models_join_the_pictures_and_drawings_of_a_noun(material):
    catalogue = Catalogue.from_material(material)

    assert sources(catalogue, "chairs") == {"models"}
    assert sources(catalogue, "cats") == {"models", "fluent"}
    assert sources(catalogue, "cats", part="test") == {"models", "noto"}
    assert sources(catalogue, "cars", "red") == {"models", "drawn"}


@pytest.mark.parametrize("views", [12, 60, 84, 180])
def test_every_view_of_a_noun_is_shown(views, material, monkeypatch):
    folder = material / "models" / "train" / "chairs"
    for number in range(1, views):
        Image.new("RGBA", (8, 8), (number, 255, 128, 255)).save(folder / f"{number:03}.png")
    monkeypatch.setattr("scenes.catalogue.vary", lambda rgba, *_: rgba)
    catalogue = Catalogue.from_material(material)
    rng = np.random.Generator(np.random.PCG64(0))
    shown = {
        cutout.rgba.tobytes()
        for _ in range(40)
        for cutout in catalogue.cutouts("chairs", "", rng, 60)
    }

    assert len(shown) == views


def test_a_view_of_a_coloured_noun_is_dyed(material):
    catalogue = Catalogue.from_material(material)
    rng = np.random.Generator(np.random.PCG64(0))
    chosen = [c for _ in range(20) for c in catalogue.cutouts("cars", "green", rng, 60)]
    cars = [cutout for cutout in chosen if cutout.source == "models"]

    assert len(cars) > 50
    for car in cars:
        red, green, blue = car.rgba[car.rgba[..., 3] > 200][:, :3].mean(0)
        assert green > max(red, blue)


def test_a_noun_without_views_names_the_command_that_fetches_them(material):
    shutil.rmtree(material / "models" / "test" / "chairs")

    with pytest.raises(DataError, match="chairs") as caught:
        Catalogue.from_material(material)

    assert "scripts/scenes fetch" in (caught.value.hint or "")


def test_the_vocabulary_holds_every_word_that_scenes_ask_for(catalogue):
    words = {word for phrase in vocabulary(catalogue) for word in phrase.split()}
    config = replace(SMALL, two_sizes=0.5, materials=0.5)
    asked = set()
    for seed in range(80):
        scene = render_scene(seed, catalogue, config)
        asked |= {word for name in (*scene.points_px, *scene.absent) for word in name.split()}

    assert asked <= words
