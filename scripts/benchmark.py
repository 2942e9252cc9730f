"""Speed on this machine: `benchmark.py network`, `start`, `batch`, `train` or `scenes`."""

from __future__ import annotations

import typer
from benchmarks.batch import batch_speed
from benchmarks.network import network_speed
from benchmarks.scenes import scene_speed
from benchmarks.start import start_speed
from benchmarks.train import train_speed

app = typer.Typer(no_args_is_help=True)


@app.callback()
def _speed() -> None:
    """Measure the speed of this machine."""


app.command("batch")(batch_speed)
app.command("network")(network_speed)
app.command("scenes")(scene_speed)
app.command("start")(start_speed)
app.command("train")(train_speed)


if __name__ == "__main__":
    app()
