"""The head: skull, ears, muzzle, and the order in which face, hair and headwear come.

Head units: origin at the middle of the head, chin at about +18, crown of the skull at about -20.
"""

from __future__ import annotations

import skia

from consistent_gen.world.face import (
    TURN,
    draw_cheeks,
    draw_eyes,
    draw_mouth,
    draw_nose,
    eye_centers,
)
from consistent_gen.world.hair import draw_front_hair
from consistent_gen.world.limbs import Point
from consistent_gen.world.look import CREAM, INK, ROSE, Look, luma, shade, tint
from consistent_gen.world.painter import Brush, ellipse, polygon, rounded, smooth
from consistent_gen.world.palette import RGB, mix

GEM: RGB = (0.99, 0.97, 0.88)


def draw_headwear(painter: Brush, look: Look) -> None:
    """What the identity wears on its head, if anything."""
    worn = {"hat": _hat, "crown": _crown, "bow": _bow, "glasses": _glasses}.get(look.who.accessory)
    if worn is not None:
        worn(painter, look)


def _hat(painter: Brush, look: Look) -> None:
    tag, color, fw = look.tag("accessory"), look.accessory, look.face_half_width
    half = fw * 0.68
    dome = [(-half, -13.0), (-half * 0.96, -23.0), (-half * 0.5, -29.5), (half * 0.5, -29.5),
            (half * 0.96, -23.0), (half, -13.0)]  # fmt: skip
    painter.fill(smooth(dome), color, tag=tag)
    band = [(-half - 0.4, -18.5), (half + 0.4, -18.5), (half + 0.6, -13.0), (-half - 0.6, -13.0)]
    painter.fill(polygon(band), tint(color, 0.72), tag=tag, outline=False)
    brim = [(-fw - 6.0, -12.0), (-fw * 0.6, -14.8), (fw * 0.6, -14.8), (fw + 6.0, -12.0),
            (fw * 0.6, -9.6),
            (-fw * 0.6, -9.6)]  # fmt: skip
    painter.fill(smooth(brim), shade(color, 0.12), tag=tag)


def _crown(painter: Brush, look: Look) -> None:
    tag, color = look.tag("accessory"), look.accessory
    points = [(-14.0, -15.5), (-15.5, -28.0), (-8.0, -22.0), (0.0, -31.5), (8.0, -22.0),
              (15.5, -28.0),
              (14.0, -15.5), (0.0, -13.6)]  # fmt: skip
    painter.fill(polygon(points), color, tag=tag)
    painter.line(smooth([(-13.2, -16.2), (0.0, -14.4), (13.2, -16.2)], closed=False),
                 shade(color, 0.22), 2.2, tag=tag)  # fmt: skip
    for x, y, r in ((-15.2, -28.0, 2.0), (0.0, -31.0, 2.3), (15.2, -28.0, 2.0), (0.0, -20.2, 2.3),
                    (-8.2, -19.8, 1.7), (8.2, -19.8, 1.7)):  # fmt: skip
        painter.fill(ellipse(x, y, r, r), GEM, tag=tag, outline=False)


def _bow(painter: Brush, look: Look) -> None:
    tag, color = look.tag("accessory"), look.accessory
    with painter.moved(-9.0, -19.0, degrees=-16.0):
        for s in (-1, 1):
            loop = [(0.0, 0.0), (s * 5.5, -6.5), (s * 12.0, -6.8), (s * 12.8, 0.0), (s * 12.0, 6.4),
                    (s * 5.5, 5.6)]  # fmt: skip
            painter.fill(smooth(loop), color, tag=tag)
            fold = polygon([(s * 3.0, 0.0), (s * 8.5, -0.6)], closed=False)
            painter.line(fold, shade(color, 0.25), 1.5, tag=tag)
        painter.fill(rounded(-3.4, -3.8, 3.4, 3.8, 2.6), shade(color, 0.18), tag=tag)


