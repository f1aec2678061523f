"""Meadow, forest, beach, mountain, desert and moon."""

from __future__ import annotations

from consistent_gen.world.painter import ellipse, polygon, rounded, smooth
from consistent_gen.world.palette import RGB, mix
from consistent_gen.world.stage import (
    Stage,
    boxes,
    bush,
    dots,
    flower_bed,
    land,
    pine,
    round_tree,
    strokes,
)
from consistent_gen.world.weather import draw_sky, draw_stars


def draw_meadow(stage: Stage) -> float:
    """Green hills, a wooden fence and flowers; returns the horizon height."""
    horizon = stage.near(70.0, 76.0)
    draw_sky(stage, horizon)
    land(stage, horizon - 6.0, 7.0, stage.ground(0.76, 0.085, 150.0))
    side = stage.rng.choice((0, 1))
    round_tree(stage, 14.0 if side else 115.0, horizon + 6.0, stage.near(36.0, 46.0))
    land(stage, horizon + 6.0, 3.5, stage.ground(0.80, 0.115, 132.0))
    _fence(stage, horizon + 14.0)
    land(stage, horizon + 24.0, 2.0, stage.ground(0.74, 0.12, 136.0), outline=False)
    spots = [
        (stage.near(3.0, 34.0) if i % 2 else stage.near(94.0, 125.0), 98.0 + 3.4 * i)
        for i in range(8)
    ]
    flower_bed(stage, spots, 2.1, (350.0, 300.0, 40.0))
    return horizon


def _fence(stage: Stage, y: float) -> None:
    wood = stage.tone(0.90, 0.03, 80.0)
    rails = [(-14.0, y - 9.0, 142.0, y - 6.0), (-14.0, y - 2.0, 142.0, y + 1.0)]
    posts = [(x, y - 14.0, x + 5.0, y + 7.0) for x in (-2.0, 19.0, 40.0, 83.0, 104.0, 125.0)]
    stage.fill(boxes(rails), mix(wood, (0.4, 0.35, 0.3), 0.14))
    stage.fill(boxes(posts, 1.5), wood)


def draw_forest(stage: Stage) -> float:
    """Broad trunks under a dark canopy, moss and toadstools; returns the horizon height."""
    horizon = 84.0
    deep = stage.tone(0.52, 0.075, 155.0)
    stage.painter.gradient(
        boxes([(-20.0, -20.0, 148.0, 148.0)]),
        mix(deep, (0.8, 0.95, 0.8), 0.12),
        mix(deep, (0.9, 0.95, 0.75), 0.38),
        20.0,
        horizon,
    )
    far = [(stage.near(28.0, 100.0), w) for w in (5.0, 4.0, 6.0, 4.0)]
    stage.soft(
        boxes([(x - w / 2, 0.0, x + w / 2, 90.0) for x, w in far]),
        mix(deep, (0.2, 0.25, 0.2), 0.22),
    )
    land(stage, horizon, 2.0, stage.ground(0.56, 0.09, 140.0))
    for x in (
        stage.near(-2.0, 4.0),
        stage.near(24.0, 30.0),
        stage.near(98.0, 104.0),
        stage.near(122.0, 130.0),
    ):
        _trunk(stage, x, stage.near(88.0, 102.0), stage.near(6.0, 9.5))
    leaf = stage.tone(0.42, 0.08, 148.0)
    canopy = [
        (-20.0, -20.0),
        (148.0, -20.0),
        (146.0, 30.0),
        (122.0, stage.near(26.0, 34.0)),
        (104.0, 22.0),
        (86.0, stage.near(12.0, 18.0)),
        (64.0, 8.0),
        (42.0, stage.near(12.0, 18.0)),
        (24.0, 23.0),
        (6.0, stage.near(26.0, 34.0)),
        (-18.0, 30.0),
    ]
    stage.fill(smooth(canopy), leaf)
    for x in (stage.near(-2.0, 12.0), stage.near(114.0, 128.0)):
        bush(
            stage,
            x,
            stage.near(110.0, 122.0),
            stage.near(13.0, 17.0),
            stage.plant(0.50, 0.10, 143.0),
        )
    for x in (stage.near(18.0, 32.0), stage.near(98.0, 110.0)):
        _toadstool(stage, x, stage.near(112.0, 122.0))
    return horizon


