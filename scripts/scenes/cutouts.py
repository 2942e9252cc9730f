"""Cut-outs of photos that scenes show: one folder of pictures per noun."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from scenes.brush import Pixels
from scenes.pictures import spread_colour

FOLDER = "cutouts"


def read_cutouts(material: Path, noun: str) -> list[Pixels]:
    """Read a noun's cut-outs as (h, w, 4) uint8; none if the folder has none."""
    cutouts = []
    for path in sorted((material / FOLDER / noun).glob("*.webp")):
        with Image.open(path) as image:
            cutouts.append(spread_colour(np.asarray(image.convert("RGBA"))))
    return cutouts
