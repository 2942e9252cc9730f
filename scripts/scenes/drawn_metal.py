"""Metal things, drawn: coins, nuts, screws, nails, rings, paper clips, cutlery.

Each function takes a `Brush` and returns the `Surface` of one individual of its kind.
"""

from __future__ import annotations

import numpy as np

from scenes.brush import Brush, Floats, Surface, blend, box_distance

METALS = {
    "gold": (0.78, 0.62, 0.30),
    "silver": (0.68, 0.69, 0.70),
    "copper": (0.66, 0.40, 0.26),
    "bronze": (0.48, 0.38, 0.25),
    "iron": (0.42, 0.42, 0.44),
}


def metal(brush: Brush, *names: str) -> Floats:
    """Draw a metal's colour, now and then tarnished."""
    colour = np.array(METALS[str(brush.rng.choice(names))], np.float32)
    return colour * np.float32(brush.between(0.75, 1.15)) + brush.rng.uniform(-0.03, 0.03, 3)


def coin(brush: Brush) -> Surface:
    radius = brush.radius
    face = brush.inside(radius - brush.between(0.74, 0.84))
    relief = np.where(brush.noise(int(brush.between(4, 9))) > brush.between(-0.1, 0.3), 1.0, 0.0)
    bust = brush.inside(np.hypot(brush.x * brush.between(1.3, 2), brush.y + 0.05) - 0.5)
    letters = brush.inside(np.abs(radius - 0.66) - 0.07) * (np.sin(brush.theta * 22) > 0)
    depth = brush.between(0.01, 0.05)
    height = depth * (face * (0.5 * relief + bust + 0.7 * letters) + (1 - face))
    height = height + 0.15 * np.clip((0.97 - radius) * 12, 0, 1)
    base = metal(brush, "gold", "silver", "copper", "bronze", "silver")
    albedo = brush.plain(base)
    if brush.chance(0.2):
        core = brush.inside(radius - brush.between(0.55, 0.7))
        albedo = blend(albedo, metal(brush, "gold", "silver"), core)
    wear = 1 + 0.14 * brush.noise(5) + 0.12 * brush.noise(19) - 0.15 * relief * face
    rim = brush.inside(np.abs(radius - 0.9) - 0.04) * 0.15
    return Surface(
        height,
        albedo * (wear + rim)[..., None],
        brush.inside(radius - 0.98),
        gloss=brush.between(0.05, 0.5),
        shininess=brush.between(8, 40),
        ambient=brush.between(0.35, 0.6),
    )


def hex_nut(brush: Brush) -> Surface:
    wedge = (brush.theta + np.pi / 6) % (np.pi / 3) - np.pi / 6
    hexagon = brush.radius * np.cos(wedge) - 0.84
    hole = brush.radius - brush.between(0.42, 0.52)
    height = 0.3 * np.clip(-hexagon * 8, 0, 1) - 0.1 * np.clip(0.12 - hole, 0, 0.12) * 8
    thread = 0.06 * np.sin(brush.radius * 70) * np.clip(1 - np.abs(hole) * 9, 0, 1)
    albedo = brush.plain(metal(brush, "silver", "iron", "gold"))
    alpha = brush.inside(hexagon) * (1 - brush.inside(hole) * 0.97)
    return Surface(height + thread, albedo, alpha, 0.6, 15.0, 0.35)


def screw(brush: Brush) -> Surface:
    head_end, thick = -0.62, brush.between(0.11, 0.17)
    shaft = np.maximum(
        np.abs(brush.y) - thick * np.clip((0.98 - brush.x) * 4, 0.1, 1), brush.x - 0.97
    )
    shaft = np.maximum(shaft, head_end - brush.x)
    wide = brush.between(0.28, 0.36)
    taper = np.clip((brush.x - head_end + 0.33) / 0.33, 0, 1)
    head = np.maximum(np.abs(brush.y) - wide * (1 - 0.5 * taper), -0.97 - brush.x)
    head = np.maximum(head, brush.x - head_end)
    round_ = np.sqrt(np.clip(1 - (brush.y / thick) ** 2, 0, 1)) * thick
    thread = 0.05 * np.sin((brush.x + brush.y * 0.4) * brush.between(50, 75))
    height = np.where(head < 0, 0.25 * (1 - (brush.y / wide) ** 2), round_ + thread)
    albedo = brush.plain(metal(brush, "silver", "iron", "gold", "silver"))
    return Surface(height, albedo, brush.inside(np.minimum(shaft, head)), 0.7, 14.0, 0.3)


