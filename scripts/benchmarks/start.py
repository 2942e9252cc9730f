"""Where the time of one `clipcount count` goes, and what `import torch` takes beside it.

Every run is a process of its own. Files are warm: each is run once before anything is measured.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer
from PIL import Image

from benchmarks.stand_ins import find_or_draw
from clipcount_cli import console
from clipcount_cli.commands.options import DeviceOption, Precision, PrecisionOption
from clipcount_cli.config import WindowConfig
from clipcount_cli.counting.counter import WINDOWS_AT_ONCE

EXAMPLE = Path(__file__).parents[2] / "clipcount_cli" / "assets" / "examples" / "coins.jpg"
CLI = [sys.executable, "-m", "clipcount_cli"]
STAGES = ("interpreter", "imports", "decode", "weights", "network", "output", "exit")

# The steps of `clipcount count`, in the order that cli.py takes them, with a clock between them.
STAGED_COUNT = """
import time
marks = [time.time()]
from clipcount_cli import console
from clipcount_cli.cli import leave
from clipcount_cli.weights.cache import resolve
from clipcount_cli.commands import count as command
from clipcount_cli.api import load_counter
marks.append(time.time())
import json, sys
from pathlib import Path

def memory_mb(field):
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(field)), 0)

image, weights, device, precision = sys.argv[1:]
imports_mb = memory_mb("VmRSS")
photo = command.read(image, None, None)
marks.append(time.time())
counter = load_counter(resolve(weights), device, precision)
marks.append(time.time())
counts = counter.count_image(photo.pixels, ["coins"])
marks.append(time.time())
console.show_counts(image, counts.lines(None))
marks.append(time.time())
held = [*counter.model.parameters(), *counter.model.buffers()]
size_mb = sum(tensor.numel() * tensor.element_size() for tensor in held) / 2**20
printed = {"marks": marks, "imports_mb": imports_mb, "peak_mb": memory_mb("VmHWM"),
        "weights_mb": size_mb, "label": f"{counter.device} {counter.precision}"}
print(json.dumps(printed), file=sys.stderr)
leave(0)
"""


def start_speed(
    weights: Annotated[
        list[str], typer.Option(help="Names or files; clip-count is drawn where not installed.")
    ] = ["clip-count", "tiny"],  # noqa: B006
    device: DeviceOption = "auto",
    precision: PrecisionOption = Precision.auto,
    repeats: Annotated[int, typer.Option(help="Turns; medians are shown.")] = 7,
) -> None:
    """Measure what one `count` and `--help` take, stage by stage and against the imports."""
    with tempfile.TemporaryDirectory() as folder:
        for name in weights:
            file = find_or_draw(name, Path(folder)).path
            options = [str(EXAMPLE), str(file), device, precision.value]
            panorama = draw_panorama(Path(folder) / "panorama.png")
            show_stages(name, options, [str(panorama), *options[1:]], repeats)
            show_ratios(name, file, device, precision.value, repeats)


def draw_panorama(path: Path) -> Path:
    """Write an image of as many windows as the network takes at once."""
    windows = WindowConfig()
    width_px = windows.side_px + (WINDOWS_AT_ONCE - 1) * windows.stride_px
    with Image.open(EXAMPLE) as example:
        example.resize((width_px, windows.side_px)).save(path)
    return path


def show_stages(name: str, options: list[str], of_panorama: list[str], repeats: int) -> None:
    """Show the median of each stage of `count`, and the memory above the imports."""
    runs = [staged_run(options) for _ in range(1 + repeats)][1:]
    printed = runs[-1][1]
    rows: list[tuple[str, str]] = [
        (stage, f"{median(run[0][number] for run in runs):.2f} s")
        for number, stage in enumerate(STAGES)
    ]
    rows.append(("in all", f"{median(sum(run[0]) for run in runs):.2f} s"))
    rows.append(("memory above the imports", above_imports(printed)))
    rows.append((f"the same, {WINDOWS_AT_ONCE} windows", above_imports(staged_run(of_panorama)[1])))
    rows.append(("of which weights", f"{printed['weights_mb']:.0f} MB"))
    console.show_table((f"count with {name}, {printed['label']}", "median"), rows)


def above_imports(printed: dict[str, Any]) -> str:
    """What one `count` took at its peak beyond the imports."""
    return f"{printed['peak_mb'] - printed['imports_mb']:.0f} MB"


def staged_run(options: list[str]) -> tuple[list[float], dict[str, Any]]:
    """Seconds of each stage of one `count` in a new process, and what it printed of itself."""
    started = time.time()
    done = subprocess.run(
        [sys.executable, "-c", STAGED_COUNT, *options], check=True, capture_output=True, text=True
    )
    ended = time.time()
    printed = json.loads(done.stderr.splitlines()[-1])
    marks = [started, *printed["marks"], ended]
    return [after - before for before, after in itertools.pairwise(marks)], printed


def show_ratios(name: str, file: Path, device: str, precision: str, repeats: int) -> None:
    """Show how long `--help` and `count` take against the imports they are bound by."""
    count = [*CLI, "count", str(EXAMPLE), "coins", "--weights", str(file), "--device", device]
    pairs = (
        ("clipcount --help", [*CLI, "--help"], "import torch", 0.25),
        (f"count with {name}", [*count, "--precision", precision], "import torch", 1.35),
    )
    rows = []
    for title, command, imports, goal in pairs:
        times = paired_runs([command, [sys.executable, "-c", imports]], repeats)
        ours, theirs = (median(column) for column in zip(*times, strict=True))
        ratio = median(a / b for a, b in times)
        rows.append((title, f"{ours:.2f} s", imports, f"{theirs:.2f} s", f"{ratio:.2f}", goal))
    console.show_table(("command", "takes", "against", "takes", "ratio", "goal (tiny)"), rows)


def paired_runs(commands: Sequence[list[str]], repeats: int) -> list[list[float]]:
    """Seconds of each command, one after the other in each turn; a first turn is not counted."""
    turns = [[run_seconds(command) for command in commands] for _ in range(1 + repeats)]
    return turns[1:]


def run_seconds(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - started
