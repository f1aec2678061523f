"""Bedroom, kitchen and library: rooms whose window shows the weather."""

from __future__ import annotations

from itertools import pairwise

import skia

from consistent_gen.world.painter import ellipse, polygon, rounded
from consistent_gen.world.palette import RGB, mix
from consistent_gen.world.stage import Box, Stage, boxes, dots, strokes
from consistent_gen.world.weather import SKIES

_GLOW = (1.0, 0.86, 0.52)


def _room(stage: Stage, wall: RGB, floor: RGB, horizon: float) -> None:
    """Wall, floor and skirting board."""
    stage.soft(boxes([(-20.0, -20.0, 148.0, horizon)]), wall)
    stage.soft(boxes([(-20.0, horizon, 148.0, 148.0)]), floor)
    stage.fill(boxes([(-20.0, horizon - 3.5, 148.0, horizon)]), mix(wall, (1.0, 1.0, 1.0), 0.45))


def _window(stage: Stage, box: Box, frame: RGB) -> None:
    """A four-pane window with the sky of this weather behind it, and the light it lets in."""
    x0, y0, x1, y1 = box
    top, bottom = SKIES[stage.weather]
    stage.fill(boxes([(x0 - 2.5, y0 - 2.5, x1 + 2.5, y1 + 2.5)], 1.5), frame)
    pane = boxes([box])
    stage.painter.gradient(pane, top, bottom, y0, y1)
    with stage.painter.clipped(pane):
        x = x0 + 0.7 * (x1 - x0)
        if stage.weather == "night":
            stage.soft(ellipse(x, y0 + 8.0, 4.5, 4.5), (0.95, 0.94, 0.82))
            stars = [
                (x0 + 5.0, y0 + 6.0, 0.9),
                (x0 + 9.0, y0 + 17.0, 0.9),
                (x1 - 4.0, y1 - 6.0, 0.9),
            ]
            stage.soft(dots(stars), (0.95, 0.94, 0.88))
        elif stage.weather == "sunset":
            stage.soft(ellipse(x, y1 - 5.0, 7.0, 7.0), (1.0, 0.90, 0.60))
        else:
            stage.soft(ellipse(x, y0 + 8.0, 5.0, 5.0), (1.0, 0.92, 0.60))
            stage.soft(ellipse(x0, y1, 17.0, 9.0), (0.62, 0.80, 0.55))
    bars = [
        (0.5 * (x0 + x1) - 0.8, y0, 0.5 * (x0 + x1) + 0.8, y1),
        (x0, 0.5 * (y0 + y1) - 0.8, x1, 0.5 * (y0 + y1) + 0.8),
    ]
    stage.soft(boxes(bars), frame)
    stage.fill(boxes([(x0 - 4.5, y1 + 2.0, x1 + 4.5, y1 + 5.0)], 1.0), frame)


def _light_beam(stage: Stage, box: Box, floor_y: float) -> None:
    """The window's light on the floor: warm by day, a lamp-free dim blue at night."""
    if stage.weather == "night":
        return
    x0, _, x1, _ = box
    shift = 14.0 if x0 < 64.0 else -14.0
    patch = [
        (x0 + shift, floor_y + 4.0),
        (x1 + shift, floor_y + 4.0),
        (x1 + 2.2 * shift, floor_y + 34.0),
        (x0 + 2.2 * shift, floor_y + 34.0),
    ]
    glow = (1.0, 0.72, 0.42) if stage.weather == "sunset" else (1.0, 0.96, 0.76)
    stage.soft(polygon(patch), glow, 0.34)


