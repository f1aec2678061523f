"""Poses: ten actions as bone angles, turned into joint positions that stand on the ground line.

Angles are degrees from straight down, positive towards the facing side (+x). "l" is the picture's
left side of a figure that faces right (the near side), "r" its right side (the far side).
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from consistent_gen.world.limbs import Bone, Point
from consistent_gen.world.look import Body

SOLE = 3.6  # height of the ankle above the ground
JOINTS = (
    "head", "neck", "hip", "l_shoulder", "r_shoulder", "l_elbow", "r_elbow", "l_hand", "r_hand",
    "l_knee", "r_knee", "l_foot", "r_foot",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Pose:
    """Upper and lower angle of each limb, lean of torso, tilt of head, lift off the ground."""

    l_arm: tuple[float, float] = (-20.0, -10.0)
    r_arm: tuple[float, float] = (20.0, 12.0)
    l_leg: tuple[float, float] = (-5.0, -2.0)
    r_leg: tuple[float, float] = (5.0, 2.0)
    lean: float = 0.0
    tilt: float = 0.0
    lift: float = 0.0


POSES: dict[str, Pose] = {
    "standing": Pose(),
    "waving": Pose(l_arm=(-100.0, -144.0), r_arm=(24.0, 6.0), lean=3.0, tilt=5.0),
    "walking": Pose(
        l_arm=(-42.0, -22.0), r_arm=(46.0, 66.0), l_leg=(30.0, 12.0), r_leg=(-26.0, -44.0), lean=4.0
    ),
    "running": Pose(
        l_arm=(-72.0, 8.0), r_arm=(58.0, 138.0), l_leg=(76.0, 22.0), r_leg=(-48.0, -92.0),
        lean=19.0, tilt=-8.0, lift=4.0,
    ),
    "sitting": Pose(
        l_arm=(-14.0, 40.0), r_arm=(34.0, 30.0), l_leg=(74.0, 6.0), r_leg=(82.0, 22.0),
        lift=5.0,
    ),
    "jumping": Pose(
        l_arm=(-106.0, -140.0), r_arm=(106.0, 140.0), l_leg=(-62.0, -22.0), r_leg=(62.0, 22.0),
        lift=14.0,
    ),
    "reading": Pose(tilt=7.0),
    "eating": Pose(l_arm=(-24.0, 8.0), tilt=3.0),
    "dancing": Pose(
        l_arm=(-86.0, -128.0), r_arm=(98.0, 160.0), l_leg=(-8.0, 2.0), r_leg=(74.0, -18.0),
        lean=-9.0, tilt=-7.0,
    ),
    "balloon": Pose(l_arm=(-26.0, -8.0), r_arm=(100.0, 148.0), lean=2.0, tilt=3.0),
}  # fmt: skip


@dataclass(frozen=True)
class Skeleton:
    """Joint positions in figure units, with the angles that drawing needs."""

    joints: dict[str, Point]
    lean: float
    tilt: float

    def bone(self, side: str, limb: str) -> Bone:
        """The three joints of an "arm" or a "leg" of side "l" or "r"."""
        names = ("shoulder", "elbow", "hand") if limb == "arm" else ("hip", "knee", "foot")
        a, b, c = (self.joints[f"{side}_{name}"] for name in names)
        return (a, b, c)

    def moved(self, dy: float) -> Skeleton:
        """The same skeleton, `dy` lower."""
        return Skeleton({k: (x, y + dy) for k, (x, y) in self.joints.items()}, self.lean, self.tilt)


def turn(x: float, y: float, degrees: float) -> Point:
    """A vector turned clockwise on the page."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return (x * c - y * s, x * s + y * c)


def _step(start: Point, length: float, degrees: float) -> Point:
    a = math.radians(degrees)
    return (start[0] + length * math.sin(a), start[1] + length * math.cos(a))


def _reach(
    start: Point, target: Point, upper: float, lower: float, bend: float
) -> tuple[Point, Point]:
    """Elbow and hand of a two-bone arm that reaches for `target`; `bend` is +1 or -1."""
    dx, dy = target[0] - start[0], target[1] - start[1]
    distance = min(max(math.hypot(dx, dy), abs(upper - lower) + 0.1), upper + lower - 0.1)
    base = math.degrees(math.atan2(dx, dy))
    cosine = (upper**2 + distance**2 - lower**2) / (2.0 * upper * distance)
    elbow = _step(start, upper, base + bend * math.degrees(math.acos(min(max(cosine, -1.0), 1.0))))
    return elbow, _step(start, distance, base)


def pose_skeleton(body: Body, action: str, rng: random.Random) -> Skeleton:
    """Joints for an action, jittered by a few degrees; the lowest sole is `lift` above y = 0."""
    pose = POSES[action]

    def jitter(amount: float) -> float:
        return rng.uniform(-amount, amount)

    lean, tilt = pose.lean + jitter(1.5), pose.tilt + jitter(2.5)
    joints: dict[str, Point] = {"hip": (0.0, 0.0)}
    for side, sign, (upper, lower) in (("l", -1, pose.l_leg), ("r", 1, pose.r_leg)):
        joints[f"{side}_hip"] = (sign * 0.48 * body.hip, 0.0)
        wobble = jitter(2.0)
        knee = _step(joints[f"{side}_hip"], body.thigh, upper + wobble)
        joints[f"{side}_knee"] = knee
        joints[f"{side}_foot"] = _step(knee, body.shin, lower + wobble)
    joints["neck"] = turn(0.0, -body.torso - 2.0, lean)
    nx, ny = joints["neck"]
    hx, hy = turn(0.0, -15.5 * body.head_scale, 0.5 * lean + tilt)
    joints["head"] = (nx + hx, ny + hy)
    for side, sign, (upper, lower) in (("l", -1, pose.l_arm), ("r", 1, pose.r_arm)):
        shoulder = turn(sign * (body.shoulder - 2.4), -body.torso + 3.6, lean)
        joints[f"{side}_shoulder"] = shoulder
        target = hold_point(joints, body, action, side)
        wobble = jitter(3.0)
        if target is None:
            elbow = _step(shoulder, body.upper_arm, upper + wobble)
            hand = _step(elbow, body.forearm, lower + wobble)
        else:  # elbows out for a book, down for a bite, so that no sleeve covers the mouth
            bend = -1.0 if action == "eating" else float(sign)
            elbow, hand = _reach(shoulder, target, body.upper_arm, body.forearm, bend)
        joints[f"{side}_elbow"], joints[f"{side}_hand"] = elbow, hand
    skeleton = Skeleton(joints, lean, tilt)
    lowest = max(joints["l_foot"][1], joints["r_foot"][1])
    return skeleton.moved(-lowest - SOLE - pose.lift)


def hold_point(joints: dict[str, Point], body: Body, action: str, side: str) -> Point | None:
    """Where a hand has to be because it holds something, or None when the pose's angles decide."""
    nx, ny = joints["neck"]
    if action == "reading":
        return (nx + (-10.5 if side == "l" else 14.5), ny + 23.5)
    if action == "eating" and side == "r":
        x, y = joints["head"]
        return (x + 20.5 * body.head_scale, y + 17.5 * body.head_scale)
    return None
