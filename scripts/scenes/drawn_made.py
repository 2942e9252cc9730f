"""Manufactured things, drawn: pills, candies, beads, buttons, cars and parasols from above, ...

Each function takes a `Brush` and returns the `Surface` of one individual of its kind.
"""

from __future__ import annotations

import numpy as np

from scenes.brush import Brush, Surface, blend, box_distance
from scenes.drawn_metal import METALS, metal


def pill(brush: Brush) -> Surface:
    chalk = 1 + 0.04 * brush.noise(30)
    if brush.chance(0.5):  # a tablet, round or oval, perhaps with a score line
        long = 1.0 if brush.chance(0.6) else brush.between(1.4, 2.2)
        radius = np.hypot(brush.x, brush.y * long) / 0.97
        height = brush.between(0.25, 0.5) * (1 - np.clip(radius, 0, 1) ** brush.between(3, 6))
        if brush.chance(0.6):
            height = height - 0.08 * brush.inside(np.abs(brush.x) - 0.05) * (radius < 0.9)
        dye = brush.pastel(brush.between(0.2, 0.8)) if brush.chance(0.5) else brush.plain()
        albedo = dye * chalk[..., None]
        gloss = brush.between(0.05, 0.3)
        return Surface(height, albedo, brush.inside((radius - 1) / long), gloss, 15.0, 0.5)
    thick = brush.between(0.32, 0.45)  # a capsule, of one or two colours
    along = np.maximum(np.abs(brush.x) - (0.97 - thick), 0)
    radius = np.hypot(along, brush.y) / thick
    albedo = brush.plain()
    if brush.chance(0.4):
        cap = np.array([0.95, 0.94, 0.9]) if brush.chance(0.7) else brush.colour * 0.6
        albedo = blend(albedo, cap.astype(np.float32), brush.inside(brush.x - 0.02))
    height = brush.dome(radius, thick)
    return Surface(height, albedo, brush.inside((radius - 1) * thick), 0.5, 30.0, 0.5)


def candy(brush: Brush) -> Surface:
    kind = brush.rng.random()
    if kind < 0.55:  # a coated lentil
        squash = brush.between(1.0, 1.25)
        radius = np.hypot(brush.x, brush.y * squash) / 0.97
        height = brush.dome(radius, brush.between(0.35, 0.8))
        alpha = brush.inside((radius - 1) / squash)
        return Surface(height, brush.plain(), alpha, brush.between(0.2, 0.9), 45.0, 0.5)
    if kind < 0.75:
        return sugar_star(brush)
    if kind < 0.88:  # a gum drop or a cube of jelly
        distance = box_distance(brush.x, brush.y, 0.72, brush.between(0.5, 0.7), 0.3)
        height = 0.5 * np.sqrt(np.clip(-distance, 0, 1)) + 0.02 * brush.noise(40)
        return Surface(height, brush.plain(), brush.inside(distance), 0.4, 25.0, 0.6)
    return wrapped_candy(brush)


def sugar_star(brush: Brush) -> Surface:
    """A ball of sugar with knobs all over."""
    knobs, reach = int(brush.between(6, 10)), brush.between(0.66, 0.74)
    start = brush.rng.uniform(0, 6)
    spots = [(turn, reach) for turn in start + np.arange(knobs) * 2 * np.pi / knobs]
    spots += [(start + turn, reach * 0.45) for turn in (0.3, 2.4, 4.5)]
    height = brush.dome(brush.radius / 0.72, 0.6)
    alpha = brush.inside(brush.radius - 0.72)
    size = brush.between(0.2, 0.27)
    for turn, far in spots:
        away = np.hypot(brush.x - far * np.cos(turn), brush.y - far * np.sin(turn)) / size
        height = np.maximum(height, 0.75 - far * 0.6 + brush.dome(away, size))
        alpha = np.maximum(alpha, brush.inside((away - 1) * size))
        height = np.where((away > 1) & (alpha < 0.5), 0, height)
    height = height * (alpha > 0.02)
    albedo = brush.pastel(brush.between(0, 0.6)) * 0.8 + 0.18
    return Surface(height, albedo, alpha, 0.12, 8.0, 0.62)