def _glasses(painter: Brush, look: Look) -> None:
    tag, color = look.tag("accessory"), shade(look.accessory, 0.12)
    (lx, ly), (rx, ry) = eye_centers(look)
    radius = min(6.3, (rx - lx) * 0.5 - 0.8)
    width = 2.0
    painter.line(ellipse(lx, ly, radius, radius + 0.3), color, width, tag=tag)
    painter.line(ellipse(rx, ry, radius, radius + 0.3), color, width, tag=tag)
    bridge = smooth(
        [(lx + radius, ly - 0.6), ((lx + rx) / 2, ly - 1.6), (rx - radius, ry - 0.6)], closed=False
    )
    painter.line(bridge, color, width, tag=tag)
    fw = look.face_half_width
    for x, edge in ((lx - radius, -fw + 0.6), (rx + radius, fw - 0.6)):
        painter.line(
            polygon([(x, ly - 1.0), (edge, ly - 2.0)], closed=False), color, width, tag=tag
        )


CHIN = 18.5
CROWN = -23.5

# Outline of the right half as (share of the half width, y) from the crown to the chin.
_SKULLS: dict[str, tuple[Point, ...]] = {
    "girl": ((0.62, -17.8), (0.95, -8.5), (1.0, 2.0), (0.88, 11.0), (0.48, 17.0)),
    "boy": ((0.62, -17.8), (0.95, -8.5), (1.0, 2.0), (0.91, 11.0), (0.54, 17.2)),
    "woman": ((0.62, -17.8), (0.94, -8.5), (0.98, 2.0), (0.82, 11.0), (0.42, 17.2)),
    "man": ((0.64, -17.8), (0.96, -8.5), (0.99, 2.0), (0.97, 11.5), (0.62, 18.2)),
    "fox": ((0.60, -17.5), (0.94, -8.5), (1.06, 1.0), (1.24, 8.5), (0.84, 12.5), (0.42, 17.0)),
    "cat": ((0.64, -17.0), (0.98, -7.5), (1.07, 2.5), (1.14, 9.0), (0.88, 13.2), (0.46, 17.0)),
    "bear": ((0.64, -17.8), (1.0, -7.5), (1.08, 4.0), (0.96, 12.0), (0.54, 17.2)),
    "rabbit": ((0.58, -17.8), (0.90, -8.5), (0.98, 2.5), (0.95, 10.0), (0.58, 16.6)),
    "dog": ((0.64, -17.8), (0.95, -9.0), (0.98, 1.0), (0.94, 10.0), (0.60, 17.4)),
}


def reach_above(look: Look) -> float:
    """How far the tallest thing on the head is above its middle, in head units."""
    tall = {"hat": 30.0, "crown": 34.0, "bow": 30.0}.get(look.who.accessory, 24.0)
    if look.who.kind == "rabbit":
        tall = max(tall, 44.0)
    if look.who.kind == "robot":
        tall = max(tall, 37.5)
    if look.who.kind in ("fox", "cat"):
        tall = max(tall, 35.5)
    if look.who.hair_style == "ponytail" and not look.who.is_person:
        tall = max(tall, 34.5)
    return max(tall, 31.5) if look.who.hair_style == "spiky" else tall


def draw_head(painter: Brush, look: Look, expression: str) -> None:
    """Everything of the head except hair that hangs behind the body."""
    if not look.who.is_person and look.who.kind != "dog":
        _animal_ears(painter, look)
    painter.fill(_skull(look), look.skin, tag=look.tag("face"))
    _muzzle(painter, look)
    if look.who.kind == "man":
        _stubble(painter, look)
    draw_cheeks(painter, look)
    draw_front_hair(painter, look)
    if look.who.is_person:
        _people_ears(painter, look)
    elif look.who.kind == "dog":
        _dog_ears(painter, look)
    draw_eyes(painter, look, expression)
    draw_nose(painter, look)
    draw_mouth(painter, look, expression)
    draw_headwear(painter, look)


def _skull(look: Look) -> skia.Path:
    fw = look.face_half_width
    if look.who.kind == "robot":
        return rounded(-fw - 0.5, -18.5, fw + 0.5, 18.0, 8.5)
    half = [(share * fw, y) for share, y in _SKULLS[look.who.kind]]
    return smooth([(0.0, -20.5), *half, (0.0, CHIN), *((-x, y) for x, y in reversed(half))])


