"""References: earlier pictures of the characters are given to an edit model, as its input.

What many do today without any library: a model that was trained to change a given picture (FLUX.1
Kontext, arXiv 2506.15742; FLUX.2 Klein) is given a picture of the character and told the next
scene. Nothing in the model is changed. Its network reads the clean latent of the picture as further
tokens behind its own, whose positions have another number on the first axis.

Each character is given to its frames by a portrait, which is drawn and not shown, or by a picture
of the writer's. Frames of several characters are given one picture of each: to Kontext side by side
as if in one wide picture, to Klein each as a picture of its own. Once there is a frame that shows
the same ones together, later ones get that.

Ours is one thing: what is given are latents as they were drawn, not pictures that were rounded to
bytes and encoded again.

An added frame costs one denoiser call a step, with as many tokens more as the pictures have. Models
that draw from words alone take no pictures and are refused.

Settings:

together: whether the first frame of several characters is given to later ones. portrait: whether
characters are given by portraits; otherwise by frames of the story where they can be, which saves a
frame each (see `settings.Topology`).
"""

from __future__ import annotations

from consistent_gen.attention.settings import Mix, Recipe, Rule, Select, Topology, Window

RECIPE = Recipe(
    name="references",
    rules=(
        Rule(
            window=Window(blocks=()),  # no layer takes part
            topology=Topology(anchors=1, together=True),
            select=Select(tokens="all"),
            mix=Mix(keys="pictures"),
        ),
    ),
    settings={"together": ("*.topology.together",), "portrait": ("*.topology.portrait",)},
)