def draw_bedroom(stage: Stage) -> float:
    """A bed under striped wallpaper, a rug, a window; returns the height where the floor begins."""
    horizon = 86.0
    hue = stage.rng.choice((5.0, 60.0, 160.0, 250.0, 310.0))
    wall = stage.tone(0.86, 0.04, hue)
    floor = stage.tone(0.72, 0.055, 65.0)
    _room(stage, wall, floor, horizon)
    bands = boxes([(k, -20.0, k + 6.0, horizon - 3.5) for k in range(-17, 140, 13)])
    stage.soft(bands, mix(wall, (1.0, 1.0, 1.0), 0.30))
    side = stage.rng.choice((0, 1))
    frame = stage.tone(0.94, 0.01, 80.0)
    box = (94.0, 12.0, 120.0, 42.0) if side else (8.0, 12.0, 34.0, 42.0)
    _window(stage, box, frame)
    curtain = stage.tone(0.70, 0.09, hue + 150.0)
    x0, y0, x1, y1 = box
    sides = [(x0 - 7.0, y0 - 5.0, x0 + 3.5, y1 + 7.0), (x1 - 3.5, y0 - 5.0, x1 + 7.0, y1 + 7.0)]
    stage.fill(boxes(sides, 2.0), curtain)
    _light_beam(stage, box, horizon)
    rug = stage.tone(0.74, 0.08, hue + 90.0)
    stage.fill(ellipse(64.0, 119.0, 50.0, 13.0), rug)
    stage.soft(ellipse(64.0, 119.0, 40.0, 9.5), mix(rug, (1.0, 1.0, 1.0), 0.35))
    _bed(stage, 22.0 if side else 106.0, hue + 210.0)
    _nightstand(stage, 113.0 if side else 15.0)
    return horizon


def _bed(stage: Stage, x: float, hue: float) -> None:
    """A bed seen from its foot, `x` its middle."""
    wood = stage.tone(0.58, 0.07, 50.0)
    stage.fill(rounded(x - 24.0, 50.0, x + 24.0, 98.0, 7.0), wood)
    stage.soft(rounded(x - 19.0, 55.0, x + 19.0, 80.0, 4.0), mix(wood, (1.0, 0.9, 0.7), 0.22))
    stage.fill(rounded(x - 18.0, 66.0, x + 18.0, 84.0, 6.0), stage.tone(0.97, 0.012, 80.0))
    blanket = stage.tone(0.66, 0.10, hue)
    cover = [(x - 22.0, 80.0), (x + 22.0, 80.0), (x + 29.0, 114.0), (x - 29.0, 114.0)]
    stage.fill(polygon(cover), blanket)
    spots = [
        (x + dx, y, 2.6)
        for y, row in ((94.0, (-14.0, 0.0, 14.0)), (104.0, (-21.0, -7.0, 7.0, 21.0)))
        for dx in row
    ]
    stage.soft(dots(spots), mix(blanket, (1.0, 1.0, 1.0), 0.5))
    fold = [(x - 22.5, 79.5), (x + 22.5, 79.5), (x + 24.0, 87.0), (x - 24.0, 87.0)]
    stage.fill(polygon(fold), stage.tone(0.93, 0.02, 80.0))
    stage.fill(rounded(x - 31.0, 108.0, x + 31.0, 118.0, 3.0), mix(wood, (0.25, 0.1, 0.1), 0.12))


def _nightstand(stage: Stage, x: float) -> None:
    """A small chest with a lamp, lit in the evening."""
    wood = stage.tone(0.64, 0.07, 55.0)
    stage.fill(rounded(x - 11.0, 78.0, x + 11.0, 101.0, 1.5), wood)
    stage.fill(rounded(x - 8.0, 82.0, x + 8.0, 89.0, 1.0), mix(wood, (1.0, 0.9, 0.7), 0.25))
    lit = stage.weather != "sunny"
    if lit:
        stage.soft(ellipse(x, 66.0, 22.0, 20.0), _GLOW, 0.30)
    stage.fill(boxes([(x - 1.3, 70.0, x + 1.3, 78.0)]), mix(wood, (0.2, 0.1, 0.1), 0.3))
    shade = [(x - 4.0, 59.0), (x + 4.0, 59.0), (x + 9.0, 71.0), (x - 9.0, 71.0)]
    stage.fill(polygon(shade), _GLOW if lit else stage.tone(0.88, 0.06, 85.0))


