"""InstantID (Wang et al., arXiv 2401.07519): identity tokens, and a ControlNet that sees a face.

A resampler makes 16 tokens of one identity vector. The ControlNet (IdentityNet) is given these in
place of the text, and a picture of five facial points in place of a pose: where the face is goes
one way, whose it is another. What is free is here; its weights are not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

from consistent_gen.adapters.adapter import (
    ANTELOPE_V2,
    NOT_COMMERCIAL,
    Adapter,
    Shapes,
    depth_of,
    inner_shapes,
    token_width,
)
from consistent_gen.adapters.faceid import identity_spec
from consistent_gen.adapters.projectors import HEAD_WIDTH, Perceiver, TokenProjector
from consistent_gen.adapters.scales import ScalePlan
from consistent_gen.adapters.weights import AdapterAttention, LayerPlace
from consistent_gen.errors import InputError

# Left eye, right eye, nose, left and right corner of the mouth; each is joined to the nose.
POINT_COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (255, 0, 255))
_NOSE = 2
POINT_RADIUS, JOINT_RADIUS = 10, 4  # pixels


class VectorResampler(Perceiver, TokenProjector):
    """An identity vector [n v] as the tokens [n t c] of as many learned latents."""

    def __init__(self, *, tokens: int, **sizes: Any) -> None:
        super().__init__(latents=tokens, **sizes)
        self.parts = (("face", tokens),)

    def forward(self, identity: Tensor) -> Tensor:  # type: ignore[override]
        """[n v] to [n t c]."""
        return super().forward(identity[:, None])


class InstantID(Adapter):
    """16 tokens of a raw identity vector; no LoRA.

    inner, depth: of the resampler, 1280 and 4 as published.
    """

    name, title = "instantid", "InstantID"
    licence = NOT_COMMERCIAL
    marks = ("image_proj.latents", "image_proj.proj_in.weight", "image_proj.proj_out.weight")
    feeds_control = True

    def __init__(
        self, places: Sequence[LayerPlace], *, feature_width: int = 512, tokens: int = 16,
        inner: int = 1280, depth: int = 4, width: int | None = None, encoder: str = ANTELOPE_V2,
    ) -> None:  # fmt: skip
        width = token_width(places, width)
        super().__init__(
            places,
            features=(identity_spec(feature_width, encoder, "raw embedding"),),
            projector=VectorResampler(
                feature_width=feature_width, width=inner, out_width=width, depth=depth,
                heads=inner // HEAD_WIDTH, tokens=tokens,
            ),
            attention=AdapterAttention(places, width=width),
            plan=ScalePlan(image=0.8),
        )  # fmt: skip

    @classmethod
    def sizes(cls, shapes: Shapes) -> dict[str, Any] | None:
        """See `Adapter`: the keys are those of IP-Adapter-Plus, the input is a vector of 512."""
        own = inner_shapes(shapes, "image_proj.")
        if not {"latents", "proj_in.weight", "proj_out.weight"} <= own.keys():
            return None
        (_, tokens, inner), feature_width = own["latents"], own["proj_in.weight"][1]
        if feature_width != 512:
            return None
        return {
            "feature_width": feature_width, "tokens": tokens, "inner": inner,
            "depth": depth_of(own), "width": own["proj_out.weight"][0],
        }  # fmt: skip


def keypoint_picture(points: Sequence[Sequence[float]], size: tuple[int, int]) -> Image.Image:
    """The picture that IdentityNet sees: five points of a face and their joints, on black.

    points: (x, y) in pixels of left eye, right eye, nose, left and right corner of the mouth.
    size: (width, height).

    Raises:
        InputError: not five points.
    """
    if np.asarray(points, dtype=float).shape != (5, 2):
        raise InputError(
            f"a face has 5 points of x and y here, not {np.asarray(points).shape}: both eyes, "
            "the nose and both corners of the mouth"
        )
    picture = Image.new("RGB", size)
    draw = ImageDraw.Draw(picture)
    ends = np.asarray(points, dtype=float)
    for colour, end in zip(POINT_COLOURS, ends, strict=True):
        if not np.array_equal(end, ends[_NOSE]):
            dim = tuple(int(0.6 * channel) for channel in colour)
            draw.polygon(_joint(end, ends[_NOSE]), fill=dim)
    for colour, (x, y) in zip(POINT_COLOURS, ends, strict=True):
        box = (x - POINT_RADIUS, y - POINT_RADIUS, x + POINT_RADIUS, y + POINT_RADIUS)
        draw.ellipse(box, fill=colour)
    return picture


def _joint(start: Any, end: Any) -> list[tuple[float, float]]:
    """Corners of a thin ellipse between two points."""
    along = (end - start) / 2.0
    across = np.array([-along[1], along[0]]) / np.linalg.norm(along) * JOINT_RADIUS
    angles = np.linspace(0.0, 2.0 * np.pi, 64, endpoint=False)[:, None]
    corners = (start + end) / 2.0 + np.cos(angles) * along + np.sin(angles) * across
    return [(float(x), float(y)) for x, y in corners]
