"""Things that grow or lie about in nature, drawn: fruit, peas, eggs, logs, stones, cells, ...

Each function takes a `Brush` and returns the `Surface` of one individual of its kind.
"""

from __future__ import annotations

import numpy as np

from scenes.brush import Brush, Floats, Surface, blend


def lumpy(brush: Brush, wobble: float, cells: int = 3) -> Floats:
    """Radius of an uneven round outline: 1 on its edge."""
    bend = wobble * smooth_ring(brush, cells)
    return brush.radius / (0.97 - wobble + bend)


def smooth_ring(brush: Brush, waves: int) -> Floats:
    """A smooth random function of the direction, about -1..1."""
    total = np.zeros_like(brush.x)
    for wave in range(1, waves + 1):
        phase = brush.rng.uniform(0, 2 * np.pi)
        total += np.cos(brush.theta * wave + phase) * (brush.rng.uniform(0.3, 1) / wave)
    return total / 1.6


def leafy(brush: Brush, centre: tuple[float, float], size: float, points: int = 5) -> Floats:
    """Coverage of a little star of sepals."""
    x, y = brush.x - centre[0], brush.y - centre[1]
    arm = 0.55 + 0.45 * np.cos(np.arctan2(y, x) * points + brush.rng.uniform(0, 6))
    return brush.inside(np.hypot(x, y) - size * arm)


def ball_of(
    brush: Brush, albedo: Floats, *, gloss: float, shininess: float = 25.0, bump: float = 0.0
) -> Surface:
    """A nearly round fruit: a slightly uneven ball."""
    radius = lumpy(brush, brush.between(0.0, 0.05), 3)
    height = brush.dome(radius) + bump * brush.noise(40)
    return Surface(height, albedo, brush.inside(radius - 1), gloss, shininess, 0.42)


def apple(brush: Brush) -> Surface:
    second = brush.colour * np.array([0.9, 1.25, 0.8], np.float32) + 0.05
    streaks = np.clip(0.5 + brush.noise(3) + 0.4 * np.sin(brush.theta * 20) * brush.noise(5), 0, 1)
    albedo = blend(brush.plain(), second, streaks * brush.between(0, 0.6))
    at_y = brush.between(-0.6, -0.1)
    dimple = np.hypot(brush.x / 0.3, (brush.y - at_y) / 0.18)
    albedo = blend(albedo, albedo.mean((0, 1)) * 0.45, np.clip(1.2 - dimple, 0, 1) * 0.8)
    stem = brush.inside(
        np.maximum(np.abs(brush.x - 0.1 * brush.y) - 0.04, np.abs(brush.y - at_y + 0.2) - 0.2)
    )
    albedo = blend(albedo, (0.25, 0.16, 0.08), stem)
    surface = ball_of(brush, albedo, gloss=brush.between(0.15, 0.6))
    surface.height = surface.height - 0.12 * np.clip(1 - dimple, 0, 1)
    return surface


def orange(brush: Brush) -> Surface:
    tone = np.array([0.95, brush.between(0.45, 0.62), 0.06], np.float32)
    albedo = brush.plain(tone) * (1 + 0.05 * brush.noise(4) + 0.05 * brush.noise(36))[..., None]
    if brush.chance(0.5):
        at = (brush.between(-0.5, 0.5), brush.between(-0.5, 0.5))
        albedo = blend(albedo, (0.35, 0.45, 0.12), leafy(brush, at, 0.13))
    return ball_of(brush, albedo, gloss=brush.between(0.05, 0.35), shininess=15, bump=0.012)


def lemon(brush: Brush) -> Surface:
    across = brush.y / (0.68 * np.sqrt(np.clip(1 - (brush.x / 0.86) ** 2, 0.0, 1)) + 1e-3)
    tip = np.hypot((np.abs(brush.x) - 0.82) / 0.15, brush.y / 0.16)
    body = np.hypot(brush.x / 0.88, brush.y / brush.between(0.62, 0.72))
    distance = np.minimum((body - 1) * 0.65, (tip - 1) * 0.15)
    height = 0.65 * np.sqrt(np.clip(1 - body**2, 0, 1)) + 0.012 * brush.noise(36)
    tone = np.array([0.96, brush.between(0.8, 0.9), 0.12], np.float32)
    albedo = (
        brush.plain(tone) * (1 + 0.04 * brush.noise(5) - 0.02 * np.clip(across, -1, 1))[..., None]
    )
    return Surface(height, albedo, brush.inside(distance), 0.25, 18.0, 0.5)


