"""Who is drawn, and as what: the parts that frames and subjects play in a run."""

from __future__ import annotations

from dataclasses import dataclass

from consistent_gen.errors import InputError

MAX_STRENGTH = 100.0
_TWIN_MARK = "/twin"


@dataclass(frozen=True, kw_only=True)
class SubjectUse:
    """A subject in a frame. tokens: positions of its words in the encoded prompt.

    strength: weight of its shared keys beside a frame's own, 0 (off) to `MAX_STRENGTH`; 1 is the
    method as published, and k counts every shared key k times.
    """

    name: str
    tokens: tuple[int, ...] = ()
    strength: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.strength <= MAX_STRENGTH:
            raise InputError(
                f"the strength of {self.name!r} is {self.strength:g}; "
                f"expected 0 (off) to {MAX_STRENGTH:g}, 1 for the method as published"
            )


@dataclass(frozen=True, kw_only=True)
class FrameRole:
    """A frame's part in a run.

    anchor: its number among its one subject's anchors, None for frames that only read.
    twin_of: the frame whose first, unshared pass this is.
    """

    frame: str
    subjects: tuple[SubjectUse, ...] = ()
    anchor: int | None = None
    twin_of: str | None = None

    def __post_init__(self) -> None:
        if self.anchor is not None and len(self.subjects) != 1:
            names = ", ".join(use.name for use in self.subjects) or "none"
            raise InputError(f"an anchor shows exactly one subject; {self.frame!r} has: {names}")

    @property
    def reading(self) -> tuple[SubjectUse, ...]:
        """The subjects that the frame reads; anchors read each other at any strength."""
        return tuple(u for u in self.subjects if self.anchor is not None or u.strength > 0.0)


def twin_id(frame: str) -> str:
    """The id of a frame's twin."""
    return frame + _TWIN_MARK


def is_twin(frame: str) -> bool:
    """Whether an id is a twin's."""
    return frame.endswith(_TWIN_MARK)
