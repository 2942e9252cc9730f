"""Some 200,000 noun phrases that the phrase encoder learns: nouns, plurals, with attributes.

The nouns are those of WordNet 3.0 that name physical things (Debian package `wordnet-base`; the
WordNet licence permits use and redistribution).
"""

from __future__ import annotations

import random
import re
from collections.abc import Collection, Iterator
from pathlib import Path

from scenes.nouns import ANY, MATERIALS, SIZES

PHYSICAL_ENTITY = "00001930"  # WordNet's synset, the root of what can be seen
MAX_WORDS = 3
LOOKS = ("grey", "bright", "dark", "round", "broken", "ripe", "unripe", "dried", "sliced", "dead")
ATTRIBUTES = (*ANY, *MATERIALS, *SIZES, *SIZES.values(), *LOOKS)
RANDOM_ATTRIBUTES = 40_000
ATTRIBUTES_PER_NOUN = 8
ARTICLES = 6_000

IRREGULAR = {
    **{"mouse": "mice", "goose": "geese", "person": "people", "child": "children", "ox": "oxen"},
    **{"man": "men", "foot": "feet", "tooth": "teeth", "die": "dice", "leaf": "leaves"},
    **{"knife": "knives", "loaf": "loaves", "wolf": "wolves", "half": "halves", "shelf": "shelves"},
    **{"calf": "calves", "scarf": "scarves", "thief": "thieves", "wife": "wives", "life": "lives"},
    **{"nucleus": "nuclei", "fungus": "fungi", "larva": "larvae", "bacterium": "bacteria"},
    **{"cactus": "cacti", "ovum": "ova", "alga": "algae", "radius": "radii"},
    **{name: name for name in ("fish", "sheep", "deer", "aircraft", "scissors")},
}


def phrases(wordnet: Path, nouns: Collection[str], seed: int = 0) -> list[str]:
    """List the phrases; `nouns` (of the bank, of ImageNet) also come with several attributes."""
    rng = random.Random(seed)
    physical = sorted(lemmas(wordnet))
    common = [lemma for lemma in physical if lemma.islower()]
    words = [*common, *map(plural, common)]
    single = [word for word in words if " " not in word]
    chosen = {
        *physical,
        *words,
        *nouns,
        *map(plural, nouns),
        *(f"{colour} objects" for colour in ANY),
    }
    chosen |= {f"{rng.choice(ATTRIBUTES)} {rng.choice(single)}" for _ in range(RANDOM_ATTRIBUTES)}
    for noun in sorted(nouns):
        chosen |= {f"{word} {noun}" for word in rng.sample(ATTRIBUTES, ATTRIBUTES_PER_NOUN)}
    chosen |= {f"a {word}" for word in [*rng.sample(single, min(ARTICLES, len(single))), *nouns]}
    return sorted(chosen)


def plural(noun: str) -> str:
    """The plural of a noun phrase: of its last word."""
    for one, many in IRREGULAR.items():
        if noun == one or noun.endswith(f" {one}") or (len(one) > 3 and noun.endswith(one)):
            return noun[: -len(one)] + many
    if re.search(r"(s|x|z|ch|sh|tomato|potato|mango)$", noun):
        return f"{noun}es"
    if re.search(r"[^aeiou]y$", noun):
        return f"{noun[:-1]}ies"
    return f"{noun}s"


def lemmas(wordnet: Path) -> Iterator[str]:
    """The short names of every synset below `PHYSICAL_ENTITY`, spaces for underscores."""
    words, above = _synsets(wordnet)
    physical = {PHYSICAL_ENTITY}
    while found := {s for s, up in above.items() if s not in physical and physical & set(up)}:
        physical |= found
    for synset in physical:
        for word in words[synset]:
            name = word.replace("_", " ")
            if re.fullmatch(r"[a-zA-Z' -]{2,40}", name) and len(name.split()) <= MAX_WORDS:
                yield name


def _synsets(wordnet: Path) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Each synset's words, and its hypernyms (WordNet's file format, wndb(5WN))."""
    words: dict[str, list[str]] = {}
    above: dict[str, list[str]] = {}
    for line in (wordnet / "data.noun").read_text(encoding="utf-8").splitlines():
        if line.startswith("  "):  # the licence
            continue
        fields = line.split(" | ")[0].split()
        count = int(fields[3], 16)
        words[fields[0]] = fields[4 : 4 + 2 * count : 2]
        pointers = fields[5 + 2 * count :]
        links = zip(pointers[::4], pointers[1::4], strict=False)
        above[fields[0]] = [synset for kind, synset in links if kind in ("@", "@i")]
    return words, above