def _muzzle(painter: Brush, look: Look) -> None:
    kind, fw, tag, pale = look.who.kind, look.face_half_width, look.tag("face"), look.pale
    if kind == "fox":
        with painter.clipped(_skull(look)):
            for s in (-1, 1):
                cheek = [(TURN, 8.0), (s * fw * 0.5 + TURN, 4.2), (s * fw * 1.3, 3.5),
                         (s * fw * 1.1, 15.0),
                         (0.0, 21.0)]  # fmt: skip
                painter.fill(smooth(cheek), pale, tag=tag, outline=False)
        painter.fill(ellipse(TURN, 10.5, 7.4, 6.6), pale, tag=tag, outline=False)
    elif kind == "cat":
        for s in (-1, 1):
            painter.fill(ellipse(TURN + s * 3.6, 10.4, 5.4, 4.9), pale, tag=tag, outline=False)
        color = INK if luma(look.skin) > 0.42 else CREAM
        for s in (-1, 1):
            for dy in (-1.6, 2.0):
                start, end = (s * fw * 0.72 + 1.0, 9.2 + dy * 0.5), (s * (fw + 6.5), 8.2 + dy * 1.8)
                painter.line(polygon([start, end], closed=False), color, 1.0, tag=tag)
    elif kind == "bear":
        painter.fill(ellipse(TURN, 10.4, 9.6, 7.2), pale, tag=tag, outline=False)
    elif kind == "rabbit":
        for s in (-1, 1):
            painter.fill(ellipse(TURN + s * 3.4, 9.8, 5.0, 4.3), pale, tag=tag, outline=False)
    elif kind == "dog":
        dark = luma(look.skin) < 0.42
        patch = tint(look.skin, 0.4) if dark else shade(look.skin, 0.34)
        with painter.clipped(_skull(look)):
            painter.fill(ellipse(TURN + 9.5, -1.0, 8.2, 9.4), patch, tag=tag, outline=False)
        muzzle = [(TURN, 0.5), (TURN + 6.0, 4.0), (TURN + 10.0, 11.0), (TURN + 5.5, 17.2),
                  (TURN - 5.5, 17.2),
                  (TURN - 10.0, 11.0), (TURN - 6.0, 4.0)]  # fmt: skip
        painter.fill(smooth(muzzle), pale, tag=tag, outline=False)
    elif kind == "robot":
        panel = rounded(-fw + 3.2 + TURN * 0.6, -10.5, fw - 3.2 + TURN * 0.6, 15.2, 6.5)
        painter.fill(panel, pale, tag=tag, outline=False)


def _stubble(painter: Brush, look: Look) -> None:
    fw = look.face_half_width
    color = mix(look.skin, mix(look.hair, INK, 0.55), 0.40)
    jaw = [(-fw * 1.1, 4.0), (-fw * 0.7, 10.6), (-fw * 0.34, 8.8), (TURN, 9.2), (fw * 0.5, 8.8),
           (fw * 0.82, 10.6),
           (fw * 1.1, 4.0), (fw, 22.0), (-fw, 22.0)]  # fmt: skip
    with painter.clipped(_skull(look)):
        painter.fill(smooth(jaw), color, outline=False)