def _trunk(stage: Stage, x: float, y: float, half: float) -> None:
    bark = stage.tone(0.43, 0.05, 55.0)
    trunk = [
        (x - half, -10.0),
        (x + half, -10.0),
        (x + half, y - 12.0),
        (x + 1.7 * half, y),
        (x - 1.7 * half, y),
        (x - half, y - 12.0),
    ]
    stage.fill(polygon(trunk), bark)
    stage.soft(
        boxes([(x - 0.7 * half, 20.0, x - 0.3 * half, y - 14.0)], 1.0),
        mix(bark, (1, 0.9, 0.75), 0.14),
    )


def _toadstool(stage: Stage, x: float, y: float) -> None:
    stage.fill(rounded(x - 1.8, y - 6.0, x + 1.8, y, 1.5), stage.tone(0.90, 0.02, 80.0))
    cap = [
        (x - 6.0, y - 5.0),
        (x - 4.0, y - 10.0),
        (x + 4.0, y - 10.0),
        (x + 6.0, y - 5.0),
        (x, y - 4.6),
    ]
    stage.fill(smooth(cap), stage.tone(0.60, 0.16, 28.0))
    stage.soft(
        dots([(x - 2.5, y - 8.0, 1.1), (x + 2.2, y - 7.2, 1.1)]), stage.tone(0.95, 0.01, 80.0)
    )


def draw_beach(stage: Stage) -> float:
    """Sea, sand, a parasol and a palm; returns the horizon height."""
    horizon = stage.near(56.0, 62.0)
    draw_sky(stage, horizon)
    sea = stage.tone(0.68, 0.09, 220.0)
    stage.painter.gradient(
        boxes([(-20.0, horizon, 148.0, 100.0)]),
        sea,
        mix(sea, (0.8, 1.0, 0.95), 0.35),
        horizon,
        90.0,
    )
    _sailboat(
        stage, stage.rng.choice((stage.near(24.0, 36.0), stage.near(92.0, 104.0))), horizon + 3.0
    )
    waves = [
        [(x + k, horizon + dy + (1.2 if k % 8 else 0.0)) for k in (0, 4, 8, 12)]
        for x, dy in ((6.0, 9.0), (98.0, 7.0), (40.0, 14.0), (80.0, 16.0))
    ]
    stage.line(strokes(waves), mix(sea, (1.0, 1.0, 1.0), 0.55), 1.3)
    land(stage, horizon + 23.0, 2.0, mix(sea, (1.0, 1.0, 1.0), 0.7), outline=False)
    land(stage, horizon + 26.0, 2.0, stage.ground(0.88, 0.07, 85.0))
    side = stage.rng.choice((0, 1))
    _palm(stage, 10.0 if side else 118.0, 102.0, 1 if side else -1)
    _parasol(stage, 111.0 if side else 17.0, 110.0)
    _starfish(stage, 30.0 if side else 98.0, stage.near(114.0, 120.0))
    return horizon


def _sailboat(stage: Stage, x: float, y: float) -> None:
    hull = [(x - 8.0, y), (x + 8.0, y), (x + 5.0, y + 4.0), (x - 5.0, y + 4.0)]
    stage.fill(polygon(hull), stage.tone(0.62, 0.12, 30.0))
    stage.fill(
        polygon([(x, y - 15.0), (x + 8.0, y - 2.0), (x, y - 2.0)]), stage.tone(0.96, 0.01, 90.0)
    )


def _palm(stage: Stage, x: float, y: float, lean: int) -> None:
    bark = stage.tone(0.58, 0.06, 60.0)
    tip = (x + 7.0 * lean, y - 66.0)
    trunk = [
        (x - 3.5, y),
        (x - 2.5 + 1.0 * lean, y - 34.0),
        (tip[0] - 1.8, tip[1]),
        (tip[0] + 1.8, tip[1]),
        (x + 2.5 + 1.0 * lean, y - 34.0),
        (x + 3.5, y),
    ]
    stage.fill(smooth(trunk), bark)
    leaf = stage.tone(0.60, 0.12, 145.0)
    for dx, dy in ((-21.0, 9.0), (21.0, 9.0), (-18.0, -5.0), (18.0, -5.0), (1.0, -13.0)):
        mid = (tip[0] + 0.55 * dx, tip[1] + 0.35 * dy - 6.0)
        frond = [tip, mid, (tip[0] + dx, tip[1] + dy), (mid[0], mid[1] + 5.5)]
        stage.fill(smooth(frond), leaf)


