"""scripts/make_tiny.py: what it asks of scenes, and that a run becomes weights that count."""

from __future__ import annotations

import dataclasses
import json
import shutil
from types import SimpleNamespace

import make_tiny
import numpy as np
import pytest
import torch
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from scenes.render import Catalogue, render_scene
from small_training import small_model

from clipcount_cli import load_counter
from clipcount_cli.weights import checkpoint

CATALOGUE = Catalogue.drawn()
TINY = make_tiny.ASSET
COINS = TINY.parent / "examples" / "coins.jpg"


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**40))
def test_a_scene_is_asked_for_its_own_dots_and_for_nothing_else(seed):
    scene = render_scene(seed, CATALOGUE, make_tiny.SCENES)

    asked = make_tiny.ask(scene, CATALOGUE.nouns, np.random.default_rng(seed))

    assert len(set(asked.prompts)) == len(asked.prompts) == make_tiny.PROMPTS_PER_SCENE
    for prompt, points_px in zip(asked.prompts, asked.points_px, strict=True):
        assert prompt in scene.points_px or prompt in scene.absent
        assert len(points_px) == len(scene.points_px.get(prompt, ()))


def test_a_density_holds_as_many_objects_as_it_has_dots():
    points_px = np.array([[0.0, 0.0], [140.0, 150.0], [287.0, 100.0]], np.float32)

    density = make_tiny.target_of(points_px)

    full_side = (384 / make_tiny.TARGET_SIDE_PX) ** 2
    assert float(density.sum()) * full_side / 60 == pytest.approx(3, rel=1e-3)


def test_new_words_leave_the_old_prompts_as_they_were():
    known = checkpoint.load_state(TINY)[1].config

    model = make_tiny.start(["apples", "zeppelins"], TINY, seed=0).eval()

    assert set(known.clip.vocabulary) < set(model.config.clip.vocabulary)
    tokens = make_tiny.tokenize(["apples"], model.config)
    before = load_counter("tiny", precision="fp32").model.encode_text(tokens)
    assert torch.allclose(model.encode_text(tokens), before, atol=1e-3)


def test_the_first_weights_past_half_of_the_steps_are_kept(tmp_path):
    model, saved = small_model(), []
    trainer = SimpleNamespace(step_number=0, plan=SimpleNamespace(steps=5))
    save = make_tiny.saver(trainer, tmp_path)

    for trainer.step_number in (2, 3, 4, 5):
        with torch.no_grad():
            next(model.parameters()).fill_(trainer.step_number)
        save(model, tmp_path / "last.safetensors")
        saved.append((tmp_path / "last.safetensors").read_bytes())

    assert (tmp_path / make_tiny.HALFWAY).read_bytes() == saved[1] != saved[2]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of two steps of two scenes each."""
    run = tmp_path_factory.mktemp("finished") / "run"
    with pytest.MonkeyPatch.context() as patch:
        make_quick(patch)
        make_tiny.main(run, steps=2, workers=1, seed=5, init=TINY)
    return run


@pytest.fixture
def quick(finished, monkeypatch, tmp_path):
    """A copy of that run, and a package of its own to pack into."""
    make_quick(monkeypatch)
    monkeypatch.setattr(make_tiny, "ASSET", tmp_path / "packed.safetensors")
    return shutil.copytree(finished, tmp_path / "run")


def make_quick(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(make_tiny, "TRAINING", dataclasses.replace(make_tiny.TRAINING, batch=2))
    patch.setattr(make_tiny, "STEPS_PER_EPOCH", 1)
    patch.setattr(make_tiny, "TEST_SCENES", 2)


def test_a_run_becomes_the_mean_of_its_middle_and_its_end(quick):
    make_tiny.main(quick, steps=2, pack=True)

    state, metadata = checkpoint.load_state(make_tiny.ASSET)
    halfway, _ = checkpoint.load_state(quick / make_tiny.HALFWAY)
    last, _ = checkpoint.load_state(quick / "last.safetensors")
    for name, mean in ((n, t) for n, t in state.items() if t.is_floating_point()):
        middle = (halfway[name] + last[name]).float() / 2
        assert torch.allclose(mean.float(), middle, rtol=1e-3, atol=1e-4)  # half precision
    assert json.loads((quick / "config.json").read_text())["scenes"] == 4
    assert {"coins", "wooden"} < set(metadata.config.taught)
    assert not make_tiny.NOT_LEARNED & set(metadata.config.taught)
    [result] = load_counter(make_tiny.ASSET).count(COINS, ["coins"])
    assert 5 < result.count < 100


def test_a_run_that_is_told_otherwise_is_not_gone_on_with(quick):
    before = {path.name: path.read_bytes() for path in quick.iterdir()}

    with pytest.raises(typer.BadParameter, match="was begun with seed 5"):
        make_tiny.main(quick, steps=2, workers=1, seed=6, init=TINY)

    assert {path.name: path.read_bytes() for path in quick.iterdir()} == before


def test_a_run_is_packed_with_the_nouns_that_it_was_taught(quick, tmp_path):
    with pytest.raises(typer.BadParameter, match="--material must be as it was"):
        make_tiny.main(quick, steps=2, pack=True, material=tmp_path)


def test_steps_are_whole_epochs(tmp_path):
    with pytest.raises(typer.BadParameter, match="not a multiple of 200"):
        make_tiny.main(tmp_path / "run", steps=300)


def test_a_run_that_has_not_ended_is_not_packed(quick, tmp_path):
    log = quick / "log.csv"
    log.write_text("".join(log.read_text().splitlines(keepends=True)[:2]))

    with pytest.raises(typer.BadParameter, match="done 1 of 2 steps"):
        make_tiny.main(quick, steps=2, pack=True)
    with pytest.raises(typer.BadParameter, match="holds no training"):
        make_tiny.main(tmp_path / "other", pack=True)

    assert not make_tiny.ASSET.exists()


def test_packed_weights_tell_how_long_they_were_trained_and_on_what(quick):
    make_tiny.main(quick, steps=2, pack=True)

    training = checkpoint.load_state(make_tiny.ASSET)[1].origin["training"]
    assert training["hours"] >= 0
    assert training["seed"] == 5
    assert training["scenes_drawn"]["side_px"] == make_tiny.SCENE_SIDE_PX
