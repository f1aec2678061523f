"""Eyes, brows, nose, mouth and cheeks, in head units (origin at the middle of the head)."""

from __future__ import annotations

from dataclasses import dataclass

from consistent_gen.world.limbs import Point
from consistent_gen.world.look import CREAM, INK, ROSE, Look, luma, shade, tint
from consistent_gen.world.painter import Brush, ellipse, polygon, rounded, smooth
from consistent_gen.world.palette import RGB, mix

TURN = 2.0  # how far the features shift to the facing side
EYE_Y = 1.2
NOSE_Y = 6.0
MOUTH_Y = 11.2

WHITE: RGB = (1.0, 1.0, 1.0)
LIPSTICK: RGB = (0.78, 0.16, 0.27)
MOUTH: RGB = (0.48, 0.12, 0.16)
PINK_NOSE: RGB = (0.84, 0.38, 0.45)
METAL_DARK: RGB = (0.20, 0.22, 0.28)


@dataclass(frozen=True)
class Mood:
    """Brow shape (inner lift, outer lift, height), lid, eye scale and half width of the mouth."""

    inner: float
    outer: float
    raised: float
    eye: float
    mouth: float


MOODS: dict[str, Mood] = {
    "happy": Mood(0.0, 0.0, 1.2, 1.0, 5.4),
    "sad": Mood(2.2, -1.6, 0.2, 1.0, 4.2),
    "angry": Mood(-2.4, 1.8, -0.6, 1.0, 4.6),
    "surprised": Mood(0.2, -0.2, 3.0, 1.28, 2.9),
    "sleepy": Mood(0.4, -0.9, 0.6, 1.0, 2.4),
    "calm": Mood(0.0, -0.3, 0.0, 1.0, 4.2),
}


def eye_centers(look: Look) -> tuple[Point, Point]:
    """Left and right eye in head units."""
    half = 6.6 + 2.9 * look.who.eye_spacing
    return (TURN - half, EYE_Y), (TURN + half * 0.96, EYE_Y)


def keypoints(look: Look, expression: str) -> list[Point]:
    """Left eye, right eye, nose, left and right mouth corner in head units."""
    half = MOODS[expression].mouth
    left, right = eye_centers(look)
    mouth = (TURN - half, MOUTH_Y), (TURN + half, MOUTH_Y)
    return [left, right, (TURN + 0.6, NOSE_Y), *mouth]


def draw_cheeks(painter: Brush, look: Look) -> None:
    """Freckles, blush or stripes beside the nose."""
    fw = look.face_half_width
    dark = luma(look.skin) < 0.4
    style = look.who.cheeks
    for sign in (-1, 1):
        cx, cy = TURN * 0.7 + sign * (fw * 0.62), 7.8
        if style == "blush":
            color = mix(look.skin, ROSE, 0.62)
            painter.fill(ellipse(cx, cy, 4.2, 2.8), color, outline=False)
        elif style == "freckles":
            color = tint(look.skin, 0.45) if dark else shade(mix(look.skin, ROSE, 0.3), 0.42)
            for dx, dy in ((-2.8, -0.9), (0.1, 1.2), (2.8, -0.7)):
                painter.fill(ellipse(cx + dx, cy + dy, 1.05, 1.05), color, outline=False)
        elif style == "stripes":
            color = tint(look.skin, 0.6) if dark else shade(look.skin, 0.5)
            for dy in (-1.8, 1.6):
                bar = rounded(cx - 3.6, cy + dy - 0.85, cx + 3.6, cy + dy + 0.85, 0.85)
                painter.fill(bar, color, outline=False)