def _parasol(stage: Stage, x: float, y: float) -> None:
    stage.fill(boxes([(x - 1.0, y - 44.0, x + 1.0, y)]), stage.tone(0.85, 0.02, 80.0))
    hue, rim = stage.near(0.0, 360.0), y - 36.0
    dome = [
        (x - 22.0, rim),
        (x - 17.0, rim - 12.0),
        (x, rim - 19.0),
        (x + 17.0, rim - 12.0),
        (x + 22.0, rim),
    ]
    stage.fill(smooth(dome), stage.tone(0.70, 0.13, hue))
    for half in (-1, 1):
        stripe = [
            (x, rim - 17.5),
            (x + half * 8.0, rim - 10.0),
            (x + half * 14.0, rim - 0.5),
            (x + half * 6.0, rim + 0.5),
        ]
        stage.soft(polygon(stripe), stage.tone(0.95, 0.02, 90.0))


def _starfish(stage: Stage, x: float, y: float) -> None:
    star = [
        (0.0, -5.0),
        (1.6, -1.6),
        (5.0, -1.4),
        (2.4, 1.0),
        (3.2, 4.6),
        (0.0, 2.6),
        (-3.2, 4.6),
        (-2.4, 1.0),
        (-5.0, -1.4),
        (-1.6, -1.6),
    ]
    stage.fill(polygon([(x + dx, y + 0.7 * dy) for dx, dy in star]), stage.tone(0.72, 0.13, 45.0))


def draw_mountain(stage: Stage) -> float:
    """Snow-capped peaks and pines; returns the horizon height."""
    horizon = 80.0
    draw_sky(stage, horizon)
    rock = stage.tone(0.62, 0.045, 275.0)
    _peak(
        stage,
        stage.near(56.0, 72.0),
        stage.near(24.0, 30.0),
        50.0,
        mix(rock, (0.85, 0.88, 0.95), 0.40),
    )
    _peak(stage, stage.near(14.0, 24.0), stage.near(12.0, 20.0), 44.0, rock)
    _peak(
        stage,
        stage.near(104.0, 114.0),
        stage.near(8.0, 16.0),
        46.0,
        mix(rock, (0.3, 0.3, 0.45), 0.10),
    )
    land(stage, horizon + 4.0, 3.0, stage.ground(0.68, 0.075, 158.0))
    for x, y, size in (
        (-1.0, 92.0, 40.0),
        (17.0, 98.0, 34.0),
        (128.0, 94.0, 42.0),
        (109.0, 99.0, 32.0),
    ):
        pine(stage, x + stage.near(-3.0, 3.0), y, size * stage.near(0.9, 1.12))
    land(stage, horizon + 20.0, 2.0, stage.ground(0.72, 0.08, 145.0), outline=False)
    rocks = [(stage.near(6.0, 32.0), 114.0), (stage.near(98.0, 122.0), 119.0)]
    for x, y in rocks:
        bush(stage, x, y, stage.near(6.0, 9.0), stage.plant(0.64, 0.015, 270.0))
    return horizon


def _peak(stage: Stage, x: float, y: float, half: float, color: RGB) -> None:
    foot = 96.0
    stage.fill(polygon([(x - half, foot), (x, y), (x + half, foot)]), color)
    reach = 22.0
    cut = reach / (foot - y)
    cap = [
        (x - half * cut, y + reach),
        (x, y),
        (x + half * cut, y + reach),
        (x + 0.45 * half * cut, y + 15.0),
        (x, y + 21.0),
        (x - 0.5 * half * cut, y + 15.0),
    ]
    stage.soft(polygon(cap), stage.tone(0.96, 0.01, 250.0))


def draw_desert(stage: Stage) -> float:
    """Ochre dunes, a table mountain and cacti; returns the horizon height."""
    horizon = stage.near(70.0, 76.0)
    draw_sky(stage, horizon)
    x = stage.rng.choice((28.0, 100.0)) + stage.near(-6.0, 6.0)
    mesa = [
        (x - 25.0, horizon + 6.0),
        (x - 18.0, horizon - 26.0),
        (x + 18.0, horizon - 26.0),
        (x + 26.0, horizon + 6.0),
    ]
    stage.fill(polygon(mesa), stage.tone(0.64, 0.09, 42.0))
    stage.soft(
        boxes([(x - 20.0, horizon - 16.0, x + 20.5, horizon - 12.0)]), stage.tone(0.70, 0.08, 50.0)
    )
    land(stage, horizon - 2.0, 5.0, stage.ground(0.82, 0.085, 72.0))
    land(stage, horizon + 12.0, 5.0, stage.ground(0.78, 0.10, 66.0))
    land(stage, horizon + 26.0, 3.0, stage.ground(0.83, 0.10, 76.0), outline=False)
    _cactus(stage, stage.near(9.0, 17.0), 112.0, stage.near(48.0, 60.0), 1)
    _cactus(stage, stage.near(110.0, 119.0), 108.0, stage.near(38.0, 52.0), -1)
    bush(stage, stage.near(26.0, 34.0), 119.0, 5.0, stage.plant(0.58, 0.04, 50.0))
    return horizon