def _people_ears(painter: Brush, look: Look) -> None:
    fw, shape, tag = look.face_half_width, look.who.ear_shape, look.tag("face")
    r = 3.4 + 2.2 * look.who.ear_size
    inner = mix(look.skin, ROSE, 0.35)
    for s in (-1, 1):
        x, y = s * (fw + 0.4), 3.6
        if shape == "round":
            path = ellipse(x, y, r * 0.8, r)
        elif shape == "pointed":
            path = smooth([(x - s * r * 0.5, y + r), (x + s * r * 0.5, y + r * 0.3),
                           (x + s * r * 1.25, y - r * 1.6),
                           (x - s * r * 0.4, y - r * 0.7)])  # fmt: skip
        else:
            path = smooth([(x - s * r * 0.5, y - r * 0.8), (x + s * r * 0.5, y - r * 0.6),
                           (x + s * r * 1.15, y + r * 0.7),
                           (x + s * r * 0.4, y + r * 1.5), (x - s * r * 0.4, y + r)])  # fmt: skip
        painter.fill(path, look.skin, tag=tag)
        painter.fill(
            ellipse(x + s * 0.3, y + 0.2, r * 0.32, r * 0.5), inner, tag=tag, outline=False
        )
        if look.who.kind == "woman":
            painter.fill(ellipse(x + s * 0.4, y + r + 1.6, 1.9, 1.9), (0.97, 0.80, 0.30), tag=tag)


def _dog_ears(painter: Brush, look: Look) -> None:
    fw, shape, tag = look.face_half_width, look.who.ear_shape, look.tag("face")
    grow = 0.8 + 0.45 * look.who.ear_size
    color = look.hair
    for s in (-1, 1):
        x, y = s * fw * 0.66, -17.0
        if shape == "floppy":
            tip = [
                (s * 9.5, 2.0),
                (s * 11.5, 14.0),
                (s * 8.0, 22.0),
                (s * 3.0, 16.0),
                (s * 2.0, 7.0),
            ]
        elif shape == "round":
            tip = [
                (s * 9.0, 0.5),
                (s * 13.5, 8.5),
                (s * 10.5, 15.5),
                (s * 4.0, 13.5),
                (s * 2.0, 7.0),
            ]
        else:
            tip = [
                (s * 7.5, -4.5),
                (s * 12.5, -3.0),
                (s * 14.5, 9.0),
                (s * 7.5, 3.0),
                (s * 2.5, 6.0),
            ]
        points = [(-s * 2.0, 0.5), *tip]
        painter.fill(smooth([(x + px * grow, y + py * grow) for px, py in points]), color, tag=tag)


def _animal_ears(painter: Brush, look: Look) -> None:
    draw = {"fox": _triangle_ear, "cat": _triangle_ear, "bear": _bear_ear, "rabbit": _rabbit_ear,
            "robot": _bolt}[look.who.kind]  # fmt: skip
    for s in (-1, 1):
        draw(painter, look, s)


def _triangle_ear(painter: Brush, look: Look, s: int) -> None:
    fw, shape, tag = look.face_half_width, look.who.ear_shape, look.tag("face")
    grow = 0.85 + 0.35 * look.who.ear_size
    tall, wide = (17.0, 8.6) if look.who.kind == "fox" else (13.0, 9.0)
    x, y, out = s * fw * 0.62, -12.0, s * 4.6
    if shape == "round":
        tip = [
            (out - s * 3.2, -tall * 0.86),
            (out + s * 1.2, -tall * 0.9),
            (out + s * 3.0, -tall * 0.66),
        ]
    elif shape == "pointed":
        tip = [(out * 1.15, -tall * 1.14)]
    else:
        tip = [(out - s * 2.6, -tall * 0.78), (out + s * 3.5, -tall * 0.82),
               (out + s * 8.5, -tall * 0.36),
               (out + s * 2.2, -tall * 0.46)]  # fmt: skip
    base = [(-s * wide * 0.8, -3.0)], [(s * wide * 0.85, 1.0), (0.0, 6.0)]
    points = [(x + px * grow, y + py * grow) for px, py in (*base[0], *tip, *base[1])]
    path = polygon(points) if shape == "pointed" else smooth(points)
    painter.fill(path, look.skin, tag=tag)
    inner = mix(look.pale, ROSE, 0.35) if look.who.kind == "cat" else INK
    if look.who.kind == "fox":
        inner = shade(look.skin, 0.6)
    cx = sum(p[0] for p in points) / len(points)
    cy = sum(p[1] for p in points) / len(points)
    small = [(cx + (px - cx) * 0.55, cy + (py - cy) * 0.55 + 0.8) for px, py in points]
    painter.fill(
        polygon(small) if shape == "pointed" else smooth(small), inner, tag=tag, outline=False
    )


