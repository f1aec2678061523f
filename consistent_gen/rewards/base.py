"""What every reward is: a callable from sets of pictures to one value a set, and its card.

A set that could not be scored is not valid. It has no value, least of all zero; means leave it out
and say why.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from consistent_gen.errors import InputError

Picture = NDArray[np.uint8]  # h w 3, sRGB
Plane = NDArray[np.bool_]  # h w
Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, kw_only=True)
class ImageSet:
    """Pictures that belong together, with all that a reward may want to know of them.

    pictures: n pictures, uint8 h w 3, of any sizes.
    prompts: n texts, or none at all.
    references: pictures of whom the set is to show; none if it is to agree with itself.
    masks: n planes (h w, bool) of the subject in each picture, or none at all.
    group: sets of one group are compared with each other (one prompt, several seeds).
    meta: anything else, for reports.

    Raises:
        InputError: what is given does not fit together.
    """

    pictures: tuple[Picture, ...]
    prompts: tuple[str, ...] = ()
    references: tuple[Picture, ...] = ()
    masks: tuple[Plane, ...] = ()
    group: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("prompts", "masks"):
            count = len(getattr(self, name))
            if count not in (0, len(self.pictures)):
                raise InputError(
                    f"{count} {name} for {len(self.pictures)} pictures; give one each or none"
                )
        for picture in (*self.pictures, *self.references):
            if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
                raise InputError(
                    f"a picture has shape {picture.shape} and type {picture.dtype}; "
                    "expected h w 3 of uint8"
                )
        for picture, mask in zip(self.pictures, self.masks, strict=False):
            if mask.shape != picture.shape[:2]:
                raise InputError(f"a mask has shape {mask.shape}; its picture {picture.shape[:2]}")


@dataclass(frozen=True)
class Scores:
    """One value per item (a picture, a set of pictures) and whether it applies.

    values: NaN where not `valid`. parts: what the values are made of, each for the same items.
    reasons: why an item is not valid; "" where it is, or nothing at all.
    """

    values: tuple[float, ...]
    valid: tuple[bool, ...]
    parts: Mapping[str, Scores] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.values) != len(self.valid):
            raise InputError(f"{len(self.values)} values and {len(self.valid)} marks of validity")

    @classmethod
    def of(
        cls,
        values: Iterable[float | None],
        parts: Mapping[str, Scores] | None = None,
        reasons: Iterable[str] = (),
    ) -> Scores:
        """Scores from values of which None does not apply; what is not finite does not either."""
        found = [None if v is None or not np.isfinite(v) else float(v) for v in values]
        return cls(
            tuple(float("nan") if value is None else value for value in found),
            tuple(value is not None for value in found),
            parts or {},
            tuple(reasons),
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


@dataclass(frozen=True, kw_only=True)
class MetricCard:
    """Where a number comes from, so that nobody has to guess.

    says: what it measures, in one sentence. range: lowest and highest value.
    symmetric: whether the order of the pictures is of no account. version: counts changes of
    meaning. features: the network or arithmetic behind it; sha256: of its weights, "" for
    arithmetic or for a network that is loaded from elsewhere. resolution, mask: what of a picture
    it sees. direction: which way is better. known_failure: when not to believe it.
    trained_on: whether anything that ships was trained or chosen by it.
    """

    name: str
    says: str
    range: tuple[float, float]
    symmetric: bool
    version: int
    features: str
    resolution: str
    mask: str
    direction: str
    known_failure: str
    trained_on: bool
    sha256: str = ""

    def plain(self) -> dict[str, Any]:
        """The card as JSON values."""
        return {f.name: getattr(self, f.name) for f in fields(self)} | {"range": list(self.range)}


class Reward(ABC):
    """A metric that may serve as a reward; its card says what it is."""

    card: MetricCard

    @property
    def name(self) -> str:
        """As in the card."""
        return self.card.name

    @property
    def range(self) -> tuple[float, float]:
        """Lowest and highest value."""
        return self.card.range

    @property
    def symmetric(self) -> bool:
        """Whether the order of the pictures is of no account."""
        return self.card.symmetric

    @property
    def version(self) -> int:
        """Counts changes of meaning."""
        return self.card.version

    def __call__(self, sets: Sequence[ImageSet]) -> Scores:
        """One value per set; `parts` holds what it is made of, `reasons` why there is none."""
        return scored(self.one(item) for item in sets)

    @abstractmethod
    def one(self, item: ImageSet) -> SetScore:
        """What one set gets."""


@dataclass(frozen=True)
class SetScore:
    """One set's value, None where there is none and `reason` says why; `parts` may be there."""

    value: float | None
    parts: Mapping[str, float | None] = field(default_factory=dict)
    reason: str = ""


def scored(found: Iterable[SetScore]) -> Scores:
    """Many sets' scores as one `Scores`."""
    scores = list(found)
    names = dict.fromkeys(name for score in scores for name in score.parts)
    parts = {name: Scores.of(score.parts.get(name) for score in scores) for name in names}
    return Scores.of((s.value for s in scores), parts, (s.reason for s in scores))
