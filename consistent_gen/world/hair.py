"""Hair of people, head tufts of animals and antennas of robots, in head units."""

from __future__ import annotations

import math

from consistent_gen.world.limbs import Point, tube
from consistent_gen.world.look import Look, shade, tint
from consistent_gen.world.painter import Brush, ellipse, polygon, rounded, smooth
from consistent_gen.world.palette import RGB

LAMP: RGB = (0.98, 0.80, 0.32)


def draw_back_hair(painter: Brush, look: Look) -> None:
    """Hair that hangs behind the body or the head: long hair, a bob, a ponytail, a curly cloud."""
    if not look.who.is_person:
        return
    fw, style, tag = look.face_half_width, look.who.hair_style, look.tag("hair")
    back = shade(look.hair, 0.14)
    full = 2.0 if look.feminine else 0.0
    if style == "long":
        end = 40.0 if look.feminine else 24.0
        side = fw + 3.5 + full
        points = [(-side, -8.0), (0.0, -22.0), (side, -8.0), (side + 1.5, 10.0),
                  (side + 1.0, end - 5),
                  (fw * 0.6, end), (0.0, end - 3.5), (-fw * 0.6, end), (-side - 1.0, end - 5),
                  (-side - 1.5, 10.0)]  # fmt: skip
        painter.fill(smooth(points), back, tag=tag)
    elif style == "bob":
        end = 19.0 if look.feminine else 12.0
        side = fw + 4.0 + full
        points = [(-side + 1, -8.0), (0.0, -22.0), (side - 1, -8.0), (side + 1.2, 6.0), (side, end),
                  (fw * 0.5, end - 1.5), (-fw * 0.5, end - 1.5), (-side, end),
                  (-side - 1.2, 6.0)]  # fmt: skip
        painter.fill(smooth(points), back, tag=tag)
    elif style == "ponytail":
        drop, reach = (24.0, 15.0) if look.feminine else (12.0, 9.0)
        points = [(-fw + 3.0, -12.0), (-fw - reach * 0.7, -14.0), (-fw - reach, -4.0),
                  (-fw - reach * 0.8, drop * 0.5), (-fw - reach * 0.95, drop)]  # fmt: skip
        painter.fill(tube(points, [7.0, 10.0, 12.0, 9.5, 2.0]), back, tag=tag)
        painter.fill(ellipse(-fw + 0.5, -13.0, 3.4, 3.4), look.accessory, tag=tag)
    elif style == "curly":
        low = 12.0 if look.feminine else 2.0
        for x, y in _ring(fw, full, low):
            painter.fill(ellipse(x, y, 7.6 + full * 0.5, 7.6 + full * 0.5), back, tag=tag)


def _ring(fw: float, full: float, low: float) -> list[Point]:
    side = fw - 1.0 + full
    points = [(-side, low), (-side - 1.5, low - 9.0), (side, low), (side + 1.5, low - 9.0)]
    for degrees in (-160.0, -130.0, -102.0, -78.0, -50.0, -20.0):
        a = math.radians(degrees)
        points.append((side * math.cos(a), -4.0 + 15.0 * math.sin(a)))
    return points


def draw_front_hair(painter: Brush, look: Look) -> None:
    """Cap and fringe of people, tuft of animals, antenna of robots."""
    if look.who.is_person:
        _people_front(painter, look)
    elif look.who.kind == "robot":
        _antenna(painter, look)
    else:
        _tuft(painter, look)


