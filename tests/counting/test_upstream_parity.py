"""The network computes what the authors' code computes; tolerances are those the figures came with.

The figures under golden/ were recorded by running songrise/CLIP-Count at ba57fd0 unchanged, in
float32 on a CPU, its tensors filled by `recipe`.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import standin_weights
import torch
from PIL import Image

from clipcount_cli.config import DENSITY_SCALE
from clipcount_cli.counting.counter import Counter
from clipcount_cli.counting.model import ClipCount
from clipcount_cli.weights.upstream import import_released

pytestmark = pytest.mark.slow

GOLDEN = Path(__file__).parents[1] / "golden"
EXAMPLES = Path(__file__).parents[2] / "clipcount_cli" / "assets" / "examples"
RECORDED = json.loads((GOLDEN / "released.json").read_text())


@pytest.fixture(scope="module")
def windows():
    return np.load(GOLDEN / "windows_input.npz")["windows"]


@pytest.fixture(scope="module")
def figures():
    return dict(np.load(GOLDEN / "released.npz"))


def pooled(density):
    """The sums over 8 x 8 cells, zero-padded at the right and bottom."""
    height, width = density.shape[-2:]
    padding = [(0, 0)] * (density.ndim - 2) + [(0, -height % 8), (0, -width % 8)]
    cells = np.pad(density, padding)
    rows, columns = cells.shape[-2] // 8, cells.shape[-1] // 8
    return cells.reshape(*cells.shape[:-2], rows, 8, columns, 8).sum((-3, -1))


def window_densities(counter, windows, prompt):
    text = counter.encode_prompts([prompt]).expand(len(windows), -1)
    return counter.densities(counter.encode_windows(windows), text).numpy()


def test_text_embeddings_are_those_of_the_authors(released_counter, figures):
    embeddings = released_counter.encode_prompts(RECORDED["prompts"]).numpy()

    np.testing.assert_allclose(embeddings, figures["text_embedding"], atol=1e-4)


@pytest.mark.parametrize("number", [0, 1])
def test_window_densities_are_those_of_the_authors(released_counter, windows, figures, number):
    prompt = RECORDED["window_prompts"][number]

    density = window_densities(released_counter, windows, prompt)

    counts = density.sum((1, 2), dtype=np.float64) / DENSITY_SCALE
    np.testing.assert_allclose(counts, figures[f"window_count_{number}"], rtol=1e-5)
    np.testing.assert_allclose(pooled(density), figures[f"window_pooled_{number}"], atol=1e-3)
    if number == 0:
        np.testing.assert_allclose(density[0], figures["window_density"], atol=1e-5)


def test_contrastive_patch_embeddings_are_those_of_the_authors(released_counter, windows, figures):
    features = released_counter.encode_windows(windows[:1])

    np.testing.assert_allclose(features.contrast, figures["patch_embedding_contrast"], atol=1e-4)


@torch.inference_mode()
def test_the_global_feature_is_that_of_the_authors(released_counter, windows, figures):
    model = released_counter.model
    seen = []
    hook = model.image_tower.register_forward_hook(lambda *called: seen.append(called[-1]))
    released_counter.encode_windows(windows)
    hook.remove()

    first = seen[0][:, :1]
    visual = model.clip.visual
    feature = visual.ln_post(first) @ visual.proj

    np.testing.assert_allclose(feature, figures["cls_embedding"], atol=1e-4)


@pytest.mark.parametrize(
    ("name", "photograph"),
    [("pil_skimage_coins", "coins.jpg"), ("pil_opencv_smarties", "smarties.jpg")],
)
def test_whole_photographs_count_as_in_the_authors_evaluation(released_counter, name, photograph):
    recorded = RECORDED["pipelines"][name]
    pixels = np.asarray(Image.open(EXAMPLES / photograph).convert("RGB"))

    [result] = released_counter.count(pixels, recorded["prompt"])

    assert result.count == pytest.approx(recorded["count"], rel=1e-4)
    assert list(result.density.shape) == recorded["size"]
    # JPEG decoders differ in the last bit, so the map has no recorded tolerance: only its shape
    # and its bulk are compared.
    recorded_cells = np.load(GOLDEN / f"{name}.npy")
    cells = pooled(result.density * DENSITY_SCALE)
    assert cells.shape == recorded_cells.shape
    np.testing.assert_allclose(cells, recorded_cells, atol=0.02 * recorded_cells.max())


@pytest.mark.parametrize("ablation", ["naive", "add", "frozen"])
def test_each_ablation_counts_as_the_authors_does(ablation, standin_clip, windows, tmp_path):
    checkpoint = standin_weights.write_checkpoint(tmp_path / "ablation.ckpt", ablation)
    imported = import_released(checkpoint, standin_clip)
    with torch.device("meta"):
        model = ClipCount(imported.config)
    model.load_state_dict({k: v.float() for k, v in imported.state.items()}, assign=True)
    counter = Counter(model, ablation, "0" * 64, "fp32")

    density = window_densities(counter, windows, "red apples")

    recorded = np.load(GOLDEN / f"{ablation}.npz")
    counts = density.sum((1, 2), dtype=np.float64) / DENSITY_SCALE
    np.testing.assert_allclose(counts, recorded["window_count"], rtol=1e-5)
    np.testing.assert_allclose(pooled(density), recorded["window_pooled"], atol=1e-3)


def test_bfloat16_counts_within_one_percent(released_counter, windows, figures):
    model = ClipCount(released_counter.model.config)
    model.load_state_dict(released_counter.model.state_dict())
    counter = Counter(model.bfloat16(), "released", "0" * 64, "bf16")

    density = window_densities(counter, windows, RECORDED["window_prompts"][0])

    counts = density.sum((1, 2), dtype=np.float64) / DENSITY_SCALE
    np.testing.assert_allclose(counts, figures["window_count_0"], rtol=1e-2)


def test_one_token_prompts_are_all_the_same_to_the_released_readout(released_counter):
    cars, people = released_counter.encode_prompts(["cars", "people"])

    assert torch.equal(cars, people)
    assert "no effect" in released_counter.unread_part("cars")
    assert 'read as "red"' in released_counter.unread_part("red apples")