def wrapped_candy(brush: Brush) -> Surface:
    """A sweet in paper that is twisted on both sides."""
    middle = np.hypot(brush.x / 0.55, brush.y / 0.45)
    fan = np.maximum(np.abs(brush.y) - (np.abs(brush.x) - 0.35) * 0.8, np.abs(brush.x) - 0.96)
    fan = np.maximum(fan, 0.5 - np.abs(brush.x))
    distance = np.minimum((middle - 1) * 0.45, fan)
    height = brush.dome(middle, 0.45) + 0.05 * np.sin(brush.theta * 26) * (middle > 1)
    stripes = 0.5 + 0.5 * np.sin(brush.x * brush.between(8, 20) + brush.y * 9)
    albedo = blend(brush.plain(), (0.96, 0.95, 0.93), np.clip(stripes, 0, 1) * 0.4)
    return Surface(height, albedo, brush.inside(distance), 0.6, 20.0, 0.5)


def bead(brush: Brush) -> Surface:
    squash = brush.between(1.0, 1.3)
    radius = np.hypot(brush.x, brush.y * squash) / 0.97
    hole = np.hypot(brush.x - brush.between(-0.2, 0.2), brush.y * 1.2) / brush.between(0.2, 0.36)
    height = brush.dome(radius, 0.85)
    albedo = blend(brush.plain(), (0.06, 0.05, 0.05), np.clip(1.6 - hole * 1.4, 0, 1) * 0.9)
    return Surface(height, albedo, brush.inside((radius - 1) / squash), 0.7, 50.0, 0.45)


def pearl(brush: Brush) -> Surface:
    radius = brush.radius / 0.97
    sheen = brush.colour * 0.9 + 0.1 * np.array([0.9, 0.8, 0.85], np.float32)
    albedo = blend(brush.plain(sheen), (0.75, 0.8, 0.9), 0.3 * np.clip(radius, 0, 1) ** 3)
    return Surface(brush.dome(radius), albedo, brush.inside(radius - 1), 0.6, 12.0, 0.6)


def marble(brush: Brush) -> Surface:
    radius = brush.radius / 0.97
    twist = brush.theta * 2 + radius * brush.between(2, 5) + brush.noise(3) * 1.5
    swirl = np.clip(np.sin(twist) * 2 - 0.6, 0, 1) * (radius < 0.85)
    clear = brush.plain(0.55 * brush.colour + 0.3)
    albedo = blend(clear, brush.colour, swirl if brush.chance(0.7) else swirl * 0)
    caustic = np.clip(brush.x * 0.5 + brush.y * 0.6, 0, 1) * (radius < 1)
    glow = (0.55 * caustic)[..., None] * brush.colour
    return Surface(brush.dome(radius), albedo, brush.inside(radius - 1), 1.0, 90.0, 0.5, glow)


def ball(brush: Brush) -> Surface:
    radius = brush.radius / 0.97
    depth = brush.dome(radius)
    albedo = brush.plain()
    kind = brush.rng.random()
    if kind < 0.3:  # panels, as of a beach ball
        panel = np.sin(np.arctan2(brush.y, brush.x + depth * 0.7) * brush.rng.integers(2, 5)) > 0
        albedo = blend(albedo, (0.95, 0.95, 0.93), panel * 1.0)
    elif kind < 0.55:  # seams
        seam = np.abs(np.hypot(brush.x - 0.9, brush.y) - brush.between(0.7, 1.0)) - 0.035
        albedo = blend(albedo, (0.93, 0.92, 0.9), brush.inside(seam))
    fuzz = 0.03 * brush.noise(40) * (1 if brush.chance(0.4) else 0)
    height = depth + fuzz
    return Surface(height, albedo, brush.inside(radius - 1), brush.between(0, 0.6), 20.0, 0.42)