def _cactus(stage: Stage, x: float, y: float, size: float, turn: int) -> None:
    green = stage.tone(0.58, 0.10, 150.0)
    w = 0.10 * size
    arms = ((turn, 0.32, 0.40), (-turn, 0.45, 0.30))
    for way, low, rise in arms:
        ax, ay = x + way * 0.27 * size, y - low * size
        elbow = boxes([(min(x, ax), ay - w, max(x, ax), ay + 0.6 * w)], 0.5 * w)
        stage.fill(elbow, green)
        stage.fill(
            rounded(ax - 0.75 * w, ay - rise * size, ax + 0.75 * w, ay + 0.6 * w, 0.75 * w), green
        )
    stage.fill(rounded(x - w, y - size, x + w, y, w), green)
    ribs = [((x + k * w, y - 0.88 * size), (x + k * w, y - 3.0)) for k in (-0.35, 0.35)]
    stage.line(strokes(ribs), mix(green, (0.1, 0.25, 0.15), 0.28), 0.9)


def draw_moon_surface(stage: Stage) -> float:
    """Gray craters under black sky, with the earth and a rocket; returns the horizon height."""
    horizon = stage.near(72.0, 78.0)
    stage.painter.gradient(
        boxes([(-20.0, -20.0, 148.0, 148.0)]), (0.10, 0.08, 0.20), (0.19, 0.16, 0.33), 0.0, horizon
    )
    draw_stars(stage, 24, horizon - 6.0)
    side = stage.rng.choice((0, 1))
    _earth(stage, 22.0 if side else 106.0, stage.near(22.0, 28.0), stage.near(15.0, 18.0))
    gray = (0.66, 0.66, 0.70)
    land(stage, horizon, 5.0, mix(gray, (0.3, 0.3, 0.42), 0.38))
    land(stage, horizon + 14.0, 2.5, gray)
    _rocket(stage, 111.0 if side else 17.0, horizon + 20.0)
    for x, y, r in (
        (stage.near(14.0, 32.0), 100.0, 11.0),
        (stage.near(94.0, 112.0), 106.0, 12.0),
        (stage.near(0.0, 24.0), 120.0, 9.0),
        (stage.near(100.0, 126.0), 122.0, 7.0),
    ):
        stage.fill(ellipse(x, y, r, 0.38 * r), mix(gray, (1.0, 1.0, 1.0), 0.25))
        stage.soft(ellipse(x, y + 0.7, 0.84 * r, 0.27 * r), mix(gray, (0.25, 0.25, 0.38), 0.42))
    return horizon


def _earth(stage: Stage, x: float, y: float, r: float) -> None:
    disc = ellipse(x, y, r, r)
    stage.fill(disc, (0.40, 0.63, 0.85))
    with stage.painter.clipped(disc):
        for dx, dy, w in ((-0.45, -0.35, 0.5), (0.5, 0.05, 0.42), (-0.2, 0.62, 0.45)):
            stage.soft(ellipse(x + dx * r, y + dy * r, w * r, 0.7 * w * r), (0.50, 0.72, 0.48))
        stage.soft(ellipse(x + 0.15 * r, y - 0.95 * r, 0.7 * r, 0.25 * r), (0.95, 0.97, 1.0))


def _rocket(stage: Stage, x: float, y: float) -> None:
    fin = (0.78, 0.38, 0.36)
    stage.fill(
        polygon([(x - 15.0, y), (x - 6.0, y - 22.0), (x + 6.0, y - 22.0), (x + 15.0, y)]), fin
    )
    body = [
        (x - 7.5, y - 4.0),
        (x - 8.0, y - 30.0),
        (x, y - 54.0),
        (x + 8.0, y - 30.0),
        (x + 7.5, y - 4.0),
    ]
    stage.fill(smooth(body), (0.84, 0.84, 0.88))
    stage.fill(ellipse(x, y - 31.0, 4.0, 4.0), (0.46, 0.66, 0.80))
