"""Assembly of a character: skeleton, clothes, head and held things, in back-to-front order.

The figure frame has its origin on the ground between the feet, y up negative, facing right.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from consistent_gen.world import face, garments, held
from consistent_gen.world.hair import draw_back_hair
from consistent_gen.world.head import CHIN, CROWN, draw_head, reach_above
from consistent_gen.world.limbs import Point, tube
from consistent_gen.world.look import CREAM, Look, shade, tint
from consistent_gen.world.painter import Brush, ellipse, smooth
from consistent_gen.world.palette import RGB
from consistent_gen.world.skeleton import JOINTS, Skeleton, pose_skeleton
from consistent_gen.world.spec import ACTIONS, EXPRESSIONS, Identity

CEILING = 117.0  # nothing of a figure is higher than this
SHADOW: RGB = (0.38, 0.36, 0.42)
_FRONT_ARMS = {
    "reading": ("l", "r"),
    "eating": ("r",),
    "waving": ("l",),
    "jumping": ("l", "r"),
    "dancing": ("l", "r"),
    "balloon": ("r",),
}


@dataclass(frozen=True)
class FigureTruth:
    """Where a figure is, in picture coordinates (x right, y down, [0, 1] inside the picture).

    "Left" is the picture's left in every field, also for a mirrored figure.
    `head_box`: x0, y0, x1, y1 around skull and hair, without ears and headwear.
    `keypoints`: left eye, right eye, nose, left and right mouth corner.
    `skeleton`: joint name (`skeleton.JOINTS`) to point; the prefix "l_" marks the limb that starts
    at the picture's left side.
    """

    head_box: tuple[float, float, float, float]
    keypoints: tuple[tuple[float, float], ...]
    skeleton: dict[str, tuple[float, float]]


def draw_figure(
    painter: Brush, identity: Identity, action: str, expression: str, *, index: int, seed: int
) -> FigureTruth:
    """Draw a character at the painter's origin and return where its parts are.

    Args:
        painter: its current frame is the figure frame (feet at the origin, about 100 units tall).
        identity: the factors of the character.
        action: one of `spec.ACTIONS`.
        expression: one of `spec.EXPRESSIONS`.
        index: subject number 0 to 2 that the labels carry.
        seed: jitter of the pose and look of held things; the same seed draws the same bytes.

    Raises:
        ValueError: an action or expression that is not in the tables.
    """
    if action not in ACTIONS:
        raise ValueError(f"unknown action {action!r}, expected one of {', '.join(ACTIONS)}")
    if expression not in EXPRESSIONS:
        raise ValueError(
            f"unknown expression {expression!r}, expected one of {', '.join(EXPRESSIONS)}"
        )
    rng = random.Random(seed)
    look = Look.of(identity, index)
    skeleton = _under_ceiling(pose_skeleton(look.body, action, rng), look)
    if action == "jumping":
        painter.fill(ellipse(0.0, 0.0, 21.0, 3.0), SHADOW, outline=False)
    held.draw_behind(painter, look, skeleton, action, rng)
    _draw_body(painter, look, skeleton, action)
    hx, hy = skeleton.joints["head"]
    degrees = 0.5 * skeleton.lean + skeleton.tilt
    with painter.moved(hx, hy, scale=look.body.head_scale, degrees=degrees):
        draw_head(painter, look, expression)
        box = _box(painter, look)
        points = painter.to_picture(face.keypoints(look, expression))
    front = _FRONT_ARMS.get(action, ())
    for side in front:
        garments.draw_arm(painter, look, skeleton, side)
    held.draw_in_front(painter, look, skeleton, action, rng)
    if action in ("reading", "eating"):
        for side in front:
            garments.draw_hand(painter, look, skeleton, side)
    return _truth(painter, skeleton, box, points)


def _under_ceiling(skeleton: Skeleton, look: Look) -> Skeleton:
    top = skeleton.joints["head"][1] - reach_above(look) * look.body.head_scale
    return skeleton.moved(max(0.0, -CEILING - top))


def _draw_body(painter: Brush, look: Look, skeleton: Skeleton, action: str) -> None:
    hx, hy = skeleton.joints["head"]
    _draw_tail(painter, look, skeleton)
    with painter.moved(
        hx, hy, scale=look.body.head_scale, degrees=0.5 * skeleton.lean + skeleton.tilt
    ):
        draw_back_hair(painter, look)
    if look.who.accessory == "backpack":
        garments.draw_backpack(painter, look, skeleton)
    front = _FRONT_ARMS.get(action, ())
    if "r" not in front:
        garments.draw_arm(painter, look, skeleton, "r")
    for side in ("r", "l"):
        garments.draw_leg(painter, look, skeleton, side)
    garments.draw_hips(painter, look, skeleton)
    garments.draw_top(painter, look, skeleton)
    if look.who.accessory == "backpack":
        garments.draw_straps(painter, look, skeleton)
    if look.who.accessory == "scarf":
        garments.draw_scarf(painter, look, skeleton)
    if "l" not in front:
        garments.draw_arm(painter, look, skeleton, "l")


def _draw_tail(painter: Brush, look: Look, skeleton: Skeleton) -> None:
    kind, tag = look.who.kind, look.tag("skin")
    if look.who.is_person or kind == "robot":
        return
    color, h = look.skin, look.body.hip
    x, y = skeleton.joints["hip"]
    with painter.moved(x - h * 0.7, y):
        if kind == "fox":
            brush = [(0.0, -4.0), (-9.0, -5.0), (-17.0, -15.0), (-21.0, -28.0), (-26.5, -22.0),
                     (-27.0, -8.0),
                     (-19.0, 4.0), (-8.0, 6.0), (0.0, 3.0)]  # fmt: skip
            path = smooth(brush)
            painter.fill(path, color, tag=tag)
            with painter.clipped(path):
                tip = smooth(
                    [(-30.0, -16.0), (-22.0, -13.0), (-14.0, -18.0), (-14.0, -34.0), (-34.0, -32.0)]
                )
                painter.fill(tip, CREAM, tag=tag, outline=False)
        elif kind == "cat":
            curve = [(2.0, 1.0), (-9.0, 3.0), (-16.0, -4.0), (-16.0, -15.0), (-21.5, -22.0)]
            painter.fill(tube(curve, [4.4, 4.4, 4.6, 4.6, 3.6]), color, tag=tag)
            painter.fill(ellipse(-21.0, -22.0, 2.8, 2.8), look.hair, tag=tag, outline=False)
        elif kind == "dog":
            curve = [(2.0, 2.0), (-6.0, -1.0), (-11.0, -9.0), (-10.0, -17.0)]
            painter.fill(tube(curve, [6.0, 6.4, 5.8, 2.4]), color, tag=tag)
        elif kind == "rabbit":
            painter.fill(ellipse(-5.5, 1.0, 6.4, 6.0), tint(color, 0.6), tag=tag)
        else:
            painter.fill(ellipse(-4.5, 1.0, 5.2, 4.8), shade(color, 0.10), tag=tag)


def _box(painter: Brush, look: Look) -> tuple[float, float, float, float]:
    half = look.face_half_width + 3.0
    corners = painter.to_picture([(-half, CROWN), (half, CROWN), (half, CHIN), (-half, CHIN)])
    (x0, y0), (x1, y1) = corners.min(axis=0), corners.max(axis=0)
    return (float(x0), float(y0), float(x1), float(y1))


def _truth(
    painter: Brush, skeleton: Skeleton, box: tuple[float, float, float, float], points: np.ndarray
) -> FigureTruth:
    joints = painter.to_picture([skeleton.joints[name] for name in JOINTS])
    names: Sequence[str] = JOINTS
    if points[0, 0] > points[1, 0]:  # mirrored: left and right of the picture trade places
        points = points[[1, 0, 2, 4, 3]]
        swap = {"l_": "r_", "r_": "l_"}
        names = [swap.get(n[:2], n[:2]) + n[2:] for n in JOINTS]
    return FigureTruth(
        head_box=box,
        keypoints=tuple(_pair(p) for p in points),
        skeleton={name: _pair(p) for name, p in zip(names, joints, strict=True)},
    )


def _pair(point: Sequence[float] | np.ndarray) -> Point:
    return (float(point[0]), float(point[1]))
