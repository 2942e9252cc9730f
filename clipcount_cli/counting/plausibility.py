"""Say when a count may be wrong: the image was shrunk too far, or its objects have another name.

Beside the path image -> count: counter.py and batch/pipeline.py -> [plausibility.py] -> notices.py
"""

from __future__ import annotations

from clipcount_cli.config import GENERIC_PROMPT, MAX_TILES, ModelConfig
from clipcount_cli.counting.notices import Notice

MIN_SHRINKING = 3.75  # about fourfold: from here on small objects vanish
MIN_GENERIC = 3  # objects; fewer say nothing about names
MAX_NAMED_SHARE = 0.25  # of what is seen: above it the name is understood


def generic_prompt(config: ModelConfig) -> str | None:
    """The prompt that means any object, if these weights learned one."""
    return GENERIC_PROMPT if GENERIC_PROMPT in config.taught else None


def size_notice(shorter_px: int, tiles: int, side_px: int) -> Notice | None:
    """Note that an image whose shorter side has `shorter_px` was shrunk so far that objects vanish.

    tiles, side_px: it was resized to `tiles` times `side_px`.
    """
    shrinking = shorter_px / (tiles * side_px)
    more = min(MAX_TILES, max(tiles + 1, round(shorter_px / side_px / 2)))
    if shrinking < MIN_SHRINKING or tiles >= MAX_TILES:
        return None
    brief = f"shrunk {shrinking:.0f}x, try --tiles {more}"
    return Notice(
        brief,
        f"the image was shrunk {shrinking:.0f}x, so small objects may be missed: "
        f"try --tiles {more}, or --tiles auto",
    )


def chosen_notice(tiles: int) -> Notice:
    """Note which number of tiles was chosen automatically."""
    return Notice(f"tiles {tiles}", f"--tiles auto chose {tiles}")


def name_notice(
    weights: str, prompt: str, count: float, generic_count: float, tiles: int
) -> Notice | None:
    """Note that few of the objects seen are recognized as what `prompt` names.

    count, generic_count: what the same image gives for `prompt` and for the generic prompt.
    """
    if generic_count < MIN_GENERIC or count >= MAX_NAMED_SHARE * generic_count:
        return None
    larger = f", or --tiles {2 * tiles}" if 2 * tiles <= MAX_TILES else ""
    return Notice(
        f"few of about {generic_count:.0f} objects recognized as {prompt}",
        f"{weights} sees about {generic_count:.0f} objects here but recognizes few of them as "
        f'{prompt}; try "{GENERIC_PROMPT}", another name{larger}',
    )
