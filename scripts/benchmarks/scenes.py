"""`python scripts/benchmark.py scenes`: how fast one process renders scenes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer
from scenes.render import Catalogue, SceneConfig, render_scene

from clipcount_cli import console

WARM_UP_SCENES = 4000  # grounds and cut-outs are drawn when first needed, and kept


def scene_speed(
    material: Annotated[Path | None, typer.Option(help="Folder of cut-outs.")] = None,
    scenes: Annotated[int, typer.Option(help="How many to render.")] = 300,
) -> None:
    """Measure how fast one process renders scenes of 224 px."""
    catalogue = Catalogue.from_material(material)
    config = SceneConfig()
    for seed in range(WARM_UP_SCENES):
        render_scene(seed, catalogue, config)
    started = time.perf_counter()
    for seed in range(WARM_UP_SCENES, WARM_UP_SCENES + scenes):
        render_scene(seed, catalogue, config)
    a_second = scenes / (time.perf_counter() - started)
    console.show_table(("rendering", "measured"), [("scenes a second", f"{a_second:.0f}")])