def draw_eyes(painter: Brush, look: Look, expression: str) -> None:
    """Both eyes with iris, lids, lashes and brows."""
    mood = MOODS[expression]
    ry = (2.9 + 1.2 * look.who.eye_size) * mood.eye
    rx = ry * 0.86
    for sign, (cx, cy) in zip((-1, 1), eye_centers(look), strict=True):
        _eye(painter, look, expression, cx, cy, rx, ry, sign)
        _brow(painter, look, mood, cx, cy - ry - 2.6, sign)
    if expression == "sad":
        cx, cy = eye_centers(look)[0]
        drop = smooth([(cx - 1.6, cy + ry), (cx - 3.2, cy + ry + 3.8), (cx - 1.6, cy + ry + 5.4),
                       (cx, cy + ry + 3.8)])  # fmt: skip
        painter.fill(drop, (0.50, 0.77, 0.96), outline=False)


def _eye(painter: Brush, look: Look, expression: str, cx: float, cy: float, rx: float, ry: float,
         sign: int) -> None:  # fmt: skip
    robot = look.who.kind == "robot"
    white = ellipse(cx, cy, rx + 0.5, ry + 0.3)
    pupil = 0.42 if expression != "surprised" else 0.3
    if robot:
        painter.fill(white, METAL_DARK, outline=False)
        painter.fill(ellipse(cx, cy, rx * 0.88, ry * 0.84), look.eye, outline=False)
        painter.fill(ellipse(cx, cy, rx * pupil, ry * pupil), tint(look.eye, 0.75), outline=False)
    else:
        painter.fill(white, WHITE, outline=False)
        painter.fill(ellipse(cx + 0.4, cy + 0.1, rx * 0.84, ry * 0.88), look.eye, outline=False)
        painter.fill(
            ellipse(cx + 0.5, cy + 0.2, rx * pupil, ry * (pupil + 0.1)), INK, outline=False
        )
        painter.fill(ellipse(cx - 0.3, cy - ry * 0.36, 0.85, 0.95), WHITE, outline=False)
    inner, outer = {"sad": (-1.1, 0.1), "angry": (0.1, -1.1), "sleepy": (0.1, 0.1)}.get(
        expression, (-2.0, -2.0)
    )
    x_in, x_out = cx - sign * (rx + 0.9), cx + sign * (rx + 0.9)
    if inner > -2.0 or outer > -2.0:
        y_in, y_out = cy + inner * ry * 0.75, cy + outer * ry * 0.75
        lid = polygon([(x_in, cy - ry - 1.5), (x_out, cy - ry - 1.5), (x_out, y_out), (x_in, y_in)])
        color = shade(look.pale if robot else look.skin, 0.16)
        with painter.clipped(ellipse(cx, cy, rx + 0.8, ry + 0.6)):
            painter.fill(lid, color, outline=False)
        painter.line(polygon([(x_in, y_in), (x_out, y_out)], closed=False), INK, 1.4)
    elif not robot:
        arc = [
            (cx - rx - 0.5, cy - ry * 0.35),
            (cx, cy - ry - 0.3),
            (cx + rx + 0.5, cy - ry * 0.35),
        ]
        painter.line(smooth(arc, closed=False), INK, 1.3)
    if look.feminine:
        y = cy if expression == "sleepy" else cy - ry * 0.45
        for dy in (0.0, -1.9):
            lash = [(x_out - sign * 0.4, y + dy), (x_out + sign * 1.9, y + dy * 1.2 - 1.1)]
            painter.line(polygon(lash, closed=False), INK, 1.2)


def _brow(painter: Brush, look: Look, mood: Mood, cx: float, cy: float, sign: int) -> None:
    if look.who.is_person:
        color = mix(look.hair, INK, 0.5)
    else:
        color = INK if luma(look.skin) > 0.42 or look.who.kind == "robot" else tint(look.skin, 0.6)
    y = cy - mood.raised
    x_in, x_out = cx - sign * 3.0, cx + sign * 3.2
    points = [
        (x_in, y - mood.inner),
        (cx, y - 0.9 - 0.4 * (mood.inner + mood.outer)),
        (x_out, y - mood.outer),
    ]
    width = {"boy": 2.2, "man": 2.7}.get(look.who.kind, 1.7)
    painter.line(smooth(points, closed=False), color, width)


