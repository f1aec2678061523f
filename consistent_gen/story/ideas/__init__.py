"""From an idea in a sentence to an editable story: by templates, or by a language model.

`write_story` needs a `Vocabulary` alone: nothing is loaded, and without a language model nothing
leaves this machine. The same idea and seed give the same story.
"""

from __future__ import annotations

from consistent_gen.story.ideas.plots import FEWEST_FRAMES, MOST_FRAMES
from consistent_gen.story.ideas.reading import MAX_IDEA
from consistent_gen.story.ideas.writing import TEMPLATES, WrittenStory, write_story

__all__ = [
    "FEWEST_FRAMES",
    "MAX_IDEA",
    "MOST_FRAMES",
    "TEMPLATES",
    "WrittenStory",
    "write_story",
]
