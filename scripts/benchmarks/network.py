"""How fast the network is: against the machine's matrix products, and against its plain form.

Everything measured in one run takes turns, so that a machine that slows down slows all of it.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import machine
from benchmarks.plain import PlainClipCount, plain_form
from benchmarks.stand_ins import find_or_draw
from clipcount_cli import console
from clipcount_cli.api import load_counter
from clipcount_cli.commands.options import DeviceOption, Precision
from clipcount_cli.counting import counter as core
from clipcount_cli.counting.prompts import tokenize
from clipcount_cli.counting.windows import Pixels
from clipcount_cli.devices import dtype_of, pick_device
from clipcount_cli.weights.cache import ResolvedWeights

NOUNS = ("red apples", "coins", "small white birds", "people", "green peas", "cars on the road")
PHOTO_SHAPE = (480, 640, 3)
SIDE_PX = core.Counter.windows.side_px
Scene = tuple[Pixels, list[str]]  # windows (B, 384, 384, 3) and prompts
Plain = Callable[[Pixels, list[str]], NDArray[np.float64]]  # -> counts (prompts, B)


@dataclass
class Cell:
    """One thing that is measured, turn by turn."""

    name: tuple[str, ...]
    call: Callable[[], object]
    windows: int
    flops: float = 0.0
    times_s: list[float] = field(default_factory=list)

    @property
    def windows_a_second(self) -> float:
        return self.windows / median(self.times_s)


def network_speed(
    weights: Annotated[
        list[str], typer.Option(help="Names or files; clip-count is drawn where not installed.")
    ] = ["clip-count", "tiny"],  # noqa: B006
    device: DeviceOption = "auto",
    precision: Annotated[list[Precision], typer.Option(help="Which of them.")] = [  # noqa: B006
        Precision.fp32,
        Precision.bf16,
    ],
    windows: Annotated[list[int], typer.Option(help="Windows a batch.")] = [1, 8],  # noqa: B006
    prompts: Annotated[list[int], typer.Option(help="Prompts a window.")] = [1, 10],  # noqa: B006
    repeats: Annotated[int, typer.Option(help="Turns; medians are shown.")] = 5,
) -> None:
    """Measure the network: windows a second, share of the machine's peak, gain over plain."""
    place = pick_device(device)
    wanted = [one.value for one in precision]
    peaks = {one: machine.measure_peak(place, dtype_of(one)) for one in wanted}
    shown = ", ".join(f"{one} {peak / 1e12:.3f} TFLOP/s" for one, peak in peaks.items())
    console.notice(f"{place}, {torch.get_num_threads()} threads; matrix products: {shown}")
    with tempfile.TemporaryDirectory() as folder:
        for name in weights:
            chosen = find_or_draw(name, Path(folder))
            counters = {one: load_counter(chosen, place, one) for one in wanted}
            plain = plain_call(load_counter(chosen, place, "fp32"))
            show_batches(chosen, counters, plain, [(w, p) for w in windows for p in prompts],
                         peaks, repeats)  # fmt: skip
            show_photograph(chosen, counters, repeats)


def show_batches(
    chosen: ResolvedWeights,
    counters: dict[str, core.Counter],
    plain: Plain,
    sizes: Sequence[tuple[int, int]],
    peaks: dict[str, float],
    repeats: int,
) -> None:
    """Measure every precision at every size, the plain form at the largest batch beside it."""
    largest, _ = max(sizes)
    scene = make_scene(largest, 1)
    device = next(iter(counters.values())).device
    base = Cell(("plain fp32",), partial(plain, *scene), largest)
    cells = [base]
    for precision, counter in counters.items():
        for size in sizes:
            windows, asked = make_scene(*size)
            cell = Cell((precision, *map(str, size)), partial(run_fast, counter, windows, asked),
                        size[0])  # fmt: skip
            cell.flops = flops_of(counter, windows, asked)
            cells.append(cell)
    take_turns(cells, device, repeats)
    truth = plain(*scene)
    rows = []
    for cell in cells[1:]:
        precision, _, prompts = cell.name
        achieved = cell.flops / median(cell.times_s)
        gain = cell.windows_a_second * int(prompts) / base.windows_a_second
        error = np.abs(run_fast(counters[precision], *scene) / truth - 1).max()
        rows.append(
            (*cell.name, f"{cell.windows_a_second:.2f}", f"{achieved / 1e9:.0f}",
             f"{achieved / peaks[precision]:.0%}", f"{gain:.2f}", f"{error:.1e}")
        )  # fmt: skip
    columns = ("precision", "windows", "prompts", "windows/s", "GFLOP/s", "of peak", "x plain",
               "count differs")  # fmt: skip
    title = f"{chosen.name}: plain form in fp32 {base.windows_a_second:.2f} windows/s"
    console.show_table(columns, rows, title)


