"""log.csv as a picture: loss, error and prompt check, epoch by epoch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from clipcount_cli.files import atomic_write
from clipcount_cli.training.folder import Row

_PANELS = (
    ("loss", "loss", ("loss", "density", "count", "contrast", "negative")),
    ("error on the validation split", "objects", ("val_mae", "val_rmse")),
    ("answer to absent prompts", "share of what is there", ("val_nmn",)),
)


def draw_curves(rows: Sequence[Row], path: Path) -> None:
    """Draw the epochs so far into `path`, a PNG."""
    from matplotlib.figure import Figure  # 0.3 s: paid only where a picture is drawn

    figure = Figure(figsize=(12, 3.6))
    figure.subplots_adjust(0.06, 0.15, 0.98, 0.9, wspace=0.25)
    for axes, (title, unit, names) in zip(figure.subplots(1, 3), _PANELS, strict=True):
        for name in names:
            points = [(row["epoch"], row[name]) for row in rows if name in row]
            if points:
                axes.plot(*zip(*points, strict=True), label=name, marker=".", linewidth=1)
        if axes.lines:
            axes.legend(frameon=False)
        if names[0] == "loss":
            axes.set_yscale("log")
        axes.set(title=title, xlabel="epoch", ylabel=unit)
        axes.spines[["top", "right"]].set_visible(False)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100)