def draw_kitchen(stage: Stage) -> float:
    """Wall tiles, a stove with a pot, shelves of jars, a fridge; returns where the floor begins."""
    horizon = 92.0
    hue = stage.rng.choice((95.0, 160.0, 200.0, 235.0))
    wall = stage.tone(0.90, 0.03, hue)
    floor = stage.tone(0.86, 0.02, 80.0)
    _room(stage, wall, floor, horizon)
    grid = [((-10.0, 8.0 + 12.0 * k), (138.0, 8.0 + 12.0 * k)) for k in range(5)]
    grid += [((4.0 + 12.0 * k, -10.0), (4.0 + 12.0 * k, 68.0)) for k in range(11)]
    stage.line(strokes(grid), mix(wall, (0.55, 0.6, 0.65), 0.22), 0.9)
    stage.soft(_checks(horizon), mix(stage.tone(0.70, 0.06, hue + 20.0), floor, 0.25))
    cupboard = stage.tone(0.76, 0.07, hue + 30.0)
    stage.fill(boxes([(-10.0, 66.0, 138.0, horizon + 2.0)]), cupboard)
    doors = [(x, 71.0, x + 17.0, horizon - 2.0) for x in (36.0, 56.0, 76.0)]
    stage.soft(boxes(doors, 1.5), mix(cupboard, (1.0, 1.0, 1.0), 0.25))
    stage.fill(boxes([(-10.0, 62.0, 138.0, 67.0)]), stage.tone(0.62, 0.06, 60.0))
    side = stage.rng.choice((0, 1))
    _window(stage, (48.0, 14.0, 80.0, 42.0), stage.tone(0.95, 0.01, 80.0))
    _stove(stage, 19.0 if side else 109.0, horizon + 6.0)
    _fridge(stage, 112.0 if side else 16.0, horizon + 8.0, hue)
    _shelf(stage, 20.0 if side else 108.0, 26.0)
    return horizon


def _checks(horizon: float) -> skia.Path:
    """Every other tile of a floor seen in perspective."""
    path = skia.Path()
    rows = (horizon, horizon + 7.0, horizon + 16.0, horizon + 27.0, horizon + 42.0)
    for row, (y0, y1) in enumerate(pairwise(rows)):
        w0, w1 = (12.0 + 0.34 * (y - horizon) for y in (y0, y1))
        for k in range(-7, 7):
            if (k + row) % 2:
                tile = [
                    (64.0 + k * w0, y0),
                    (64.0 + (k + 1) * w0, y0),
                    (64.0 + (k + 1) * w1, y1),
                    (64.0 + k * w1, y1),
                ]
                path.addPath(polygon(tile))
    return path


def _stove(stage: Stage, x: float, y: float) -> None:
    body = stage.tone(0.50, 0.02, 260.0)
    stage.fill(rounded(x - 19.0, y - 38.0, x + 19.0, y, 2.0), body)
    stage.fill(rounded(x - 14.0, y - 25.0, x + 14.0, y - 6.0, 2.0), (0.98, 0.72, 0.36))
    stage.soft(rounded(x - 11.0, y - 22.0, x + 11.0, y - 9.0, 1.5), (0.86, 0.50, 0.28))
    stage.soft(
        dots([(x + k, y - 31.0, 2.0) for k in (-12.0, -4.0, 4.0, 12.0)]),
        stage.tone(0.90, 0.01, 80.0),
    )
    hue = stage.rng.choice((25.0, 145.0, 255.0))
    stage.fill(rounded(x - 12.0, y - 54.0, x + 8.0, y - 39.0, 3.0), stage.tone(0.64, 0.14, hue))
    lid = [(x - 13.5, y - 57.0, x + 9.5, y - 53.0), (x - 4.5, y - 60.0, x + 0.5, y - 56.0)]
    stage.fill(boxes(lid, 1.5), stage.tone(0.74, 0.10, hue))


def _fridge(stage: Stage, x: float, y: float, hue: float) -> None:
    door = stage.tone(0.90, 0.035, hue + 60.0)
    stage.fill(rounded(x - 19.0, y - 80.0, x + 19.0, y, 4.0), door)
    stage.line(
        strokes([((x - 19.0, y - 50.0), (x + 19.0, y - 50.0))]),
        mix(door, (0.3, 0.35, 0.4), 0.4),
        1.4,
    )
    hx = x - 14.0 if x > 64.0 else x + 14.0
    stage.soft(
        boxes(
            [(hx - 1.2, y - 68.0, hx + 1.2, y - 56.0), (hx - 1.2, y - 45.0, hx + 1.2, y - 30.0)],
            1.2,
        ),
        stage.tone(0.55, 0.02, 250.0),
    )
    stage.fill(
        boxes([(x - 5.0, y - 72.0, x + 3.0, y - 63.0)]),
        stage.tone(0.84, 0.12, stage.near(0.0, 360.0)),
    )