def draw_nose(painter: Brush, look: Look) -> None:
    """Button, pointed or wide nose; animals have a dark or pink one, robots a bolt."""
    kind, cx, cy = look.who.kind, TURN + 0.6, NOSE_Y
    grow = 1.0
    if look.who.is_person:
        color = shade(mix(look.skin, ROSE, 0.6), 0.30)
    elif kind in ("cat", "rabbit"):
        color, grow = PINK_NOSE, 1.0
    elif kind == "robot":
        color = METAL_DARK
    else:
        color, grow = INK, {"dog": 1.45, "bear": 1.35}.get(kind, 1.15)
    if look.who.nose == "button":
        path = ellipse(cx, cy, 2.1 * grow, 2.0 * grow)
    elif look.who.nose == "wide":
        path = ellipse(cx, cy + 0.3, 4.6 * grow, 1.8 * grow)
    elif look.who.is_person or kind == "robot":
        path = polygon([(cx - 1.0, cy - 4.6), (cx + 4.2, cy + 1.4), (cx - 1.8, cy + 2.0)])
    else:
        path = polygon([(cx - 3.0 * grow, cy - 2.2), (cx + 3.0 * grow, cy - 2.2), (cx, cy + 3.0)])
    painter.fill(path, color, outline=False)


def draw_mouth(painter: Brush, look: Look, expression: str) -> None:
    """The mouth of an expression; women wear lipstick, rabbits show two teeth."""
    half, x, y = MOODS[expression].mouth, TURN, MOUTH_Y
    lips = {"woman": LIPSTICK, "girl": (0.72, 0.25, 0.32)}.get(look.who.kind, shade(MOUTH, 0.25))
    width = 2.3 if look.who.kind == "woman" else 1.6
    if look.who.kind == "rabbit" and expression in ("calm", "sad", "sleepy"):
        _teeth(painter, x, y + 0.4)
    if expression == "happy":
        points = [(x - half, y - 1.2), (x, y - 0.2), (x + half, y - 1.2),
                  (x + half * 0.68, y + 3.4),
                  (x, y + 4.9), (x - half * 0.68, y + 3.4)]  # fmt: skip
        path = smooth(points)
        painter.fill(path, MOUTH, outline=False)
        with painter.clipped(path):
            painter.fill(ellipse(x, y + 5.2, 3.4, 2.9), ROSE, outline=False)
        if look.who.kind == "woman":
            painter.line(path, LIPSTICK, 1.5)
    elif expression == "surprised":
        painter.fill(ellipse(x, y + 1.4, half, 3.8), MOUTH, outline=False)
        if look.who.kind == "woman":
            painter.line(ellipse(x, y + 1.4, half, 3.8), LIPSTICK, 1.5)
    elif expression == "angry":
        box = smooth([(x - half, y + 2.0), (x - half * 0.7, y - 1.2), (x + half * 0.7, y - 1.2),
                      (x + half, y + 2.0), (x, y + 1.6)])  # fmt: skip
        painter.fill(box, WHITE, outline=False)
        painter.line(box, lips, 1.4)
    else:
        bow = {"sad": (2.2, -1.2), "sleepy": (0.5, 0.0), "calm": (-0.6, 1.6)}[expression]
        points = [(x - half, y + bow[0]), (x, y + bow[1]), (x + half, y + bow[0])]
        if expression == "sleepy":
            painter.fill(ellipse(x, y + 0.6, half, 1.7), MOUTH, outline=False)
            painter.line(ellipse(x, y + 0.6, half, 1.7), lips, 0.9)
        else:
            painter.line(smooth(points, closed=False), lips, width)
    if look.who.kind == "rabbit" and expression in ("happy", "surprised", "angry"):
        _teeth(painter, x, y - (1.8 if expression == "surprised" else 0.4))


def _teeth(painter: Brush, x: float, y: float) -> None:
    painter.fill(rounded(x - 2.5, y, x + 2.5, y + 3.8, 0.8), CREAM, outline=False)
    painter.line(polygon([(x, y + 0.4), (x, y + 3.2)], closed=False), (0.75, 0.68, 0.64), 0.6)
