"""What every reward returns: one value per item, and whether it applies.

An item that could not be scored is not valid. It has no value, least of all zero, and means leave
it out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from consistent_gen.errors import InputError


@dataclass(frozen=True)
class Scores:
    """One value per item (a picture, a set of pictures) and whether it applies.

    values: NaN where not `valid`. parts: what the values are made of, each for the same items.
    """

    values: tuple[float, ...]
    valid: tuple[bool, ...]
    parts: Mapping[str, Scores] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.values) != len(self.valid):
            raise InputError(f"{len(self.values)} values and {len(self.valid)} marks of validity")

    @classmethod
    def of(
        cls, values: Iterable[float | None], parts: Mapping[str, Scores] | None = None
    ) -> Scores:
        """Scores from values of which None does not apply."""
        found = list(values)
        return cls(
            tuple(float("nan") if value is None else float(value) for value in found),
            tuple(value is not None for value in found),
            parts or {},
        )

    def optional(self) -> tuple[float | None, ...]:
        """The values, None where they do not apply."""
        return tuple(v if ok else None for v, ok in zip(self.values, self.valid, strict=True))

    def mean(self) -> float | None:
        """The mean of what applies; None when nothing does."""
        return mean(self.optional())


def mean(values: Iterable[float | None]) -> float | None:
    """The mean of what is there; None when nothing is."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
