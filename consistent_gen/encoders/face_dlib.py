"""Faces of photographs with dlib: weights in the public domain, for commercial use too.

The detector is dlib's own (oriented gradients, frontal faces of some 40 pixels and more), the
landmarks are the five-point set and the recogniser is the residual network of
`face-recognition-models`. That package holds dlib's 68-point set as well, whose training pictures
exclude commercial use: it is never opened.
"""

from __future__ import annotations

import math
import threading
from dataclasses import replace

import dlib
import numpy as np

from consistent_gen.encoders.faces import (
    Face,
    FaceAnalyzer,
    Licence,
    Picture,
    checked,
    largest_first,
    package_folder,
)

# The detector's margin below which it mistakes patches on clothes for faces.
LEAST_MARGIN = 0.3
# Pictures of a shorter side than this are looked at in twice their size.
SMALL = 900
# dlib's authors: two faces nearer than this, by their raw embeddings, are one person's.
SAME_PERSON = 0.6


class DlibFaces:
    """dlib's detector, five-point landmarks and recogniser: 128 numbers a face.

    Args:
        finder: finds the faces instead of dlib's detector, which sees frontal ones only, and gives
            all five keypoints, of which dlib has three (`face_mesh.MeshFaces`).

    Raises:
        MissingExtraError: `face-recognition-models` is not installed.
    """

    encoder_id = "dlib:resnet_v1"
    dimensions = 128
    realistic = True
    licence = Licence(
        name="CC0-1.0",
        commercial=True,
        text="dlib's face networks (D. King) are in the public domain (CC0-1.0).",
    )

    def __init__(self, finder: FaceAnalyzer | None = None) -> None:
        self._finder = finder
        what = "reading faces with dlib"
        models = package_folder("face_recognition_models", extra="photos", what=what) / "models"
        self._detector = dlib.get_frontal_face_detector()
        self._points = dlib.shape_predictor(str(models / "shape_predictor_5_face_landmarks.dat"))
        self._recogniser = dlib.face_recognition_model_v1(
            str(models / "dlib_face_recognition_resnet_model_v1.dat")
        )
        self._lock = threading.Lock()  # dlib's networks keep what they computed last

    def analyze(self, rgb: Picture) -> list[Face]:
        """See `FaceAnalyzer`."""
        picture = checked(rgb)
        given = self._finder.analyze(picture) if self._finder is not None else None
        with self._lock:
            found = self._detect(picture) if given is None else given
            return largest_first([self._read(picture, face) for face in found])

    def _detect(self, picture: Picture) -> list[Face]:
        twice = int(min(picture.shape[:2]) < SMALL)
        boxes, margins, _ = self._detector.run(picture, twice, LEAST_MARGIN)
        return [
            Face(
                box=(box.left(), box.top(), box.right() + 1, box.bottom() + 1),
                keypoints=np.full((5, 2), np.nan, np.float32),
                score=1.0 / (1.0 + math.exp(-margin)),
                raw=None,
                encoder_id="",
            )
            for box, margin in zip(boxes, margins, strict=True)
        ]

    def _read(self, picture: Picture, face: Face) -> Face:
        """A face that was found, with what dlib says of it."""
        x0, y0, x1, y1 = (round(v) for v in face.box)
        shape = self._points(picture, dlib.rectangle(x0, y0, x1 - 1, y1 - 1))
        points = np.array([(p.x, p.y) for p in shape.parts()], np.float32)
        # Corners of the picture's right eye, of its left eye, base of the nose; no mouth.
        own = np.full((5, 2), np.nan, np.float32)
        own[:3] = points[2:4].mean(0), points[0:2].mean(0), points[4]
        return replace(
            face,
            keypoints=np.where(np.isnan(face.keypoints), own, face.keypoints),
            raw=np.array(self._recogniser.compute_face_descriptor(picture, shape), np.float32),
            encoder_id=self.encoder_id,
        )
