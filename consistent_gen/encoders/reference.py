"""Is a picture good enough to be somebody's reference? And the line about consent.

`check_reference` changes nothing and asks nobody; what it found is for the command line, the server
and the studio to show.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from consistent_gen.checkpoints import read_json, write_json
from consistent_gen.encoders.face_story import StoryFaces
from consistent_gen.encoders.faces import Box, FaceAnalyzer, Picture
from consistent_gen.errors import CheckpointError, InputError
from consistent_gen.inputs import open_picture

LEAST_SIDE = 64  # pixels of a picture's shorter side
LEAST_SUBJECT = 32  # pixels of a subject's longer side: what is smaller has no details
BLUR_SIDE = 128  # pixels of the crop in which sharpness is measured
# See `sharpness`. Four photographs and fourteen story-world pictures have 0.32 to 0.85 as they are,
# 0.11 to 0.23 under a blur of 2 % of the subject's size, 0.05 to 0.15 under one of 4 %.
LEAST_SHARPNESS = 0.12
CONSENT = (
    "This is a picture of a real person. Use it only if that person agrees to be drawn from it, "
    "or is you."
)
CONSENT_FILE = "consent.json"


@dataclass(frozen=True, kw_only=True)
class ReferenceSubject:
    """One subject that could be meant: its box in pixels, how sure the backend is, in [0, 1], and
    how sharp it is (`sharpness`).
    """

    box: Box
    score: float
    sharpness: float


@dataclass(frozen=True, kw_only=True)
class ReferenceCheck:
    """What a reference picture holds.

    width, height: in pixels. subjects: from left to right. chosen: which of them is taken, None
    where there is none or nobody has said. problems: why the picture cannot be used, a sentence
    each. warnings: why it may disappoint. question: to ask when several could be meant, else "".
    backend, encoder_id: what looked. real_person: whether `CONSENT` has to be said.
    """

    width: int
    height: int
    subjects: tuple[ReferenceSubject, ...]
    chosen: int | None
    problems: tuple[str, ...]
    warnings: tuple[str, ...]
    question: str
    backend: str
    encoder_id: str
    real_person: bool

    @property
    def usable(self) -> bool:
        """Whether one subject is known that can be read."""
        return not self.problems and self.chosen is not None


def check_reference(
    given: Path | bytes, analyzer: FaceAnalyzer, *, which: int | None = None
) -> ReferenceCheck:
    """Look at a reference picture.

    Args:
        given: a PNG, JPEG or WebP file, or its bytes.
        analyzer: the backend that looks.
        which: the subject that is meant, counted from 0 at the left.

    Raises:
        InputError: the file cannot be read as a picture, or there is no such subject.
    """
    picture = np.asarray(open_picture(given), np.uint8)
    height, width = picture.shape[:2]
    noun = "face" if analyzer.realistic else "subject"
    problems: list[str] = []
    if min(width, height) < LEAST_SIDE:
        problems.append(
            f"the picture has {width} x {height} pixels; give one of {LEAST_SIDE} or more a side"
        )
        subjects: tuple[ReferenceSubject, ...] = ()
    else:
        subjects = tuple(_subjects(picture, analyzer))
        if not subjects:
            problems.append(f"no {noun} was found in it; give a picture that shows one clearly")
    if which is not None and not 0 <= which < max(1, len(subjects)):
        raise InputError(
            f"{noun} {which + 1} was asked for, and the picture shows {len(subjects)}; "
            f"expected 1 to {len(subjects)}"
        )
    chosen = which if subjects and which is not None else 0 if len(subjects) == 1 else None
    question = ""
    if len(subjects) > 1 and chosen is None:
        question = f"It shows {len(subjects)} {noun}s. Which one is meant, counted from the left?"
    one = None if chosen is None else subjects[chosen]
    return ReferenceCheck(
        width=width, height=height, subjects=subjects, chosen=chosen, problems=tuple(problems),
        warnings=() if one is None else _warnings(one, noun), question=question,
        backend=type(analyzer).__name__, encoder_id=analyzer.encoder_id,
        real_person=analyzer.realistic and bool(subjects),
    )  # fmt: skip


def sharpness(rgb: Picture, box: Box) -> float:
    """The steepest slope between neighbouring pixels inside a box (99.5 % are less), per contrast
    of what is there. What is larger than `BLUR_SIDE` is made smaller first: a network sees no more.
    """
    height, width = rgb.shape[:2]
    x0, y0, x1, y1 = (round(v) for v in box)
    crop = rgb[max(0, y0) : min(height, y1), max(0, x0) : min(width, x1)]
    if min(crop.shape[:2]) < 4:
        return 0.0
    grey = Image.fromarray(crop).convert("L")
    if max(grey.size) > BLUR_SIDE:
        grey.thumbnail((BLUR_SIDE, BLUR_SIDE), Image.Resampling.BOX)
    values = np.asarray(grey, np.float32)
    low, high = np.percentile(values, (2, 98))
    if high - low < 8.0:
        return 0.0  # nothing but one tone
    slopes = np.concatenate([np.abs(np.diff(values, axis=i)).ravel() for i in (0, 1)])
    return float(np.percentile(slopes, 99.5) / (high - low))


def _subjects(picture: Picture, analyzer: FaceAnalyzer) -> Sequence[ReferenceSubject]:
    # In story-world pictures all of the figure is the reference, in photographs the face.
    seen: Sequence[tuple[Box, float]]
    if isinstance(analyzer, StoryFaces):
        seen = [(one.box, one.score) for one in analyzer.subjects(picture)]
    else:
        seen = [(one.box, one.score) for one in analyzer.analyze(picture)]
    return [
        ReferenceSubject(box=box, score=score, sharpness=sharpness(picture, box))
        for box, score in sorted(seen, key=lambda pair: pair[0][0])
    ]


def _warnings(subject: ReferenceSubject, noun: str) -> tuple[str, ...]:
    x0, y0, x1, y1 = subject.box
    found = []
    if max(x1 - x0, y1 - y0) < LEAST_SUBJECT:
        found.append(
            f"the {noun} is {round(max(x1 - x0, y1 - y0))} pixels large; details of it will be "
            "lost. A larger one is better"
        )
    if subject.sharpness < LEAST_SHARPNESS:
        found.append(f"the {noun} is blurred; a sharper picture is better")
    return tuple(found)


def consented(project: Path) -> bool:
    """Whether `CONSENT` has been agreed to in a project (a folder of the user's).

    Raises:
        CheckpointError: the project's note of it is damaged.
    """
    note = project / CONSENT_FILE
    if not note.exists():
        return False
    content = read_json(note)
    if not isinstance(content, dict):
        raise CheckpointError(f"{note} is not what was written there; delete it to be asked again")
    return content.get("line") == CONSENT


def give_consent(project: Path) -> None:
    """Note in a project that `CONSENT` was agreed to; another wording will be asked again.

    Raises:
        OutputError: the note cannot be written.
    """
    write_json(project / CONSENT_FILE, {"line": CONSENT})
