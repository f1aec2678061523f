"""Consistent characters in a user's own diffusers pipeline.

    with consistent_gen.share(pipe, "consistyle") as story:
        hero = story.anchor(["a fox in a meadow", "a fox, portrait"], [1, 2], subject="fox")
        picture = story.frame("a fox reading in a library", seed=3, subjects=[hero])
        hero.save("fox.json")

- `contract` says which pipelines, schedulers and options can take part; all others are refused.
- `calls` reads from each denoiser call which row is whose, and at which step and noise level.
- `settings` is what anchors and their readers must have in common.
- `story` is what users hold.
"""

from consistent_gen.pipeline.story import PipelineStory, share

__all__ = ["PipelineStory", "share"]
