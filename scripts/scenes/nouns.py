"""The words of rendered scenes: which nouns there are, their colours, kinds and look-alikes.

nouns.csv -> [nouns.py]. Imported by drawings.py (what can be drawn), catalogue.py (cut-outs) and
render.py (prompts).
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

ANY = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white", "black", "brown")
BRIGHT = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white")
PALETTES = {"any": ANY, "bright": BRIGHT}  # what a cell of nouns.csv may hold instead of colours
# A material, and what a thing made of it might be called as well: never queried as absent
MATERIALS: Mapping[str, tuple[str, ...]] = {
    "wooden": ("brown", "orange", "yellow", "copper"),
    "metal": ("white", "black", "silver"),
    "gold": ("yellow", "orange", "brown", "copper", "metal"),
    "silver": ("white", "metal"),
    "copper": ("brown", "orange", "red", "gold", "metal", "wooden"),
    "plastic": ANY,
}
SIZES: Mapping[str, str] = {"large": "small", "big": "little"}  # words for two sizes of one noun
ATTRIBUTES = (*ANY, *MATERIALS, *SIZES, *SIZES.values())

TABLE = Path(__file__).with_name("nouns.csv")  # one row per noun; several values: a;b


@dataclass(frozen=True)
class Noun:
    """What a scene may call a thing, and how it lies in the scene."""

    plural: str
    singular: str
    colours: tuple[str, ...] = ()  # empty: its colour is its own and is never named
    kinds: tuple[str, ...] = ()  # hypernyms, queried as the union of everything of that kind
    synonyms: tuple[str, ...] = ()
    akin: tuple[str, ...] = ()  # nouns of one group look alike: never queried beside each other
    ground: str = "any"  # the background it belongs on, see backgrounds.SUITED
    upright: bool = False  # seen from the side: never upside down
    apart: float = 0.55  # nearest neighbours keep this far apart, over their size
    heaped: bool = False  # often fills an image from border to border
    round: bool = False  # any turn of it looks the same: never lies in one direction
    weight: float = 1.0  # how often it is chosen
    materials: tuple[str, ...] = ()  # what it may be made of, if that is named


def _read(shown: str) -> dict[str, Noun]:
    """The rows of nouns.csv that are `drawn`, `pictured`, `modelled` or `cut out`."""
    with TABLE.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row.pop("shown") == shown]
    nouns = (Noun(**{name: _value(name, cell) for name, cell in r.items() if cell}) for r in rows)
    return {noun.plural: noun for noun in nouns}


def _value(name: str, cell: str) -> Any:
    default = next(field.default for field in fields(Noun) if field.name == name)
    if name == "colours" and cell in PALETTES:
        return PALETTES[cell]
    if isinstance(default, tuple):
        return tuple(cell.split(";"))
    if isinstance(default, bool):
        return cell == "yes"
    return float(cell) if isinstance(default, float) else cell


NOUNS = _read("drawn")
PICTURED = _read("pictured")  # shown by pictures alone, see pictures.py
MODELLED = _read("modelled")  # shown by views of 3-D models alone
CUT_OUT = _read("cut out")  # shown by cut-outs of photos alone, see cutouts.py

EDIBLE = ("fruit", "vegetables", "sweets", "berries", "food")  # all of these are also "food"

_STRANGE_WORDS = """chairs tables books bottles glasses horses elephants
    lamps phones keyboards shoes hats gloves socks shirts umbrellas bags boxes cups
    pens pencils scissors hammers guitars pianos drums clocks watches
    televisions boats ships trains buses bicycles motorcycles planes rockets tents
    flags kites balloons dolls robots penguins ducks sheep cows pigs goats lions tigers bears
    monkeys snakes frogs turtles spiders bees ants butterflies mushrooms carrots onions peppers
    cucumbers bananas pineapples watermelons sandwiches pizzas burgers sausages donuts cakes
    croissants pretzels toothbrushes towels pillows chopsticks carpets curtains mirrors paintings
    letters stamps tickets cards seashells feathers bones skulls crosses arrows wheels tyres
    barrels bins ladders fences benches swings pots pans kettles straws corks needles
    batteries bulbs cameras plugs cables switches roses tulips windmills
    crabs shrimps lobsters snails"""
# Always absent, so that the count of words unknown to the model stays low
STRANGERS = tuple(_STRANGE_WORDS.split())


def named_alike(one: str, other: str) -> bool:
    """Whether two colours or materials may describe the same thing."""
    return one == other or other in MATERIALS.get(one, ()) or one in MATERIALS.get(other, ())


_SYNONYMS = {
    word for row in (NOUNS, PICTURED, MODELLED) for n in row.values() for word in n.synonyms
}


def noun_of(prompt: str) -> str:
    """The noun of a prompt, without its size, colour and material; "green peas" are a noun."""
    words = prompt.split()
    while len(words) > 1 and words[0] in ATTRIBUTES and " ".join(words) not in _SYNONYMS:
        del words[0]
    return " ".join(words)


def countable_phrases(nouns: Mapping[str, Noun]) -> set[str]:
    """What scenes of `nouns` name as being there."""
    phrases: set[str] = {"objects", "object", "things", "food", *ATTRIBUTES}
    for noun in nouns.values():
        phrases.update((noun.plural, noun.singular, *noun.kinds, *noun.synonyms))
    return phrases


def vocabulary_of(nouns: Mapping[str, Noun]) -> list[str]:
    """List every prompt-forming word and phrase of `nouns`, sorted, for a narrow token table."""
    return sorted(countable_phrases(nouns) | set(STRANGERS))
