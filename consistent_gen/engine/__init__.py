"""The engine: one denoising loop over per-frame states, with pictures that can be drawn again.

The names below are imported when they are first used: the command line lists the samplers in its
help, and that must not load torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from consistent_gen.engine.coupling import BatchLayout, Coupling, Row
    from consistent_gen.engine.events import Event, FrameDone, FrameError, Started, Step
    from consistent_gen.engine.exactness import DEFAULT_BUCKET, profile_buckets
    from consistent_gen.engine.loop import Engine
    from consistent_gen.engine.metadata import read_png, write_png
    from consistent_gen.engine.packing import Choose, Group, leaders_first
    from consistent_gen.engine.replay import ReplayResult, replay
    from consistent_gen.engine.request import FrameRequest, Subject
    from consistent_gen.engine.state import FrameState

_MODULES = {
    "DEFAULT_BUCKET": "exactness",
    "BatchLayout": "coupling",
    "Choose": "packing",
    "Coupling": "coupling",
    "Engine": "loop",
    "Event": "events",
    "FrameDone": "events",
    "FrameError": "events",
    "FrameRequest": "request",
    "FrameState": "state",
    "Group": "packing",
    "ReplayResult": "replay",
    "Row": "coupling",
    "Started": "events",
    "Step": "events",
    "Subject": "request",
    "leaders_first": "packing",
    "profile_buckets": "exactness",
    "read_png": "metadata",
    "replay": "replay",
    "write_png": "metadata",
}

__all__ = [
    "DEFAULT_BUCKET",
    "BatchLayout",
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
    "replay",
    "write_png",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    module = importlib.import_module(f"{__name__}.{_MODULES[name]}")
    # Kept here, so that the function `replay` is found and not the module of its name.
    found = globals()[name] = getattr(module, name)
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
