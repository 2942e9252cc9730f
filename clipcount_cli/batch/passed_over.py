"""Files in a searched folder whose names are not those of images: never skipped silently.

plan.py -> [passed_over.py]
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from clipcount_cli.errors import quantity
from clipcount_cli.files import is_same_file

_MAX_SUFFIXES_SHOWN = 8
# Formats of microscopes, slide scanners and cameras, which their software can export as images.
_EXPORTABLE = """
.czi .nd2 .lif .lsm .oib .oif .vsi .ims .zvi .dv .stk .svs .ndpi .mrxs .scn .bif .dcm .nii .mrc
.nef .cr2 .cr3 .arw .dng .raf .orf .rw2 .psd .xcf .svg .pdf .eps .jxl .jxr .hdr .exr
.mp4 .mov .avi .mkv .webm
"""


def passed_over_by_suffix(paths: Iterable[str], own_files: Sequence[Path]) -> Counter[str]:
    """Count `paths` by suffix, in lower case, without the run's own files."""
    names = {path.name for path in own_files}
    return Counter(
        os.path.splitext(path)[1].lower()  # noqa: PTH122 - pathlib would lose a second in 100,000
        for path in paths
        if os.path.basename(path) not in names  # noqa: PTH119
        or not any(is_same_file(Path(path), own) for own in own_files)
    )


def passed_over_notice(suffixes: Counter[str]) -> str:
    """One sentence about the files that were skipped, and what to do about them."""
    by_number = sorted(suffixes.items(), key=lambda item: (-item[1], item[0]))
    total = suffixes.total()
    alike = "is not named like an image" if total == 1 else "are not named like images"
    shown = [
        f"{number} {_kind(suffix)}" if len(suffixes) > 1 else _kind(suffix)
        for suffix, number in by_number[:_MAX_SUFFIXES_SHOWN]
    ]
    if others := sum(number for _, number in by_number[_MAX_SUFFIXES_SHOWN:]):
        shown.append(f"{others} more")
    exportable = [suffix for suffix, _ in by_number if suffix in _EXPORTABLE.split()]
    advice = f" (to count in {', '.join(exportable)}, export TIFF or PNG)" if exportable else ""
    return f"skipped {quantity(total, 'file')} that {alike}: {', '.join(shown)}{advice}"


def _kind(suffix: str) -> str:
    return suffix or "without a suffix"
