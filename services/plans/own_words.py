"""A request in a client's own words becomes one in the model's, before anything is planned."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from consistent_gen.client.types import StoryIn, WordingOut
from consistent_gen.errors import InputError, all_of
from consistent_gen.story.plan import Model
from consistent_gen.story.script import CHARACTER_KEYS, FRAME_KEYS, STORY_KEYS, read_story
from consistent_gen.story.types import Story
from consistent_gen.story.wording import Wording, telling, vocabulary_of, word_story
from consistent_gen.story.yaml_tree import request_tree

_MOST = {"description": 400, "prompt": 800, "negative": 800}  # as the request's own fields


@dataclass(frozen=True)
class Worded:
    """`request` as the model gets it, and what became of the client's words; None where they were
    left alone. `problems` keep it from being drawn.
    """

    request: StoryIn
    wording: WordingOut | None
    problems: tuple[InputError, ...] = ()


def word_request(request: StoryIn, model: Model, pictured: Collection[str] = ()) -> Worded:
    """Put `request` into the model's words, as its `words` asks.

    pictured: characters who have reference pictures, which say what their words leave open.

    Raises:
        InputError: what cannot be drawn, all of it, with its places in the request.
    """
    worded = read_request(request, model, pictured)
    if worded.problems:
        raise all_of(worded.problems)
    return worded


def read_request(request: StoryIn, model: Model, pictured: Collection[str] = ()) -> Worded:
    """As `word_request`, but what cannot be drawn stands in `problems`.

    Raises:
        InputError: what needs no model to be wrong.
    """
    if request.words == "as_written":
        return Worded(request, None)
    vocabulary = vocabulary_of(model)
    # That they are there counts, not which ones.
    wording = word_story(story_of(request, dict.fromkeys(pictured, ("picture",))), vocabulary)
    wrong = telling.problems(wording, vocabulary, strict=request.words == "strict")
    return Worded(_drawn(request, wording), _told(wording), tuple(wrong))


def story_of(request: StoryIn, references: Mapping[str, Sequence[str]]) -> Story:
    """The story that `request` tells. references: character -> names of picture files.

    Raises:
        InputError: what needs no model to be wrong, with its place in the request.
    """
    parts: dict[str, Any] = {
        "characters": {"__all__": set(CHARACTER_KEYS)},
        "frames": {"__all__": set(FRAME_KEYS)},
    }
    said = request.model_dump(include=dict.fromkeys(STORY_KEYS, True) | parts)
    for name, character in said["characters"].items():
        character["references"] = references.get(name)
    for frame in said["frames"]:
        frame |= {key: None for key, value in frame.items() if value == ""}
    return read_story(request_tree(said))


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
