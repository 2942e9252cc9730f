"""The names of the files of a result: heatmaps and positions.

pictures.py, points.py -> [names.py]
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

MAX_NAME_BYTES = 200  # file systems allow 255, and a temporary file may add to it


def result_path(folder: Path, image: str, prompt: str, suffix: str) -> Path:
    """The path of a result's file, in the image's own sub-folder; no two results share a path.

    The prompt is the part between the last two dots and holds none itself, so the rest is the
    image's whole name. A digest is added if characters had to be replaced.
    """
    parts = [part for part in image.split("/") if part not in ("", ".")]
    clean = [_file_name(part) for part in parts]
    name = "/".join(clean)
    if name != image:  # given as /a/b.jpg, ../b.jpg or with characters no file name may have
        clean[-1] = f"{clean[-1]}-{_digest(image)}"
    slug = re.sub(r"[^a-z0-9]+", "-", prompt.lower()).strip("-")[:40] or "prompt"
    if slug.replace("-", " ") != prompt:
        slug = f"{slug}-{_digest(prompt)}"
    last = f"{clean[-1]}.{slug}{suffix}"
    if len(last.encode()) > MAX_NAME_BYTES:
        last = f"{_digest(clean[-1])}{_digest(clean[-1][::-1])}.{slug}{suffix}"
    return folder.joinpath(*clean[:-1], last)


def _file_name(part: str) -> str:
    return re.sub(r'[<>:"\\|?*\x00-\x1f]', "_", part).replace("..", "__")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
