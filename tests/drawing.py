"""What tests of drawings have in common."""

from __future__ import annotations

from consistent_gen.engine import Engine, FrameDone, FrameError


def drain(engine: Engine) -> dict[str, FrameDone]:
    """Step until the engine is idle; finished frames by id. An error is raised."""
    found = {}
    while not engine.idle:
        for event in engine.step():
            if isinstance(event, FrameError):
                raise event.error
            if isinstance(event, FrameDone):
                found[event.id] = event
    return found
