"""scripts/make_tiny.py: what samples show and name, and that a run becomes weights that count."""

from __future__ import annotations

import csv
import dataclasses
import itertools
import json
import math
import shutil
from pathlib import Path

import make_tiny
import numpy as np
import pytest
import tiny.network
import torch
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from pretend_cuda import needs_pretend_cuda, pretend_cuda
from safetensors.torch import save_file
from tiny import phrases
from tiny.align import Names, alignment_losses, label_weights
from tiny.bank import Bank
from tiny.photos import part_of, read_photos
from tiny.samples import SampleSource
from tiny.trainer import TARGET_SIDE_PX, TRAINING, TinyTrainer, density_of, make_batch
from tiny.validation import SHIFTS, calibrated_shift
from torch import nn

from clipcount_cli import load_counter
from clipcount_cli.config import BPE_ROWS
from clipcount_cli.counting.prompts import tokenize
from clipcount_cli.counting.recognition import Evidence
from clipcount_cli.counting.towers import EfficientNetLite0, PhraseEncoder
from clipcount_cli.errors import WeightsError
from clipcount_cli.training.step import StepPlan
from clipcount_cli.weights import checkpoint, digests

pytestmark = pytest.mark.slow

COINS = make_tiny.ASSET.parent / "examples" / "coins.jpg"
SETS = {"coins_on_cloth": "coins", "coco_people": "people"}


