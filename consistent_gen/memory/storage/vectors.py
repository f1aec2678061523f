"""Vector spaces by name, exact search, and moving to a new embedder without a gap.

Vectors are derived data: text and pictures are the truth, and every space can be rebuilt. Vectors
of different spaces are never compared. A change of embedder fills a new space beside the old one,
which keeps answering until `Store.switch_space` turns to the new in one row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from threading import RLock
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from consistent_gen.errors import InputError, UnknownNameError
from consistent_gen.inputs import check_text
from consistent_gen.memory.data.records import Kind, utc_now
from consistent_gen.memory.data.store import Hit, Vector
from consistent_gen.memory.storage.database import UserDatabase
from consistent_gen.memory.storage.rows import Condition, chunks, marks
from consistent_gen.sqlite import micros, moment

MAX_DIMENSIONS = 8_192
_LITTLE = np.dtype("<f4")


class VectorTable(Protocol):
    """How one backend keeps and searches vectors; rows are record versions."""

    def put(self, space: str, vectors: Sequence[tuple[int, Vector]]) -> None:
        """Set the unit vectors of rows, replacing earlier ones; inside a transaction."""

    def fetch(self, space: str, rows: Sequence[int]) -> dict[int, Vector]:
        """The vectors of these rows."""

    def nearest(
        self,
        space: str,
        vector: Vector,
        kinds: Sequence[Kind],
        where: Condition,
        limit: int,
        each_kind: bool,
    ) -> tuple[Hit, ...]:
        """The rows of largest cosine that meet the condition; ties by row."""


def dimensions(db: UserDatabase, space: str) -> int:
    """Dimensions of a known space. Raises ``UnknownNameError``."""
    rows = db.rows("SELECT dimensions FROM spaces WHERE name = ?", (space,))
    if not rows:
        raise UnknownNameError(f"no vector space {space!r} here; create_space makes one")
    return int(rows[0][0])


def create_space(db: UserDatabase, space: str, size: int) -> None:
    """Register a space. Raises ``InputError`` when it exists with another size."""
    check_text(space, "name of a vector space", 200)
    if not space or not 1 <= size <= MAX_DIMENSIONS:
        raise InputError(f"a space has a name and 1 to {MAX_DIMENSIONS} dimensions; got {size}")
    with db.transaction():
        rows = db.rows("SELECT dimensions FROM spaces WHERE name = ?", (space,))
        if not rows:
            # A generation that was never used before: other processes may still hold the matrix
            # of a dropped space of this name.
            db.rows(
                "INSERT INTO spaces (name, dimensions, generation) VALUES (?, ?, ?)",
                (space, size, micros(utc_now())),
            )
        elif int(rows[0][0]) != size:
            raise InputError(
                f"space {space!r} has {rows[0][0]} dimensions, not {size}; "
                "name the new embedder's space differently"
            )


def unit(vector: Vector, size: int) -> Vector:
    """``vector`` as float32 of length 1. Raises ``InputError`` for a wrong shape, zero or NaN."""
    flat = np.asarray(vector, dtype=np.float32)
    if flat.shape != (size,):
        raise InputError(f"a vector of shape {flat.shape} came to a space of {size} dimensions")
    length = float(np.linalg.norm(flat.astype(np.float64)))
    if not np.isfinite(length) or length == 0.0:
        raise InputError("a vector must be finite and not zero")
    return np.asarray(flat / np.float32(length), dtype=np.float32)


@dataclass
class _KindVectors:
    """The vectors of one kind: row numbers, rising, and unit vectors, of which ``size`` are set."""

    size: int = 0
    rows: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    data: NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 0), np.float32))

    def extend(self, rows: NDArray[np.int64], data: NDArray[np.float32]) -> None:
        # Doubling keeps a growing space from being copied at every new vector.
        needed = self.size + len(rows)
        if needed > len(self.rows):
            room = max(needed, 2 * len(self.rows), 256)
            self.rows = np.resize(self.rows, room)
            grown = np.zeros((room, data.shape[1]), np.float32)
            if self.size:
                grown[: self.size] = self.data[: self.size]
            self.data = grown
        new = slice(self.size, needed)
        self.rows[new], self.data[new] = rows, data
        self.size = needed

    def scores(self, vector: Vector) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The row numbers and their cosines to a unit vector."""
        return self.rows[: self.size], self.data[: self.size] @ vector


@dataclass
class _Matrix:
    """A space in memory, kind by kind, so that a search reads the kinds that it asks for: what was
    read up to ``last``, valid for one ``generation``.
    """

    generation: int
    last: int = 0
    kinds: dict[Kind, _KindVectors] = field(default_factory=dict)

    def extend(self, rows: list[int], kinds: list[Kind], data: NDArray[np.float32]) -> None:
        numbers, named = np.array(rows, np.int64), np.array(kinds)
        for kind in dict.fromkeys(kinds):
            own = named == kind
            self.kinds.setdefault(kind, _KindVectors()).extend(numbers[own], data[own])