def button(brush: Brush) -> Surface:
    radius = brush.radius / 0.97
    dish = brush.between(0.6, 0.78)
    height = 0.25 * np.clip((1 - radius) * 6, 0, 1) - 0.12 * np.clip((dish - radius) * 8, 0, 1)
    holes = brush.inside(radius * 0 + 1)
    count = 4 if brush.chance(0.65) else 2
    for turn in np.arange(count) * (2 * np.pi / count) + np.pi / 4:
        from_hole = np.hypot(brush.x - 0.25 * np.cos(turn), brush.y - 0.25 * np.sin(turn))
        holes = np.maximum(holes, brush.inside(from_hole - brush.between(0.085, 0.13)))
    albedo = blend(brush.plain(), (0.05, 0.05, 0.05), holes * 0.9)
    return Surface(height, albedo, brush.inside(radius - 1), brush.between(0.1, 0.7), 30.0, 0.5)


def bottle_cap(brush: Brush) -> Surface:
    teeth = np.cos(brush.theta * 21)
    radius = brush.radius / (0.93 + 0.045 * teeth)
    flat = brush.between(0.68, 0.78)
    slope = np.clip((1 - radius) / (1 - flat), 0, 1)
    height = 0.3 * slope + 0.04 * teeth * (1 - slope)
    albedo = brush.plain()
    badge = brush.inside(brush.radius - brush.between(0.35, 0.55))
    other = np.array([0.94, 0.93, 0.9]) if brush.chance(0.7) else METALS["gold"]
    figure = badge * (brush.noise(6) > brush.between(-0.3, 0.5))
    albedo = blend(albedo, tuple(other), figure * 1.0)
    return Surface(height, albedo, brush.inside((radius - 1) * 0.9), 0.6, 25.0, 0.45)


def match(brush: Brush) -> Surface:
    thick = brush.between(0.05, 0.07)
    stick = box_distance(brush.x, brush.y, 0.92, thick, 0.01)
    head = np.hypot((brush.x - 0.83) / 0.15, brush.y / (thick * 1.9)) - 1
    wood = (
        brush.plain(np.array([0.85, 0.7, 0.48], np.float32))
        * (1 + 0.1 * brush.noise(24))[..., None]
    )
    albedo = blend(wood, brush.colour, np.clip(0.5 - head * 5, 0, 1))
    height = 0.06 * np.clip(-stick * 20, 0, 1) + np.clip(-head, 0, 1) * 0.1
    return Surface(height, albedo, brush.inside(np.minimum(stick, head * 0.1)), 0.1, 10.0, 0.5)


def star(brush: Brush) -> Surface:
    points = 5 if brush.chance(0.75) else 6
    wedge = np.abs((brush.theta + np.pi / points) % (2 * np.pi / points) - np.pi / points)
    inner = brush.between(0.4, 0.55)
    across, along = brush.radius * np.sin(wedge), brush.radius * np.cos(wedge)
    corner_x, corner_y = inner * np.cos(np.pi / points), inner * np.sin(np.pi / points)
    normal = np.array([corner_y, 0.96 - corner_x]) / np.hypot(corner_y, 0.96 - corner_x)
    distance = (along - 0.96) * normal[0] + across * normal[1]
    height = brush.between(0, 0.6) * np.clip(-distance, 0, 1)
    return Surface(height, brush.plain(), brush.inside(distance), brush.between(0, 0.4), 15.0, 0.55)


