"""Stories in pictures whose characters stay the same from frame to frame.

The names below are the public ones. Each is imported when it is first used, so that
``import consistent_gen`` loads neither torch nor diffusers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from consistent_gen.adapters.codec import load_adapter
    from consistent_gen.adapters.pipelines import adapt
    from consistent_gen.adapters.references import CharacterRef
    from consistent_gen.draw_settings import DrawSettings
    from consistent_gen.engine.loop import Engine
    from consistent_gen.engine.request import FrameRequest
    from consistent_gen.errors import (
        Cancelled,
        CheckpointError,
        ConsistentGenError,
        InputError,
        LimitError,
        MissingExtraError,
        OutputError,
        StoryError,
        UnknownNameError,
    )
    from consistent_gen.models import load_backbone
    from consistent_gen.models.backbone import Backbone
    from consistent_gen.pipeline.story import share
    from consistent_gen.story.draw import draw_story
    from consistent_gen.story.plan import plan_story
    from consistent_gen.story.script import load_story
    from consistent_gen.story.types import Story

__version__ = "0.1.0"

_PUBLIC = {
    "Backbone": "consistent_gen.models.backbone:Backbone",
    "Cancelled": "consistent_gen.errors:Cancelled",
    "CharacterRef": "consistent_gen.adapters.references:CharacterRef",
    "CheckpointError": "consistent_gen.errors:CheckpointError",
    "ConsistentGenError": "consistent_gen.errors:ConsistentGenError",
    "DrawSettings": "consistent_gen.draw_settings:DrawSettings",
    "Engine": "consistent_gen.engine.loop:Engine",
    "FrameRequest": "consistent_gen.engine.request:FrameRequest",
    "InputError": "consistent_gen.errors:InputError",
    "LimitError": "consistent_gen.errors:LimitError",
    "MissingExtraError": "consistent_gen.errors:MissingExtraError",
    "OutputError": "consistent_gen.errors:OutputError",
    "Story": "consistent_gen.story.types:Story",
    "StoryError": "consistent_gen.errors:StoryError",
    "UnknownNameError": "consistent_gen.errors:UnknownNameError",
    "adapt": "consistent_gen.adapters.pipelines:adapt",
    "draw_story": "consistent_gen.story.draw:draw_story",
    "load_adapter": "consistent_gen.adapters.codec:load_adapter",
    "load_backbone": "consistent_gen.models:load_backbone",
    "load_story": "consistent_gen.story.script:load_story",
    "plan_story": "consistent_gen.story.plan:plan_story",
    "share": "consistent_gen.pipeline.story:share",
}

__all__ = [
    "Backbone",
    "Cancelled",
    "CharacterRef",
    "CheckpointError",
    "ConsistentGenError",
    "DrawSettings",
    "Engine",
    "FrameRequest",
    "InputError",
    "LimitError",
    "MissingExtraError",
    "OutputError",
    "Story",
    "StoryError",
    "UnknownNameError",
    "__version__",
    "adapt",
    "draw_story",
    "load_adapter",
    "load_backbone",
    "load_story",
    "plan_story",
    "share",
]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from consistent_gen.registry import resolve

    found = globals()[name] = resolve(_PUBLIC, name)
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
