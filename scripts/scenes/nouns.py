"""The words of rendered scenes: which nouns there are, their colours, kinds and look-alikes.

Imported by drawings.py (what can be drawn), catalogue.py (cut-outs) and render.py (prompts).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

ANY = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white", "black", "brown")
BRIGHT = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white")
# A material, and what a thing made of it might be called as well: never asked for as absent
MATERIALS: Mapping[str, tuple[str, ...]] = {
    "wooden": ("brown", "orange", "yellow", "copper"),
    "metal": ("white", "black", "silver"),
    "gold": ("yellow", "orange", "brown", "copper", "metal"),
    "silver": ("white", "metal"),
    "copper": ("brown", "orange", "red", "gold", "metal", "wooden"),
    "plastic": ANY,
}
SIZES: Mapping[str, str] = {"large": "small", "big": "little"}  # said of two sizes of one noun
ATTRIBUTES = (*ANY, *MATERIALS, *SIZES, *SIZES.values())


@dataclass(frozen=True)
class Noun:
    """What a scene may call a thing, and how it lies in the scene."""

    plural: str
    singular: str
    colours: tuple[str, ...] = ()  # empty: its colour is its own and is never named
    kinds: tuple[str, ...] = ()  # hypernyms, asked for as the union of everything of that kind
    synonyms: tuple[str, ...] = ()
    akin: tuple[str, ...] = ()  # nouns of one group look alike: never asked for beside each other
    ground: str = "any"  # the background it belongs on, see backgrounds.SUITED
    upright: bool = False  # seen from the side: never upside down
    apart: float = 0.55  # nearest neighbours keep this far apart, over their size
    heaped: bool = False  # often fills a photograph from border to border
    round: bool = False  # any turn of it looks the same: never lies in one direction
    weight: float = 1.0  # how often it is chosen
    materials: tuple[str, ...] = ()  # what it may be made of, where that is named


def _nouns(*rows: Noun) -> dict[str, Noun]:
    return {row.plural: row for row in rows}


CUTLERY, TABLEWARE = ("cutlery",), ("metal", "wooden", "plastic")
NOUNS = _nouns(
    Noun(
        "coins",
        "coin",
        (),
        ("money",),
        ("metal coins",),
        ("disc",),
        round=True,
        weight=2.2,
        apart=0.88,
        materials=("gold", "silver", "copper"),
    ),
    Noun("pills", "pill", ANY, ("medicine",), ("tablets",), ("sweet",), weight=1.6, apart=0.7),
    Noun("candies", "candy", ANY, ("sweets",), (), ("sweet", "sphere"), weight=1.8, apart=0.65),
    Noun(
        "beads",
        "bead",
        ANY,
        (),
        (),
        ("sphere",),
        weight=1.2,
        apart=0.7,
        materials=("wooden", "gold", "silver"),
    ),
    Noun(
        "pearls",
        "pearl",
        ("white", "pink", "black"),
        (),
        (),
        ("sphere",),
        round=True,
        weight=0.6,
        apart=0.75,
    ),
    Noun(
        "marbles",
        "marble",
        BRIGHT,
        ("toys",),
        ("glass marbles",),
        ("sphere",),
        round=True,
        apart=0.75,
    ),
    Noun(
        "balls",
        "ball",
        ANY,
        ("toys",),
        (),
        ("sphere",),
        round=True,
        weight=1.2,
        apart=0.8,
        materials=("wooden", "metal"),
    ),
    Noun(
        "buttons",
        "button",
        ANY,
        (),
        (),
        ("disc",),
        weight=1.2,
        apart=0.8,
        materials=("wooden", "metal"),
    ),
    Noun(
        "bottle caps",
        "bottle cap",
        BRIGHT,
        (),
        ("caps",),
        ("disc",),
        weight=1.2,
        apart=0.85,
        materials=("gold", "silver"),
    ),
    Noun("nuts", "nut", (), ("hardware",), ("hex nuts",), ("nut",), weight=0.7),
    Noun("screws", "screw", (), ("hardware",), (), ("nail",), weight=0.9),
    Noun("nails", "nail", (), ("hardware",), (), ("nail",), weight=0.6),
    Noun("matches", "match", ("red", "brown", "green", "blue"), (), ("matchsticks",), weight=0.7),
    Noun("stars", "star", ANY, (), (), ("star",), weight=0.8, materials=("gold", "silver")),
    Noun("dice", "die", BRIGHT, ("toys",), (), ("dice",), apart=0.85),
    Noun("bricks", "brick", (), (), (), ("brick",), "ground", weight=0.7, apart=0.7),
    Noun("cars", "car", ANY, ("vehicles",), (), ("car",), "street", weight=1.8, apart=0.75),
    Noun(
        "candles", "candle", (), (), ("tealights",), ("candle",), "dark", upright=True, apart=0.85
    ),
    Noun(
        "rings",
        "ring",
        (),
        ("jewellery",),
        (),
        ("ring",),
        weight=0.6,
        materials=("gold", "silver"),
    ),
    Noun("paper clips", "paper clip", (), (), (), ("clip",), weight=0.6),
    Noun("forks", "fork", (), CUTLERY, (), ("fork",), weight=0.6, materials=TABLEWARE),
    Noun("spoons", "spoon", (), CUTLERY, (), ("spoon",), weight=0.7, materials=TABLEWARE),
    Noun("knives", "knife", (), CUTLERY, (), ("knife",), weight=0.5, materials=TABLEWARE),
    Noun(
        "umbrellas",
        "umbrella",
        ANY,
        (),
        ("parasols",),
        ("umbrella",),
        "ground",
        upright=True,
        apart=0.8,
    ),
    Noun(
        "paper notes",
        "paper note",
        BRIGHT,
        (),
        ("sticky notes",),
        ("note",),
        weight=0.7,
        apart=0.85,
    ),
    Noun(
        "fish",
        "fish",
        ("red", "orange", "yellow", "blue", "white", "black", "pink", "brown"),
        ("animals",),
        ground="water",
        weight=1.2,
    ),
    Noun("crabs", "crab", (), ("animals",), (), ("crab",), "shore", weight=1.2, apart=0.75),
    Noun(
        "birds", "bird", (), ("animals",), (), ("bird",), "sky", upright=True, weight=0.9, apart=0.7
    ),
    Noun("dots", "dot", ANY, ("circles",), (), ("disc",), round=True, weight=0.5, apart=0.8),
    Noun(
        "apples",
        "apple",
        ("red", "green", "yellow"),
        ("fruit",),
        (),
        ("apple",),
        weight=1.4,
        apart=0.7,
    ),
    Noun(
        "oranges",
        "orange",
        (),
        ("fruit",),
        (),
        ("citrus",),
        round=True,
        heaped=True,
        weight=1.5,
        apart=0.75,
    ),
    Noun("lemons", "lemon", (), ("fruit",), (), ("citrus",), apart=0.65),
    Noun(
        "tomatoes", "tomato", ("red", "green", "yellow"), ("vegetables",), (), ("apple",), apart=0.7
    ),
    Noun("cherries", "cherry", (), ("fruit",), (), ("berry",), upright=True),
    Noun("strawberries", "strawberry", (), ("fruit", "berries"), (), ("berry",), weight=1.4),
    Noun(
        "blueberries",
        "blueberry",
        (),
        ("fruit", "berries"),
        (),
        ("berry",),
        heaped=True,
        weight=1.3,
    ),
    Noun(
        "grapes",
        "grape",
        ("green", "purple", "black"),
        ("fruit",),
        (),
        ("sphere",),
        heaped=True,
        weight=0.9,
    ),
    Noun(
        "peas",
        "pea",
        (),
        ("vegetables",),
        ("green peas",),
        ("pea",),
        round=True,
        heaped=True,
        weight=1.4,
        apart=0.7,
    ),
    Noun(
        "beans",
        "bean",
        ("white", "black", "brown", "red", "green"),
        ("vegetables",),
        (),
        ("pea",),
        heaped=True,
    ),
    Noun("eggs", "egg", ("white", "brown"), ("food",), (), ("egg",), weight=1.2, apart=0.75),
    Noun(
        "potatoes",
        "potato",
        (),
        ("vegetables",),
        (),
        ("lump",),
        "ground",
        heaped=True,
        weight=0.9,
        apart=0.6,
    ),
    Noun("cookies", "cookie", (), ("food",), ("biscuits",), ("cookie",), weight=0.9, apart=0.85),
    Noun("stones", "stone", (), (), ("pebbles",), ("lump",), "ground", heaped=True, weight=1.2),
    Noun(
        "logs",
        "log",
        (),
        ("wood",),
        (),
        ("log",),
        "ground",
        round=True,
        heaped=True,
        weight=1.4,
        apart=0.85,
    ),
    Noun("cells", "cell", ("purple", "pink", "red", "blue"), (), (), ("cell",), "microscope"),
    Noun(
        "cell nuclei",
        "cell nucleus",
        (),
        (),
        ("nuclei",),
        ("cell",),
        "microscope",
        weight=0.8,
        apart=0.7,
    ),
    Noun(
        "leaves", "leaf", ("green", "yellow", "red", "brown", "orange"), ("plants",), (), ("leaf",)
    ),
    Noun("flowers", "flower", BRIGHT, ("plants",), (), ("flower",)),
)

ANIMALS, FRUIT, GREENS = ("animals",), ("fruit",), ("vegetables",)
PICTURED = _nouns(  # shown by pictures alone, see pictures.py
    Noun("ducks", "duck", (), ("birds", "animals"), (), ("bird",), upright=True, weight=0.5),
    Noun("chicks", "chick", (), ("birds", "animals"), (), ("bird",), upright=True, weight=0.4),
    Noun("penguins", "penguin", (), ("birds", "animals"), (), ("bird",), upright=True, weight=0.4),
    Noun("shrimps", "shrimp", (), ANIMALS, ("prawns",), ("crab",), weight=0.4),
    Noun("turtles", "turtle", (), ANIMALS, (), ("turtle",), weight=0.4),
    Noun("butterflies", "butterfly", BRIGHT, ("insects", "animals"), (), ("bug",), weight=0.5),
    Noun("bees", "bee", (), ("insects", "animals"), (), ("bug",), weight=0.4),
    Noun("ladybirds", "ladybird", (), ("insects", "animals"), ("ladybugs",), ("bug",), weight=0.4),
    Noun("shells", "shell", (), (), ("seashells",), ("shell",), weight=0.5),
    Noun("sheep", "sheep", (), ANIMALS, (), ("cattle",), "ground", upright=True, weight=0.5),
    Noun("cows", "cow", (), ANIMALS, (), ("cattle",), "ground", upright=True, weight=0.5),
    Noun("dogs", "dog", (), ANIMALS, (), ("pet",), upright=True, weight=0.4),
    Noun("cats", "cat", (), ANIMALS, (), ("pet",), upright=True, weight=0.4),
    Noun("bananas", "banana", (), FRUIT, (), ("banana",), weight=0.7),
    Noun("pears", "pear", (), FRUIT, (), ("apple",), weight=0.6),
    Noun("peaches", "peach", (), FRUIT, (), ("apple",), weight=0.5),
    Noun("watermelons", "watermelon", (), FRUIT, ("watermelon slices",), ("melon",), weight=0.4),
    Noun("carrots", "carrot", (), GREENS, (), ("carrot",), weight=0.7),
    Noun("peppers", "pepper", ("red", "orange", "yellow", "green"), GREENS, (), ("pepper",)),
    Noun("onions", "onion", (), GREENS, (), ("onion",), weight=0.5),
    Noun("cucumbers", "cucumber", (), GREENS, (), ("cucumber",), weight=0.5),
    Noun("mushrooms", "mushroom", (), GREENS, (), ("mushroom",), weight=0.6),
    Noun("pumpkins", "pumpkin", (), GREENS, (), ("pumpkin",), upright=True, weight=0.4),
    Noun("doughnuts", "doughnut", ("pink", "brown", "white"), ("food",), ("donuts",), ("ring",)),
    Noun("croissants", "croissant", (), ("food",), (), ("bread",), weight=0.4),
    Noun("cups", "cup", (), (), (), ("cup",), upright=True, weight=0.5),
    Noun("keys", "key", (), (), (), ("key",), weight=0.6),
    Noun("pencils", "pencil", ANY, (), (), ("nail",), weight=0.6),
    Noun("books", "book", BRIGHT, (), (), ("book",), weight=0.6, apart=0.8),
    Noun("light bulbs", "light bulb", (), (), ("bulbs",), ("bulb",), weight=0.4),
    Noun("balloons", "balloon", BRIGHT, (), (), ("balloon",), upright=True, weight=0.8),
    Noun("hearts", "heart", ANY, (), (), ("heart",), upright=True, weight=0.6),
    Noun("shirts", "shirt", ANY, ("clothes",), ("t-shirts",), ("shirt",), upright=True, weight=0.5),
    Noun("shoes", "shoe", ANY, ("clothes",), (), ("shoe",), weight=0.5),
    Noun("boats", "boat", (), ("vehicles",), (), ("boat",), upright=True, weight=0.5),
    Noun("planes", "plane", (), ("vehicles",), ("airplanes",), ("plane",), weight=0.5),
    Noun(
        "bicycles", "bicycle", (), ("vehicles",), ("bikes",), ("bicycle",), "street", upright=True
    ),
    Noun("roses", "rose", BRIGHT, ("flowers", "plants"), (), ("flower",), upright=True, weight=0.5),
    Noun("sunflowers", "sunflower", (), ("flowers", "plants"), (), ("flower",), weight=0.5),
)

FURNITURE, VEHICLES = ("furniture",), ("vehicles",)
MODELLED = _nouns(  # shown by views of 3-D models alone
    Noun("chairs", "chair", (), FURNITURE, (), ("chair",), upright=True, weight=1.2),
    Noun("sofas", "sofa", (), FURNITURE, ("couches",), ("sofa",), upright=True, weight=0.6),
    Noun("tables", "table", (), FURNITURE, (), ("table",), upright=True, weight=0.7),
    Noun("lamps", "lamp", (), (), (), ("bulb",), upright=True, weight=0.6),
    Noun("bottles", "bottle", (), (), (), ("bottle",), upright=True, weight=1.2),
    Noun("people", "person", (), (), ("persons",), ("shirt", "shoe"), upright=True, weight=1.6),
    Noun("trees", "tree", (), ("plants",), (), ("shrub", "leaf"), "ground", upright=True),
    Noun("potted plants", "potted plant", (), ("plants",), (), ("shrub", "leaf"), upright=True),
    Noun("trucks", "truck", (), VEHICLES, ("lorries",), ("car",), "street", upright=True),
    Noun(
        "motorcycles",
        "motorcycle",
        (),
        VEHICLES,
        ("motorbikes",),
        ("bicycle",),
        "street",
        upright=True,
        weight=0.6,
    ),
    Noun("boxes", "box", (), (), (), ("brick", "book"), upright=True, weight=0.8),
    Noun("vases", "vase", (), (), (), ("vase",), upright=True, weight=0.6),
    Noun("bags", "bag", (), (), (), ("bag",), upright=True, weight=0.6),
    Noun("horses", "horse", (), ANIMALS, (), ("cattle",), "ground", upright=True, weight=0.6),
    Noun("phones", "phone", (), (), (), ("phone",), weight=0.6),
)

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
# Always absent, so that words without a meaning to the model are answered with little
STRANGERS = tuple(_STRANGE_WORDS.split())


def named_alike(one: str, other: str) -> bool:
    """Whether two colours or materials may be said of the same thing."""
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