@pytest.fixture(scope="session")
def photos(tmp_path_factory) -> Path:
    """Two sets of sixteen photos: discs on cloth, all annotated; people among unknown things."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for name, prompt in SETS.items():
        (folder / name / "images").mkdir(parents=True)
        rows = [("image", "prompt", "x", "y")]
        for number in range(16):
            picture = Image.new("RGB", (160, 120), (90, 60, 120))
            for x, y in rng.integers(10, 110, (6, 2)).tolist():
                ImageDraw.Draw(picture).ellipse((x - 6, y - 6, x + 6, y + 6), fill="silver")
                rows.append((f"{number}.png", prompt, x, y))
            rows.append((f"{number}.png", "penguins", "", ""))
            picture.save(folder / name / "images" / f"{number}.png")
        with (folder / name / "points.csv").open("w", newline="") as file:
            csv.writer(file).writerows(rows)
    return folder


@pytest.fixture(scope="session")
def source(photos):
    return SampleSource.open(None, photos)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**40))
def test_a_sample_names_its_dots_and_nothing_that_it_shows_is_named_absent(source, seed):
    sample = source.sample(seed)

    assert 1 <= len(set(sample.prompts)) == len(sample.prompts) == len(sample.points_px)
    assert sample.pixels.shape == (288, 288, 3)
    assert sample.pixels.dtype == np.uint8
    for prompt, points in zip(sample.prompts, sample.points_px, strict=True):
        assert ((points >= 0) & (points < 288)).all()
        if not len(points):
            assert not any(source.bank.may_be_same(prompt, noun) for noun in sample.nouns)
    if sample.objects_px is None:
        assert "objects" not in sample.prompts


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**40))
def test_a_second_view_is_the_mirror_image_with_its_dots(source, seed):
    one, two, three = source.samples(seed, 3)

    assert one.prompts == source.sample(seed).prompts
    assert np.array_equal(one.pixels[:, ::-1], two.pixels)
    assert np.array_equal(one.pixels, three.pixels)
    for prompt, at in zip(two.prompts, two.points_px, strict=True):
        assert ((at >= 0) & (at < 288)).all()
        if prompt in one.prompts:
            own = one.points_px[one.prompts.index(prompt)]
            assert at == pytest.approx(mirrored(own), abs=1)
    for name in ("nouns", "colours"):
        own, other = getattr(one, name), getattr(two, name)
        assert {n: len(at) for n, at in own.items()} == {n: len(at) for n, at in other.items()}
        assert all(other[n] == pytest.approx(mirrored(at), abs=1) for n, at in own.items())
    if one.objects_px is not None:
        assert two.objects_px == pytest.approx(mirrored(one.objects_px), abs=1)


def mirrored(points_px):
    return np.array([287, 0]) + points_px * [-1, 1]


def test_a_training_that_shows_pictures_twice_resumes_within_one(source, photos):
    config = tiny.network.tiny_config(source.bank.nouns)
    given = make_tiny.BatchSource(None, photos, (), config, batch=2, views=2, first_sample=0)
    batches = make_tiny.endless_batches(given, workers=0)

    whole = list(itertools.islice(batches(0), 4))
    rest = list(itertools.islice(batches(1), 3))

    assert torch.equal(whole[0].windows, whole[1].windows.flip(-1))
    assert not torch.equal(whole[1].windows, whole[2].windows)
    for one, again in zip(whole[1:], rest, strict=True):
        assert torch.equal(one.windows, again.windows)
        assert torch.equal(one.target, again.target)


def test_photos_are_split_by_name_and_no_photo_is_in_two_parts(photos):
    parts = {part: {p.path for p in read_photos(photos, part)} for part in ("train", "val", "test")}

    assert sum(map(len, parts.values())) == 32
    assert len(set().union(*parts.values())) == 32
    assert part_of("apples_orchard", "a.webp") == part_of("apples_orchard", "a.webp")


def test_a_target_holds_as_many_objects_as_there_are_dots():
    points_px = np.array([[0.0, 0.0], [140.0, 150.0], [287.0, 100.0]], np.float32)

    density = density_of(points_px)

    assert float(density.sum()) * (384 / TARGET_SIDE_PX) ** 2 / 60 == pytest.approx(3, rel=1e-3)


def test_labels_lie_on_the_patches_of_their_dots(source):
    samples = [source.sample(seed) for seed in range(12)]
    config = tiny.network.tiny_config(source.bank.nouns)

    batch = make_batch(samples, config, seed=0)

    assert len(batch.labels) > 10
    for image, patch, noun in batch.labels.tolist():
        dots = samples[image].nouns[config.bank[noun]] // 16
        assert [patch % 18, patch // 18] in dots.astype(int).tolist()


def test_alignment_rewards_any_right_name_and_ignores_kinds(source):
    bank = Bank({n: source.bank.table[n] for n in ("apples", "coins", "strawberries")}, ())
    names = Names(bank)
    both = torch.eye(len(names.rows) + len(names.kinds))
    rows, kinds = both[: len(names.rows)], both[len(names.rows) :]
    labels = torch.tensor([[0, 0, bank.nouns.index("apples")]])

    def loss(like: str) -> float:
        vectors = rows[names.rows.index(like)].expand(1, 1, 3, -1)
        evidence = Evidence(vectors, torch.zeros(1, 1, 3), torch.zeros(1, 1))
        return float(alignment_losses(evidence, labels, names, rows, kinds, torch.ones(3) * 0.1))

    assert loss("apples") == pytest.approx(loss("apple"), rel=1e-4)
    assert loss("coins") > loss("apples") + 5
    assert label_weights(torch.tensor([[0, 1, 2], [0, 2, 2], [1, 0, 0]]), 2).tolist() == (
        pytest.approx([0.5**0.5, 0.5**0.5, 1])
    )


@needs_pretend_cuda
def test_a_step_on_a_gpu_waits_for_nothing(source, monkeypatch):
    samples = [source.sample(seed) for seed in (1, 3)]
    model = tiny.network.CompactClipCount(tiny.network.tiny_config(source.bank.nouns))
    batch = make_batch(samples, model.config, seed=0)
    bank = Bank({n: source.bank.table[n] for n in ("coins", "apples")}, source.bank.nouns)

    with pretend_cuda() as seen:
        trainer = TinyTrainer(model.to("cuda:0"), TRAINING, StepPlan(100, 1), Names(bank))
        give_gradients(monkeypatch, trainer)
        trainer.step(batch.to(trainer.device))  # constants are uploaded once
        trainer.read()
        seen.clear()
        for _ in range(3):
            trainer.step(batch.to(trainer.device))
        losses = trainer.read()

    assert seen.syncs_of() == 1, seen.syncs  # the losses that were read
    assert all(math.isfinite(loss) for step, _ in losses for loss in step.values())
    assert len(losses) == 3


def give_gradients(monkeypatch, trainer):
    """Stand in for autograd, which has no thread for a device that is not there."""

    def backward(loss):
        for parameter in trainer.trained.values():
            parameter.grad = torch.full_like(parameter, 1e-3)

    monkeypatch.setattr(torch.autograd, "backward", backward)


@pytest.mark.parametrize(
    ("one", "many"),
    [("coin", "coins"), ("berry", "berries"), ("box", "boxes"), ("cell nucleus", "cell nuclei"),
     ("dairy cow", "dairy cows"), ("tomato", "tomatoes"),
     ("grandchild", "grandchildren"), ("human", "humans")],
)  # fmt: skip
def test_plurals_are_those_of_english(one, many):
    assert phrases.plural(one) == many


def test_phrases_are_physical_nouns_with_plurals_and_attributes(tmp_path):
    """In WordNet's own format: synset, words in hex, pointers (`@` leads to what is above)."""
    lines = [
        "  1 This software and database is being provided ...",
        "00001930 03 n 01 physical_entity 0 000 | an entity that has physical existence",
        "00002684 03 n 02 object 0 physical_object 0 001 @ 00001930 n 0000 | tangible",
        "00003000 06 n 01 coffee_cup 0 001 @ 00002684 n 0000 | a cup",
        "00004000 09 n 01 freedom 0 000 | a state",
    ]
    (tmp_path / "data.noun").write_text("\n".join(lines))

    found = phrases.phrases(tmp_path, ["coins"])

    assert {"coffee cup", "coffee cups", "physical object", "coins", "red objects"} <= set(found)
    assert "freedom" not in found
    assert sum(phrase.endswith(" coins") for phrase in found) >= phrases.ATTRIBUTES_PER_NOUN