def tomato(brush: Brush) -> Surface:
    ribs = 1 + 0.06 * np.cos(brush.theta * 5)
    albedo: Floats = brush.plain() * ribs[..., None]
    if brush.chance(0.7):
        at = (brush.between(-0.25, 0.25), brush.between(-0.45, 0.1))
        albedo = blend(albedo, (0.2, 0.42, 0.1), leafy(brush, at, brush.between(0.3, 0.45)))
    return ball_of(brush, albedo, gloss=brush.between(0.4, 0.8), shininess=40)


def cherry(brush: Brush) -> Surface:
    body = np.hypot(brush.x, brush.y - 0.3) / 0.66
    stem = np.abs(brush.x - 0.25 * (brush.y - 0.2) ** 2 * brush.rng.choice([-1, 1])) - 0.03
    stem = np.maximum(stem, np.maximum(brush.y - 0.2, -0.96 - brush.y))
    tone = np.array([brush.between(0.4, 0.85), 0.05, 0.1], np.float32)
    albedo = blend(brush.plain(tone), (0.35, 0.4, 0.12), brush.inside(stem) * (body > 0.75))
    height = brush.dome(body, 0.66)
    return Surface(
        height, albedo, brush.inside(np.minimum((body - 1) * 0.66, stem)), 0.8, 50.0, 0.45
    )


def strawberry(brush: Brush) -> Surface:
    down = brush.y + 0.12
    wide = np.clip(0.86 - brush.between(0.25, 0.4) * down - 0.22 * down**2, 0.05, 1)
    body = np.hypot(brush.x / wide, down / np.where(down > 0, 1.05, 0.62))
    lattice = np.sin(brush.x * 17 + brush.noise(3)) * np.sin((brush.y + 0.05 * brush.x) * 14)
    seeds = np.clip(np.abs(lattice) * 4 - 3.2, 0, 1)
    tone = np.array([brush.between(0.72, 0.92), 0.09, 0.1], np.float32)
    albedo = blend(brush.plain(tone), (0.9, 0.65, 0.25), seeds * 0.8)
    crown = leafy(brush, (0.0, -0.68), brush.between(0.3, 0.45), 7)
    albedo = blend(albedo, (0.25, 0.52, 0.15), crown)
    height = brush.dome(body, 0.7) - 0.04 * np.clip(np.abs(lattice) * 3 - 2, 0, 1)
    alpha = np.maximum(brush.inside((body - 1) * 0.8), crown)
    return Surface(height, albedo, alpha, 0.5, 25.0, 0.45)


def blueberry(brush: Brush) -> Surface:
    tone = np.array([0.13, 0.15, brush.between(0.18, 0.4)], np.float32) * brush.between(0.5, 1.3)
    bloom = np.clip(brush.between(0.0, 0.35) + 0.5 * brush.noise(4), 0, 0.7)
    albedo = blend(brush.plain(tone), (0.42, 0.46, brush.between(0.52, 0.65)), bloom)
    at = (brush.between(-0.5, 0.5), brush.between(-0.5, 0.5))
    if brush.chance(0.6):
        albedo = blend(albedo, (0.06, 0.06, 0.12), leafy(brush, at, 0.36))
    return ball_of(brush, albedo, gloss=0.15, shininess=10)


def grape(brush: Brush) -> Surface:
    radius = np.hypot(brush.x, brush.y * brush.between(1.0, 1.35)) / 0.97
    through = np.clip(brush.x * 0.4 + brush.y * 0.5, 0, 1) * (radius < 1)
    glow = (0.35 * through)[..., None] * brush.colour
    return Surface(
        brush.dome(radius, 0.8),
        brush.plain(),
        brush.inside((radius - 1) * 0.8),
        0.5,
        35.0,
        0.45,
        glow,
    )


def pea(brush: Brush) -> Surface:
    tone = np.array([brush.between(0.38, 0.6), brush.between(0.6, 0.78), brush.between(0.1, 0.25)])
    albedo = brush.plain(tone.astype(np.float32)) * (1 + 0.06 * brush.noise(4))[..., None]
    return ball_of(brush, albedo, gloss=brush.between(0.1, 0.5), shininess=20)


def bean(brush: Brush) -> Surface:
    bent = brush.y + brush.between(0.25, 0.5) * brush.x**2 - 0.15
    radius = np.hypot(brush.x / 0.95, bent / brush.between(0.45, 0.6))
    speckle = np.clip(brush.noise(14) * 3 - 1, 0, 1) * (0.5 if brush.chance(0.3) else 0)
    albedo = blend(brush.plain(), brush.colour * 0.4, speckle)
    return Surface(
        brush.dome(radius, 0.5), albedo, brush.inside((radius - 1) * 0.5), 0.4, 25.0, 0.5
    )


