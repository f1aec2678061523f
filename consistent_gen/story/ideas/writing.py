"""An idea becomes a story file's content, whoever writes it, in words that the model can draw."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from hashlib import sha256

from consistent_gen.draw_settings import MAX_SEED
from consistent_gen.errors import ConsistentGenError, InputError
from consistent_gen.language.models import LanguageModel
from consistent_gen.story.ideas.by_model import ask_for_story
from consistent_gen.story.ideas.plots import FEWEST_FRAMES, MOST_FRAMES
from consistent_gen.story.ideas.reading import check_idea, read_idea
from consistent_gen.story.ideas.templates import tell
from consistent_gen.story.types import Story
from consistent_gen.story.wording import Vocabulary, Wording, telling, word_story

TEMPLATES = "templates"
DEFAULT_FRAMES = 6


@dataclass(frozen=True)
class WrittenStory:
    """A story from an idea. notices: what the writer should know; by: who wrote it."""

    story: Story
    notices: tuple[str, ...] = ()
    by: str = TEMPLATES


def write_story(
    idea: str,
    vocabulary: Vocabulary,
    *,
    frames: int = DEFAULT_FRAMES,
    seed: int = 0,
    model: LanguageModel | None = None,
) -> WrittenStory:
    """A story of so many frames that tells `idea`, with captions and with prompts of words that
    the pictures' model knows.

    model: a language model that writes it. What it says is checked; it may mend it once, and then
    templates write the story, with a notice.

    Raises:
        InputError, LimitError: no idea, too long a one, or a number that is out of range.
    """
    idea = check_idea(idea)
    if not FEWEST_FRAMES <= frames <= MOST_FRAMES:
        raise InputError(f"a story has {FEWEST_FRAMES} to {MOST_FRAMES} frames, not {frames}")
    if not 0 <= seed <= MAX_SEED:
        raise InputError(f"a seed is a whole number from 0 to {MAX_SEED}, not {seed}")
    notices: list[str] = []
    if model is not None:
        try:
            story = ask_for_story(model, idea, frames, vocabulary)
            wording = _drawable(story, vocabulary, seed)
            return WrittenStory(wording.story, tuple(_lost(wording)), model.name)
        except ConsistentGenError as error:
            notices.append(f"{model.name} wrote no story ({error}); templates wrote this one")
    digest = sha256(f"{seed}|{frames}|{idea}".encode()).digest()
    rng = random.Random(int.from_bytes(digest[:8], "big"))
    read = read_idea(idea, vocabulary, rng)
    told = tell(read, frames, vocabulary, rng)
    wording = _drawable(replace(told, seed=seed), vocabulary, seed)
    return WrittenStory(wording.story, tuple(dict.fromkeys([*notices, *read.notices])))


def _drawable(story: Story, vocabulary: Vocabulary, seed: int) -> Wording:
    """The story with sheets for its characters, in the model's words, with room in each prompt.

    Raises:
        StoryError: a frame cannot be drawn.
    """
    wording = word_story(replace(story, seed=seed), vocabulary, sheets=True, seed=seed)
    telling.refuse(telling.problems(wording, vocabulary), story.place.source)
    return wording


def _lost(wording: Wording) -> list[str]:
    """What of a language model's words is not drawn, or drawn as something else."""
    found = [
        f"{text.place}: {word}"
        for text in wording.texts
        for word in text.words
        if word.fate in ("near", "left_out")
    ]
    return found[:12]