def test_strangers_are_common_words_unlike_the_nouns_of_the_bank(tmp_path, monkeypatch):
    lines = [
        "00001930 03 n 01 physical_entity 0 000 | an entity",
        "00002684 06 n 02 coin 0 apple 0 001 @ 00001930 n 0000 | things",
        "00003000 06 n 02 Boston 0 coffee_cup 0 001 @ 00001930 n 0000 | a city, two words",
        "00004000 06 n 01 parallelepipedon 0 001 @ 00001930 n 0000 | a rare word",
    ]
    (tmp_path / "data.noun").write_text("\n".join(lines))
    torch.manual_seed(0)
    model = tiny.network.CompactClipCount(tiny.network.tiny_config(["coins"]))
    with torch.no_grad():
        model.recognition.bank.copy_(tiny.network.encode(model, ["coins"]))
    monkeypatch.setattr(tiny.network, "STRANGE", 0.9999)
    assert tiny.network.strangers(model, tmp_path) == ["apples"]


def random_backbone():
    torch.manual_seed(1)
    return EfficientNetLite0(), nn.Linear(1280, 1000)


def make_quick(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(tiny.network, "load_backbone", random_backbone)
    patch.setattr(make_tiny, "STEPS_PER_EPOCH", 1)
    patch.setattr(make_tiny, "COLOUR_BATCHES", 2)
    patch.setattr(tiny.validation, "SHIFTS", SHIFTS[:2])


@pytest.fixture(scope="module")
def finished(tmp_path_factory, photos):
    """A run of two steps of two samples each, on towers that know nothing."""
    run = tmp_path_factory.mktemp("finished") / "run"
    run.mkdir()
    config = tiny.network.tiny_config(["coins"]).clip
    save_file(PhraseEncoder(config, BPE_ROWS).state_dict(), run / make_tiny.TEXT)
    (run / make_tiny.STRANGERS).write_text("gardenias\npiers")
    with pytest.MonkeyPatch.context() as patch:
        make_quick(patch)
        make_tiny.train(photos, run=run, steps=2, batch=2, workers=1, seed=5)
    return run


@pytest.fixture
def quick(finished, monkeypatch, tmp_path):
    """A copy of that run, and a package of its own to pack into."""
    make_quick(monkeypatch)
    monkeypatch.setattr(make_tiny, "ASSET", tmp_path / "packed.safetensors")
    return shutil.copytree(finished, tmp_path / "run")


def test_a_run_becomes_weights_that_count_and_say_how_they_were_made(quick, photos):
    make_tiny.pack(photos, run=quick)

    _, metadata = checkpoint.load_state(make_tiny.ASSET)
    assert {"coins", "coin", "money", "people"} < set(metadata.config.taught)
    assert {"coins", "zebras"} < set(metadata.config.bank)
    training = metadata.origin["training"]
    assert training["seed"] == 5
    assert training["samples"] == 4
    assert training["hours"] >= 0
    assert digests.read_record(make_tiny.ASSET) == digests.compute_digest(make_tiny.ASSET)
    [result] = load_counter(make_tiny.ASSET).count(COINS, ["coins"])
    assert np.isfinite(result.count)


def test_the_mean_of_two_runs_can_be_packed(quick, photos, tmp_path):
    other = shutil.copytree(quick, tmp_path / "other")
    state, metadata = checkpoint.load_state(other / "last.safetensors")
    bias = "recognition.embed.bias"
    checkpoint.save(
        {**state, bias: state[bias] + 1}, metadata.config, other / "last.safetensors", {}
    )

    make_tiny.pack(photos, run=quick, average=[other])

    packed, metadata = checkpoint.load_state(make_tiny.ASSET)
    torch.testing.assert_close(packed[bias].float(), state[bias] + 0.5, rtol=0, atol=1e-3)
    assert [training["seed"] for training in metadata.origin["training"]] == [5, 5]


def test_training_leaves_the_pretrained_towers_as_they_are(quick):
    tower, classifier = random_backbone()

    state, _ = checkpoint.load_state(quick / "last.safetensors")

    assert torch.equal(state["clip.visual.head.weight"], tower.head.weight)
    assert torch.equal(state["recognition.classifier.weight"], classifier.weight)
    with torch.no_grad():
        fresh = tiny.network.untrained(
            Bank({}, ("coins",)), quick / make_tiny.TEXT, seed=5
        ).state_dict()
    assert not torch.equal(state["recognition.embed.weight"], fresh["recognition.embed.weight"])


@pytest.mark.parametrize(
    ("errors", "wrong", "step"),
    [((0.300, 0.297, 0.29, 0.29, 0.29, 0.29, 0.29), (0.02, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07), 0),
     ((0.40, 0.35, 0.30, 0.28, 0.27, 0.26, 0.25), (0.02, 0.03, 0.04, 0.06, 0.2, 0.3, 0.4), 2)],
)  # fmt: skip
def test_relevance_is_shifted_no_further_than_photos_gain_from(
    quick, photos, monkeypatch, errors, wrong, step
):
    rows = dict(zip(SHIFTS, zip(errors, wrong, strict=True), strict=True))

    def validation(_):
        return lambda model: dict(
            zip(("val_nae", "val_nmn"), rows[model.config.relevance_shift], strict=True)
        )

    monkeypatch.setattr(tiny.validation, "validation", validation)
    monkeypatch.setattr(tiny.validation, "SHIFTS", SHIFTS)
    model, _ = checkpoint.load(quick / "last.safetensors")

    assert calibrated_shift(model, read_photos(photos, "val")) == SHIFTS[step]
    assert model.config.relevance_shift == 0.0


def test_a_training_that_continues_begins_with_the_counts_of_its_first_weights(quick, photos):
    path = quick / "last.safetensors"
    bank = SampleSource.open(None, photos).bank
    before, _ = checkpoint.load(path, dtype=torch.float32)
    config = dataclasses.replace(before.config, patch_colours=False, colour_channels=0)
    older = {
        name: before.state_dict()[name][:, : shape[1]]
        if len(shape) > 1
        else before.state_dict()[name]
        for name, shape in checkpoint.expected_shapes(config).items()
    }
    checkpoint.save(older, config, quick / "older.safetensors", {"name": "tiny", "licence": "MIT"})
    older_model, _ = checkpoint.load(quick / "older.safetensors", dtype=torch.float32)

    model = tiny.network.continued(bank, quick / "older.safetensors")

    windows, tokens = torch.rand(1, 3, 64, 64), tokenize(["red coins"], config)
    with torch.no_grad():
        torch.testing.assert_close(model(windows, tokens), older_model(windows, tokens))
    with pytest.raises(WeightsError, match="another bank"):
        tiny.network.continued(Bank({}, ("coins",)), quick / "older.safetensors")


def test_a_run_with_other_settings_is_not_resumed(quick, photos):
    before = {path.name: path.read_bytes() for path in quick.iterdir()}

    with pytest.raises(typer.BadParameter, match="was started with seed 5"):
        make_tiny.train(photos, run=quick, steps=2, batch=2, workers=1, seed=6)

    assert {path.name: path.read_bytes() for path in quick.iterdir()} == before


def test_steps_are_whole_epochs(tmp_path, photos):
    with pytest.raises(typer.BadParameter, match="not a multiple of 100"):
        make_tiny.train(photos, run=tmp_path / "run", steps=250)


def test_a_run_without_a_phrase_encoder_says_which_step_comes_first(tmp_path, photos):
    with pytest.raises(typer.BadParameter, match=r"make_tiny\.py text"):
        make_tiny.train(photos, run=tmp_path / "run", steps=100)


def test_a_run_that_has_not_ended_is_not_packed(quick, photos, tmp_path):
    log = quick / "log.csv"
    log.write_text("".join(log.read_text().splitlines(keepends=True)[:2]))

    with pytest.raises(typer.BadParameter, match="done 1 of 2 steps"):
        make_tiny.pack(photos, run=quick)
    with pytest.raises(typer.BadParameter, match="holds no training"):
        make_tiny.pack(photos, run=tmp_path / "other")

    assert not make_tiny.ASSET.exists()
    assert json.loads((quick / "config.json").read_text())["material"] is False
