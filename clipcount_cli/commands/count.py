"""`clipcount count`: one image, from its file to counts and pictures."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clipcount_cli import console
from clipcount_cli.commands.options import (
    INPUT,
    OUTPUT,
    ChannelOption,
    DeviceOption,
    JsonOption,
    OverwriteOption,
    PageOption,
    Precision,
    PrecisionOption,
    TilesOption,
    WeightsOption,
    open_counter,
    parse_tiles,
    with_common_options,
)
from clipcount_cli.errors import ImageReadError, UsageError, command_line, shortened
from clipcount_cli.files import as_text, atomic_write, is_file, require_distinct, require_writable

if TYPE_CHECKING:
    from clipcount_cli.counting.counter import Counter, CountResult, Counts
    from clipcount_cli.counting.images import DecodedImage
    from clipcount_cli.counting.notices import Notice
    from clipcount_cli.counting.regions import Regions
    from clipcount_cli.counting.results import Line
    from clipcount_cli.counting.stacks import Selection

EXAMPLES = """clipcount count photo.jpg "red apples" "green apples"
clipcount count photo.jpg coins --heatmap coins.png --json
clipcount count plate.tif cells --mask wells.png --points cells.csv"""

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
        help="Draw heatmaps of where the objects are, one panel per prompt.",
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
        help="Draw the similarity between image patches and each prompt.",
        rich_help_panel=OUTPUT,
    ),
]


RegionOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="X,Y,W,H",
        help="Count only inside a rectangle: left, top, width and height in pixels of the upright "
        "image. May be repeated: each region gets its own count.",
        rich_help_panel=INPUT,
    ),
]
MaskOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Count only inside a mask: the white area of a black and white image, or each label "
        "of a label image. It must have the size of the upright image.",
        rich_help_panel=INPUT,
    ),
]
PointsOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.csv",
        help="Write the positions of the objects, in the columns image,prompt,x,y that train "
        "reads.",
        rich_help_panel=OUTPUT,
    ),
]


@dataclass(frozen=True)
class Outputs:
    """The files to write in addition to the counts."""

    heatmap: Path | None
    density: Path | None
    similarity: Path | None
    points: Path | None

    def check(self, image: str, mask: Path | None, overwrite: bool) -> None:
        """Refuse names that cannot be written, before anything is computed."""
        from clipcount_cli.counting.images import check_picture_suffix

        files = (self.heatmap, self.density, self.similarity, self.points)
        require_distinct(*files, inputs=(mask, None if image == "-" else Path(image)))
        require_writable(*files, overwrite=overwrite)
        for picture in filter(None, (self.heatmap, self.similarity)):
            check_picture_suffix(picture)
        for path, suffix in ((self.density, ".npy"), (self.points, ".csv")):
            if path is not None and path.suffix.lower() != suffix:
                raise UsageError(
                    f"{path} would hold {suffix[1:].upper()} data under another suffix",
                    hint=f"end the name in {suffix}",
                )


@with_common_options
def count(
    image: ImageArgument,
    prompts: PromptsArgument,
    *,
    region: RegionOption = None,
    mask: MaskOption = None,
    page: PageOption = None,
    channel: ChannelOption = None,
    json: JsonOption = False,
    heatmap: HeatmapOption = None,
    density: DensityOption = None,
    points: PointsOption = None,
    similarity: SimilarityOption = None,
    overwrite: OverwriteOption = False,
    weights: WeightsOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = Precision.auto,
    tiles: TilesOption = "1",
) -> None:
    """Count what each PROMPT names in one image."""
    wanted = parse_tiles(tiles)
    check_prompts(image, prompts)
    outputs = Outputs(heatmap, density, similarity, points)
    outputs.check(image, mask, overwrite)

    photo = read(image, page, channel)
    regions = read_regions(photo, region or [], mask, page)
    counter = open_counter(weights, device, precision)
    for unread in counter.unread_parts(prompts):
        console.warn(unread)
    counts = counter.count_image(photo.pixels, prompts, wanted)
    show_notices(counts.notices)
    lines = counts.lines(regions)
    if json:
        console.show_json(as_json(counter, image, photo, counts, lines))
    else:
        console.show_counts(shown_name(image), lines)
    shown = counts if regions is None else [result.inside(regions) for result in counts]
    write_files(counter, name_in_points(image, page, channel), photo, shown, outputs)


def check_prompts(image: str, prompts: Sequence[str]) -> None:
    """Raise UsageError if a prompt is empty, or an image, as in `count a.jpg b.jpg coins`."""
    from clipcount_cli.counting.prompts import refuse_empty

    refuse_empty(prompts, prompts_hint(image))
    images = [prompt for prompt in prompts if is_image_file(prompt)]
    if not images:
        return
    names = [prompt for prompt in prompts if prompt not in images]
    if image == "-" or is_file(image):
        prompt_options = [word for name in names or ["TEXT"] for word in ("--prompt", name)]
        sources = [image, *images] if image != "-" else images
        command = ["clipcount", "batch", *sources, *prompt_options, "--csv", "counts.csv"]
        hint = f"to count in several images: {command_line(command)}"
    else:
        hint = f"the image comes first: {command_line(['clipcount', 'count', images[0], image])}"
    raise UsageError(f"{shortened(images)}: an image, not a prompt; count takes one image", hint)


def prompts_hint(image: str) -> str:
    """What to type if nothing was named to count in `image`."""
    return f'name what to count: {command_line(["clipcount", "count", image])} "red apples"'


def is_image_file(name: str) -> bool:
    """Whether `name` is the path of a file that has an image's suffix or content."""
    from PIL import Image

    from clipcount_cli.counting.images import IMAGE_SUFFIXES

    if not is_file(name):
        return False
    if Path(name).suffix.lower() in IMAGE_SUFFIXES:
        return True
    try:
        Image.open(name).close()
    except Exception:  # whatever a file that is no image makes Pillow raise
        return False
    return True