def _shelf(stage: Stage, x: float, y: float) -> None:
    stage.fill(boxes([(x - 19.0, y, x + 19.0, y + 3.0)]), stage.tone(0.58, 0.07, 55.0))
    for k in range(3):
        jx, high = x - 12.0 + 12.0 * k, stage.near(9.0, 13.0)
        stage.fill(
            rounded(jx - 4.5, y - high, jx + 4.5, y, 2.0),
            stage.tone(0.76, 0.10, stage.near(0.0, 360.0)),
        )
        stage.soft(
            boxes([(jx - 4.0, y - high - 2.5, jx + 4.0, y - high + 0.5)], 1.0),
            stage.tone(0.92, 0.02, 80.0),
        )


def draw_library(stage: Stage) -> float:
    """Two walls of bookshelves, a ladder and an arched window; returns where the floor begins."""
    horizon = 90.0
    wall = stage.tone(0.70, 0.055, stage.rng.choice((70.0, 150.0, 20.0)))
    floor = stage.tone(0.56, 0.06, 50.0)
    _room(stage, wall, floor, horizon)
    _window(stage, (51.0, 8.0, 77.0, 42.0), stage.tone(0.56, 0.06, 55.0))
    carpet = stage.tone(0.58, 0.10, stage.rng.choice((20.0, 250.0, 150.0)))
    stage.fill(
        polygon([(36.0, horizon + 1.0), (92.0, horizon + 1.0), (118.0, 140.0), (10.0, 140.0)]),
        carpet,
    )
    stage.soft(
        polygon([(41.0, horizon + 1.0), (87.0, horizon + 1.0), (109.0, 140.0), (19.0, 140.0)]),
        mix(carpet, (1.0, 0.9, 0.7), 0.22),
    )
    for x0, x1 in ((-8.0, 40.0), (88.0, 136.0)):
        _bookcase(stage, x0, x1, horizon + 8.0)
    x, way = stage.rng.choice(((22.0, 1), (106.0, -1)))
    _ladder(stage, x, way, horizon + 14.0)
    return horizon


def _bookcase(stage: Stage, x0: float, x1: float, foot: float) -> None:
    wood = stage.tone(0.46, 0.06, 50.0)
    stage.fill(boxes([(x0, -10.0, x1, foot)]), wood)
    heights = (-4.0, 19.0, 42.0, 65.0)
    stage.soft(
        boxes([(x0 + 3.0, y, x1 - 3.0, y + 20.0) for y in heights]),
        mix(wood, (0.1, 0.05, 0.05), 0.35),
    )
    shades: list[list[Box]] = [[] for _ in range(5)]
    for y in heights:
        x = x0 + 3.5
        while x < x1 - 7.0:
            width = stage.near(4.0, 6.5)
            if stage.rng.random() < 0.93:
                shades[stage.rng.randrange(5)].append(
                    (x, y + stage.near(2.0, 7.0), x + width - 0.6, y + 20.0)
                )
            x += width
    for books, hue in zip(shades, (22.0, 75.0, 150.0, 240.0, 320.0), strict=True):
        stage.soft(boxes(books), stage.tone(0.66, 0.09, hue, 12.0))
    ledges = [(x0, y + 20.0, x1, y + 23.0) for y in heights]
    stage.fill(boxes(ledges), mix(wood, (1.0, 0.85, 0.6), 0.16))


def _ladder(stage: Stage, x: float, way: int, foot: float) -> None:
    wood = stage.tone(0.80, 0.09, 75.0)
    top = 2.0
    lean = 13.0 * way

    def at(t: float, offset: float) -> tuple[float, float]:
        return (x + lean * (1.0 - t) * 0.9 + offset - 0.5 * lean, foot + t * (top - foot))

    rungs = strokes([(at(t, -6.5), at(t, 6.5)) for t in (0.1, 0.24, 0.38, 0.52, 0.66, 0.8, 0.94)])
    rails = strokes([(at(0.0, k), at(1.0, k)) for k in (-6.5, 6.5)])
    stage.line(rungs, mix(wood, (0.4, 0.25, 0.1), 0.2), 2.2)
    stage.line(rails, wood, 2.6)