def egg(brush: Brush) -> Surface:
    narrow = 0.72 - brush.between(0.08, 0.16) * brush.x
    radius = np.hypot(brush.x / 0.97, brush.y / narrow)
    tone = (
        brush.colour
        if brush.colour.mean() > 0.6
        else 0.45 * brush.colour + np.array([0.42, 0.33, 0.25])
    )
    albedo = brush.plain(tone.astype(np.float32)) * (1 + 0.03 * brush.noise(30))[..., None]
    return Surface(
        brush.dome(radius, 0.75), albedo, brush.inside((radius - 1) * 0.7), 0.12, 10.0, 0.5
    )


def potato(brush: Brush) -> Surface:
    squash = brush.between(1.1, 1.5)
    radius = np.hypot(brush.x, brush.y * squash) / (0.9 + 0.08 * smooth_ring(brush, 4))
    spots = np.clip(brush.noise(16) * 4 - 2.4, 0, 1)
    tone = np.array([0.72, 0.55, 0.32], np.float32) * brush.between(0.75, 1.2)
    albedo = blend(brush.plain(tone), tone * 0.5, spots) * (1 + 0.1 * brush.noise(8))[..., None]
    height = brush.dome(radius, 0.7) + 0.04 * brush.noise(6)
    return Surface(height, albedo, brush.inside((radius - 1) * 0.7), 0.05, 8.0, 0.4)


def stone(brush: Brush) -> Surface:
    squash = brush.between(1.0, 1.6)
    radius = np.hypot(brush.x, brush.y * squash) / (0.84 + 0.13 * smooth_ring(brush, 5))
    tint = np.array([1, brush.between(0.92, 1.0), brush.between(0.8, 1.05)]) * brush.between(
        0.28, 0.75
    )
    grain = 1 + 0.15 * brush.noise(10) + 0.12 * brush.noise(44)
    albedo = brush.plain(tint.astype(np.float32)) * grain[..., None]
    rough = brush.between(0.0, 0.12)
    height = (
        brush.dome(radius, brush.between(0.4, 0.8))
        + rough * brush.noise(7)
        + 0.01 * brush.noise(40)
    )
    return Surface(height, albedo, brush.inside((radius - 1) * 0.7), 0.1, 10.0, 0.4)


def log(brush: Brush) -> Surface:
    """The sawn end of a log: rings, cracks, a rim of bark."""
    radius = lumpy(brush, brush.between(0.02, 0.09), 4)
    heart = np.hypot(brush.x - brush.between(-0.15, 0.15), brush.y - brush.between(-0.15, 0.15))
    rings = np.sin((heart + 0.04 * brush.noise(4)) * brush.between(35, 70))
    wood = np.array([0.85, 0.66, 0.44], np.float32) * brush.between(0.65, 1.1)
    shade = 1 + 0.07 * rings + 0.1 * brush.noise(4) + 0.06 * brush.noise(40)
    cracks = np.clip(
        0.03 - np.abs(np.sin(brush.theta * 1.5 + brush.rng.uniform(0, 6)) * heart), 0, 0.03
    )
    albedo = brush.plain(wood) * (shade - 14 * cracks * (heart < 0.7))[..., None]
    core = np.clip(1.1 - heart / brush.between(0.3, 0.7), 0, 1)
    albedo = blend(
        albedo, albedo * np.array([0.8, 0.65, 0.5], np.float32), core * brush.between(0, 1)
    )
    bark = np.clip((radius - brush.between(0.86, 0.95)) * 20, 0, 1)
    albedo = blend(albedo, (0.24, 0.17, 0.12), bark * (1 + 0.3 * brush.noise(20)))
    return Surface(0.05 * (1 - bark), albedo, brush.inside(radius - 1), 0, ambient=0.6)


def cell(brush: Brush) -> Surface:
    """A stained cell under the microscope: faint body, darker rim, a nucleus."""
    radius = lumpy(brush, brush.between(0.02, 0.12), 4)
    tone = brush.colour * 0.6 + 0.35
    rim = np.clip(1 - np.abs(radius - 0.9) * 9, 0, 1) * brush.between(0.1, 0.5)
    albedo = blend(brush.plain(tone), brush.colour * 0.8, rim)
    nucleus = np.hypot(
        brush.x - brush.between(-0.3, 0.3), (brush.y - brush.between(-0.3, 0.3)) * 1.15
    )
    inside_ = np.clip((brush.between(0.25, 0.6) - nucleus) * 12, 0, 1)
    dark = brush.colour * np.array([0.45, 0.35, 0.6], np.float32)
    albedo = (
        blend(albedo, dark, inside_ * brush.between(0.6, 1))
        * (1 + 0.08 * brush.noise(12))[..., None]
    )
    body = brush.between(0.45, 0.95)
    alpha = brush.inside(radius - 1) * np.clip(body + rim + inside_, 0, 1)
    return Surface(brush.x * 0, albedo, alpha, gloss=0, ambient=1.0)


