"""`batch` on a pretend GPU: what it counts, and how rarely the host waits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from photo_folders import draw
from pretend_cuda import needs_pretend_cuda, pretend_cuda, recorded_in_place
from small_models import SMALL, small_model

from clipcount_cli.batch import cuda_graph
from clipcount_cli.batch.cuda_graph import Replayed
from clipcount_cli.batch.fixed_batch import FixedBatch
from clipcount_cli.batch.pipeline import Pipeline
from clipcount_cli.batch.plan import Job
from clipcount_cli.config import WindowConfig
from clipcount_cli.counting.counter import Counter
from clipcount_cli.counting.windows import Origin, join_densities, window_origins, window_weights

pytestmark = needs_pretend_cuda

WINDOWS = 64
REPLAYED = Replayed.__call__  # the pretend device calls the network as it is


@pytest.fixture(scope="module")
def jobs(tmp_path_factory):
    """43 images of 3 windows: two full batches, and a window more."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(43):
        draw(folder / f"{number}.png", 64, 48)
    return [Job(p.name, str(p), ("red dots",)) for p in sorted(folder.iterdir())]


def counted(device, jobs, windows=WINDOWS, **options):
    counter = Counter(small_model(SMALL).to(device), "small", "0" * 64, "fp32")
    pipeline = Pipeline(counter, windows, 2, **options)
    outcomes = list(pipeline.run(jobs, lambda: False))
    assert not [o.fault for o in outcomes if o.fault]
    return np.array([o.counts for o in outcomes]), pipeline


def test_the_host_waits_once_per_batch_for_the_counts(jobs):
    with pretend_cuda() as seen:
        counter = Counter(small_model(SMALL).to("cuda"), "small", "0" * 64, "fp32")
        pipeline = Pipeline(counter, WINDOWS, 2)
        seen.clear()
        outcomes = list(pipeline.run(jobs, lambda: False))

    batches = -(-3 * len(jobs) // WINDOWS)
    assert not [o.fault for o in outcomes if o.fault]
    assert seen.syncs_of() == batches, seen.syncs
    assert seen.launches_of("gpu") / batches < 600
    assert seen.launches_of("worker") == seen.launches_of("Main") == 0


def test_a_gpu_counts_what_the_cpu_counts(jobs):
    on_cpu, _ = counted("cpu", jobs[:5], 8)

    with pretend_cuda():
        on_gpu, _ = counted("cuda", jobs[:5], 8)

    np.testing.assert_allclose(on_gpu, on_cpu, rtol=1e-6)


def test_several_prompts_and_tiles_are_counted_alike(jobs):
    asked = [job._replace(prompts=("red dots", "blue dots", "coins")) for job in jobs[:3]]
    on_cpu, _ = counted("cpu", asked, 8, tiles=2)

    with pretend_cuda():
        on_gpu, _ = counted("cuda", asked, 8, tiles=2)

    assert on_gpu.shape == (3, 3)
    np.testing.assert_allclose(on_gpu, on_cpu, rtol=1e-6)


def test_a_count_does_not_depend_on_what_is_drawn(jobs):
    drawn = []

    with pretend_cuda():
        plain, _ = counted("cuda", jobs[:4], 8)
        with_maps, _ = counted(
            "cuda", jobs[:4], 8, on_result=lambda job, pixels, result: drawn.append(result)
        )

    assert np.array_equal(plain, with_maps)
    assert sorted(result.count for result in drawn) == sorted(plain[:, 0])
    for result in drawn:
        assert result.density.sum(dtype=np.float64) == pytest.approx(result.count, rel=1e-6)


@pytest.mark.parametrize(
    "message", ["CUDA out of memory", "cuDNN error: CUDNN_STATUS_ALLOC_FAILED"]
)
def test_full_memory_halves_the_batch_and_the_size_used_is_known(jobs, monkeypatch, message):
    decode = Counter.densities

    def small_memory(self, features, text):
        if len(text) > 4:
            raise RuntimeError(message)
        return decode(self, features, text)

    monkeypatch.setattr(Counter, "densities", small_memory)
    with pretend_cuda():
        halved, pipeline = counted("cuda", jobs[:3], 16)
    monkeypatch.undo()
    with pretend_cuda():
        straight, _ = counted("cuda", jobs[:3], 4)

    assert pipeline.batch_windows == 4
    np.testing.assert_allclose(halved, straight, rtol=1e-6)


def test_a_batch_that_another_thread_halves_meanwhile_is_still_encoded():
    windows = np.random.default_rng(0).integers(0, 256, (4, 384, 384, 3), dtype=np.uint8)
    placed = [(window, Origin(0, 0)) for window in windows]
    with pretend_cuda(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(Replayed, "__call__", REPLAYED)
        patch.setattr(cuda_graph, "record", recorded_in_place)
        network = FixedBatch(Counter(small_model(SMALL).to("cuda"), "small", "", "fp32"), 4)
        cut = network._cut

        def cut_slowly(windows, size):
            batch = cut(windows, size)
            network._halve(4)  # as a thread whose memory was full would
            return batch

        patch.setattr(network, "_cut", cut_slowly)
        features = network.encode(placed)
        again = network.encode(placed)  # recorded in the smaller size

        assert network.size == 2
        np.testing.assert_allclose(
            again.patches.cpu().numpy(), features.patches.cpu().numpy(), rtol=1e-4, atol=1e-5
        )


def test_mixed_devices_are_refused_by_the_pretend_gpu_too():
    with pretend_cuda():
        on_gpu = torch.ones(2, device="cuda")
        assert (on_gpu + 1).device.type == "cuda"
        with pytest.raises(RuntimeError, match="found on cpu"):
            on_gpu + torch.ones(2)
    assert not torch.ones(1).is_cuda


@pytest.mark.parametrize(
    ("height", "width"), [(384, 384), (384, 512), (600, 384), (384, 1300), (768, 1000)]
)
def test_window_weights_sum_to_what_the_blended_map_sums_to(height, width):
    config, rng = WindowConfig(), np.random.default_rng(0)
    side = (config.side_px, config.side_px)
    windows = [rng.random(side, np.float32) for _ in window_origins(height, width, config)]
    blended = join_densities(windows, height, width, config)

    weights = window_weights(height, width, config)

    summed = sum(
        float((window * down[:, None] * across).sum(dtype=np.float64))
        for window, (down, across) in zip(windows, weights, strict=True)
    )
    assert summed == pytest.approx(float(blended.sum(dtype=np.float64)), rel=1e-6)
