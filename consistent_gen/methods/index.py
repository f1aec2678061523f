"""Consistency methods by name: one paper, one file beside this one, one `Recipe`.

`METHODS` is what `--method` and the `method:` of a story file choose from.
"""

from __future__ import annotations

METHODS: dict[str, str] = {
    "consistory": "consistent_gen.methods.consistory:RECIPE",
    "consistyle": "consistent_gen.methods.consistyle:RECIPE",
    "head_start": "consistent_gen.methods.head_start:RECIPE",
    "references": "consistent_gen.methods.references:RECIPE",
    "story_diffusion": "consistent_gen.methods.story_diffusion:RECIPE",
    "style_aligned": "consistent_gen.methods.style_aligned:RECIPE",
    "vanilla": "consistent_gen.methods.vanilla:RECIPE",
}
DEFAULT_METHOD = "head_start"
# Those that share attention, or nothing, which every model can; the others need an edit model.
FOR_EVERY_MODEL = tuple(name for name in METHODS if name != "references")
