"""The engine: one denoising loop over per-frame states, with pictures that can be drawn again.

The names below are imported when they are first used: the command line lists the samplers in its
help, and that must load neither torch nor numpy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from consistent_gen.attention.rows import Call, Row
    from consistent_gen.engine.coupling import Coupling
    from consistent_gen.engine.events import Event, FrameDone, FrameError, Started, Step
    from consistent_gen.engine.exactness import DEFAULT_BUCKET, profile_buckets
    from consistent_gen.engine.graph import Choose, Group, leaders_first
    from consistent_gen.engine.loop import Engine
    from consistent_gen.engine.metadata import read_png, write_png
    from consistent_gen.engine.replaying import ReplayResult, redraw, replay
    from consistent_gen.engine.request import FrameRequest, Subject
    from consistent_gen.engine.state import FrameState

_NAMES = {
    "attention.rows": ("Call", "Row"),
    "engine.coupling": ("Coupling",),
    "engine.events": ("Event", "FrameDone", "FrameError", "Started", "Step"),
    "engine.exactness": ("DEFAULT_BUCKET", "profile_buckets"),
    "engine.loop": ("Engine",),
    "engine.metadata": ("read_png", "write_png"),
    "engine.graph": ("Choose", "Group", "leaders_first"),
    "engine.replaying": ("ReplayResult", "redraw", "replay"),
    "engine.request": ("FrameRequest", "Subject"),
    "engine.state": ("FrameState",),
}

__all__ = [
    "DEFAULT_BUCKET",
    "Call",
    "Choose",
    "Coupling",
    "Engine",
    "Event",
    "FrameDone",
    "FrameError",
    "FrameRequest",
    "FrameState",
    "Group",
    "ReplayResult",
    "Row",
    "Started",
    "Step",
    "Subject",
    "leaders_first",
    "profile_buckets",
    "read_png",
    "redraw",
    "replay",
    "write_png",
]


def __getattr__(name: str) -> Any:
    module = next((module for module, names in _NAMES.items() if name in names), None)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    # Kept here, so that the function `replay` is found and not the module of its name.
    found = getattr(importlib.import_module(f"consistent_gen.{module}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