def show_photograph(
    chosen: ResolvedWeights, counters: dict[str, core.Counter], repeats: int
) -> None:
    """Measure one image from pixels to counts, with one prompt and with ten."""
    pixels = _noise(PHOTO_SHAPE)
    rows = []
    for precision, counter in counters.items():
        cells = [
            Cell((), partial(count_afresh, counter, pixels, make_prompts(number)), 1)
            for number in (1, 10)
        ]
        take_turns(cells, counter.device, repeats)
        one, ten = (median(cell.times_s) for cell in cells)
        rows.append((precision, f"{one:.3f} s", f"{ten:.3f} s", f"{ten / one:.2f}"))
    size = f"{PHOTO_SHAPE[1]} x {PHOTO_SHAPE[0]}"
    columns = (f"an image of {size}", "one prompt", "ten prompts", "ten / one")
    console.show_table(columns, rows, chosen.name)


def take_turns(cells: Sequence[Cell], device: torch.device, repeats: int) -> None:
    """Measure all cells in turn, after one turn that is not counted."""
    for turn in range(1 + repeats):
        for cell in cells:
            elapsed = machine.seconds(cell.call, device)
            if turn > 0:
                cell.times_s.append(elapsed)


def make_scene(windows: int, prompts: int) -> Scene:
    return _noise((windows, SIDE_PX, SIDE_PX, 3)), make_prompts(prompts)


def make_prompts(number: int) -> list[str]:
    """So many different prompts."""
    return [f"{NOUNS[i % len(NOUNS)]}{' there' * (i // len(NOUNS))}" for i in range(number)]


def run_fast(counter: core.Counter, windows: Pixels, prompts: list[str]) -> NDArray[np.float64]:
    """What `count` does with windows: counts (prompts, B), nothing kept from an earlier call."""
    fresh = core.Counter(counter.model, "", "", counter.precision)
    features = fresh.encode_windows(windows)
    densities = [
        fresh.densities(features, text.expand(len(windows), -1))
        for text in fresh.encode_prompts(prompts)
    ]
    return _sums(torch.stack(densities))


def plain_call(counter: core.Counter) -> Plain:
    """What speeds are held against: the plain form, or compact towers as they are, in fp32."""
    if counter.model.config.clip.compact:
        return partial(run_fast, counter)
    return partial(run_plain, plain_form(counter.model))


@torch.inference_mode()
def run_plain(plain: PlainClipCount, windows: Pixels, prompts: list[str]) -> NDArray[np.float64]:
    """The plain form on the same windows: the whole network for each window and prompt."""
    device = plain.patch_proj.weight.device
    pixels = torch.as_tensor(windows, device=device).permute(0, 3, 1, 2).float() / 255
    tokens = (tokenize([prompt] * len(windows), plain.config).to(device) for prompt in prompts)
    return _sums(torch.stack([plain(pixels, asked) for asked in tokens]))


def count_afresh(counter: core.Counter, pixels: Pixels, prompts: list[str]) -> None:
    core.Counter(counter.model, "", "", counter.precision).count_image(pixels, prompts)


def flops_of(counter: core.Counter, windows: Pixels, prompts: list[str]) -> float:
    """Floating-point operations of `run_fast`: every window is as much work as the first."""
    without_gradients = counter.model.requires_grad_(False)  # the counting would hook into them
    fresh = core.Counter(without_gradients, "", "", counter.precision)
    texts = count_flops(partial(fresh.encode_prompts, prompts))
    image = count_flops(partial(fresh.encode_windows, windows[:1]))
    features, text = fresh.encode_windows(windows[:1]), fresh.encode_prompts(prompts[:1])
    density = count_flops(partial(fresh.densities, features, text))
    return texts + len(windows) * (image + len(prompts) * density)


def count_flops(call: Callable[[], object]) -> float:
    """Floating-point operations of `call`, from the shapes of its products and convolutions."""
    torch.backends.mha.set_fastpath_enabled(False)  # one opaque operation, which is not counted
    try:
        with (
            sdpa_kernel(SDPBackend.MATH),
            FlopCounterMode(display=False, custom_mapping=_packed_flops()) as counted,
        ):
            call()
    finally:
        torch.backends.mha.set_fastpath_enabled(True)
    return float(counted.get_total_flops())


def _packed_flops() -> dict[Any, Callable[..., int]]:
    """How to count the packed linear layers of a CPU, which `FlopCounterMode` does not know."""
    if not torch.backends.mkldnn.is_available():
        return {}

    def count(values: Sequence[int], *_: Any, out_shape: Sequence[int], **__: Any) -> int:
        return 2 * math.prod(out_shape) * values[-1]

    return {torch.ops.mkldnn._linear_pointwise: count}


def _sums(densities: torch.Tensor) -> NDArray[np.float64]:
    dtype = torch.float32 if densities.device.type == "mps" else torch.float64  # MPS has no other
    sums: NDArray[np.float64] = densities.sum((2, 3), dtype=dtype).cpu().double().numpy()
    return sums


def _noise(shape: tuple[int, ...]) -> Pixels:
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