def nail(brush: Brush) -> Surface:
    thick = brush.between(0.05, 0.075)
    point = np.clip((0.98 - brush.x) * 5, 0, 1)
    shaft = np.maximum(np.abs(brush.y) - thick * point, np.abs(brush.x) - 0.97)
    head = box_distance(brush.x + 0.93, brush.y, 0.04, brush.between(0.15, 0.2), 0.02)
    height = np.sqrt(np.clip(1 - (brush.y / thick) ** 2, 0, 1)) * thick
    albedo = brush.plain(metal(brush, "silver", "iron"))
    return Surface(height, albedo, brush.inside(np.minimum(shaft, head)), 0.6, 12.0, 0.4)


def ring(brush: Brush) -> Surface:
    thick = brush.between(0.09, 0.17)
    off = np.abs(brush.radius - (0.96 - thick)) / thick
    albedo = brush.plain(metal(brush, "gold", "silver"))
    return Surface(brush.dome(off, thick), albedo, brush.inside((off - 1) * thick), 0.9, 14.0, 0.3)


def paper_clip(brush: Brush) -> Surface:
    wire = np.abs(box_distance(brush.x, brush.y, 0.94, 0.3, 0.3) + 0.045)
    inner = np.abs(box_distance(brush.x - 0.12, brush.y, 0.68, 0.19, 0.19) + 0.04)
    opening = (brush.x > 0.45) & (brush.y > 0.12)
    distance = np.minimum(np.where(opening, 1.0, wire), inner) - 0.035
    tone = metal(brush, "silver") if brush.chance(0.5) else brush.colour
    height = np.sqrt(np.clip(-distance, 0, 1))
    return Surface(height, brush.plain(tone), brush.inside(distance), 0.6, 12.0, 0.5)


def fork(brush: Brush) -> Surface:
    neck, wide = brush.between(0.1, 0.25), brush.between(0.13, 0.17)
    handle = _handle(brush, 0.98, neck)
    palm = np.hypot((brush.x + neck + 0.12) / 0.3, brush.y / wide) - 1
    tines = box_distance(brush.x + 0.72, brush.y, 0.26, wide, 0.04)
    gaps = np.abs((brush.y / wide * 2 + 4) % 1 - 0.5) - 0.2
    gaps = np.maximum(-gaps * wide / 2, brush.x + 0.56)
    return _polished(brush, np.minimum(np.minimum(handle, palm * 0.15), np.maximum(tines, -gaps)))


def spoon(brush: Brush) -> Surface:
    wide = brush.between(0.19, 0.27)
    long = wide * brush.between(1.3, 1.6)
    bowl = np.hypot((brush.x + 0.98 - long) / long, brush.y / wide)
    distance = np.minimum(_handle(brush, 0.98, 0.98 - 2 * long), (bowl - 1) * wide)
    surface = _polished(brush, distance)
    surface.height = surface.height - 0.3 * np.sqrt(np.clip(0.9 - bowl**2, 0, 1))
    return surface


def knife(brush: Brush) -> Surface:
    handle = box_distance(brush.x - 0.6, brush.y, 0.38, brush.between(0.06, 0.09), 0.04)
    edge = np.clip((brush.x + 0.98) * 3, 0, 1) ** 0.5
    blade = np.maximum(np.abs(brush.y - 0.02) - 0.1 * edge, np.abs(brush.x + 0.38) - 0.6)
    return _polished(brush, np.minimum(handle, blade))


def _handle(brush: Brush, end: float, start: float) -> Floats:
    """Distance to a handle from -start to end, that widens towards its end."""
    wide = brush.between(0.03, 0.045) + 0.05 * np.clip(brush.x, 0, 1) ** 2
    lengthwise = np.maximum(brush.x - end, -start - brush.x)
    distance: Floats = np.maximum(np.abs(brush.y) - wide, lengthwise)
    return distance


def _polished(brush: Brush, distance: Floats) -> Surface:
    """Steel or silver, mirrored light along its form."""
    albedo = brush.plain(metal(brush, "silver", "silver", "iron", "gold"))
    mirror = 1 + 0.2 * np.sin(brush.x * brush.between(3, 9) + brush.noise(3))
    height = np.sqrt(np.clip(-distance, 0, 1)) * brush.between(0.15, 0.35)
    albedo = albedo * mirror[..., None]
    return Surface(height, albedo, brush.inside(distance), 0.7, 12.0, 0.4)
