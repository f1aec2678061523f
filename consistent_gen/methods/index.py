"""Consistency methods by name: one paper, one file beside this one, one `Recipe`.

`METHODS` is what `--method` and the `method:` of a story file choose from.
"""

from __future__ import annotations

from collections.abc import Mapping

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
# Those that share attention, or nothing, which most models can; the others need an edit model.
FOR_EVERY_MODEL = tuple(name for name in METHODS if name != "references")


def why_not(method: str, unable: Mapping[str, str]) -> str | None:
    """Why a model cannot be drawn with by a method, or None. unable: see `Seam.unable`."""
    if method in FOR_EVERY_MODEL:
        return None if method == "vanilla" else unable.get("sharing")
    return unable.get("pictures")


def default_method(unable: Mapping[str, str]) -> str:
    """The method of a story that names none, for a model that is unable to so much."""
    return DEFAULT_METHOD if why_not(DEFAULT_METHOD, unable) is None else "references"