def read(image: str, page: str | None, channel: int | None) -> DecodedImage:
    """Read a file, or stdin if `image` is `-`, and print notices about it."""
    from clipcount_cli.counting.images import read_image
    from clipcount_cli.counting.stacks import Selection, parse_page

    selection = Selection(parse_page(page), channel)
    if image != "-":
        photo = read_named(Path(image), selection)
    elif sys.stdin is None:
        raise ImageReadError("stdin is closed", hint="pipe an image into it, or name a file")
    else:
        photo = read_image(sys.stdin.buffer, "stdin", selection)
    show_notices(photo.notices, f"{shown_name(image)}: ")
    return photo


def shown_name(image: str) -> str:
    """How messages call the image."""
    return "stdin" if image == "-" else image


def read_named(path: Path, selection: Selection) -> DecodedImage:
    """Read an image file; an error without a hint, about a file of another kind, gets one."""
    from clipcount_cli.counting.images import read_image

    try:
        return read_image(path, selection=selection)
    except ImageReadError as error:
        error.hint = error.hint or "name an image, such as photo.jpg"
        raise


def show_notices(notices: Iterable[Notice], place: str = "") -> None:
    """Print each notice after `place`; those that cast doubt on a count as warnings."""
    for notice in notices:
        (console.warn if notice.doubtful else console.notice)(f"{place}{notice}")


def read_regions(
    photo: DecodedImage, rectangles: Sequence[str], mask: Path | None, page: str | None
) -> Regions | None:
    """The regions that the options name, or None for the whole image."""
    from clipcount_cli.counting.masks import read_mask
    from clipcount_cli.counting.regions import Box, Boxes
    from clipcount_cli.counting.stacks import parse_page

    height_px, width_px = photo.pixels.shape[:2]
    if rectangles and mask is not None:
        raise UsageError("--region and --mask exclude each other", hint="leave one out")
    if mask is not None:
        return read_mask(mask, width_px, height_px, parse_page(page))
    if rectangles:
        return Boxes.of([Box.parse(text) for text in rectangles], width_px, height_px)
    return None


def as_json(
    counter: Counter, image: str, photo: DecodedImage, counts: Counts, lines: Sequence[Line]
) -> dict[str, Any]:
    """The object that `--json` prints; counts unrounded, width and height upright."""
    height, width = photo.pixels.shape[:2]
    unread = counter.unread_parts([result.prompt for result in counts])
    return {
        "image": image,
        "width": width,
        "height": height,
        "weights": counter.label,
        "device": str(counter.device),
        "precision": counter.precision,
        "results": [
            {key: value for key, value in asdict(line).items() if value is not None}
            for line in lines
        ],
        "tiles": counts.tiles,
        "notices": [*unread, *map(str, (*photo.notices, *counts.notices))],
    }


def write_files(
    counter: Counter,
    name: str,
    photo: DecodedImage,
    results: Sequence[CountResult],
    outputs: Outputs,
) -> None:
    """Write what the options name: raw density maps, positions, heatmaps, similarity maps."""
    import numpy as np

    from clipcount_cli.counting.heatmap import panels, similarity_panels
    from clipcount_cli.counting.images import write_image

    if outputs.density is not None:
        with atomic_write(outputs.density) as temporary, temporary.open("wb") as file:
            np.save(file, np.stack([result.density for result in results]))
    if outputs.points is not None:
        write_points(outputs.points, name, photo, results)
    if outputs.heatmap is not None:
        write_image(outputs.heatmap, panels(photo.pixels, results))
    if outputs.similarity is not None:
        maps = [counter.similarity(photo.pixels, result.prompt) for result in results]
        write_image(outputs.similarity, similarity_panels(photo.pixels, results, maps))


def name_in_points(image: str, page: str | None, channel: int | None) -> str:
    """The name by which `train` finds the image: with the page counted, as the file numbers it."""
    from clipcount_cli.counting.images import stored_page
    from clipcount_cli.counting.page_names import page_name
    from clipcount_cli.counting.stacks import FIRST_PAGE, Selection, parse_page

    if image == "-":
        return "stdin"
    name, selection = as_text(Path(image).name), Selection(parse_page(page), channel)
    number = None if selection == FIRST_PAGE else stored_page(Path(image), image, selection)
    return name if number is None else page_name(name, number)


def write_points(
    path: Path, name: str, photo: DecodedImage, results: Sequence[CountResult]
) -> None:
    """Write one row per object; a prompt without any gets a row with empty x and y."""
    from clipcount_cli.counting.positions import image_positions

    height_px, width_px = photo.pixels.shape[:2]
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(("image", "prompt", "x", "y"))
        for result in results:
            found = image_positions(result.density, width_px, height_px).tolist()
            cells = [(f"{x:.1f}", f"{y:.1f}") for x, y in found] or [("", "")]
            rows.writerows((name, result.prompt, *position) for position in cells)
