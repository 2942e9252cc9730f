"""What a GPU must do as the CPU does. Without one, every test runs on the CPU: a dry run.

On a GPU counts are compared with the authors' network at its full size, filled with stand-ins.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import standin_weights
import torch
from photo_folders import draw
from small_models import SMALL, save_small, small_model
from small_training import draw_dots, run_train

from clipcount_cli.api import load_counter
from clipcount_cli.batch.fixed_batch import FixedBatch
from clipcount_cli.batch.pipeline import Pipeline
from clipcount_cli.batch.plan import Job
from clipcount_cli.config import RECIPES, Recipe
from clipcount_cli.counting.counter import Counter
from clipcount_cli.counting.windows import Origin, window_weights
from clipcount_cli.errors import DeviceError
from clipcount_cli.training.photos import TrainingImage
from clipcount_cli.training.prefetch import prefetched
from clipcount_cli.training.sampler import Sampler
from clipcount_cli.training.start import choose_trained, model_config
from clipcount_cli.training.step import Trainer

ON_GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda:0" if ON_GPU else "cpu")
HALF = ["bf16", "fp16"] if ON_GPU else ["bf16"]
PROMPTS = ["red apples", "the small white birds on the wire"]
BATCH = 64 if ON_GPU else 4
needs_gpu = pytest.mark.skipif(not ON_GPU, reason="needs a CUDA device")
pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def weights(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("gpu")
    if not ON_GPU:
        return save_small(folder / "own.safetensors")
    clip = request.getfixturevalue("standin_clip")
    released = standin_weights.write_checkpoint(folder / "released.ckpt")
    return standin_weights.write_weights(folder / "own.safetensors", released, clip)


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(0, 256, (480, 640, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def on_cpu(weights, image):
    return counts(load_counter(weights, "cpu", "fp32"), image)


def counts(counter, image):
    return np.array([result.count for result in counter.count(image, PROMPTS)])


@pytest.mark.parametrize("precision", ["fp32", *HALF])
def test_a_gpu_counts_as_the_cpu_does_in_single_precision(weights, image, on_cpu, precision):
    counter = load_counter(weights, str(DEVICE), precision)

    tolerance = 1e-4 if precision == "fp32" else 1e-2
    np.testing.assert_allclose(counts(counter, image), on_cpu, rtol=tolerance)


def test_an_image_counted_twice_has_the_same_count(weights, image):
    counter = load_counter(weights, str(DEVICE), "bf16")

    assert np.array_equal(counts(counter, image), counts(counter, image))


@needs_gpu
def test_a_gpu_is_chosen_if_there_is_one(weights):
    assert load_counter(weights).device.type == "cuda"


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_windows_count_depends_neither_on_its_row_nor_on_its_company(weights, precision):
    network = FixedBatch(load_counter(weights, str(DEVICE), precision), BATCH)
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 256, (BATCH + 1, 384, 384, 3)).astype(np.uint8)
    blend = window_weights(384, 384, network.counter.windows)[0]

    def found(order, row):
        features = network.encode([(pixels[n], Origin(0, 0)) for n in order])
        rows = [(features, n) for n in range(len(order))]
        decoded = network.decode(rows, ["red apples"] * BATCH, [blend] * BATCH, True)
        assert decoded.densities is not None
        return decoded.densities[row], decoded.counts and decoded.counts[row]

    others = list(range(1, BATCH + 1))
    first_density, first_count = found([0, *others[:-1]], 0)
    last_density, last_count = found([*reversed(others[1:]), 0], BATCH - 1)

    assert np.array_equal(first_density, last_density)
    assert first_count == last_count


def test_batch_counts_on_a_gpu_what_it_counts_on_the_cpu(tmp_path):
    for number in range(30):
        draw(tmp_path / f"{number}.png", 96 + 8 * number, 64, seed=number)
    jobs = [Job(p.name, str(p), ("red dots",)) for p in sorted(tmp_path.iterdir())]

    def counted(device):
        counter = Counter(small_model().to(device), "small", "0" * 64, "fp32")
        outcomes = list(Pipeline(counter, BATCH, 4).run(jobs, lambda: False))
        return np.array([outcome.counts for outcome in outcomes])

    np.testing.assert_allclose(counted(DEVICE), counted("cpu"), rtol=1e-4)


@needs_gpu
def test_processes_that_read_change_no_count(tmp_path, monkeypatch):
    monkeypatch.setattr("clipcount_cli.batch.readers.PROCESSES_FROM", 10)
    for number in range(30):
        draw(tmp_path / f"{number}.png", 96 + 8 * number, 64, seed=number)
    jobs = [Job(p.name, str(p), ("red dots",)) for p in sorted(tmp_path.iterdir())]
    counter = Counter(small_model().to(DEVICE), "small", "0" * 64, "fp32")

    by_threads, by_processes = (
        list(Pipeline(counter, BATCH, 4, reads_in_processes=processes).run(jobs, lambda: False))
        for processes in (False, True)
    )

    assert by_processes == by_threads


@needs_gpu
def test_a_real_shortage_of_memory_halves_the_batch_or_is_said(weights, tmp_path):
    jobs = [Job("a.png", str(draw(tmp_path / "a.png", 2000, 100)), ("red apples",))]
    counter = load_counter(weights, str(DEVICE), "fp32")
    total = torch.cuda.get_device_properties(DEVICE).total_memory
    room = torch.cuda.memory_allocated(DEVICE) + (1 << 30)
    pipeline = Pipeline(counter, 256, 2)
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(room / total, DEVICE)
    try:
        (outcome,) = pipeline.run(jobs, lambda: False)
        assert pipeline.batch_windows < 256
        assert outcome.counts
        torch.cuda.empty_cache()
        full = (torch.cuda.memory_allocated(DEVICE) + (1 << 20)) / total
        torch.cuda.set_per_process_memory_fraction(full, DEVICE)
        with pytest.raises(DeviceError, match="does not hold one window"):
            list(Pipeline(counter, 4, 2).run(jobs, lambda: False))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, DEVICE)


def make_trainer(precision: str) -> tuple[Trainer, Sampler]:
    config = dataclasses.replace(
        RECIPES[Recipe.default], batch=4, epochs=50, target_side_px=96, learning_rate=1e-3
    )
    rng = np.random.default_rng(0)
    images = [
        TrainingImage(
            str(n),
            Path(str(n)),
            rng.integers(0, 256, (384, 450, 3)).astype(np.uint8),
            {f"class {n % 2}": rng.uniform(0, 384, (9, 2)).astype(np.float32)},
        )
        for n in range(8)
    ]
    model = small_model(model_config(SMALL, config)).to(DEVICE)
    choose_trained(model, config)
    sampler = Sampler(images, config, model.config, DEVICE)
    return Trainer(model, config, sampler.plan, precision), sampler


def take_steps(trainer: Trainer, sampler: Sampler, number: int) -> list[float]:
    last = trainer.step_number + number
    losses = []
    with prefetched(sampler.batches, trainer, last) as batches:
        while trainer.step_number < last:
            trainer.step(next(batches))
            losses += [values["loss"] for values, _ in trainer.read()]
    return losses


@pytest.mark.parametrize("precision", HALF)
def test_training_goes_on_exactly_from_what_was_saved(precision, tmp_path):
    whole = take_steps(*make_trainer(precision), 10)
    trainer, sampler = make_trainer(precision)
    begun = take_steps(trainer, sampler, 5)
    torch.save(trainer.state(), tmp_path / "state.pt")
    resumed, sampler = make_trainer(precision)
    resumed.load_state(torch.load(tmp_path / "state.pt", map_location="cpu", weights_only=True))

    rest = take_steps(resumed, sampler, 5)

    assert np.isfinite(whole).all()
    np.testing.assert_allclose([*begun, *rest], whole, rtol=1e-3 if ON_GPU else 0)


def test_train_validates_and_writes_weights_that_count(tmp_path):
    data = draw_dots(tmp_path / "data", 12)
    result = run_train(
        *("--data", data, "--init", save_small(tmp_path / "start.safetensors")),
        *("--out", tmp_path / "run", "--device", DEVICE.type, "--epochs", 1, "--batch", 4),
    )

    assert result.exit_code == 0, result.output
    counter = load_counter(tmp_path / "run" / "best.safetensors", str(DEVICE))
    assert counter.count(np.zeros((64, 64, 3), np.uint8), "red dots")[0].count >= 0


@needs_gpu
def test_the_hot_loops_never_make_the_host_wait(weights):
    """torch itself raises at each synchronisation but the last, which copies the counts."""
    network = FixedBatch(load_counter(weights, str(DEVICE), "bf16"), BATCH)
    pixels = np.zeros((384, 512, 3), np.uint8)
    blend = list(window_weights(384, 512, network.counter.windows))
    trainer, sampler = make_trainer("bf16")
    take_steps(trainer, sampler, 2)

    def one_batch() -> None:
        windows = [(pixels, Origin(0, 128 * (n % 3))) for n in range(BATCH)]
        features = network.encode(windows)
        rows = [(features, n) for n in range(BATCH)]
        network.decode(rows, ["red apples"] * BATCH, [blend[n % 3] for n in range(BATCH)], False)

    one_batch()
    torch.cuda.set_sync_debug_mode("error")
    try:
        one_batch()  # waits for an event, which is no synchronisation of the device
        for step in range(3):
            trainer.step(sampler.batch(trainer.step_number + step))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len(trainer.read()) == 3
