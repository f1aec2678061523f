"""What a story says, as frozen values. Every part remembers the place it was said at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from consistent_gen.draw_settings import MAX_SEED, SettingFacts
from consistent_gen.models.loras import LoraFile

SEED = SettingFacts(kind=int, low=0, high=MAX_SEED, about="the story's seed")
STRENGTH = SettingFacts(kind=float, low=0, high=1, about="how strongly the method binds")


class SourcePlace(NamedTuple):
    """Where something is said, as errors name it: a line of a file, or without a line an option or
    a field of a request (`frames[2].prompt`).
    """

    source: str | None = None
    line: int | None = None

    @property
    def words(self) -> str:
        """The place without its file, for messages."""
        return f"on line {self.line}" if self.line else f"at {self.source}"


class PictureBox(NamedTuple):
    """A rectangle in shares of a picture: 0.5 0 1 1 is its right half."""

    x0: float
    y0: float
    x1: float
    y1: float

    @property
    def fits(self) -> bool:
        """Whether it is a rectangle within the picture."""
        return 0.0 <= self.x0 < self.x1 <= 1.0 and 0.0 <= self.y0 < self.y1 <= 1.0

    @property
    def middle(self) -> float:
        """How far from the left its middle is, 0 to 1."""
        return (self.x0 + self.x1) / 2


PLACES = {
    "left": PictureBox(0.0, 0.0, 0.5, 1.0),
    "middle": PictureBox(0.25, 0.0, 0.75, 1.0),
    "right": PictureBox(0.5, 0.0, 1.0, 1.0),
}


@dataclass(frozen=True, kw_only=True)
class Character:
    """One entry of `characters:`.

    `references` are picture paths as written (relative to the story file), or the bytes of pictures
    that lie nowhere, and `strength` in [0, 1] says how strongly they bind; both matter to methods
    that look at pictures and to no other.
    """

    name: str
    description: str
    references: tuple[str | bytes, ...] = ()
    strength: float | None = None
    place: SourcePlace = field(default=SourcePlace(), compare=False)


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One entry of `frames:`. `{name}` in `prompt` is a character; readers see `caption`. `boxes`
    say where characters stand, by name.
    """

    prompt: str
    caption: str | None = None
    style: str | None = None
    seed: int | None = None
    negative: str = ""
    boxes: Mapping[str, PictureBox] = field(default_factory=dict)
    place: SourcePlace = field(default=SourcePlace(), compare=False)
    places: Mapping[str, SourcePlace] = field(default_factory=dict, compare=False)

    def place_of(self, key: str) -> SourcePlace:
        """Where `key` of this frame is said, or where the frame begins."""
        return self.places.get(key, self.place)


@dataclass(frozen=True, kw_only=True)
class Story:
    """A whole story. None means "not said": the command line or the model decides.

    `settings` are those of `DrawSettings` that the story names, checked, by name. `loras` have
    paths as written, relative to the story file; they are for whoever loads the model.
    """

    title: str
    style: str | None = None
    method: str | None = None
    seed: int | None = None
    best_of: int | None = None
    mend: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    loras: tuple[LoraFile, ...] = ()
    characters: dict[str, Character] = field(default_factory=dict)
    frames: tuple[Frame, ...] = ()
    place: SourcePlace = field(default=SourcePlace(), compare=False)
    places: Mapping[str, SourcePlace] = field(default_factory=dict, compare=False)

    def place_of(self, key: str) -> SourcePlace:
        """Where the top-level `key` is said, or where the story begins."""
        return self.places.get(key, self.place)
