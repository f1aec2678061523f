"""A story from an idea by a language model: one JSON object, checked, mended once."""

from __future__ import annotations

import json
from typing import Any

from consistent_gen.errors import InputError
from consistent_gen.language.models import LanguageModel, Message
from consistent_gen.story.script import read_story
from consistent_gen.story.types import Story
from consistent_gen.story.wording import Vocabulary, telling, word_story
from consistent_gen.story.wording.drawing_words import phrase, table
from consistent_gen.story.yaml_tree import request_tree

MAX_REPLY = 60_000  # characters
MAX_CHARACTERS = 6
TOKENS_PER_FRAME = 110
_FORM = """\
{"title": "...", "characters": {"Name": "what it looks like"}, "frames": [{"prompt": "{Name} \
waving in a forest at night", "caption": "..."}]}"""


def ask_for_story(model: LanguageModel, idea: str, frames: int, vocabulary: Vocabulary) -> Story:
    """Ask `model` for a story of `frames` frames; what is wrong with its answer is told once.

    Raises:
        InputError: the second answer is no such story either; says what is wrong.
        EndpointError, LimitError: it could not be asked.
    """
    messages = [
        Message("system", _instructions(frames, vocabulary)),
        Message("user", f"The idea: {idea}"),
    ]
    tokens = 400 + TOKENS_PER_FRAME * frames
    reply = model.chat(messages, max_tokens=tokens)
    try:
        return read_reply(reply, frames, vocabulary)
    except InputError as error:
        messages += [
            Message("assistant", reply[:MAX_REPLY].replace("\x00", "")),
            Message("user", f"That cannot be used: {error}. Answer with the whole JSON, mended."),
        ]
    return read_reply(model.chat(messages, max_tokens=tokens), frames, vocabulary)


def read_reply(reply: str, frames: int, vocabulary: Vocabulary) -> Story:
    """The story in a language model's answer.

    Raises:
        InputError: no JSON object, not the agreed form, another number of frames, or a frame of
            which nothing can be drawn.
    """
    tree = _json(reply)
    unknown = set(tree) - {"title", "characters", "frames"}
    if unknown:
        raise InputError(f"the keys are title, characters and frames, not {sorted(unknown)[0]!r}")
    try:
        story = read_story(request_tree(tree))
    except AssertionError:  # true, false: values that no story has
        raise InputError("titles, descriptions, prompts and captions are texts") from None
    if len(story.frames) != frames:
        raise InputError(f"{len(story.frames)} frames; {frames} are wanted")
    if len(story.characters) > MAX_CHARACTERS:
        raise InputError(f"{len(story.characters)} characters; at most {MAX_CHARACTERS}")
    if any(character.references for character in story.characters.values()):
        raise InputError("a character is a description alone")
    bare = [at for at, frame in enumerate(story.frames, 1) if not frame.caption]
    if bare:
        raise InputError(f"frame {bare[0]} has no caption")
    problems = telling.problems(word_story(story, vocabulary, sheets=True), vocabulary)
    telling.refuse(problems, None)
    return story


def _json(reply: str) -> dict[str, Any]:
    start, end = reply.find("{"), reply.rfind("}")
    if len(reply) > MAX_REPLY or not 0 <= start < end:
        raise InputError("there is no JSON object in the answer")
    try:
        found = json.loads(reply[start : end + 1])
    except (ValueError, RecursionError) as error:
        where = str(error) if isinstance(error, ValueError) else "nested too deeply"
        raise InputError(f"the JSON cannot be read ({where[:80]})") from None
    if not isinstance(found, dict):
        raise InputError("the JSON is no object")
    return found


def _instructions(frames: int, vocabulary: Vocabulary) -> str:
    """What the model is to write, and in which words where the pictures' model knows only some."""
    text = (
        "You write short picture stories for children in plain English. Answer with one JSON "
        f"object and nothing else:\n{_FORM}\n"
        f"Write exactly {frames} frames that tell the idea with a beginning, a problem, tries, a "
        "turn and a good end. A caption is one or two sentences for the reader. A prompt says "
        "who does what, where and when, for the illustrator; characters stand in it as {Name}. "
        "At most three characters, each described once, under characters."
    )
    if vocabulary.words is None:
        return text
    listed = "\n".join(
        f"{name}: {', '.join(_drawn(category, vocabulary))}"
        for name, category in (
            ("kinds of characters", "kind"), ("actions", "action"), ("places", "place"),
            ("weather and hours", "weather"), ("things", "prop"), ("views", "camera"),
            ("moods, before a name as in {happy Name}", "mood"),
        )
    )  # fmt: skip
    return (
        f"{text}\nThe illustrator knows only these words for prompts, one of each line a prompt:\n"
        f"{listed}\nDescriptions say a kind, a colour of fur or hair, and coloured clothes: "
        "a small brown bear wearing a red sweater."
    )


def _drawn(category: str, vocabulary: Vocabulary) -> list[str]:
    found = (phrase(category, value, vocabulary.knows) for value in table(category))
    return [text for text in found if text]
