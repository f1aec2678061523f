"""Accessories worn on the head: hat, crown, bow and glasses, in head units."""

from __future__ import annotations

from consistent_gen.world.face import eye_centers
from consistent_gen.world.look import Look, shade, tint
from consistent_gen.world.painter import Brush, ellipse, polygon, rounded, smooth
from consistent_gen.world.palette import RGB

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
