"""A request in a client's own words becomes one in the model's, before anything is planned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from consistent_gen.client.types import StoryIn
from consistent_gen.client.wording_types import WordingOut
from consistent_gen.errors import InputError
from consistent_gen.story.plan import Model
from consistent_gen.story.script import parse_story
from consistent_gen.story.wording import Wording, telling, vocabulary_of, word_story
from services.plans.story_text import as_story_file, at_place

_MOST = {"description": 400, "prompt": 800, "negative": 800}  # as the request's own fields


@dataclass(frozen=True)
class Worded:
    """`request` as the model gets it, and what became of the client's words; None where they were
    left alone.
    """

    request: StoryIn
    wording: WordingOut | None


def word_request(request: StoryIn, model: Model) -> Worded:
    """Put `request` into the model's words, as its `words` asks.

    Raises:
        InputError: what cannot be drawn, with its place in the request.
    """
    if request.words == "as_written":
        return Worded(request, None)
    text, places = as_story_file(request, {})
    try:
        story = parse_story(text, source="")
        vocabulary = vocabulary_of(model)
        wording = word_story(story, vocabulary)
        strict = request.words == "strict"
        for error in telling.problems(wording, vocabulary, strict=strict)[:1]:
            raise error
    except InputError as error:
        raise at_place(error, places) from None
    return Worded(_drawn(request, wording), _told(wording))


def _drawn(request: StoryIn, wording: Wording) -> StoryIn:
    characters = {
        name: character.model_copy(
            update={"description": _short(wording.story.characters[name].description,
                                          character.description, "description")}
        )
        for name, character in request.characters.items()
    }  # fmt: skip
    frames = []
    for frame, drawn in zip(request.frames, wording.story.frames, strict=True):
        update = {
            "prompt": _short(drawn.prompt, frame.prompt, "prompt"),
            "negative": _short(drawn.negative, frame.negative, "negative"),
            "style": drawn.style,
        }
        frames.append(frame.model_copy(update=update))
    worded: dict[str, Any] = {"characters": characters, "frames": frames}
    return request.model_copy(update=worded | {"style": wording.story.style})


def _short(drawn: str, written: str, field: str) -> str:
    """Names written out in braces may exceed what a field holds: then nothing is changed."""
    return drawn if len(drawn) <= _MOST[field] else written


def _told(wording: Wording) -> WordingOut:
    return WordingOut.model_validate(wording.to_json())
