"""What became of a writer's words: types that the command line, the server and a studio share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from consistent_gen.story.types import Story

SCHEMA = "consistent_gen.wording/1"
# kept: drawn as it says. same: another word for what is drawn. near: something like it is drawn.
# left_out: not drawn. speech: said by somebody, so not drawn either.
Fate = Literal["kept", "same", "near", "left_out", "speech"]


@dataclass(frozen=True)
class Word:
    """A word or phrase of a text, and what became of it.

    start, end: its characters in the text as written. drawn: what the model is told instead, ""
    for nothing. why: for people, "" where there is nothing to explain. nearest: for what was left
    out, what the model can draw that comes nearest.
    """

    start: int
    end: int
    said: str
    fate: Fate
    drawn: str = ""
    why: str = ""
    nearest: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "start": self.start,
            "end": self.end,
            "said": self.said,
            "fate": self.fate,
            "drawn": self.drawn,
            "why": self.why,
            "nearest": list(self.nearest),
        }

    def __str__(self) -> str:
        if self.fate == "left_out":
            hint = f"; nearest: {', '.join(self.nearest)}" if self.nearest else ""
            why = f" ({self.why})" if self.why else ""
            return f"{self.said!r} cannot be drawn by this model and was left out{why}{hint}"
        if self.fate == "speech":
            return f"{self.said!r} is {self.why or 'speech'} and not drawn"
        return f"{self.said!r} is drawn as {self.drawn!r}" + (f" ({self.why})" if self.why else "")


@dataclass(frozen=True)
class TextWording:
    """One text of a story: a prompt, a description, a negative prompt or a style.

    place: where it stands, as "frames[0].prompt" or "characters.Mia.description". line: in the
    file. drawn: the text that planning gets; the same as `written` where nothing had to change.
    words: every word that says something, in order. notices: what else a writer should know.
    """

    place: str
    line: int
    written: str
    drawn: str
    words: tuple[Word, ...] = ()
    notices: tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        """Whether the model gets another text."""
        return self.drawn != self.written

    @property
    def substitutions(self) -> tuple[Word, ...]:
        """Words that are drawn as something else."""
        return tuple(word for word in self.words if word.fate in ("same", "near"))

    @property
    def omissions(self) -> tuple[Word, ...]:
        """Words that are not drawn, speech aside."""
        return tuple(word for word in self.words if word.fate == "left_out")

    @property
    def speech(self) -> tuple[Word, ...]:
        """What somebody says: nothing to draw, and something for a bubble."""
        return tuple(word for word in self.words if word.fate == "speech")

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "place": self.place,
            "line": self.line,
            "written": self.written,
            "drawn": self.drawn,
            "words": [word.to_json() for word in self.words],
            "notices": list(self.notices),
        }


@dataclass(frozen=True)
class Wording:
    """A story in a writer's own words and in a model's.

    story: what to plan and draw. texts: what became of each text, in the order of the story.
    sheets: character -> what it looks like, factor by factor; of characters whose words were read.
    model: the model's name. open_vocabulary: whether it reads any word, so that nothing is mapped.
    """

    story: Story
    texts: tuple[TextWording, ...]
    sheets: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    model: str = ""
    open_vocabulary: bool = False

    @property
    def changed(self) -> bool:
        """Whether any text was changed."""
        return any(text.changed for text in self.texts)

    @property
    def drawable(self) -> bool:
        """Whether every frame has something to draw."""
        return all(frame.prompt.strip() for frame in self.story.frames)

    def text(self, place: str) -> TextWording:
        """The text at `place`. Raises ``KeyError`` where the story has none."""
        for text in self.texts:
            if text.place == place:
                return text
        raise KeyError(place)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values (schema `SCHEMA`)."""
        return {
            "schema": SCHEMA,
            "model": self.model,
            "open_vocabulary": self.open_vocabulary,
            "changed": self.changed,
            "drawable": self.drawable,
            "texts": [text.to_json() for text in self.texts],
            "sheets": {name: dict(sheet) for name, sheet in self.sheets.items()},
        }
