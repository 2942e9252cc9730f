"""Note when a count may be wrong: the image was shrunk too far, or its objects have another name.

Beside the path image -> count: counter.py and batch/pipeline.py -> [plausibility.py] -> notices.py
"""

from __future__ import annotations

from clipcount_cli.config import GENERIC_PROMPT, MAX_TILES, ModelConfig
from clipcount_cli.counting.notices import Notice

MIN_SHRINKING = 3.75  # about fourfold: from here on small objects vanish
MIN_GENERIC = 3  # objects; with fewer, the comparison means nothing
MAX_NAMED_SHARE = 0.25  # of what is seen: above it the name is understood


def generic_prompt(config: ModelConfig) -> str | None:
    """The prompt that means any object, if these weights learned one.

    Those with a bank of nouns did, whose samples query it beside the nouns that they list.
    """
    return GENERIC_PROMPT if config.bank or GENERIC_PROMPT in config.taught else None


def size_notice(shorter_px: int, tiles: int, side_px: int) -> Notice | None:
    """Note that an image whose shorter side has `shorter_px` was shrunk so far that objects vanish.

    tiles, side_px: it was resized to `tiles` times `side_px`.
    """
    shrinking = shorter_px / (tiles * side_px)
    more = more_tiles(shorter_px, tiles, side_px)
    if shrinking < MIN_SHRINKING or more is None:
        return None
    return Notice(
        f"shrunk {shrinking:.0f}x, try --tiles {more}",
        f"the image was shrunk {shrinking:.0f}x: if its objects are small, "
        f"try --tiles {more}, or --tiles auto",
        doubtful=True,
    )


def more_tiles(shorter_px: int, tiles: int, side_px: int) -> int | None:
    """The number of tiles to try after `tiles`: twice as many, or half the image's own pixels."""
    more = min(MAX_TILES, max(2 * tiles, round(shorter_px / side_px / 2)))
    return more if more > tiles else None


def chosen_notice(tiles: int) -> Notice:
    """Note which number of tiles was chosen automatically."""
    return Notice(f"tiles {tiles}", f"--tiles auto chose {tiles}")


def name_notice(
    weights: str, prompt: str, count: float, generic_count: float, larger: int | None
) -> Notice | None:
    """Note that few of the objects seen are recognized as what `prompt` names.

    count, generic_count: counts of the same image for `prompt`, or for its noun alone, and for the
    generic prompt; larger: the number of tiles to try next, if any.
    """
    if generic_count < MIN_GENERIC or count >= MAX_NAMED_SHARE * generic_count:
        return None
    also = " or another name" if larger is None else f", another name, or --tiles {larger}"
    return Notice(
        f"few of about {generic_count:.0f} objects recognized as {prompt}",
        f"{weights} recognizes few of about {generic_count:.0f} objects as {prompt}; "
        f'if they are {prompt}, try "{GENERIC_PROMPT}"{also}',
        doubtful=True,
    )