def _people_front(painter: Brush, look: Look) -> None:
    fw, style, tag = look.face_half_width, look.who.hair_style, look.tag("hair")
    v = 1.2 if look.feminine else 0.2
    side = {"short": 8.0, "bob": 9.0, "long": 11.0, "curly": -2.0, "ponytail": 0.0, "spiky": 0.5}[
        style
    ]
    if not look.feminine:
        side = min(side, 3.0)
    rim = fw + 1.3 + v
    top = -22.3 - 1.2 * v
    outer = [(-rim + 0.6, side), (-rim, -7.0), (-fw * 0.74, top + 4.0), (0.0, top),
             (fw * 0.74, top + 4.0), (rim, -7.0), (rim - 0.6, side)]  # fmt: skip
    inner: dict[str, list[Point]] = {
        "short": [(fw - 2.6, -3.0), (fw * 0.62, -9.5), (fw * 0.1, -7.5), (-fw * 0.35, -7.0),
                  (-fw + 2.6, -2.0)],
        "bob": [(fw - 2.0, 0.0), (fw - 3.6, -6.5), (fw * 0.3, -7.0), (-fw * 0.3, -7.0),
                (-fw + 3.6, -6.5),
                (-fw + 2.0, 0.0)],
        "long": [(fw - 1.8, 2.0), (fw - 4.0, -6.0), (1.5, -15.5), (-fw + 4.0, -6.0),
                 (-fw + 1.8, 2.0)],
        "curly": [(fw - 2.0, -6.0), (0.0, -10.0), (-fw + 2.0, -6.0)],
        "ponytail": [(fw - 2.2, -4.0), (fw * 0.5, -12.5), (-fw * 0.4, -11.5), (-fw + 2.6, -4.0)],
        "spiky": [(fw - 2.0, -3.0), (fw * 0.5, -10.5), (-fw * 0.5, -10.5), (-fw + 2.0, -3.0)],
    }  # fmt: skip
    if style == "spiky":
        _spikes(painter, look, rim, top)
    else:
        painter.fill(smooth([*outer, *inner[style]]), look.hair, tag=tag)
    if style == "curly":
        for x, y, r in ((-fw * 0.78, -10, 5.6), (-fw * 0.28, -13.5, 6.0), (fw * 0.28, -13.5, 6.0),
                        (fw * 0.78, -10, 5.6)):  # fmt: skip
            painter.fill(ellipse(x, y, r, r), look.hair, tag=tag, outline=False)
    elif style == "short":
        lift = -4.0 if look.who.kind in ("boy", "man") else -2.5
        lock = [(-4.0, top + 3.0), (-1.0, top - 0.5), (5.0, top + lift), (4.0, top + 2.5)]
        painter.fill(smooth(lock), look.hair, tag=tag)
    shine = smooth([(-fw * 0.66, -13.2), (-fw * 0.4, -16.6), (-fw * 0.02, -18.2)], closed=False)
    painter.line(shine, tint(look.hair, 0.32), 1.7)


def _spikes(painter: Brush, look: Look, rim: float, top: float) -> None:
    fw, tag = look.face_half_width, look.tag("hair")
    tips = [(-rim - 4.0, -7.0), (-rim - 2.5, -17.5), (-fw * 0.52, top - 5.5),
            (fw * 0.06, top - 7.5),
            (fw * 0.66, top - 5.0), (rim + 3.5, -16.0), (rim + 4.0, -5.5)]  # fmt: skip
    points: list[Point] = [(-rim + 1.5, 3.0)]
    for i, tip in enumerate(tips):
        points.append(tip)
        if i + 1 < len(tips):
            nxt = tips[i + 1]
            points.append(((tip[0] + nxt[0]) * 0.41, (tip[1] + nxt[1]) * 0.41 - 1.5))
    points.append((rim - 1.5, 3.0))
    points += [(fw - 2.0, -4.0), (fw * 0.62, -6.5), (fw * 0.38, -11.0), (fw * 0.08, -6.0),
               (-fw * 0.22, -11.0), (-fw * 0.5, -6.5), (-fw + 2.4, -4.0)]  # fmt: skip
    painter.fill(polygon(points), look.hair, tag=tag)


