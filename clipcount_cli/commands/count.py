"""`clipcount count`: one image, from its file to counts and pictures."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clipcount_cli import console
from clipcount_cli.commands.options import (
    OUTPUT,
    DeviceOption,
    JsonOption,
    OverwriteOption,
    Precision,
    PrecisionOption,
    TilesOption,
    WeightsOption,
    open_counter,
    with_common_options,
)
from clipcount_cli.errors import ImageReadError
from clipcount_cli.files import atomic_write, require_distinct, require_writable

if TYPE_CHECKING:
    from clipcount_cli.counting.counter import Counter, CountResult
    from clipcount_cli.counting.images import DecodedImage

EXAMPLES = """clipcount count photo.jpg "red apples" "green apples"
clipcount count photo.jpg coins --heatmap coins.png --json"""

ImageArgument = Annotated[
    str, typer.Argument(metavar="IMAGE", help="Image to count in; - reads standard input.")
]
PromptsArgument = Annotated[
    list[str], typer.Argument(metavar="PROMPT...", help='What to count, such as "red apples".')
]
HeatmapOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.png",
        help="Draw where the objects are, one panel per prompt.",
        rich_help_panel=OUTPUT,
    ),
]
DensityOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.npy",
        help="Write the density maps as an array (prompts, h, w); each map sums to its count.",
        rich_help_panel=OUTPUT,
    ),
]
SimilarityOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.png",
        help="Draw the similarity of image patches and prompt.",
        rich_help_panel=OUTPUT,
    ),
]


@with_common_options
def count(
    image: ImageArgument,
    prompts: PromptsArgument,
    *,
    json: JsonOption = False,
    heatmap: HeatmapOption = None,
    density: DensityOption = None,
    similarity: SimilarityOption = None,
    overwrite: OverwriteOption = False,
    weights: WeightsOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = Precision.auto,
    tiles: TilesOption = 1,
) -> None:
    """Count what each PROMPT names in one image."""
    from clipcount_cli.counting.images import check_picture_suffix

    require_distinct(heatmap, density, similarity, None if image == "-" else Path(image))
    require_writable(heatmap, density, similarity, overwrite=overwrite)
    for picture in filter(None, (heatmap, similarity)):
        check_picture_suffix(picture)

    photo = read(image)
    counter = open_counter(weights, device, precision)
    results = count_prompts(counter, photo, prompts, tiles)
    if json:
        console.show_json(as_json(counter, image, photo, results))
    else:
        console.show_counts(image, results)
    write_pictures(counter, photo, results, heatmap, density, similarity)


def read(image: str) -> DecodedImage:
    """Read a file, or stdin if `image` is `-`; report what is worth knowing about it."""
    from clipcount_cli.counting.images import read_image

    if image != "-":
        photo = read_image(Path(image))
    elif sys.stdin is None:
        raise ImageReadError("stdin is closed", hint="pipe a photograph into it, or name a file")
    else:
        photo = read_image(sys.stdin.buffer, "stdin")
    for notice in photo.notices:
        console.notice(f"{image}: {notice}")
    return photo


def count_prompts(
    counter: Counter, photo: DecodedImage, prompts: Sequence[str], tiles: int
) -> list[CountResult]:
    """Count each prompt, and say what of it these weights cannot read."""
    for hidden in filter(None, map(counter.unread_part, dict.fromkeys(prompts))):
        console.warn(hidden)
    return counter.count(photo.pixels, prompts, tiles)


def write_pictures(
    counter: Counter,
    photo: DecodedImage,
    results: Sequence[CountResult],
    heatmap: Path | None,
    density: Path | None,
    similarity: Path | None,
) -> None:
    """Write what was asked for: raw density maps, overlays, similarity maps."""
    import numpy as np

    from clipcount_cli.counting.heatmap import panels, similarity_panels
    from clipcount_cli.counting.images import write_image

    if density is not None:
        with atomic_write(density) as temporary, temporary.open("wb") as file:
            np.save(file, np.stack([result.density for result in results]))
    if heatmap is not None:
        write_image(heatmap, panels(photo.pixels, results))
    if similarity is not None:
        maps = [counter.similarity(photo.pixels, result.prompt) for result in results]
        write_image(similarity, similarity_panels(photo.pixels, results, maps))


def as_json(
    counter: Counter, image: str, photo: DecodedImage, results: Sequence[CountResult]
) -> dict[str, Any]:
    """The object that `--json` prints; counts unrounded, width and height upright."""
    height, width = photo.pixels.shape[:2]
    return {
        "image": image,
        "width": width,
        "height": height,
        "weights": counter.label,
        "device": str(counter.device),
        "precision": counter.precision,
        "results": [{"prompt": result.prompt, "count": result.count} for result in results],
        "notices": [str(notice) for notice in photo.notices],
    }
