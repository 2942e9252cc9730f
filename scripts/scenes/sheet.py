"""Draw a contact sheet of rendered scenes with their dots and prompts, for a person to look at."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from scenes.render import Catalogue, Scene, SceneConfig, render_scene

INKS = ("#ff2020", "#20ff20", "#3060ff", "#ffff20", "#ff20ff", "#20ffff")
LINE_PX = 11
LINES = 10  # of true prompts


def scene_panel(scene: Scene, seed: int, dots: bool) -> Image.Image:
    """One scene, its dots coloured by prompt, and below it what is and what is not there."""
    picture = Image.fromarray(scene.pixels)
    side = picture.width
    panel = Image.new("RGB", (side, side + (LINES + 2) * LINE_PX), "black")
    pen = ImageDraw.Draw(picture)
    lines = [f"seed {seed}"]
    for ink, (prompt, points) in zip(INKS * 4, scene.points_px.items(), strict=False):
        lines.append(f"{prompt}: {len(points)}")
        if dots and prompt != "objects":
            for x, y in np.round(points):
                pen.ellipse((x - 1, y - 1, x + 1, y + 1), fill=ink)
    panel.paste(picture, (0, 0))
    text = ImageDraw.Draw(panel)
    for row, line in enumerate([*lines[:LINES], "not: " + ", ".join(scene.absent)]):
        text.text((2, side + row * LINE_PX), line[: side // 6], fill="white")
    return panel


def contact_sheet(panels: list[Image.Image], columns: int) -> Image.Image:
    """Arrange equal panels in rows."""
    width, height = panels[0].size
    rows = -(-len(panels) // columns)
    sheet = Image.new("RGB", (columns * width, rows * height))
    for place, panel in enumerate(panels):
        sheet.paste(panel, (place % columns * width, place // columns * height))
    return sheet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("--scenes", type=int, default=24)
    parser.add_argument("--columns", type=int, default=6)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--side", type=int, default=224, help="pixels")
    parser.add_argument("--part", choices=("train", "test"), default="train")
    parser.add_argument("--no-dots", action="store_true")
    parser.add_argument("--material", type=Path, help="pictures that fetch.py fetched")
    parser.add_argument("--two-sizes", type=float, default=0.0, help="share of scenes")
    parser.add_argument("--material-share", type=float, default=0.0, help="share of classes")
    options = parser.parse_args()
    catalogue = Catalogue.from_material(options.material)
    config = SceneConfig(
        side_px=options.side, two_sizes=options.two_sizes, materials=options.material_share
    )
    seeds = range(options.first_seed, options.first_seed + options.scenes)
    panels = [
        scene_panel(render_scene(seed, catalogue, config, options.part), seed, not options.no_dots)
        for seed in seeds
    ]
    contact_sheet(panels, options.columns).save(options.output)


if __name__ == "__main__":
    main()
