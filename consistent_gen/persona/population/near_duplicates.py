"""The gate against near-duplicates: 64-bit SimHash of character 3-grams, Hamming distance <= 3.

As in HACHIMI (arXiv 2603.04855): bits of the md5 of each 3-gram vote, and a text is refused when
its hash is within 3 bits of an accepted one. Theirs compares with every accepted hash; ours asks an
index, because that grows with the square: 64 bits in five blocks, of which two agree wherever at
most three bits differ, so it is enough to look among those that share a pair of blocks.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

BITS = 64
DISTANCE = 3
_BLOCKS = ((0, 13), (13, 26), (26, 39), (39, 52), (52, 64))
_PAIRS = tuple(itertools.combinations(_BLOCKS, 2))
_FEWEST_NEW = 4_096  # hashes that are compared one by one before they are sorted in
_MOST_GRAMS = 200_000  # of which the votes are kept

Hashes = NDArray[np.uint64]


class SimHash:
    """Texts to 64-bit hashes; the votes of frequent 3-grams are kept between texts."""

    def __init__(self) -> None:
        self._rows: dict[str, int] = {}
        self._votes: NDArray[np.int8] = np.empty((1_024, BITS), np.int8)

    def __call__(self, text: str) -> int:
        """The hash of a text; case and white space do not count. "" is 0."""
        plain = re.sub(r"\s+", " ", text.casefold()).strip()
        if not plain:
            return 0
        grams = [plain[i : i + 3] for i in range(max(1, len(plain) - 2))]
        if len(self._rows) > _MOST_GRAMS:
            self._rows.clear()
        rows = [self._rows.get(gram, -1) for gram in grams]
        if -1 in rows:
            rows = [self._row(gram) for gram in grams]
        total = self._votes[rows].sum(axis=0, dtype=np.int32)
        return int.from_bytes(np.packbits(total > 0).tobytes(), "big")

    def _row(self, gram: str) -> int:
        row = self._rows.setdefault(gram, len(self._rows))
        if row == len(self._votes):
            self._votes = np.concatenate([self._votes, np.empty_like(self._votes)])
        if row == len(self._rows) - 1:
            digest = hashlib.md5(gram.encode("utf-8"), usedforsecurity=False).digest()[:8]
            self._votes[row] = (
                np.unpackbits(np.frombuffer(digest, np.uint8)).astype(np.int8) * 2 - 1
            )
        return row


class SimHashGate:
    """Accepts a hash unless one within `DISTANCE` bits was accepted before.

    New hashes are compared one by one; when they are many they are sorted into an index, one order
    for each pair of blocks. n hashes cost about n log n in all.
    """

    def __init__(self, accepted: Iterable[int] = ()) -> None:
        known = np.fromiter(accepted, np.uint64)
        self._sorted: list[tuple[NDArray[np.uint64], Hashes]] = []
        self._size = 0
        self._new: Hashes = np.empty(_FEWEST_NEW, np.uint64)
        self._count = 0
        self._index(known)

    def __len__(self) -> int:
        return self._size + self._count

    def near(self, value: int) -> int | None:
        """An accepted hash within the distance, None where there is none."""
        wanted = np.uint64(value)
        for pair, (keys, hashes) in zip(_PAIRS, self._sorted, strict=False):
            key = np.uint64(_key(value, pair))
            low = int(keys.searchsorted(key))
            if low == len(keys) or keys[low] != key:
                continue
            high = int(keys.searchsorted(key, side="right"))
            found = _within(hashes[low:high], wanted)
            if found is not None:
                return found
        return _within(self._new[: self._count], wanted)

    def admit(self, value: int) -> bool:
        """Whether it is far from all that were accepted; it counts as accepted from then on."""
        if self.near(value) is not None:
            return False
        if self._count == len(self._new):
            if self._count >= max(_FEWEST_NEW, self._size // 16):
                self._index(self._new[: self._count])
                self._count = 0
            else:
                self._new = np.concatenate([self._new, np.empty_like(self._new)])
        self._new[self._count] = np.uint64(value)
        self._count += 1
        return True

    def _index(self, added: Hashes) -> None:
        known = np.concatenate([self._sorted[0][1], added]) if self._sorted else added.copy()
        self._size, self._sorted = len(known), []
        for pair in _PAIRS if len(known) else ():
            keys = _key(known, pair)
            order = np.argsort(keys, kind="stable")
            self._sorted.append((keys[order], known[order]))


def _key(value: Any, pair: tuple[tuple[int, int], tuple[int, int]]) -> Any:
    """The bits of two blocks side by side, of one hash or of an array of them."""
    (a, b), (c, d) = pair
    first = (value >> a) & ((1 << (b - a)) - 1)
    return (first << (d - c)) | ((value >> c) & ((1 << (d - c)) - 1))


def _within(hashes: Hashes, wanted: np.uint64) -> int | None:
    near = np.flatnonzero(np.bitwise_count(hashes ^ wanted) <= DISTANCE)
    return int(hashes[near[0]]) if len(near) else None
