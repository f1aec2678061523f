"""What a story file says, as frozen values. Every part remembers the line it came from."""

from __future__ import annotations

from dataclasses import dataclass, field


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
    line: int = 0


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One entry of `frames:`. `{name}` in `prompt` is a character; readers see `caption`."""

    prompt: str
    caption: str | None = None
    style: str | None = None
    seed: int | None = None
    negative: str = ""
    line: int = 0
    lines: dict[str, int] = field(default_factory=dict)

    def line_of(self, key: str) -> int:
        """The line on which `key` of this frame was written, or the frame's first line."""
        return self.lines.get(key, self.line)


@dataclass(frozen=True, kw_only=True)
class Story:
    """A whole story file. None means "not said": the command line or the model decides.

    `size` is (width, height) in pixels. `source` is the file's name as error messages show it.
    """

    title: str
    style: str | None = None
    method: str | None = None
    seed: int | None = None
    steps: int | None = None
    guidance: float | None = None
    contours: float | None = None
    guidance_until: float | None = None
    scheduler: str | None = None
    size: tuple[int, int] | None = None
    characters: dict[str, Character] = field(default_factory=dict)
    frames: tuple[Frame, ...] = ()
    source: str = "<story>"
    lines: dict[str, int] = field(default_factory=dict)

    def line_of(self, key: str) -> int:
        """The line on which the top-level `key` was written, or 1."""
        return self.lines.get(key, 1)