def nucleus(brush: Brush) -> Surface:
    squash = brush.between(1.0, 1.7)
    radius = np.hypot(brush.x, brush.y * squash) / (0.9 + 0.07 * smooth_ring(brush, 4))
    tone = np.array([brush.between(0.25, 0.45), brush.between(0.15, 0.3), brush.between(0.4, 0.6)])
    albedo = brush.plain(tone.astype(np.float32)) * (1 + 0.25 * brush.noise(9))[..., None]
    alpha = np.clip((1 - radius) * brush.between(4, 12), 0, 1) * 0.92
    return Surface(brush.x * 0, albedo, alpha, gloss=0, ambient=1.0)


def leaf(brush: Brush) -> Surface:
    wide = brush.between(0.4, 0.62) * np.clip(1 - brush.x**2, 0, 1) * (1 - 0.35 * brush.x)
    distance = np.maximum(np.abs(brush.y) - wide, np.abs(brush.x) - 0.99)
    veins = np.clip(1 - np.abs(brush.y) / 0.03, 0, 1)
    ribs = np.clip(np.sin((brush.x - np.abs(brush.y)) * 24) * 3 - 2.2, 0, 1)
    albedo = brush.plain() * (1 + 0.15 * brush.noise(5) + 0.2 * veins + 0.15 * ribs)[..., None]
    height = 0.15 * np.clip(-distance, 0, 1) - 0.04 * veins + 0.05 * brush.noise(4)
    return Surface(height, albedo, brush.inside(distance), 0.2, 15.0, 0.5)


def flower(brush: Brush) -> Surface:
    petals = int(brush.between(5, 14))
    wave = np.abs(np.cos(brush.theta * petals / 2))
    radius = brush.radius / (0.55 + 0.42 * wave ** brush.between(0.3, 0.8))
    albedo: Floats = brush.plain() * (0.75 + 0.25 * wave)[..., None]
    heart = brush.inside(brush.radius - brush.between(0.18, 0.32))
    middle = (
        (0.9, 0.72, 0.1) if brush.colour[2] > 0.3 or brush.colour[0] < 0.8 else (0.35, 0.2, 0.1)
    )
    albedo = blend(albedo, middle, heart)
    height = 0.15 * wave + 0.15 * heart + 0.03 * brush.noise(30) * heart
    return Surface(height, albedo, brush.inside((radius - 1) * 0.6), 0.05, 10.0, 0.55)


def cookie(brush: Brush) -> Surface:
    radius = lumpy(brush, 0.05, 5)
    tone = np.array([0.76, 0.56, 0.32], np.float32) * brush.between(0.75, 1.15)
    chips = np.clip((brush.noise(9) - brush.between(0.25, 0.5)) * 12, 0, 1) * (radius < 0.92)
    albedo = (
        brush.plain(tone)
        * (1 + 0.12 * brush.noise(22) - 0.25 * np.clip(radius, 0, 1) ** 6)[..., None]
    )
    albedo = blend(albedo, (0.2, 0.11, 0.06), chips)
    height = 0.25 * (1 - np.clip(radius, 0, 1) ** 4) + 0.03 * brush.noise(14) + 0.05 * chips
    return Surface(height, albedo, brush.inside(radius - 1), 0.05, 10.0, 0.45)


