"""City, castle and farm."""

from __future__ import annotations

from consistent_gen.world.painter import ellipse, polygon, rounded, smooth
from consistent_gen.world.palette import mix
from consistent_gen.world.stage import Stage, boxes, bush, land, round_tree, strokes
from consistent_gen.world.weather import draw_sky

_GLOW = (0.99, 0.85, 0.48)


def draw_city(stage: Stage) -> float:
    """A street of tall coloured houses with lit or blue windows; returns the horizon height."""
    horizon = 84.0
    draw_sky(stage, horizon)
    haze = mix(stage.tone(0.72, 0.03, 265.0), (0.8, 0.85, 0.92), 0.15)
    blocks = [(x, stage.near(34.0, 52.0), x + 15.0, horizon) for x in (34.0, 49.0, 64.0, 79.0)]
    stage.soft(boxes(blocks), haze)
    hues = stage.rng.sample((25.0, 60.0, 95.0, 165.0, 230.0, 330.0), 4)
    x = -8.0
    for i, (width, top) in enumerate(((26.0, 12.0), (22.0, 26.0), (24.0, 24.0), (30.0, 10.0))):
        if i == 2:
            x = 86.0
        _house(stage, x, top + stage.near(-6.0, 6.0), width, horizon + 2.0, hues[i])
        x += width
    pavement = stage.ground(0.82, 0.012, 80.0)
    stage.fill(boxes([(-20.0, horizon, 148.0, 148.0)]), pavement)
    road = stage.ground(0.58, 0.012, 270.0)
    stage.fill(boxes([(-20.0, horizon + 14.0, 148.0, 148.0)]), road)
    dashes = [(k, 110.0, k + 14.0, 113.5) for k in (-8.0, 18.0, 44.0, 70.0, 96.0, 122.0)]
    stage.soft(boxes(dashes, 1.0), mix(road, (1.0, 1.0, 0.9), 0.55))
    _lamp_post(stage, stage.rng.choice((27.0, 101.0)) + stage.near(-2.0, 2.0), horizon + 11.0)
    return horizon


def _house(stage: Stage, x: float, top: float, width: float, foot: float, hue: float) -> None:
    wall = stage.tone(0.74, 0.07, hue)
    stage.fill(boxes([(x, top, x + width, foot)]), wall)
    roof = [(x - 1.5, top), (x + 0.5 * width, top - 11.0), (x + width + 1.5, top)]
    stage.fill(polygon(roof), stage.ground(0.50, 0.07, hue - 20.0))
    pane = _GLOW if stage.weather in ("night", "sunset") else stage.tone(0.90, 0.035, 225.0)
    gap = width / 2.0
    panes = [
        (
            x + 0.16 * width + gap * c,
            top + 6.0 + 15.0 * r,
            x + 0.16 * width + gap * c + 0.19 * width + 2.0,
            top + 14.5 + 15.0 * r,
        )
        for r in range(int((foot - top - 20.0) / 15.0) + 1)
        for c in (0, 1)
    ]
    stage.fill(boxes([p for p in panes if p[3] < foot - 10.0], 0.8), pane)
    door = boxes([(x + 0.36 * width, foot - 14.0, x + 0.64 * width, foot)], 1.5)
    stage.soft(door, mix(wall, (0.25, 0.18, 0.2), 0.5))


def _lamp_post(stage: Stage, x: float, y: float) -> None:
    iron = stage.tone(0.38, 0.02, 265.0)
    stage.fill(boxes([(x - 1.2, y - 46.0, x + 1.2, y), (x - 3.0, y - 4.0, x + 3.0, y)]), iron)
    lit = stage.weather in ("night", "sunset", "rainy")
    if lit:
        stage.soft(ellipse(x, y - 50.0, 11.0, 11.0), _GLOW, 0.28)
    glass = _GLOW if lit else stage.tone(0.92, 0.02, 95.0)
    stage.fill(rounded(x - 4.0, y - 55.0, x + 4.0, y - 46.0, 2.5), glass)


def draw_castle(stage: Stage) -> float:
    """Two round towers with flags and a wall between them; returns the horizon height."""
    horizon = 84.0
    draw_sky(stage, horizon)
    stone = stage.tone(0.76, 0.038, stage.rng.choice((75.0, 50.0, 310.0)))
    merlons = [(x, 46.0, x + 6.0, 54.0) for x in range(28, 100, 11)]
    wall = boxes([(20.0, 52.0, 108.0, horizon + 4.0), *merlons])
    stage.fill(wall, mix(stone, (0.9, 0.9, 0.95), 0.22))
    gate = polygon(
        [
            (50.0, horizon + 4.0),
            (50.0, 70.0),
            (56.0, 62.0),
            (64.0, 59.0),
            (72.0, 62.0),
            (78.0, 70.0),
            (78.0, horizon + 4.0),
        ]
    )
    stage.fill(gate, stage.tone(0.50, 0.05, 50.0))
    flag = stage.near(0.0, 360.0)
    for x in (14.0 + stage.near(-3.0, 2.0), 114.0 + stage.near(-2.0, 3.0)):
        _tower(stage, x, stage.near(28.0, 36.0), horizon + 10.0, stone, flag)
    land(stage, horizon + 5.0, 1.5, stage.ground(0.70, 0.085, 140.0))
    path = [(52.0, horizon + 4.0), (76.0, horizon + 4.0), (98.0, 140.0), (30.0, 140.0)]
    stage.soft(polygon(path), stage.ground(0.82, 0.035, 80.0))
    for x in (stage.near(4.0, 16.0), stage.near(112.0, 124.0)):
        bush(
            stage,
            x,
            stage.near(110.0, 120.0),
            stage.near(10.0, 13.0),
            stage.plant(0.58, 0.09, 145.0),
        )
    return horizon


