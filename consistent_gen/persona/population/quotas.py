"""Quotas: how many personas of each kind there shall be, met to the last one.

Shares become whole numbers by largest remainders, so that every count differs from its exact share
by less than one and the sum is right. HACHIMI (arXiv 2603.04855) rounds and repairs on the largest
classes, which with many small classes takes from a few what rounding gave to all: a departure.
"""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from consistent_gen.errors import InputError
from consistent_gen.persona.persona import Json
from consistent_gen.persona.rules import Values, at


@dataclass(frozen=True)
class Quotas:
    """Shares of the values of one field, or of the combinations of several.

    cells: values of `fields`, in their order, to a share; shares count relative to their sum.
    """

    fields: tuple[str, ...]
    cells: Mapping[tuple[Json, ...], float]

    def __post_init__(self) -> None:
        name = " x ".join(self.fields) or "a quota"
        if not self.fields or not self.cells:
            raise InputError(f"{name} has no fields or no cells")
        wrong = [c for c in self.cells if len(c) != len(self.fields)]
        if wrong:
            raise InputError(f"cell {wrong[0]} of {name} needs {len(self.fields)} values")
        shares = list(self.cells.values())
        if not all(math.isfinite(s) and s >= 0.0 for s in shares) or not sum(shares) > 0.0:
            raise InputError(f"shares of {name} are {shares}; expected 0 or more, not all 0")

    @classmethod
    def even(cls, values: Mapping[str, Sequence[Json]]) -> Quotas:
        """All combinations of these values, in equal shares."""
        return cls(tuple(values), dict.fromkeys(itertools.product(*values.values()), 1.0))

    def counts(self, n: int) -> dict[tuple[Json, ...], int]:
        """How many of each cell make up `n`."""
        return allocate(n, self.cells)

    def cell(self, values: Values) -> tuple[Json, ...]:
        """The cell that some fields are in."""
        return tuple(at(values, name) for name in self.fields)


def allocate(n: int, shares: Mapping[tuple[Json, ...], float]) -> dict[tuple[Json, ...], int]:
    """Whole numbers that sum to `n`, each within one of its share; of equal remainders the earlier
    cell gets more.
    """
    total = sum(shares.values())
    exact = {cell: n * share / total for cell, share in shares.items()}
    counts = {cell: math.floor(value + 1e-9) for cell, value in exact.items()}
    order = sorted(exact, key=lambda cell: counts[cell] - exact[cell])  # stable
    for cell in order[: n - sum(counts.values())]:
        counts[cell] += 1
    return counts


@dataclass(frozen=True)
class Slot:
    """A persona to be made. number: from 1; fixed: what the quotas say of it."""

    number: int
    id: str
    fixed: Mapping[str, Json]


def schedule(n: int, quotas: Sequence[Quotas], *, seed: int, prefix: str = "persona") -> list[Slot]:
    """`n` slots whose fixed fields meet every quota exactly.

    Quotas are independent of each other: each is dealt out in an order of its own, so what is to
    hold together belongs into one quota of several fields.

    Raises:
        InputError: two quotas about one field.
    """
    named = Counter(name for quota in quotas for name in quota.fields)
    twice = sorted(name for name, times in named.items() if times > 1)
    if twice:
        raise InputError(f"several quotas about {', '.join(twice)}; put them into one")
    dealt: list[list[tuple[Json, ...]]] = []
    for quota in quotas:
        cells = [cell for cell, count in quota.counts(n).items() for _ in range(count)]
        random.Random(f"{seed}/{'/'.join(quota.fields)}").shuffle(cells)
        dealt.append(cells)
    digits = max(6, len(str(n)))
    slots = []
    for number in range(1, n + 1):
        fixed = {
            name: value
            for quota, cells in zip(quotas, dealt, strict=True)
            for name, value in zip(quota.fields, cells[number - 1], strict=True)
        }
        slots.append(Slot(number, f"{prefix}-{number:0{digits}d}", fixed))
    return slots