def _bear_ear(painter: Brush, look: Look, s: int) -> None:
    fw, shape, tag = look.face_half_width, look.who.ear_shape, look.tag("face")
    r = 6.2 + 2.6 * look.who.ear_size
    x, y = s * fw * 0.80, -15.5
    inner = look.pale
    if shape == "round":
        painter.fill(ellipse(x, y, r, r), look.skin, tag=tag)
    elif shape == "pointed":
        path = smooth([(x - s * r, y + 1.0), (x - s * r * 0.4, y - r * 0.9),
                       (x + s * r * 0.6, y - r * 1.2),
                       (x + s * r, y), (x, y + r)])  # fmt: skip
        painter.fill(path, look.skin, tag=tag)
    else:
        y += 3.0
        painter.fill(ellipse(x + s * 2.0, y, r * 1.2, r * 0.78), look.skin, tag=tag)
    painter.fill(ellipse(x + s * 0.6, y, r * 0.55, r * 0.5), inner, tag=tag, outline=False)


def _rabbit_ear(painter: Brush, look: Look, s: int) -> None:
    shape, tag = look.who.ear_shape, look.tag("face")
    long = 19.0 + 6.5 * look.who.ear_size
    x, y = s * 8.4, -14.0
    inner = mix(look.pale, ROSE, 0.4)
    if shape == "floppy" and s == 1:
        outer = [(x - 4.0, y + 2), (x - 3.6, y - long * 0.62), (x + 2.0, y - long * 0.80),
                 (x + 9.5, y - long * 0.62),
                 (x + 13.5, y - long * 0.18), (x + 8.0, y - long * 0.24),
                 (x + 4.6, y - long * 0.30),
                 (x + 4.6, y + 2)]  # fmt: skip
        painter.fill(smooth(outer), look.skin, tag=tag)
        fold = [(x + 3.0, y - long * 0.6), (x + 8.5, y - long * 0.52), (x + 11.5, y - long * 0.28),
                (x + 6.0, y - long * 0.38)]  # fmt: skip
        painter.fill(smooth(fold), inner, tag=tag, outline=False)
        return
    out = s * 3.0
    width = 5.6 if shape != "pointed" else 5.2
    if shape == "pointed":
        tip = [(x + out * 1.2, y - long * 1.10)]
    else:
        tip = [(x + out - s * 3.4, y - long * 0.92), (x + out + s * 0.4, y - long * 1.02),
               (x + out + s * 4.2, y - long * 0.88)]  # fmt: skip
    points = [(x - s * width * 0.7, y + 2), (x - s * width * 0.8, y - long * 0.5), *tip,
              (x + s * width * 1.15, y - long * 0.45), (x + s * width * 0.6, y + 2)]  # fmt: skip
    painter.fill(smooth(points), look.skin, tag=tag)
    cx, cy = x + out * 0.55, y - long * 0.48
    small = [(cx + (px - cx) * 0.52, cy + (py - cy) * 0.72) for px, py in points]
    painter.fill(smooth(small), inner, tag=tag, outline=False)


def _bolt(painter: Brush, look: Look, s: int) -> None:
    fw, shape, tag = look.face_half_width, look.who.ear_shape, look.tag("face")
    r = 4.6 + 2.6 * look.who.ear_size
    x, y, color = s * (fw + 1.0), 2.0, look.hair
    if shape == "round":
        painter.fill(ellipse(x, y, r, r), color, tag=tag)
        painter.fill(
            ellipse(x + s * 1.6, y, r * 0.42, r * 0.42), tint(color, 0.5), tag=tag, outline=False
        )
    elif shape == "pointed":
        painter.fill(
            polygon([(x, y - r), (x + s * r * 1.35, y - r * 1.3), (x, y + r)]), color, tag=tag
        )
    else:
        low, high = sorted((x - s * 2.0, x + s * r * 0.9))
        painter.fill(rounded(low, y - 3.5, high, y + r * 2.0, 2.4), color, tag=tag)
