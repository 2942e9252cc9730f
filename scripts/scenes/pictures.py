"""Which emoji pictures show which noun, and how to vary one: turned, mirrored, recoloured.

Training sees the soft 3-D renders (fluent), tests the flat drawings of another artist (noto).
scripts/scenes/fetch.py fetches both; without them scenes hold our own drawings alone.
"""

from __future__ import annotations

import unicodedata
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from clipcount_cli.errors import DataError
from scenes.brush import NAMED_COLOURS, Pixels
from scenes.drawings import SPRITE_SIDE_PX, turn_of

FOLDERS = {"train": "fluent", "test": "noto"}
MODELS_FOLDER = "models"


@dataclass(frozen=True)
class Look:
    """One picture of a noun: its Unicode name, the colour it shows, whether it can be dyed."""

    emoji: str
    colour: str = ""  # "": its own, never named
    dyed: bool = False  # its main colour may be replaced by any colour of the noun
    repaint: str = ""  # replaces its main colour, if the artist's is not the natural one


def _looks(*emoji: str, dyed: bool = False) -> tuple[Look, ...]:
    return tuple(Look(name, dyed=dyed) for name in emoji)


LOOKS: dict[str, tuple[Look, ...]] = {
    # nouns that are also drawn
    "apples": _looks("red apple", dyed=True),
    "oranges": (Look("tangerine", repaint="orange"),),
    "tomatoes": _looks("tomato", dyed=True),
    "strawberries": (Look("strawberry", repaint="red"),),
    "potatoes": _looks("potato"),
    "cookies": _looks("cookie"),
    "eggs": (Look("egg", "brown"),),
    "stones": _looks("rock"),
    "candies": _looks("candy", dyed=True),
    "leaves": _looks("maple leaf", dyed=True),
    "flowers": (*_looks("hibiscus", dyed=True), Look("white flower", "white")),
    "stars": _looks("white medium star", dyed=True),
    "fish": _looks("fish", dyed=True),
    "birds": _looks("bird", "parrot", "eagle", "dove of peace"),
    "crabs": (Look("crab", repaint="red"),),
    # nouns that only pictures show
    "ducks": _looks("duck"),
    "chicks": _looks("baby chick", "front-facing baby chick"),
    "penguins": _looks("penguin"),
    "shrimps": _looks("shrimp"),
    "turtles": _looks("turtle"),
    "butterflies": _looks("butterfly", dyed=True),
    "bees": _looks("honeybee"),
    "ladybirds": _looks("lady beetle"),
    "shells": _looks("spiral shell"),
    "sheep": _looks("sheep", "ram"),
    "cows": _looks("cow", "ox"),
    "dogs": _looks("dog", "poodle"),
    "cats": _looks("cat"),
    "bananas": _looks("banana"),
    "pears": _looks("pear"),
    "peaches": _looks("peach"),
    "watermelons": _looks("watermelon"),
    "carrots": _looks("carrot"),
    "peppers": _looks("bell pepper", "hot pepper", dyed=True),
    "onions": _looks("onion"),
    "cucumbers": _looks("cucumber"),
    "mushrooms": (Look("mushroom", repaint="red"),),
    "pumpkins": _looks("jack-o-lantern"),
    "doughnuts": _looks("doughnut", dyed=True),
    "croissants": _looks("croissant"),
    "spoons": _looks("spoon"),
    "cups": _looks("hot beverage", "teacup without handle"),
    "keys": _looks("key", "old key"),
    "pencils": _looks("pencil", "lower left crayon", dyed=True),
    "books": _looks("closed book", "green book", "orange book", "blue book", dyed=True),
    "light bulbs": _looks("electric light bulb"),
    "balloons": _looks("balloon", dyed=True),
    "umbrellas": _looks("umbrella", dyed=True),
    "hearts": _looks("heavy black heart", "blue heart", "green heart", dyed=True),
    "shirts": _looks("t-shirt", dyed=True),
    "shoes": _looks("athletic shoe", "mans shoe", dyed=True),
    "boats": _looks("sailboat", "motor boat", "canoe"),
    "planes": _looks("airplane", "small airplane"),
    "bicycles": _looks("bicycle"),
    "roses": _looks("rose", dyed=True),
    "sunflowers": _looks("sunflower"),
}


def looks_of(noun: str, colour: str) -> list[Look]:
    """The pictures that show a noun in a colour, or can be dyed to show it."""
    return [look for look in LOOKS.get(noun, ()) if look.colour == colour or look.dyed]


