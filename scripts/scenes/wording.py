"""What a scene's things are called: the prompts that are true of it, and those that are not.

Used by render.py, once it knows which dots are seen.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from scenes.brush import Floats
from scenes.nouns import (
    ANY,
    EDIBLE,
    SIZES,
    STRANGERS,
    Noun,
    countable_phrases,
    named_alike,
)


@dataclass(frozen=True)
class Group:
    """One class of a scene: so many of a noun in a colour or of a material, and in a size."""

    noun: str
    look: str  # a colour or a material; "" if it is not named
    count: int
    size: str = ""  # a word of SIZES, if the scene shows the noun in two sizes

    @property
    def is_smaller(self) -> bool:
        return self.size in SIZES.values()

    def names(self, noun: Noun, *, grey: bool, sized: bool) -> list[str]:
        """What this group is called by its attributes: no look if the image is grey."""
        look = f"{self.look} " if self.look and not grey else ""
        names = [f"{look}{noun.plural}"] if look else []
        if sized:
            names.append(f"{self.size} {noun.plural}")
        if sized and look:
            names.append(f"{self.size} {look}{noun.plural}")
        return names


def true_prompts(
    groups: Sequence[Group],
    dots: Sequence[Floats],
    nouns: Mapping[str, Noun],
    grey: bool,
    rng: np.random.Generator,
) -> dict[str, Floats]:
    """Name what is there: nouns, colours, materials, sizes, kinds, everything."""
    members: dict[str, list[int]] = {}
    coloured = bool(groups) and all(group.look in ANY for group in groups) and not grey
    say_food, say_kinds, say_singular, say_synonym = rng.random(4) < (0.3, 0.6, 0.15, 0.3)
    # One thing alone is neither large nor small
    both_sizes = all(len(at) for group, at in zip(groups, dots, strict=True) if group.size)
    for index, group in enumerate(groups):
        noun, sized = nouns[group.noun], bool(group.size) and both_sizes
        names = [noun.plural, "objects", *group.names(noun, grey=grey, sized=sized)]
        if coloured:
            names.append(f"{group.look} objects")
        if say_singular:
            names.append(noun.singular)
        if say_synonym:
            names.extend(noun.synonyms)
        if say_kinds:
            names.extend(noun.kinds)
        if say_food and set(noun.kinds) & set(EDIBLE):
            names.append("food")
        for name in dict.fromkeys(names):
            members.setdefault(name, []).append(index)
    points = {name: np.concatenate([dots[i] for i in rows]) for name, rows in members.items()}
    if coloured and rng.random() < 0.6:
        points = {name: at for name, at in points.items() if not name.endswith(" objects")}
    return {name: at for name, at in points.items() if len(at)}


def absent_prompts(
    groups: Sequence[Group],
    present: Collection[str],
    nouns: Mapping[str, Noun],
    grey: bool,
    rng: np.random.Generator,
) -> list[str]:
    """Name what is not there, hard ones first: the same noun in other colours, others, strangers.

    present: the prompts that are true.
    """
    hard: list[str] = []
    shown = [nouns[group.noun] for group in groups]
    groups_of = {group for noun in shown for group in noun.akin}
    kinds = {kind for noun in shown for kind in noun.kinds}
    if kinds & set(EDIBLE):
        kinds.add("food")
    others = [
        noun
        for name, noun in sorted(nouns.items())
        if noun not in shown and not groups_of & set(noun.akin) and noun.plural not in kinds
    ]
    others = [others[i] for i in rng.permutation(len(others))[:12]]
    for group, noun in zip(groups, shown, strict=True):
        if group.look and not grey:
            hard.extend(_in_other_looks(group, groups, noun, rng))
            same = [o for o in others if group.look in (*o.colours, *o.materials)]
            hard.extend(f"{group.look} {other.plural}" for other in same[:1])
        if group.size:
            hard.extend(f"{group.size} {other.plural}" for other in others[:1])
    easy = [other.plural for other in others[:5]]
    easy.extend(kind for other in others[5:7] for kind in other.kinds if kind not in kinds)
    easy.extend(f"{rng.choice(o.colours)} {o.plural}" for o in others[7:9] if o.colours)
    known = countable_phrases(nouns)
    strange = [str(word) for word in rng.choice(STRANGERS, 2) if word not in known]
    easy = easy[:3] + strange + easy[3:]
    if not groups:
        easy = ["objects", *easy]
    return [name for name in dict.fromkeys([*hard, *easy]) if name not in present]


def _in_other_looks(
    group: Group, groups: Sequence[Group], noun: Noun, rng: np.random.Generator
) -> list[str]:
    """The noun in two colours that no group of it has, and of a material if one is named."""
    looks = [other.look for other in groups if other.noun == group.noun]
    unused = [c for c in ANY if not any(named_alike(c, look) for look in looks)]
    names = [f"{unused[i]} {noun.plural}" for i in rng.permutation(len(unused))[:2]]
    if group.size and names:
        names.append(f"{group.size} {names[0]}")
    if group.look in noun.materials:
        free = [m for m in noun.materials if not any(named_alike(m, look) for look in looks)]
        names = [f"{rng.choice(free)} {noun.plural}", *names] if free else names
    return names
