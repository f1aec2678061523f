"""Consistency methods by name: one paper, one file.

`METHODS` is what `--method` and the `method:` of a story file choose from.
"""

from __future__ import annotations

METHODS: dict[str, str] = {
    "consistory": "consistent_gen.methods.consistory:ConsiStory",
    "consistyle": "consistent_gen.methods.consistyle:ConsiStyle",
    "head_start": "consistent_gen.methods.head_start:HeadStart",
    "story_diffusion": "consistent_gen.methods.story_diffusion:StoryDiffusion",
    "style_aligned": "consistent_gen.methods.style_aligned:StyleAligned",
    "vanilla": "consistent_gen.methods.vanilla:Vanilla",
}
DEFAULT_METHOD = "head_start"
