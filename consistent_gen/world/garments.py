"""Clothes: tops with sleeves and patterns, bottoms, shoes, scarf and backpack.

Torso frame: origin at the hip, y up negative, turned by the lean of the torso.
"""

from __future__ import annotations

import math

import skia

from consistent_gen.world.limbs import along, limb
from consistent_gen.world.look import CREAM, Look, shade, tint
from consistent_gen.world.painter import Brush, ellipse, polygon, rounded, smooth
from consistent_gen.world.palette import RGB, mix
from consistent_gen.world.skeleton import Skeleton, turn

SHIRT_WHITE: RGB = (0.965, 0.955, 0.935)
RUBBER: RGB = (0.97, 0.95, 0.90)


def draw_pattern(painter: Brush, look: Look, path: skia.Path, color: RGB | None = None) -> None:
    """Stripes, dots or checks of the identity inside `path`, in the current frame."""
    kind, scale = look.who.pattern, look.who.pattern_scale
    if kind == "plain":
        return
    box = path.getBounds()
    x0, y0, x1, y1 = box.left(), box.top(), box.right(), box.bottom()
    marks = skia.Path()
    if kind == "stripes":
        width = 3.0 + 3.2 * scale
        first = int((y0 - 40.0) // (2 * width))
        for i in range(first, int((y1 - 40.0) // (2 * width)) + 1):
            y = 40.0 + i * 2 * width
            marks.addRect(skia.Rect.MakeLTRB(x0, y, x1, y + width))
    elif kind == "dots":
        radius = 1.8 + 1.6 * scale
        step = 2.9 * radius
        for i in range(int(y0 // step) - 1, int(y1 // step) + 2):
            for j in range(int(x0 // step) - 1, int(x1 // step) + 2):
                x, y = (j + 0.5 * (i % 2)) * step, (i + 0.35) * step
                marks.addOval(skia.Rect.MakeLTRB(x - radius, y - radius, x + radius, y + radius))
    else:
        cell = 3.4 + 3.0 * scale
        for i in range(int(y0 // cell), int(y1 // cell) + 1):
            for j in range(int(x0 // cell), int(x1 // cell) + 1):
                if (i + j) % 2:
                    marks.addRect(skia.Rect.MakeXYWH(j * cell, i * cell, cell, cell))
    with painter.clipped(path):
        painter.fill(marks, color or look.pattern, outline=False)


def draw_leg(painter: Brush, look: Look, skeleton: Skeleton, side: str) -> None:
    """One leg with its trouser leg and shoe; the far leg ("r") is a little darker."""
    body, bone = look.body, skeleton.bone(side, "leg")
    dark = 0.10 if side == "r" else 0.0
    width = body.limb * 1.12
    painter.fill(limb(bone, width, width * 0.82), shade(look.skin, dark), tag=look.tag("skin"))
    if look.who.kind == "robot":
        x, y = along(bone, 0.55)
        painter.fill(
            ellipse(x, y, width * 0.42, width * 0.30),
            look.hair,
            tag=look.tag("skin"),
            outline=False,
        )
    draw_shoe(painter, look, skeleton, side, dark)
    color = shade(look.bottom, dark)
    covered = {"trousers": 0.93, "shorts": 0.52, "skirt": 0.0}[look.who.bottom]
    if look.who.top == "dress" and covered < 0.9:
        covered = 0.68 if look.who.bottom == "shorts" else 0.0
    if covered:
        flare = 2.4 if covered < 0.9 else 1.6
        path = limb(bone, width + 2.4, width + flare - 0.6, end=covered, cap=False)
        painter.fill(path, color, tag=look.tag("bottom"))


def draw_shoe(painter: Brush, look: Look, skeleton: Skeleton, side: str, dark: float) -> None:
    """Boot, sneaker or sandal at the ankle, turned with the shin."""
    knee, foot = skeleton.bone(side, "leg")[1:]
    dx, dy = foot[0] - knee[0], foot[1] - knee[1]
    angle = turn_of(dx, dy)
    tag, color = look.tag("shoes"), shade(look.shoe, dark)
    w = 0.82 + 0.028 * look.body.limb
    with painter.moved(*foot, degrees=-0.75 * angle if abs(angle) > 15.0 else 0.0):
        if look.who.shoes == "boots":
            boot = [(-5.4, -9.5), (4.8, -9.5), (4.8, -3.6), (9.2, -1.6), (9.4, 3.6), (-5.6, 3.6)]
            painter.fill(smooth([(x * w, y) for x, y in boot]), color, tag=tag)
            painter.fill(rounded(-5.9 * w, -10.6, 5.4 * w, -7.4, 1.5), tint(color, 0.45), tag=tag)
            painter.fill(
                rounded(-5.8 * w, 2.0, 9.9 * w, 3.8, 0.8),
                shade(color, 0.42),
                tag=tag,
                outline=False,
            )
        elif look.who.shoes == "sneakers":
            upper = [
                (-5.4, -3.6),
                (-4.0, -5.2),
                (2.6, -4.8),
                (5.4, -1.4),
                (9.4, 0.0),
                (9.4, 3.0),
                (-5.4, 3.0),
            ]
            painter.fill(smooth([(x * w, y) for x, y in upper]), color, tag=tag)
            painter.fill(rounded(-6.0 * w, 1.2, 10.2 * w, 3.8, 1.2), RUBBER, tag=tag)
            laces = polygon([(1.4 * w, -3.2), (4.6 * w, -0.4)], closed=False)
            painter.line(laces, RUBBER, 1.5, tag=tag)
        else:
            skin = shade(look.skin, dark)
            bare = smooth([(-4.6, -3.0), (3.0, -3.6), (9.0, 0.4), (8.8, 2.6), (-4.8, 2.6)])
            painter.fill(bare, skin, tag=look.tag("skin"))
            painter.fill(rounded(-5.8 * w, 1.8, 9.8 * w, 3.8, 0.9), color, tag=tag)
            painter.line(polygon([(1.2, 2.4), (5.4, -2.0)], closed=False), color, 2.3, tag=tag)
            painter.line(polygon([(-4.8, -2.4), (3.4, -3.4)], closed=False), color, 2.3, tag=tag)


def turn_of(dx: float, dy: float) -> float:
    """Angle of a bone in degrees from straight down, positive towards +x."""
    return math.degrees(math.atan2(dx, dy))


def draw_hips(painter: Brush, look: Look, skeleton: Skeleton) -> None:
    """The seat of trousers and shorts, or a skirt."""
    hip, body = skeleton.joints["hip"], look.body
    if look.who.bottom == "skirt":
        length = 1.14 if look.who.top == "dress" else 0.92
        path = skirt_path(look, skeleton, length, 3.0 if look.who.top == "dress" else 4.5)
        with painter.moved(*hip):
            painter.fill(path, look.bottom, tag=look.tag("bottom"))
        return
    seat = rounded(-body.hip - 0.4, -4.0, body.hip + 0.4, 5.6, 4.5)
    with painter.moved(*hip):
        painter.fill(seat, look.bottom, tag=look.tag("bottom"), outline=False)


def skirt_path(look: Look, skeleton: Skeleton, length: float, flare: float) -> skia.Path:
    """A skirt from the waist around both thighs to `length` of the thigh, relative to the hip."""
    body, joints = look.body, skeleton.joints
    hx, hy = joints["hip"]
    wx0, wy0 = turn(-body.hip * 0.86, -5.0, skeleton.lean)
    wx1, wy1 = turn(body.hip * 0.86, -5.0, skeleton.lean)
    left, right, low = -body.hip, body.hip, body.thigh * 0.62
    for side in ("l", "r"):
        sx, sy = joints[f"{side}_hip"]
        kx, ky = joints[f"{side}_knee"]
        x, y = sx + (kx - sx) * length - hx, sy + (ky - sy) * length - hy
        left, right, low = (
            min(left, x - body.limb * 0.5),
            max(right, x + body.limb * 0.5),
            max(low, y),
        )
    left, right = left - flare, right + flare
    middle = (left + right) / 2
    return smooth([(wx0, wy0), (wx1, wy1), ((wx1 + right) / 2 + 1.2, low / 2), (right, low - 1.0),
                   ((middle + right) / 2, low + 1.4), (middle, low + 2.0),
                   ((middle + left) / 2, low + 1.4),
                   (left, low - 1.0), ((wx0 + left) / 2 - 1.2, low / 2)])  # fmt: skip


def torso_path(look: Look, grow: float = 0.0, hem: float = 5.0) -> skia.Path:
    """Outline of the upper body in the torso frame; `grow` widens it, `hem` is its lower edge."""
    body = look.body
    t, s, h = body.torso, body.shoulder + grow, body.hip + grow
    waist = (s + h) * 0.5 + (1.6 * look.who.build - (0.9 if look.who.kind == "woman" else 0.0))
    right = [
        (4.6, -t - 1.8),
        (s - 2.0, -t + 0.6),
        (s, -t + 4.6),
        (waist, -t * 0.45),
        (h + 0.4, 0.0),
        (h - 0.6, hem),
    ]
    return smooth([*right, (0.0, hem + 0.8), *((-x, y) for x, y in reversed(right))])


def draw_top(painter: Brush, look: Look, skeleton: Skeleton) -> None:
    """The garment of the upper body without its sleeves."""
    joints = skeleton.joints
    kind, tag = look.who.top, look.tag("top")
    if kind == "dress":
        skirt = skirt_path(look, skeleton, 0.98, 5.0)
        with painter.moved(*joints["hip"]):
            painter.fill(skirt, look.top, tag=tag)
            draw_pattern(painter, look, skirt)
    with painter.moved(*joints["hip"], degrees=skeleton.lean):
        {"shirt": _shirt, "sweater": _sweater, "dress": _dress, "jacket": _jacket,
         "overalls": _overalls}[kind](painter, look)  # fmt: skip
        t = look.body.torso
        shadow = ellipse(1.0, -t - 1.0, look.body.shoulder * 0.8, 4.4)
        base = SHIRT_WHITE if kind == "overalls" else look.top
        with painter.clipped(torso_path(look)):
            painter.fill(shadow, shade(base, 0.24), outline=False)


def _plain_body(painter: Brush, look: Look, path: skia.Path) -> None:
    painter.fill(path, look.top, tag=look.tag("top"))
    draw_pattern(painter, look, path)


def _shirt(painter: Brush, look: Look) -> None:
    tag, t = look.tag("top"), look.body.torso
    _plain_body(painter, look, torso_path(look, hem=4.4))
    painter.line(
        polygon([(1.5, -t + 5), (1.2, 3.4)], closed=False), shade(look.top, 0.22), 1.2, tag=tag
    )
    for y in (-0.62, -0.34, -0.06):
        painter.fill(ellipse(1.4, y * t, 1.35, 1.35), CREAM, tag=tag, outline=False)
    for s in (-1, 1):
        collar = [(1.2, -t + 4.2), (1.2 + s * 7.4, -t - 1.6), (1.2 + s * 5.8, -t + 7.6)]
        painter.fill(polygon(collar), tint(look.top, 0.72), tag=tag)


def _sweater(painter: Brush, look: Look) -> None:
    tag, t, body = look.tag("top"), look.body.torso, look.body
    _plain_body(painter, look, torso_path(look, grow=1.4, hem=3.2))
    rib = shade(look.top, 0.26)
    painter.fill(rounded(-body.hip - 1.4, 0.6, body.hip + 1.4, 5.6, 2.2), rib, tag=tag)
    painter.fill(rounded(-8.4, -t - 3.4, 8.8, -t + 4.6, 3.6), rib, tag=tag)


def _dress(painter: Brush, look: Look) -> None:
    tag, t, body = look.tag("top"), look.body.torso, look.body
    _plain_body(painter, look, torso_path(look, hem=2.0))
    painter.fill(
        rounded(-body.hip - 0.8, -6.6, body.hip + 0.8, -2.4, 1.8), shade(look.top, 0.34), tag=tag
    )
    for s in (-1, 1):
        painter.fill(ellipse(1.0 + s * 4.4, -t + 3.4, 5.0, 3.8), CREAM, tag=tag)


def _jacket(painter: Brush, look: Look) -> None:
    tag, t, body = look.tag("top"), look.body.torso, look.body
    _plain_body(painter, look, torso_path(look, grow=0.8, hem=6.4))
    panel = [
        (-4.2, -t - 1.0),
        (7.0, -t - 1.0),
        (5.4, -t * 0.4),
        (6.8, 6.0),
        (-2.6, 6.0),
        (-2.2, -t * 0.4),
    ]
    painter.fill(polygon(panel), SHIRT_WHITE, tag=tag)
    for outer, inner in (
        ((-body.shoulder * 0.72, -t + 9.0), -4.4),
        ((body.shoulder * 0.92, -t + 9.0), 7.2),
    ):
        lapel = [(inner, -t - 1.4), outer, (1.5 + (inner - 1.4) * 0.62, -t * 0.34)]
        painter.fill(polygon(lapel), shade(look.top, 0.30), tag=tag)
    for s, x in ((-1, -body.hip * 0.62), (1, body.hip * 0.86)):
        painter.line(polygon([(x - 2.2, -3.2), (x + 1.6 * (s < 0), -3.2)], closed=False),
                     shade(look.top, 0.4), 1.6, tag=tag)  # fmt: skip


def _overalls(painter: Brush, look: Look) -> None:
    tag, t, body = look.tag("top"), look.body.torso, look.body
    painter.fill(torso_path(look), SHIRT_WHITE, tag=tag)
    h = body.hip + 0.8
    bib = [(-6.2, -t * 0.68), (8.2, -t * 0.68), (8.8, -t * 0.36), (h, -t * 0.26), (h + 0.2, 6.8),
           (-h - 0.2, 6.8),
           (-h, -t * 0.26), (-6.8, -t * 0.36)]  # fmt: skip
    path = polygon(bib)
    painter.fill(path, look.top, tag=tag)
    draw_pattern(painter, look, path)
    for x0, x1 in ((-4.6, -body.shoulder * 0.6), (6.6, body.shoulder * 0.7)):
        strap = polygon([(x0, -t * 0.64), (x1, -t + 1.4)], closed=False)
        painter.line(strap, look.top, 3.6, tag=tag)
        painter.fill(ellipse(x0, -t * 0.60, 1.8, 1.8), tint(look.top, 0.8), tag=tag, outline=False)
    painter.fill(
        rounded(-2.8, -t * 0.46, 4.8, -t * 0.18, 1.6), shade(look.top, 0.24), tag=tag, outline=False
    )


def draw_arm(painter: Brush, look: Look, skeleton: Skeleton, side: str) -> None:
    """One arm with hand and sleeve, set off from the body behind it by a darker edge."""
    bone, width = skeleton.bone(side, "arm"), look.body.limb
    tag, dark = look.tag("skin"), 0.08 if side == "r" else 0.0
    skin, kind = shade(look.skin, dark), look.who.top
    painter.fill(limb(bone, width * 0.86, width * 0.74), skin, tag=tag)
    draw_hand(painter, look, skeleton, side)
    base = SHIRT_WHITE if kind == "overalls" else look.top
    color = shade(base, dark)
    wide = width + {"sweater": 2.6, "jacket": 2.2}.get(kind, 1.2)
    end = 0.90 if look.who.sleeve == "long" else 0.46
    taper = 0.84 if look.who.sleeve == "long" else 1.02
    edge = limb(bone, wide + 1.5, wide * taper + 1.5, end=end, cap=False)
    painter.fill(edge, shade(base, 0.30), tag=look.tag("top"), outline=False)
    sleeve = limb(bone, wide, wide * taper, end=end, cap=False)
    painter.fill(sleeve, color, tag=look.tag("top"))
    if kind != "overalls":
        draw_pattern(painter, look, sleeve, shade(look.pattern, dark))
    if kind in ("sweater", "jacket"):
        cuff = limb(bone, wide + 1.0, wide * taper + 1.2, start=end - 0.13, end=end, cap=False)
        painter.fill(cuff, shade(base, 0.28), tag=look.tag("top"), outline=False)


def draw_hand(painter: Brush, look: Look, skeleton: Skeleton, side: str) -> None:
    """The hand or paw at the end of an arm."""
    x, y = skeleton.joints[f"{side}_hand"]
    r = look.body.limb * 0.5 + 0.5
    color = (
        look.hair if look.who.kind == "robot" else shade(look.skin, 0.08 if side == "r" else 0.0)
    )
    painter.fill(ellipse(x, y, r, r), color, tag=look.tag("skin"))


def draw_backpack(painter: Brush, look: Look, skeleton: Skeleton) -> None:
    """The bag behind the near side of the torso."""
    body, color, tag = look.body, look.accessory, look.tag("accessory")
    t, s = body.torso, body.shoulder
    with painter.moved(*skeleton.joints["hip"], degrees=skeleton.lean):
        painter.fill(rounded(-s - 12.5, -t + 0.5, 2.0, 1.5, 6.5), color, tag=tag)
        painter.fill(
            rounded(-s - 14.5, -t * 0.42, -s + 2.0, -0.5, 3.0), shade(color, 0.22), tag=tag
        )
        painter.fill(rounded(-s - 13.0, -t - 0.5, 0.0, -t * 0.62, 4.0), tint(color, 0.25), tag=tag)


def draw_straps(painter: Brush, look: Look, skeleton: Skeleton) -> None:
    """The straps of the backpack on the chest."""
    t, s = look.body.torso, look.body.shoulder
    with painter.moved(*skeleton.joints["hip"], degrees=skeleton.lean):
        for sign in (-1, 1):
            x = sign * s * 0.58 + 0.8
            strap = smooth(
                [(x, -t + 0.6), (x + sign * 0.8, -t * 0.6), (x + sign * s * 0.3, -t * 0.2)],
                closed=False,
            )
            painter.line(strap, shade(look.accessory, 0.14), 3.8, tag=look.tag("accessory"))


def draw_scarf(painter: Brush, look: Look, skeleton: Skeleton) -> None:
    """A scarf around the neck with one hanging end."""
    color, tag, t = look.accessory, look.tag("accessory"), look.body.torso
    fringe = mix(color, CREAM, 0.55)
    with painter.moved(*skeleton.joints["hip"], degrees=skeleton.lean):
        end = [(-8.4, -t + 3.0), (-1.4, -t + 4.0), (-2.6, -t * 0.22), (-10.4, -t * 0.22)]
        painter.fill(polygon(end), shade(color, 0.16), tag=tag)
        band = [(-10.3, -t * 0.36), (-2.3, -t * 0.36), (-2.6, -t * 0.22), (-10.5, -t * 0.22)]
        painter.fill(polygon(band), fringe, tag=tag, outline=False)
        wrap = [(-12.4, -t - 1.6), (0.0, -t + 1.0), (12.8, -t - 1.6), (13.6, -t + 5.0),
                (0.6, -t + 10.0),
                (-13.2, -t + 5.0)]  # fmt: skip
        painter.fill(smooth(wrap), color, tag=tag)