class BlobVectors:
    """Vectors as little-endian float32 BLOBs, searched exactly in memory.

    The matrix of a space is read once and then extended by newer rows; a removed or replaced
    vector raises the space's generation, which makes every process read it again.
    """

    def __init__(self, db: UserDatabase) -> None:
        self._db = db
        self._cache: dict[str, _Matrix] = {}
        self._lock = RLock()

    def put(self, space: str, vectors: Sequence[tuple[int, Vector]]) -> None:
        replaced = 0
        for some in chunks(row for row, _ in vectors):
            replaced += self._db.change(
                f"DELETE FROM vectors WHERE space = ? AND row_id IN ({marks(len(some))})",
                (space, *some),
            )
        self._db.many(
            "INSERT INTO vectors (row_id, space, data) VALUES (?, ?, ?)",
            [(row, space, v.astype(_LITTLE).tobytes()) for row, v in vectors],
        )
        if replaced:
            self._db.rows("UPDATE spaces SET generation = generation + 1 WHERE name = ?", (space,))

    def fetch(self, space: str, rows: Sequence[int]) -> dict[int, Vector]:
        return {
            int(row): np.frombuffer(data, _LITTLE).astype(np.float32)
            for some in chunks(rows)
            for row, data in self._db.rows(
                f"SELECT row_id, data FROM vectors WHERE space = ? "
                f"AND row_id IN ({marks(len(some))})",
                (space, *some),
            )
        }

    def nearest(
        self,
        space: str,
        vector: Vector,
        kinds: Sequence[Kind],
        where: Condition,
        limit: int,
        each_kind: bool,
    ) -> tuple[Hit, ...]:
        # First the database, then the matrices: the one order in which both are ever taken.
        with self._db.snapshot(), self._lock:
            known = self._matrix(space).kinds
            scored = [known[kind].scores(vector) for kind in dict.fromkeys(kinds) if kind in known]
        if not each_kind and len(scored) > 1:
            rows, scores = (np.concatenate(parts) for parts in zip(*scored, strict=True))
            order = np.argsort(rows, kind="stable")
            scored = [(rows[order], scores[order])]
        hits: list[Hit] = []
        for rows, scores in scored:
            hits += self._best_allowed(rows, scores, where, limit)
        return tuple(sorted(hits, key=lambda hit: -hit.score)) if each_kind else tuple(hits)

    def _best_allowed(
        self,
        rows: NDArray[np.int64],
        scores: NDArray[np.float32],
        where: Condition,
        limit: int,
    ) -> tuple[Hit, ...]:
        # Most candidates pass the condition, so a few are asked about first, then ever more.
        take = max(limit + 8, 32)
        while True:
            best = _best(scores, take)
            hits = self._allowed(rows[best], scores[best], where, limit)
            if len(hits) >= limit or take >= len(rows):
                return hits
            take *= 8

    def _allowed(
        self,
        rows: NDArray[np.int64],
        scores: NDArray[np.float32],
        where: Condition,
        limit: int,
    ) -> tuple[Hit, ...]:
        hits: list[Hit] = []
        by_row = dict(zip(rows.tolist(), scores.tolist(), strict=True))
        for some in chunks(rows.tolist()):
            found = {
                row: (str(id), kind, origin, moment(at), text)
                for row, id, kind, origin, at, text in self._db.rows(
                    # By row, not by kind and time: that would read half the table.
                    "SELECT r.row_id, r.id, r.kind, r.origin, r.valid_from, r.text "
                    "FROM records r NOT INDEXED "
                    f"WHERE r.row_id IN ({marks(len(some))}) AND {where.sql}",
                    (*some, *where.values),
                )
            }
            for row in some:
                if row in found and len(hits) < limit:
                    id, kind, origin, at, text = found[row]
                    hits.append(
                        Hit(id=id, kind=kind, score=by_row[row], origin=origin, at=at, text=text)
                    )
            if len(hits) >= limit:
                break
        return tuple(hits)

    def _matrix(self, space: str) -> _Matrix:
        ((generation,),) = self._db.rows("SELECT generation FROM spaces WHERE name = ?", (space,))
        matrix = self._cache.get(space)
        if matrix is None or matrix.generation != generation:
            matrix = self._cache[space] = _Matrix(int(generation))
        newer = self._db.rows(
            "SELECT v.seq, v.row_id, r.kind, v.data FROM vectors v "
            # The sign keeps the planner from the index by space, which would read all of it.
            "JOIN records r ON r.row_id = v.row_id WHERE +v.space = ? AND v.seq > ? "
            "ORDER BY v.seq",
            (space, matrix.last),
        )
        if newer:
            data = np.frombuffer(b"".join(row[3] for row in newer), _LITTLE)
            matrix.extend(
                [row[1] for row in newer],
                [row[2] for row in newer],
                data.reshape(len(newer), -1),
            )
            matrix.last = int(newer[-1][0])
        return matrix


def _best(scores: NDArray[np.float32], take: int) -> NDArray[np.intp]:
    """The ``take`` places of largest score in falling order; equal scores in place order."""
    places = np.arange(len(scores))
    if take < len(scores):
        places = np.flatnonzero(
            scores >= np.partition(scores, len(scores) - take)[len(scores) - take]
        )
    return places[np.argsort(-scores[places], kind="stable")]
