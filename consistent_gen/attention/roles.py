"""Who is drawn, and as what: the parts that frames and subjects play in a run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from consistent_gen.errors import InputError

MAX_STRENGTH = 100.0
_TWIN_MARK = "/twin"


@dataclass(frozen=True, kw_only=True)
class Subject:
    """Somebody whom a frame shows.

    tokens: where the encoded prompt speaks of it; position 0 is the start mark, so the first word
    of a prompt stands at 1.
    strength: weight of its shared keys beside a frame's own, 0 (off) to `MAX_STRENGTH`; 1 is the
    method as published, and k counts every shared key k times.
    beside: a further name of exports that are read, after those of the subject's own anchors: its
        own in the first frame of several together (see `beside`).
    """

    name: str
    tokens: tuple[int, ...] = ()
    strength: float = 1.0
    beside: str = ""

    @property
    def sources(self) -> tuple[str, ...]:
        """Whose exports are read, in order."""
        return (self.name, self.beside) if self.beside else (self.name,)

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

    @property
    def leaving(self) -> tuple[tuple[Subject, str], ...]:
        """The subjects that others read in this frame, each with the name of its exports."""
        if self.twin_of is not None:
            return ()
        if self.together is not None:
            names = [use.name for use in self.subjects]
            return tuple((use, beside(use.name, names)) for use in self.subjects)
        return () if self.anchor is None else tuple((use, use.name) for use in self.subjects)

    @property
    def number(self) -> int:
        """Of its exports, among those that a frame can read of one subject."""
        return self.anchor or self.together or 0

    @property
    def reading(self) -> tuple[Subject, ...]:
        """The subjects that the frame reads; what others read does so at any strength."""
        whatever = self.anchor is not None or self.together is not None
        return tuple(use for use in self.subjects if whatever or use.strength > 0.0)


def beside(name: str, names: Iterable[str]) -> str:
    """What a subject's exports in the first frame of several subjects are called."""
    return f"{name} in {group_name(names)}"


def group_name(names: Iterable[str]) -> str:
    """The name of several subjects together, whatever their order."""
    return " & ".join(sorted(names))


def twin_id(frame: str) -> str:
    """The id of a frame's twin."""
    return frame + _TWIN_MARK


def is_twin(frame: str) -> bool:
    """Whether an id is a twin's."""
    return frame.endswith(_TWIN_MARK)