def _tuft(painter: Brush, look: Look) -> None:
    fw, style, tag = look.face_half_width, look.who.hair_style, look.tag("hair")
    color = look.hair
    if style == "short":
        points = [(-6.5, -17.0), (-5.0, -21.5), (-1.5, -20.0), (1.5, -24.5), (3.5, -20.5),
                  (7.5, -21.0),
                  (6.0, -15.5), (3.0, -12.0), (0.5, -14.5), (-3.0, -12.0)]  # fmt: skip
        painter.fill(smooth(points), color, tag=tag)
    elif style == "bob":
        points = [(-fw * 0.74, -9.5), (-fw * 0.62, -18.0), (0.0, -21.8), (fw * 0.62, -18.0),
                  (fw * 0.74, -9.5),
                  (fw * 0.3, -8.0), (-fw * 0.3, -8.0)]  # fmt: skip
        painter.fill(smooth(points), color, tag=tag)
    elif style == "long":
        for s in (-1, 1):
            lock = [
                (0.0, -19.0),
                (s * fw * 0.50, -15.5),
                (s * fw * 0.80, -7.0),
                (s * fw * 0.88, 4.0),
            ]
            painter.fill(tube(lock, [5.0, 6.5, 5.5, 1.5]), color, tag=tag)
    elif style == "curly":
        for x, y in ((-9.0, -15.0), (9.0, -15.0), (-4.8, -19.5), (4.8, -19.5), (0.0, -15.5)):
            painter.fill(ellipse(x, y, 4.8, 4.8), color, tag=tag, outline=y == -15.5)
    elif style == "ponytail":
        plume = [(0.0, -19.0), (-3.0, -27.0), (-10.0, -30.0), (-16.0, -25.0)]
        painter.fill(tube(plume, [5.0, 8.5, 8.5, 1.5]), color, tag=tag)
        painter.fill(ellipse(0.0, -19.8, 3.6, 2.8), look.accessory, tag=tag)
    else:
        points = [(-fw * 0.55, -15.0), (-9.5, -25.0), (-4.5, -20.0), (-1.5, -29.0), (2.5, -20.5),
                  (8.5, -26.5),
                  (fw * 0.55, -15.0), (4.0, -11.5), (0.0, -14.5), (-4.0, -11.5)]  # fmt: skip
        painter.fill(polygon(points), color, tag=tag)


def _antenna(painter: Brush, look: Look) -> None:
    style, tag, metal = look.who.hair_style, look.tag("hair"), look.hair
    base = rounded(-6.0, -23.0, 6.0, -17.5, 2.5)
    if style == "short":
        painter.line(polygon([(0, -21), (0, -27)], closed=False), metal, 2.6, tag=tag)
        painter.fill(ellipse(0, -28, 3.6, 3.6), LAMP, tag=tag)
    elif style == "bob":
        painter.fill(smooth([(-9, -18), (-7, -25), (0, -28), (7, -25), (9, -18)]), LAMP, tag=tag)
        base = rounded(-10.0, -21.0, 10.0, -17.0, 2.0)
    elif style == "long":
        painter.line(polygon([(0, -21), (0, -33)], closed=False), metal, 2.4, tag=tag)
        for y in (-25.5, -29.5):
            painter.fill(ellipse(0, y, 4.2, 1.4), metal, tag=tag)
        painter.fill(ellipse(0, -34, 3.2, 3.2), LAMP, tag=tag)
    elif style == "curly":
        coil = [(0, -21), (4.5, -23.0), (-4.5, -25.5), (4.5, -28.0), (0, -31)]
        painter.line(smooth(coil, closed=False), metal, 2.2, tag=tag)
        painter.fill(ellipse(0, -33, 3.2, 3.2), LAMP, tag=tag)
    elif style == "ponytail":
        painter.line(
            smooth([(2, -21), (0, -29), (-9, -31), (-15, -25)], closed=False), metal, 2.6, tag=tag
        )
        painter.fill(ellipse(-15.5, -23.5, 3.6, 3.6), LAMP, tag=tag)
    else:
        for x in (-9.0, 0.0, 9.0):
            tip = -27.0 - (4.0 if x == 0.0 else 0.0)
            painter.fill(polygon([(x - 4, -17), (x, tip), (x + 4, -17)]), metal, tag=tag)
        base = rounded(-14.0, -20.5, 14.0, -16.5, 2.0)
    painter.fill(base, metal, tag=tag)
