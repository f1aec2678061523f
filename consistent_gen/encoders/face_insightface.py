"""Faces of photographs with insightface, whose embeddings published identity adapters need.

The library is under MIT; its packs (`buffalo_l`, `antelopev2`) are for non-commercial research
only. They are neither shipped nor fetched: a user names the folder of one, and says that its terms
are met.
"""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from insightface.app import FaceAnalysis
from onnxruntime.capi.onnxruntime_pybind11_state import (
    Fail,
    InvalidArgument,
    InvalidGraph,
    InvalidProtobuf,
    NoSuchFile,
    RuntimeException,
)

from consistent_gen.encoders.faces import Face, Licence, Picture, checked, largest_first
from consistent_gen.errors import CheckpointError, InputError

SIDE = 640  # pixels that the detector looks at, as published adapters were trained
# insightface asserts that there is a detector; a damaged file is told by whoever meets it first.
UNREADABLE = (
    AssertionError, OSError, RuntimeError, ValueError, IndexError,
    Fail, InvalidArgument, InvalidGraph, InvalidProtobuf, NoSuchFile, RuntimeException,
)  # fmt: skip


class InsightFaces:
    """A pack's detector and recogniser: 512 numbers a face.

    `encoder_id` is the file of the recogniser: "insightface:w600k_r50" of `buffalo_l`,
    "insightface:glintr100" of `antelopev2`.

    Args:
        pack: the folder of a pack, with its .onnx files.
        accept_licence: that the use is one that the pack's terms allow.
        side: pixels of the square that the detector looks at.

    Raises:
        InputError: the folder is none, or the terms were not accepted; the message states them.
        CheckpointError: it holds no detector and recogniser, or damaged ones.
    """

    realistic = True
    licence = Licence(
        name="LicenseRef-insightface-noncommercial",
        commercial=False,
        text="insightface's model packs are for non-commercial research only, and so is what "
        "adapters that were trained on them draw.",
    )

    def __init__(self, pack: Path | str, *, accept_licence: bool = False, side: int = SIDE) -> None:
        folder = Path(pack).expanduser()
        if not folder.is_dir():
            raise InputError(
                f"{folder} is no folder; unpack a pack of insightface (buffalo_l, antelopev2) "
                "there. Packs are never fetched."
            )
        if not accept_licence:
            raise InputError(f"{self.licence.text} To use {folder}, say that you accept this.")
        self._app = _loaded(folder)
        self._app.prepare(ctx_id=-1, det_size=(side, side))
        recogniser = self._app.models["recognition"]
        self.encoder_id = f"insightface:{Path(recogniser.model_file).stem}"
        self.dimensions = int(recogniser.output_shape[-1])
        self._lock = threading.Lock()

    def analyze(self, rgb: Picture) -> list[Face]:
        """See `FaceAnalyzer`."""
        bgr = np.ascontiguousarray(checked(rgb)[..., ::-1])
        with self._lock, _quiet():
            found = self._app.get(bgr)
        return largest_first([self._face(one) for one in found])

    def _face(self, found: Any) -> Face:
        x0, y0, x1, y1 = (float(v) for v in found.bbox)
        return Face(
            box=(x0, y0, x1, y1),
            keypoints=np.asarray(found.kps, np.float32),
            score=float(found.det_score),
            raw=np.asarray(found.embedding, np.float32),
            encoder_id=self.encoder_id,
        )


def _loaded(folder: Path) -> Any:
    wanted = ["detection", "recognition"]
    try:
        with _quiet():
            app = FaceAnalysis(
                name=str(folder), allowed_modules=wanted, providers=["CPUExecutionProvider"]
            )
    except UNREADABLE as error:
        what = str(error).splitlines()[0] if str(error) else "no detector"
        raise CheckpointError(f"{folder} cannot be read as a pack of insightface: {what}") from None
    missing = [task for task in wanted if task not in app.models]
    if missing or not getattr(app.det_model, "use_kps", False):
        lacking = missing[0] if missing else "detector with keypoints"
        raise CheckpointError(f"{folder} holds no {lacking} model; expected a pack of insightface")
    return app


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """insightface calls what scikit-image has announced to drop; users can do nothing about it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield
