"""The bank of nouns that every prompt is compared with, and what each of them is also called."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from scenes.nouns import Noun

# Countable things of photos that neither scenes nor annotated photos show
COMMON = """
    almonds, apricots, backpacks, bacteria, bacterial colonies, bagels, barrels, bars of soap,
    baseball bats, baseball gloves, baskets, batteries, beans, beetles, belts, benches, bins,
    blankets, boards, boats, bolts, bones, books, bricks, broccoli, brushes, bubbles, buckets,
    bulbs, buttons, cables, candles, cashews, cauliflowers, cells, chairs, cheeses, cherries,
    chess pieces, chickens, chocolates, chopsticks, clouds, coconuts, corn cobs, crates,
    crayons, crystals, dice, dolls, dominoes, doors, dresses, droplets, dumplings, eagles,
    earrings, eggs, envelopes, erasers, feathers, fibres, fire hydrants, fireworks, flags,
    flies, fluorescent cells, forks, foxes, frisbees, frogs, garlic bulbs, gears, geese,
    giraffes, glasses, gloves, goats, grapes, hamburgers, hammers, hats, hot dogs, houses, ice
    creams, jackets, kites, kiwis, lanterns, larvae, leaves, lego bricks, lentils, limes, lions,
    lizards, loaves of bread, lollipops, magazines, mangoes, markers, medals, melons, mice,
    mirrors, monkeys, muffins, nails, napkins, necklaces, newspapers, noodles, notebooks,
    olives, onions, owls, pallets, pans, parcels, parking meters, peaches, peanuts, peas, pens,
    people, peppers, pigs, pillows, pineapples, pipes, planks, plants, plaques, platelets,
    plates, pliers, plugs, plums, poker chips, pollen grains, posters, pots, pretzels, pumpkins,
    puzzle pieces, rabbits, raspberries, rice grains, rocks, rolls of toilet paper, rubber
    bands, rulers, safety pins, sausages, saws, screwdrivers, seagulls, seals, seedlings, seeds,
    sharks, shells, signs, skateboards, skis, snails, snakes, socks, spiders, spoons, squirrels,
    stamps, staples, stars, straws, suitcases, sunglasses, surfboards, sushi rolls, swans,
    swings, switches, tables, teeth, tennis rackets, tents, thumbtacks, tickets, ties, tigers,
    tiles, toothbrushes, towels, toy cars, trees, trophies, trousers, turkeys, tyres, umbrellas,
    walnuts, washers, whales, wheat heads, wheels, windows, wolves, worms, zebras, zippers
"""
KINDS = {  # of nouns that only annotated photos show
    **dict.fromkeys(("cherries", "lemons"), ("fruit",)),
    **dict.fromkeys(("zebras", "giraffes"), ("animals",)),
    "cups": ("tableware",),
    "platelets": ("cells",),
}


class Bank:
    """Nouns in alphabetical order, with their other names and kinds."""

    def __init__(self, table: Mapping[str, Noun], photographed: Collection[str]) -> None:
        """table: the nouns of scenes; photographed: prompts of annotated photos."""
        common = {" ".join(name.split()) for name in COMMON.split(",")}
        self.table, self.photographed = table, tuple(sorted(photographed))
        self.nouns = tuple(sorted({*table, *photographed, *common}))

    def names(self, noun: str) -> tuple[str, ...]:
        """A noun's plural, singular and synonyms, as far as they are known."""
        row = self.table.get(noun)
        return (noun,) if row is None else (noun, row.singular, *row.synonyms)

    def kinds(self, noun: str) -> tuple[str, ...]:
        """What a noun is an example of: fruit, animals, vehicles."""
        row = self.table.get(noun)
        return KINDS.get(noun, ()) if row is None else row.kinds

    def may_be_same(self, one: str, other: str) -> bool:
        """Whether two nouns may name one thing: synonyms, or one a kind of the other."""
        ours, theirs = set(self.names(one)), set(self.names(other))
        shared = ours & theirs | ours & set(self.kinds(other)) | theirs & set(self.kinds(one))
        return bool(shared)

    def look_alike(self, one: str, other: str) -> bool:
        """Whether two nouns belong to one group of look-alikes."""
        first, second = self.table.get(one), self.table.get(other)
        if first is None or second is None:
            return False
        return bool(set(first.akin) & set(second.akin))
