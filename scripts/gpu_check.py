"""Test and measure a GPU with one command, in at most nine minutes.

    python scripts/gpu_check.py --out gpu_check.json

It needs no network and no weights: random numbers replace them. It runs from a checkout and lists
missing packages; where there is no network, install their wheels with `pip install --no-deps`. A
part that fails is reported, and the others still run. Without a GPU every part runs on the CPU in
tiny sizes, which tests the script: those figures mean nothing.
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import re
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PACKAGES = (
    *(
        "torch",
        "torchvision",
        "open_clip_torch",
        "safetensors",
        "huggingface_hub",
        "numpy",
        "scipy",
    ),
    *("pillow", "matplotlib", "natsort", "PyYAML", "typer", "rich", "platformdirs", "filelock"),
    *("pytest", "hypothesis"),
)
BUDGET_S = 9 * 60
TESTS_S = 4 * 60  # of these, at most


def missing_packages() -> list[str]:
    """What is not installed of PACKAGES and of all that these need, as pip calls it.

    PyTorch's own requirements are left out: images that hold it often lack their records.
    """
    missing, waiting = [], [*PACKAGES]
    seen = {name for name in ("torch", "torchvision") if importlib.util.find_spec(name)}
    while waiting:
        name = waiting.pop()
        key = re.sub(r"[-_.]+", "-", name).lower()
        if key in seen:
            continue
        seen.add(key)
        try:
            required = [Requirement(line) for line in metadata.requires(name) or []]
        except metadata.PackageNotFoundError:
            missing.append(name)
            continue
        waiting += [
            r.name for r in required if r.marker is None or r.marker.evaluate({"extra": ""})
        ]
    return sorted(missing)


try:
    from packaging.requirements import Requirement
except ModuleNotFoundError:
    sys.exit("missing packages: packaging, perhaps others")
if missing := missing_packages():
    sys.exit(f"missing packages: {', '.join(missing)}; see the head of {Path(__file__).name}")
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

import torch  # noqa: E402
import typer  # noqa: E402
from benchmarks import gpu  # noqa: E402
from benchmarks.gpu import FULL, TINY, Row, Sizes  # noqa: E402

from clipcount_cli import console  # noqa: E402
from clipcount_cli.devices import pick_device  # noqa: E402


class Part(NamedTuple):
    """One measurement, and how long it may take on a GPU."""

    name: str
    seconds: int
    measure: Callable[[torch.device, Sizes], list[Row]]


@dataclass(frozen=True)
class Report:
    """The content of the JSON file."""

    device: str
    versions: dict[str, str]
    command: list[str]
    seconds: float
    rows: list[Row]


def run_tests(device: torch.device, _sizes: Sizes) -> list[Row]:
    """tests/test_gpu.py, in a process of its own."""
    command = [sys.executable, "-m", "pytest", "-q", "-n0", "--no-header", "tests/test_gpu.py"]
    if device.type != "cuda":
        command.append("--collect-only")  # the default tests run it on the CPU
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=TESTS_S, check=False
    )
    last = [line for line in done.stdout.splitlines() if line.strip()][-1:]
    console.notice(done.stdout[-2000:] if done.returncode else "".join(last))
    return [Row("tests/test_gpu.py", "".join(last) or f"status {done.returncode}", "all pass")]


PARTS = (
    Part("machine", 15, gpu.measure_machine),
    Part("tests", TESTS_S, run_tests),
    Part("network", 60, gpu.measure_network),
    Part("batch", 60, gpu.measure_batch),
    Part("training", 60, gpu.measure_training),
    Part("compiled", 90, gpu.measure_compiled),
)
ALL_PARTS = ",".join(part.name for part in PARTS)


def main(
    out: Path = Path("gpu_check.json"),
    device: str = "auto",
    parts: str = ALL_PARTS,
) -> None:
    """Test and measure this GPU; a table comes last, and a JSON file holds the same.

    parts: which of them, separated by commas.
    """
    place = pick_device(device)
    sizes = FULL if place.type == "cuda" else TINY
    if sizes is TINY:
        console.notice("no CUDA device: a dry run in tiny sizes, whose figures mean nothing")
    started = time.monotonic()
    rows: list[Row] = []
    for part in (part for part in PARTS if part.name in parts.split(",")):
        left = BUDGET_S - (time.monotonic() - started)
        if left < part.seconds:
            rows.append(Row(part.name, f"left out: {left:.0f} s are left", ""))
            continue
        console.notice(f"{part.name}: at most {part.seconds} s")
        rows += attempt(part, place, sizes)
        write(out, place, started, rows)  # keeps what is known if a later part fails
    title = f"{describe(place)}, {time.monotonic() - started:.0f} s"
    console.show_table(
        ("what", "measured", "goal"), [tuple(asdict(r).values()) for r in rows], title
    )


def attempt(part: Part, device: torch.device, sizes: Sizes) -> Sequence[Row]:
    """The rows of one part, or one row with the reason why there are none."""
    try:
        return part.measure(device, sizes)
    except Exception as error:  # the other parts still run
        traceback.print_exc()
        first = (str(error) or type(error).__name__).splitlines()[0]
        return [Row(part.name, f"failed: {first[:80]}", "")]


def describe(device: torch.device) -> str:
    """The name of the GPU, or the kind of CPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()


def write(out: Path, device: torch.device, started: float, rows: list[Row]) -> None:
    versions = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda or "none",
        "cores": str(os.cpu_count()),
    }
    report = Report(
        describe(device), versions, sys.argv, round(time.monotonic() - started, 1), rows
    )
    out.write_text(json.dumps(asdict(report), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