def fish(brush: Brush) -> Surface:
    """A fish from above or from the side: body, tail, fins; or a spindle deep down in the water."""
    deep = brush.chance(0.4)
    bend = brush.between(-0.25, 0.25) * (brush.x**2 - 0.2)
    y = brush.y + bend
    wide = brush.between(0.3, 0.52) if deep else brush.between(0.2, 0.36)
    body = np.hypot((brush.x - 0.18) / 0.78, y / wide) - 1
    tail = np.maximum(np.abs(y) - (-0.4 - brush.x) * 0.6 - 0.05, -0.95 - brush.x)
    tail = np.maximum(tail, brush.x + 0.35)
    fin = np.hypot((brush.x - 0.1) / 0.2, y / (wide * 1.45)) - 1
    belly = np.clip(y / wide * 0.7 + 0.2, 0, 1) * brush.between(0, 0.8)
    albedo = blend(brush.plain(), (0.9, 0.88, 0.82), belly)
    height = wide * np.sqrt(np.clip(-body, 0, 1))
    distance = np.minimum(np.minimum(body * wide, tail), fin * wide)
    if deep:  # nothing but a soft outline is left of it
        alpha = np.clip(0.5 - distance * 10, 0, 1) * brush.between(0.7, 1.0)
        return Surface(0.3 * height, albedo, alpha, 0.05, 10.0, 0.7)
    scales = 0.1 * np.sin(brush.x * 34) * np.sin(y * 34)
    albedo = albedo * (1 + scales + 0.1 * brush.noise(6))[..., None]
    eye = np.hypot(brush.x - 0.72, y - 0.05) - 0.05
    albedo = blend(albedo, (0.03, 0.03, 0.03), brush.inside(eye))
    return Surface(height, albedo, brush.inside(distance), 0.4, 15.0, 0.5)


# Red, sand, brown, slate, ivory
CRAB_TONES = np.array(
    [
        (0.8, 0.3, 0.15),
        (0.78, 0.62, 0.45),
        (0.42, 0.3, 0.22),
        (0.45, 0.52, 0.58),
        (0.86, 0.82, 0.78),
    ],
    np.float32,
)


def crab(brush: Brush) -> Surface:
    """A crab from above: a broad shell, eight bent legs, two claws held forward."""
    x, y = np.abs(brush.x), brush.y + 0.05
    wide, long = brush.between(0.34, 0.5), brush.between(0.3, 0.4)
    shell = (np.hypot(x / wide, y / long) - 1) * long
    thin = brush.between(0.035, 0.06)
    legs = [shell]
    for turn in np.linspace(-0.25, 1.0, 4) + brush.between(-0.12, 0.12):
        knee = (0.68 * np.cos(turn * 0.8), 0.68 * np.sin(turn * 0.8) - 0.08)
        tip = (0.95 * np.cos(turn), 0.95 * np.sin(turn) + 0.05)
        legs += [_limb(x, y, (0.2, turn * 0.2), knee, thin), _limb(x, y, knee, tip, thin * 0.7)]
    elbow, hand = (brush.between(0.45, 0.6), -0.45), (brush.between(0.25, 0.45), -0.72)
    legs += [_limb(x, y, (0.2, -0.1), elbow, thin * 1.3), _limb(x, y, elbow, hand, thin * 2)]
    distance = np.minimum.reduce(legs)
    tone = CRAB_TONES[int(brush.rng.integers(len(CRAB_TONES)))]
    mottled = 1 + 0.2 * brush.noise(8) + 0.15 * brush.noise(20)
    albedo = blend(brush.plain(tone), tone * 1.25, brush.inside(shell + 0.1))
    height = np.maximum(brush.dome(1 + shell / long, 0.3), np.clip(-distance, 0, 0.1))
    return Surface(height, albedo * mottled[..., None], brush.inside(distance), 0.2, 12.0, 0.5)


def _limb(
    x: Floats, y: Floats, start: tuple[float, float], end: tuple[float, float], thick: float
) -> Floats:
    """Signed distance to a straight limb with round ends."""
    along_x, along_y = end[0] - start[0], end[1] - start[1]
    share = ((x - start[0]) * along_x + (y - start[1]) * along_y) / (along_x**2 + along_y**2)
    share = np.clip(share, 0, 1)
    return np.hypot(x - start[0] - share * along_x, y - start[1] - share * along_y) - thick


def bird(brush: Brush) -> Surface:
    """A bird on the wing, dark against the sky or pale."""
    lift = brush.between(-0.5, 0.7)
    arch = -lift * np.sqrt(np.abs(brush.x) + 1e-3) + lift * 0.9 * np.abs(brush.x) ** 1.5
    wing = np.clip(1 - np.abs(brush.x) / 0.97, 0, 1) ** 0.6 * brush.between(0.1, 0.22)
    wings = np.maximum(np.abs(brush.y - arch) - wing, np.abs(brush.x) - 0.97)
    body = np.hypot(brush.x / 0.13, (brush.y - 0.02) / brush.between(0.22, 0.42)) - 1
    tone = brush.between(0.03, 0.2) if brush.chance(0.65) else brush.between(0.7, 0.95)
    albedo = brush.plain(np.full(3, tone, np.float32)) * (1 + 0.15 * brush.noise(8))[..., None]
    distance = np.minimum(wings, body * 0.13)
    return Surface(np.clip(-distance, 0, 0.2), albedo, brush.inside(distance), 0.0, ambient=0.8)
