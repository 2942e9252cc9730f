"""The same photograph counted on a GPU and on the CPU, by the authors' network at its full size."""

import numpy as np
import pytest
import standin_weights
import torch

from clipcount_cli.api import load_counter

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
PROMPTS = ["red apples", "the small white birds on the wire"]


@pytest.fixture(scope="module")
def weights(standin_clip, tmp_path_factory):
    folder = tmp_path_factory.mktemp("gpu")
    released = standin_weights.write_checkpoint(folder / "released.ckpt")
    return standin_weights.write_weights(folder / "own.safetensors", released, standin_clip)


@pytest.fixture(scope="module")
def photograph():
    return np.random.default_rng(0).integers(0, 256, (480, 640, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def on_cpu(weights, photograph):
    return counts(load_counter(weights, "cpu", "fp32"), photograph)


def counts(counter, photograph):
    return np.array([result.count for result in counter.count(photograph, PROMPTS)])


@pytest.mark.parametrize(
    ("precision", "tolerance"), [("fp32", 1e-4), ("bf16", 1e-2), ("fp16", 1e-2)]
)
def test_a_gpu_counts_as_the_cpu_does_in_single_precision(
    weights, photograph, on_cpu, precision, tolerance
):
    counter = load_counter(weights, "cuda", precision)

    np.testing.assert_allclose(counts(counter, photograph), on_cpu, rtol=tolerance)


def test_a_photograph_counted_twice_on_a_gpu_has_the_same_count(weights, photograph):
    counter = load_counter(weights, "cuda", "bf16")

    assert np.array_equal(counts(counter, photograph), counts(counter, photograph))


def test_a_gpu_is_chosen_where_there_is_one(weights):
    counter = load_counter(weights)

    assert counter.device.type == "cuda"
