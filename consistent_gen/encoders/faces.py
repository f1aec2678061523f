"""Faces in pictures: what every backend that reads them returns, and how a face is cut out.

A backend (`FACE_ANALYZERS`) takes RGB and returns `Face`s. An identity adapter has learnt from the
embeddings of one recogniser, and those of another mean nothing to it; so each embedding carries the
name of the network that made it, and `check_encoder` refuses any other.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from consistent_gen.errors import InputError, LimitError, MissingExtraError

Picture: TypeAlias = NDArray[np.uint8]  # h w 3, RGB
Mask: TypeAlias = NDArray[np.float32]  # h w in [0, 1]
Box: TypeAlias = tuple[float, float, float, float]  # x0 y0 x1 y1 in pixels
MAX_PIXELS = 40_000_000
# Where a face's keypoints lie in a crop of 112 pixels, as recognisers of the ArcFace family were
# trained and as published adapters expect it: left eye, right eye, nose, corners of the mouth.
TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655],
     [70.7299, 92.2041]], np.float64,
)  # fmt: skip
TEMPLATE_SIDE = 112


@dataclass(frozen=True, kw_only=True)
class Licence:
    """Under what terms a backend's weights may be used; `text` is the line to show before."""

    name: str
    commercial: bool
    text: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Face:
    """One face. "Left" is the picture's left.

    box: in pixels. keypoints: 5 2 in pixels, float32: left eye, right eye, nose, left and right
    corner of the mouth; NaN for what the backend does not find. score: how sure the backend is, in
    [0, 1]. raw: d, float32, the embedding as the network gives it, None from a backend that
    recognises nobody. encoder_id: what made it.
    """

    box: Box
    keypoints: NDArray[np.float32]
    score: float
    raw: NDArray[np.float32] | None
    encoder_id: str

    @property
    def normed(self) -> NDArray[np.float32] | None:
        """The embedding at length 1: cosines of two faces are their products."""
        return None if self.raw is None else self.raw / max(float(np.linalg.norm(self.raw)), 1e-12)

    @property
    def area(self) -> float:
        """Square pixels of the box."""
        return max(0.0, self.box[2] - self.box[0]) * max(0.0, self.box[3] - self.box[1])


@runtime_checkable
class FaceAnalyzer(Protocol):
    """Finds faces and says whose they are.

    encoder_id: the name of the embeddings' space, "" where there are none. dimensions: of an
    embedding, 0 likewise. realistic: whether it reads photographs of people, not drawings.
    """

    encoder_id: str
    dimensions: int
    realistic: bool
    licence: Licence

    def analyze(self, rgb: Picture) -> list[Face]:
        """The faces of a picture (h w 3, uint8, RGB), the largest first; none found: an empty list.

        Raises:
            InputError: it is no such array.
        """


@runtime_checkable
class PartSegmenter(Protocol):
    """Says where the parts of one subject are, for adapters that read parts."""

    part_names: tuple[str, ...]

    def part_masks(self, rgb: Picture, box: Box, mask: Mask | None = None) -> Mapping[str, Mask]:
        """Name -> h w in [0, 1] of what is in `box` (pixels); a part that is not there is all 0.

        mask: of the subject, h w in [0, 1], if one is known.

        Raises:
            InputError: the picture, the box or the mask cannot be used.
        """


def check_encoder(found: str, wanted: str, what: str) -> None:
    """Refuse embeddings of another network than `what` (an adapter, in words) was trained on.

    Raises:
        InputError: `found` is not `wanted`.
    """
    if found != wanted:
        raise InputError(
            f"{what} was trained on embeddings of {wanted!r}, and these are of "
            f"{found or 'a backend without embeddings'!r}; read the picture with {wanted!r}, or "
            "take an adapter that was trained on yours"
        )


def checked(rgb: Picture) -> Picture:
    """The picture itself, if it is one that backends read.

    Raises:
        InputError: it is no uint8 array of h w 3. LimitError: it is too large.
    """
    shape: tuple[int, ...] = tuple(getattr(rgb, "shape", ()))
    kind = getattr(rgb, "dtype", type(rgb).__name__)
    if len(shape) != 3 or shape[2] != 3 or 0 in shape or kind != np.uint8:
        raise InputError(
            f"a picture of shape {shape} and type {kind}; expected height x width x 3 of "
            "uint8, in the order red, green, blue"
        )
    if shape[0] * shape[1] > MAX_PIXELS:
        raise LimitError(f"a picture of {shape[1]} x {shape[0]} pixels; at most {MAX_PIXELS:,}")
    return np.ascontiguousarray(rgb)


def largest_first(faces: Sequence[Face]) -> list[Face]:
    """Faces by their size; of equal ones the left one first."""
    return sorted(faces, key=lambda face: (-face.area, face.box[0]))


def similarity(points: NDArray[np.floating], target: NDArray[np.floating]) -> NDArray[np.float64]:
    """The turn, scale and shift (2 3) that brings `points` (n 2) nearest to `target` (n 2).

    Least squares after Umeyama (1991). Points that are NaN are left out.

    Raises:
        InputError: fewer than two points are known, or all of them are one.
    """
    known = np.isfinite(points).all(1)
    p, q = points[known].astype(np.float64), target[known].astype(np.float64)
    centred = p - p.mean(0) if len(p) else p
    spread = float((centred**2).sum())
    if len(p) < 2 or spread < 1e-9:
        raise InputError("a face with fewer than two keypoints apart cannot be aligned")
    # In the plane a similarity is one complex number: w = sum(conj(z) u) / sum |z|^2.
    z, u = centred @ [1, 1j], (q - q.mean(0)) @ [1, 1j]
    w = (z.conj() * u).sum() / spread
    turn = np.array([[w.real, -w.imag], [w.imag, w.real]])
    return np.column_stack([turn, q.mean(0) - turn @ p.mean(0)])


def warped(rgb: Picture, matrix: NDArray[np.float64], side: int) -> Picture:
    """`side` x `side` pixels of a picture, each pixel p of which goes to `matrix` (2 3) p."""
    inverse = np.linalg.inv(np.vstack([matrix, [0.0, 0.0, 1.0]]))
    # Pillow counts from pixels' corners, keypoints and the template from their middles.
    inverse[:2, 2] += 0.5 - 0.5 * inverse[:2, :2].sum(1)
    return np.asarray(
        Image.fromarray(rgb).transform(
            (side, side), Image.Transform.AFFINE, inverse[:2].ravel().tolist(),
            Image.Resampling.BILINEAR,
        )
    )  # fmt: skip


def aligned(rgb: Picture, face: Face, side: int = TEMPLATE_SIDE) -> Picture:
    """A face turned upright and cut out, side x side, with its keypoints where `TEMPLATE` says.

    Raises:
        InputError: too few of its keypoints are known.
    """
    target = TEMPLATE * (side / TEMPLATE_SIDE)
    return warped(checked(rgb), similarity(face.keypoints, target), side)


def package_folder(package: str, *, extra: str, what: str) -> Path:
    """Where a package's files lie; the package itself is not imported.

    Raises:
        MissingExtraError: it is not installed.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError(package, extra=extra, what=what)
    return Path(next(iter(spec.submodule_search_locations)))