def read_picture(material: Path, look: Look, part: str) -> Pixels:
    """Read a picture as (h, w, 4) uint8. Raises DataError if it is missing."""
    code = f"{ord(unicodedata.lookup(look.emoji.upper())):x}"
    folder = material / FOLDERS[part]
    for path in (folder / f"{code}.webp", folder / f"{code}.png"):
        if path.is_file():
            with Image.open(path) as image:
                picture = image.convert("RGBA")
            picture.thumbnail((SPRITE_SIDE_PX * 7 // 6,) * 2, Image.Resampling.LANCZOS)
            return spread_colour(np.asarray(picture))
    raise DataError(
        f"{folder} has no picture of {look.emoji!r} ({code})",
        hint=f"run `python scripts/scenes fetch --material {material}`",
    )


def read_views(material: Path, noun: str, part: str, needed: bool) -> list[Pixels]:
    """Read the views of a noun's 3-D models; some are kept for "test", by model.

    Raises DataError if there are none but they are `needed`.
    """
    folder = material / MODELS_FOLDER / part / noun
    views = []
    for path in sorted(folder.glob("*.png")):
        with Image.open(path) as image:
            views.append(spread_colour(np.asarray(image.convert("RGBA"))))
    if needed and not views:
        raise DataError(
            f"{folder} has no views of {noun}",
            hint=f"run `python scripts/scenes fetch --material {material}`",
        )
    return views


def spread_colour(rgba: Pixels) -> Pixels:
    """Continue the colours beyond the outline, so that resizing leaves no dark seam."""
    from scipy.ndimage import distance_transform_edt

    nearest = distance_transform_edt(
        rgba[..., 3] < 200, return_distances=False, return_indices=True
    )
    spread: Pixels = rgba[tuple(nearest)].copy()
    spread[..., 3] = rgba[..., 3]
    return spread


MIN_STRONG = 0.15  # of a picture is of a strong colour, or else it is pale as a whole


def dye(rgba: Pixels, colour: str, rng: np.random.Generator) -> Pixels:
    """Replace the main hue of a picture by a named colour, keeping its light and shade."""
    hsv = np.asarray(Image.fromarray(rgba[..., :3]).convert("HSV"), np.float32)
    hue, saturation, value = hsv[..., 0], hsv[..., 1], hsv[..., 2]
    opaque = rgba[..., 3] > 128
    strong = (saturation > 70) & opaque
    if strong.sum() < 20:
        return rgba
    counts = np.bincount((hue[strong] / 8).astype(int), minlength=32)
    main = (float(np.argmax(counts)) + 0.5) * 8
    away = (hue - main + 128) % 256 - 128
    belongs = np.clip((46 - np.abs(away)) / 8, 0, 1) * np.clip((saturation - 30) / 40, 0, 1)
    if strong.sum() < MIN_STRONG * opaque.sum():  # a pale tint all over
        strong, away, belongs = opaque, np.zeros_like(hue), np.ones_like(hue)
        saturation = np.full_like(hue, np.median(saturation[opaque]))
    wanted = [float(rng.uniform(*bounds)) for bounds in NAMED_COLOURS[colour]]
    middle = [float(np.median(channel[strong])) for channel in (saturation, value)]
    new = np.stack(
        [
            (wanted[0] / 360 * 256 + away * 0.3) % 256,
            np.clip(saturation * (wanted[1] * 255 / middle[0]), 0, 255),
            np.clip(value * (wanted[2] * 255 / middle[1]), 0, 255),
        ],
        axis=2,
    ).astype(np.uint8)
    dyed = np.asarray(Image.fromarray(new, "HSV").convert("RGB"), np.float32)
    mixed = rgba[..., :3] + (dyed - rgba[..., :3]) * belongs[..., None]
    return np.dstack([mixed, rgba[..., 3]]).astype(np.uint8)


def vary(rgba: Pixels, noun: str, number: int, upright: bool) -> Pixels:
    """Individual `number` of a picture: turned (if it may), mirrored, stretched, re-lit."""
    rng = np.random.Generator(np.random.PCG64([zlib.crc32(noun.encode()), number]))
    picture = Image.fromarray(rgba[:, ::-1] if rng.random() < 0.5 else rgba)
    squeeze = rng.uniform(0.85, 1, 2)
    width, height = (max(8, round(x * s)) for x, s in zip(picture.size, squeeze, strict=True))
    picture = picture.resize((width, height), Image.Resampling.BILINEAR)
    angle = rng.normal(0, 8) if upright else -np.degrees(turn_of(number))
    turned = picture.rotate(float(angle), Image.Resampling.BICUBIC, expand=True)
    pixels = np.asarray(turned, np.float32)
    steps = np.linspace(-1, 1, max(turned.size), dtype=np.float32)
    shade = steps[: pixels.shape[0], None] + steps[None, : pixels.shape[1]]
    gain = rng.uniform(0.75, 1.08) * (1 - rng.uniform(0, 0.22) * shade)
    tint = 1 + rng.uniform(-0.06, 0.06, 3)
    pixels[..., :3] *= (gain[..., None] * tint).astype(np.float32)
    return np.clip(pixels, 0, 255).astype(np.uint8)
