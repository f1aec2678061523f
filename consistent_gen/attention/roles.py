"""Who is drawn, and as what: the parts that frames and subjects play in a run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from consistent_gen.errors import InputError

MAX_STRENGTH = 100.0


class Source(NamedTuple):
    """Where a subject's keys come from: its anchors, or the first frame of several subjects.

    among: in that first frame all of these, otherwise nobody.
    """

    subject: str
    among: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return f"{self.subject} in {group_name(self.among)}" if self.among else self.subject


@dataclass(frozen=True, kw_only=True)
class Subject:
    """Somebody whom a frame shows.

    tokens: where the encoded prompt speaks of it; position 0 is the start mark, so the first word
    of a prompt stands at 1.
    strength: weight of its shared keys beside a frame's own, 0 (off) to `MAX_STRENGTH`; 1 is the
    method as published, and k counts every shared key k times.
    beside: several subjects whose first frame together is read too, after the subject's anchors.
    """

    name: str
    tokens: tuple[int, ...] = ()
    strength: float = 1.0
    beside: frozenset[str] = frozenset()

    @property
    def sources(self) -> tuple[Source, ...]:
        """Whose exports are read, in order."""
        own = Source(self.name)
        return (own, Source(self.name, self.beside)) if self.beside else (own,)

    def __post_init__(self) -> None:
        if not 0.0 <= self.strength <= MAX_STRENGTH:
            raise InputError(
                f"the strength of {self.name!r} is {self.strength:g}; "
                f"expected 0 (off) to {MAX_STRENGTH:g}, 1 for the method as published"
            )


@dataclass(frozen=True, kw_only=True)
class FrameRole:
    """A frame's part in a run.

    anchor: its number among the anchors of all its subjects, None for all other frames.
    together: of the first frame of several subjects, the number of its exports, after those of
    their anchors; it reads these like any frame, and is read by frames of the same subjects.
    twin_of: the frame whose first, unshared pass this is.
    """

    frame: str
    subjects: tuple[Subject, ...] = ()
    anchor: int | None = None
    together: int | None = None
    twin_of: str | None = None

    def __post_init__(self) -> None:
        if self.anchor is not None and not self.subjects:
            raise InputError(f"an anchor shows a subject; {self.frame!r} has none")

    @cached_property
    def leaving(self) -> tuple[tuple[Subject, Source], ...]:
        """The subjects that others read in this frame, each with where they read it."""
        if self.twin_of is not None or (self.anchor is None and self.together is None):
            return ()
        among = frozenset[str]()
        if self.together is not None:
            among = frozenset(use.name for use in self.subjects)
        return tuple((use, Source(use.name, among)) for use in self.subjects)

    @property
    def number(self) -> int:
        """Of its exports, among those that a frame can read of one subject."""
        return self.anchor or self.together or 0

    @cached_property
    def reading(self) -> tuple[Subject, ...]:
        """The subjects that the frame reads; what others read does so at any strength."""
        whatever = self.anchor is not None or self.together is not None
        return tuple(use for use in self.subjects if whatever or use.strength > 0.0)


def group_name(names: Iterable[str]) -> str:
    """Several subjects in words, whatever their order."""
    return " & ".join(sorted(names))


def twin_id(frame: str) -> str:
    """The id of a frame's twin: a name only, `twin_of` says whose it is."""
    return frame + "/twin"