def _tower(
    stage: Stage, x: float, top: float, foot: float, stone: tuple[float, float, float], flag: float
) -> None:
    half = 14.0
    teeth = [(x - 17.0 + 10.0 * k, top - 7.0, x - 11.0 + 10.0 * k, top + 1.0) for k in range(3)]
    stage.line(strokes([((x, top - 4.0), (x, top - 30.0))]), stage.tone(0.45, 0.04, 55.0), 1.4)
    cloth = [
        (x + 0.7, top - 30.0),
        (x + 16.0, top - 26.0 + stage.near(-1.5, 1.5)),
        (x + 0.7, top - 20.0),
    ]
    stage.fill(polygon(cloth), stage.tone(0.66, 0.15, flag))
    stage.fill(boxes([(x - half, top, x + half, foot)]), stone)
    crown = boxes(
        [(x - 17.0, top, x + 17.0, top + 8.0), *teeth, (x + 11.0, top - 7.0, x + 17.0, top + 1.0)]
    )
    stage.fill(crown, mix(stone, (0.3, 0.3, 0.4), 0.10))
    slit = _GLOW if stage.weather == "night" else mix(stone, (0.12, 0.12, 0.2), 0.62)
    stage.soft(boxes([(x - 2.6, top + 16.0, x + 2.6, top + 29.0)], 2.6), slit)
    bricks = [
        (x + dx, top + dy, x + dx + 6.0, top + dy + 3.0)
        for dx, dy in ((-11.0, 14.0), (5.0, 22.0), (-9.0, 36.0), (3.0, 41.0))
    ]
    stage.soft(boxes(bricks, 0.8), mix(stone, (0.3, 0.3, 0.4), 0.16))


def draw_farm(stage: Stage) -> float:
    """A red barn with a silo, hay bales and ploughed furrows; returns the horizon height."""
    horizon = stage.near(72.0, 76.0)
    draw_sky(stage, horizon)
    land(stage, horizon - 3.0, 4.0, stage.ground(0.80, 0.09, 112.0))
    side = stage.rng.choice((0, 1))
    round_tree(stage, 22.0 if side else 106.0, horizon + 4.0, stage.near(26.0, 32.0), 128.0)
    stage.soft(boxes([(-20.0, horizon + 4.0, 148.0, 148.0)]), stage.ground(0.80, 0.10, 98.0))
    furrow = stage.ground(0.68, 0.085, 75.0)
    for k in range(-4, 5):
        row = [
            (64.0 + 9.0 * k, horizon + 5.0),
            (64.0 + 9.0 * k + 2.5, horizon + 5.0),
            (66.0 + 34.0 * k + 5.0, 140.0),
            (64.0 + 34.0 * k - 5.0, 140.0),
        ]
        stage.soft(polygon(row), furrow)
    _barn(stage, 106.0 if side else 22.0, horizon + 14.0, -1 if side else 1)
    _bale(
        stage,
        stage.near(9.0, 18.0) if side else stage.near(110.0, 119.0),
        stage.near(100.0, 108.0),
        12.0,
    )
    return horizon


def _barn(stage: Stage, x: float, y: float, silo: int) -> None:
    steel = stage.tone(0.80, 0.015, 240.0)
    sx = x + silo * 27.0
    stage.fill(rounded(sx - 7.0, y - 56.0, sx + 7.0, y - 4.0, 7.0), steel)
    red = stage.tone(0.56, 0.14, 27.0)
    front = [
        (x - 22.0, y),
        (x - 22.0, y - 32.0),
        (x - 15.0, y - 47.0),
        (x, y - 56.0),
        (x + 15.0, y - 47.0),
        (x + 22.0, y - 32.0),
        (x + 22.0, y),
    ]
    stage.fill(polygon(front), red)
    white = stage.tone(0.94, 0.01, 80.0)
    roof = strokes(
        [
            [
                (x - 24.5, y - 30.0),
                (x - 16.0, y - 48.0),
                (x, y - 58.0),
                (x + 16.0, y - 48.0),
                (x + 24.5, y - 30.0),
            ]
        ]
    )
    stage.line(roof, stage.ground(0.50, 0.04, 40.0), 4.0)
    stage.fill(boxes([(x - 11.0, y - 24.0, x + 11.0, y)]), mix(red, (0.3, 0.1, 0.1), 0.32))
    braces = strokes(
        [
            ((x - 11.0, y - 24.0), (x + 11.0, y)),
            ((x + 11.0, y - 24.0), (x - 11.0, y)),
            ((x - 11.0, y), (x - 11.0, y - 24.0), (x + 11.0, y - 24.0), (x + 11.0, y)),
        ]
    )
    stage.line(braces, white, 1.8)
    loft = _GLOW if stage.weather == "night" else mix(red, (0.3, 0.1, 0.1), 0.4)
    stage.fill(rounded(x - 5.0, y - 43.0, x + 5.0, y - 33.0, 1.0), loft)


def _bale(stage: Stage, x: float, y: float, r: float) -> None:
    straw = stage.plant(0.80, 0.11, 86.0)
    stage.fill(ellipse(x, y, r, r), straw)
    ring = mix(straw, (0.5, 0.35, 0.1), 0.30)
    spiral = [
        (x - 0.65 * r, y),
        (x, y - 0.65 * r),
        (x + 0.6 * r, y),
        (x, y + 0.5 * r),
        (x - 0.35 * r, y),
        (x, y - 0.25 * r),
        (x + 0.2 * r, y),
    ]
    stage.line(smooth(spiral, closed=False), ring, 1.4)
