"""Nouns that scenes show as cut-outs of photos, and the cut-outs: one folder of pictures per noun.

`cutouts.csv` lists the nouns that no drawing, picture or model shows; fields of several values are
separated by `|`. A folder may hold cut-outs of other nouns, too.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from scenes.brush import Pixels
from scenes.nouns import Noun
from scenes.pictures import spread_colour

TABLE = Path(__file__).with_name("cutouts.csv")
FOLDER = "cutouts"


def _rows() -> Iterator[Noun]:
    with TABLE.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            kinds, synonyms, akin = (
                tuple(filter(None, row[name].split("|"))) for name in ("kinds", "synonyms", "akin")
            )
            yield Noun(
                row["plural"],
                row["singular"],
                kinds=kinds,
                synonyms=synonyms,
                akin=akin,
                ground=row["ground"],
                upright=row["upright"] == "1",
                round=row["round"] == "1",
                weight=float(row["weight"]),
            )


CUT_OUT = {noun.plural: noun for noun in _rows()}


def read_cutouts(material: Path, noun: str) -> list[Pixels]:
    """Read a noun's cut-outs as (h, w, 4) uint8; none if the folder has none."""
    cutouts = []
    for path in sorted((material / FOLDER / noun).glob("*.webp")):
        with Image.open(path) as image:
            cutouts.append(spread_colour(np.asarray(image.convert("RGBA"))))
    return cutouts
