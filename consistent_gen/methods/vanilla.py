"""No method: every frame is drawn alone. The baseline that every other method is measured against.

A character then stays the same only as far as its words fix it: what a description leaves open (the
exact hue, the proportions of a face) is drawn anew from each frame's own seed.
"""

from __future__ import annotations

from consistent_gen.attention.settings import Recipe

RECIPE = Recipe(name="vanilla")