def die(brush: Brush) -> Surface:
    distance = box_distance(brush.x, brush.y, 0.78, 0.78, brush.between(0.14, 0.25))
    pips = brush.inside(brush.x * 0 + 1)
    face = int(brush.rng.integers(1, 7))
    spots = {1: [0], 2: [1, 8], 3: [1, 0, 8], 4: [1, 3, 6, 8], 5: [1, 3, 0, 6, 8]}
    places = spots.get(face, [1, 3, 4, 5, 6, 8])
    where = [(0, 0), (-1, -1), (0, -1), (1, -1), (-1, 0), (1, 0), (-1, 1), (0, 1), (1, 1)]
    for place in places:
        at_x, at_y = (0.45 * step for step in where[place])
        pips = np.maximum(pips, brush.inside(np.hypot(brush.x - at_x, brush.y - at_y) - 0.14))
    dark = float(brush.colour.mean()) < 0.65
    ink = (0.95, 0.95, 0.95) if dark else (0.05, 0.05, 0.05)
    height = 0.3 * np.clip(-distance * 5, 0, 1) ** 0.5
    return Surface(height, blend(brush.plain(), ink, pips), brush.inside(distance), 0.3, 25.0, 0.5)


def brick(brush: Brush) -> Surface:
    distance = box_distance(brush.x, brush.y, 0.95, brush.between(0.42, 0.5), 0.04)
    rough = 0.02 * brush.noise(45) + 0.03 * brush.noise(12)
    tone = np.array([0.62, 0.3, 0.2], np.float32) * brush.between(0.7, 1.25)
    albedo = brush.plain(tone) * (1 + 0.2 * brush.noise(10) + 0.15 * brush.noise(40))[..., None]
    return Surface(rough + 0.1 * np.clip(-distance * 15, 0, 1), albedo, brush.inside(distance), 0)


def car(brush: Brush) -> Surface:
    wide = brush.between(0.38, 0.46)
    body = box_distance(
        brush.x, brush.y * (1 + 0.08 * brush.x**2), 0.95, wide, brush.between(0.14, 0.26)
    )
    start, end = brush.between(-0.66, -0.5), brush.between(0.2, 0.36)
    cabin = box_distance(brush.x - (start + end) / 2, brush.y, (end - start) / 2, wide - 0.05, 0.12)
    roof = box_distance(
        brush.x - (start + end) / 2 + 0.04, brush.y, (end - start) / 2 - 0.17, wide - 0.1, 0.08
    )
    height = 0.12 * np.clip(-body * 7, 0, 1) + 0.16 * np.clip(-cabin * 5, 0, 1)
    albedo = blend(brush.plain(), (0.07, 0.08, 0.1), brush.inside(cabin))
    top = brush.colour if brush.chance(0.85) else brush.colour * 0.3
    albedo = blend(albedo, top, brush.inside(roof))
    lamps = box_distance(np.abs(brush.x) - 0.9, np.abs(brush.y) - wide + 0.12, 0.05, 0.07, 0.02)
    lamp_colour = np.where((brush.x > 0)[..., None], (0.95, 0.95, 0.85), (0.6, 0.08, 0.06))
    albedo = albedo + (lamp_colour - albedo) * (brush.inside(lamps) * 0.8)[..., None]
    seam = brush.inside(np.abs(brush.x - end - 0.06) - 0.008) * 0.3
    return Surface(height, albedo * (1 - seam)[..., None], brush.inside(body), 0.5, 20.0, 0.55)


