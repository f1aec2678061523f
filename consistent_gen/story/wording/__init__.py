"""A writer's own words: what a model can draw of them, and what became of every word.

`word_story` reads a whole story at once, from a hand-written lexicon (`lexicon.txt`), without
torch and without a model: it needs a `Vocabulary` alone. What cannot be drawn is told, never
dropped in silence.
"""

from __future__ import annotations

from consistent_gen.story.wording.types import SCHEMA, TextWording, Word, Wording
from consistent_gen.story.wording.vocabulary import Vocabulary, read_vocabulary, vocabulary_of
from consistent_gen.story.wording.words_of_story import word_story

__all__ = [
    "SCHEMA",
    "TextWording",
    "Vocabulary",
    "Word",
    "Wording",
    "read_vocabulary",
    "vocabulary_of",
    "word_story",
]
