"""What became of the words of a story, as it travels over HTTP."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from consistent_gen.client.base import Output


class WordOut(Output):
    """A word or phrase. `start` and `end` are characters of the text as written; `drawn` is what
    the model is told instead; `nearest` is what it can draw, for a word that was left out.
    """

    start: int
    end: int
    said: str
    fate: Literal["kept", "same", "near", "left_out", "speech"]
    drawn: str = ""
    why: str = ""
    nearest: list[str] = Field(default_factory=list)


class TextWordingOut(Output):
    """One text of a story. `place` is where it stands: "frames[0].prompt"."""

    place: str
    written: str
    drawn: str
    words: list[WordOut] = Field(default_factory=list)
    notices: list[str] = Field(default_factory=list)


class WordingOut(Output):
    """A story in a writer's words and in a model's. `sheets`: what each character looks like, where
    its description was read; `problems`: what keeps the story from being drawn.
    """

    model: str
    open_vocabulary: bool = False
    changed: bool = False
    texts: list[TextWordingOut] = Field(default_factory=list)
    sheets: dict[str, dict[str, str]] = Field(default_factory=dict)
    problems: list[str] = Field(default_factory=list)
