"""Puts a frame together: place, figures, props, weather; and cuts masks out of the labels."""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from consistent_gen.world.figure import CEILING, FigureTruth, draw_figure
from consistent_gen.world.head import reach_above
from consistent_gen.world.look import Look
from consistent_gen.world.painter import UNITS, Brush
from consistent_gen.world.places import draw_place
from consistent_gen.world.props import BEHIND, draw_prop
from consistent_gen.world.skeleton import pose_skeleton
from consistent_gen.world.spec import FrameSpec, SubjectSpec, sample_frame
from consistent_gen.world.stage import Stage
from consistent_gen.world.weather import draw_falling, draw_tint

MIN_SIZE, MAX_SIZE = 32, 2048

# camera of a single figure -> (scale, height of the feet in units); close crops at the hips
_CAMERA: dict[str, tuple[float, float]] = {
    "close": (1.5, 165.0),
    "medium": (1.08, 120.0),
    "far": (0.82, 114.0),
}
_GROUP: dict[int, tuple[float, float]] = {2: (0.92, 119.0), 3: (0.74, 116.0)}
_TOP_MARGIN = 3.0
# Figure units: how high the balloon and the notes of a dance are, how far aside the balloon.
_HELD_HEIGHT = {"balloon": CEILING, "dancing": 104.0}
_BALLOON_SIDE = 54.0


@dataclass(frozen=True)
class ScenePicture:
    """A frame as drawn: `rgb` uint8 (size, size, 3), `labels` uint8 (size, size), figure truths."""

    rgb: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    figures: tuple[FigureTruth, ...]
    frame: FrameSpec


def render(frame: FrameSpec, size: int = 128) -> ScenePicture:
    """Draw `frame` at `size` x `size` pixels. The same frame gives the same bytes.

    Raises ValueError when `size` is outside [32, 2048] or there are not one to three subjects.
    """
    if not MIN_SIZE <= size <= MAX_SIZE:
        raise ValueError(f"size is {size}; a picture is {MIN_SIZE} to {MAX_SIZE} pixels wide")
    if not 1 <= len(frame.subjects) <= 3:
        raise ValueError(f"{len(frame.subjects)} subjects given; a frame holds one to three")
    rng = random.Random(frame.layout_seed)
    # one stream a layer, so that another prop or weather leaves the rest of the layout in place
    place_rng, prop_rng, sky_rng = (random.Random(rng.getrandbits(64)) for _ in range(3))
    painter = Brush(size, frame.style, frame.layout_seed)
    _draw_background(painter, frame, place_rng)
    stands = [_stand(frame, i) for i in range(len(frame.subjects))]
    xs, feet = tuple(x for x, _, _ in stands), max(y for _, y, _ in stands)
    if frame.prop in BEHIND:
        draw_prop(painter, frame.prop, xs, feet, prop_rng)
    figures = []
    for i, (subject, (x, y, scale)) in enumerate(zip(frame.subjects, stands, strict=True)):
        with painter.foreground(), painter.moved(x, y, scale, flip=subject.facing < 0):
            figures.append(
                draw_figure(
                    painter,
                    subject.identity,
                    subject.action,
                    subject.expression,
                    index=i,
                    seed=_figure_seed(frame, i),
                )
            )
    if frame.prop != "none" and frame.prop not in BEHIND:
        draw_prop(painter, frame.prop, xs, feet, prop_rng)
    draw_falling(Stage(painter, frame.weather, sky_rng))
    draw_tint(painter, frame.weather)
    rgb, labels = painter.finish()
    return ScenePicture(rgb, labels, tuple(figures), frame)


def _draw_background(painter: Brush, frame: FrameSpec, rng: random.Random) -> None:
    """The place, a little larger behind a close-up."""
    zoom = {"close": 1.16, "medium": 1.0, "far": 1.0}[frame.camera]
    with painter.moved(64.0 * (1.0 - zoom), 34.0 * (1.0 - zoom), zoom):
        draw_place(painter, frame.place, frame.weather, rng)


def _reach(subject: SubjectSpec, seed: int) -> float:
    """How high a subject comes above the ground in figure units: headwear, hands, held things."""
    look = Look.of(subject.identity, 0)
    joints = pose_skeleton(look.body, subject.action, random.Random(seed)).joints
    head = reach_above(look) * look.body.head_scale - joints["head"][1]
    hands = 6.0 - min(joints["l_hand"][1], joints["r_hand"][1])
    return min(max(head, hands, _HELD_HEIGHT.get(subject.action, 0.0)), CEILING)


def _stand(frame: FrameSpec, index: int) -> tuple[float, float, float]:
    """Where a subject's feet are and how large it is: x, y, scale in units.

    The default of the camera is shrunk until the figure fits below the upper edge; a close-up of a
    low figure is raised instead.
    """
    subject, count = frame.subjects[index], len(frame.subjects)
    scale, feet = _CAMERA[frame.camera] if count == 1 else _GROUP[count]
    reach = _reach(subject, _figure_seed(frame, index))
    scale = min(scale, (feet - _TOP_MARGIN) / reach)
    if frame.camera == "close" and count == 1:
        feet = min(feet, 2.0 * _TOP_MARGIN + reach * scale)
    left = right = 20.0 * scale
    if subject.action == "balloon" and subject.facing > 0:
        right = _BALLOON_SIDE * scale
    elif subject.action == "balloon":
        left = _BALLOON_SIDE * scale
    x = min(max(UNITS * subject.x, left), UNITS - right)
    return x, feet, scale


def _figure_seed(frame: FrameSpec, index: int) -> int:
    return (frame.layout_seed + index) % 2**32


def contact_sheet(seed: int, rows: int, columns: int, size: int = 128) -> NDArray[np.uint8]:
    """A grid of sampled frames, uint8 (rows * size, columns * size, 3)."""
    rng = random.Random(seed)
    lines = [
        np.concatenate([render(sample_frame(rng), size).rgb for _ in range(columns)], axis=1)
        for _ in range(rows)
    ]
    return np.concatenate(lines, axis=0)