def candle(brush: Brush) -> Surface:
    """A tealight, from above or aslant: cup, pool of wax, flame."""
    low = brush.between(0.5, 1.0)  # the height of its round over its width
    down = 0.97 - 0.96 * low  # aslant, the flame needs room above
    y = (brush.y - down) / low
    radius = np.hypot(brush.x, y) / 0.96
    wax = np.array([0.75, 0.42, 0.12], np.float32)
    wax = wax if brush.chance(0.6) else brush.colour * 0.9
    lit = 1.0 if brush.chance(0.85) else 0.0
    cup = metal(brush, "silver", "gold") * 0.6
    albedo = blend(brush.plain(cup), wax, brush.inside(radius - 0.88))
    height = 0.1 * brush.inside(np.abs(radius - 0.93) - 0.05)
    at_x, at_y = brush.between(-0.12, 0.12), down - brush.between(0.0, 0.15)
    tall = brush.between(0.24, 0.4)
    flame = np.hypot((brush.x - at_x) / brush.between(0.08, 0.14), (brush.y - at_y + tall) / tall)
    halo = np.exp(-((brush.x - at_x) ** 2 + (brush.y - at_y) ** 2) * 3) * (radius < 0.95)
    core = np.clip(1.5 - flame, 0, 1)
    warm = np.array([0.75, 0.36, 0.06], np.float32) * brush.between(0.5, 1.0)
    glow = halo[..., None] * warm + core[..., None] * np.array([1.0, 0.88, 0.45], np.float32)
    wick = np.clip(1.5 - np.hypot(brush.x - at_x, brush.y - at_y) / 0.06, 0, 1)
    albedo = blend(albedo * brush.between(0.4, 0.9), (0.05, 0.04, 0.03), wick)
    alpha = np.maximum(brush.inside((radius - 1) * low), np.clip(core * 1.5, 0, 1) * lit)
    return Surface(height, albedo, alpha, 0.2, 10.0, 0.5, glow * lit)


def paper_note(brush: Brush) -> Surface:
    """A small sheet of paper, blank, ruled or written on; one edge may stand up."""
    tall = brush.between(0.54, 0.72)
    distance = box_distance(brush.x, brush.y, 0.72, tall, 0.02)
    albedo = brush.pastel(brush.between(0.3, 0.8)) * (1 + 0.03 * brush.noise(8))[..., None]
    lines = np.abs((brush.y * brush.between(5, 10)) % 1 - 0.5) / 0.5
    style = brush.rng.random()
    if style < 0.35:  # ruled
        albedo = albedo * (1 - 0.25 * np.clip(1.2 - lines * 6, 0, 1))[..., None]
    elif style < 0.65:  # written on
        words = np.clip(brush.noise(22) * 5 + 0.5, 0, 1) * (np.abs(brush.x) < 0.6)
        ink = np.clip(1.6 - lines * 4, 0, 1) * words * (np.abs(brush.y) < tall - 0.1)
        albedo = blend(albedo, (0.15, 0.15, 0.25), ink * brush.between(0.4, 0.9))
    height = 0.02 * brush.noise(3)
    if brush.chance(0.6):
        height = height + 0.5 * np.clip(np.abs(brush.y + tall) / -0.25 + 1, 0, 1) ** 2
    return Surface(height, albedo, brush.inside(distance), 0.02, 8.0, 0.6)


def dot(brush: Brush) -> Surface:
    alpha = brush.inside(brush.radius - 0.97)
    return Surface(brush.x * 0, brush.plain(), alpha, gloss=0, ambient=1.0)


def umbrella(brush: Brush) -> Surface:
    """A parasol from above: wedges of cloth, often two colours by turns."""
    ribs = int(brush.between(6, 12)) // 2 * 2
    wedge = np.abs((brush.theta * ribs / (2 * np.pi)) % 1 - 0.5)
    radius = brush.radius / (0.9 + 0.14 * np.abs(wedge - 0.1))
    turn = np.floor(brush.theta * ribs / (2 * np.pi)) % 2
    albedo = brush.plain()
    style = brush.rng.random()
    if style < 0.35:
        albedo = blend(albedo, (0.94, 0.93, 0.9), turn)
    elif style < 0.5:
        albedo = blend(albedo, (0.94, 0.93, 0.9), (radius * brush.between(2, 4)) % 1 > 0.6)
    height = brush.between(0.3, 0.6) * (1 - np.clip(radius, 0, 1)) + 0.12 * wedge * radius
    return Surface(height, albedo, brush.inside((radius - 1) * 0.9), 0.05, 10.0, 0.5)
