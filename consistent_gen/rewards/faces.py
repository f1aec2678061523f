"""Likeness of faces: three numbers that only make sense together.

detection: share of expected faces that were found. likeness: similarity to the reference of those
that were found. intended: similarity where every missed face counts as a stranger's (the mean
impostor similarity), neither as 0 nor not at all, so that a method cannot gain by hiding faces.
Who is who in a picture with several faces is decided for all at once, by the best assignment.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from consistent_gen.rewards.base import Floats, Picture, mean
from consistent_gen.rewards.pairs import cosine


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
