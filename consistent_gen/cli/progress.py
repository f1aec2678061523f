"""What a user sees while a story is drawn: a rich bar on stderr, so that stdout stays clean."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from consistent_gen.engine.events import Event, FrameDone, Step
from consistent_gen.story.plan import StoryPlan


def console() -> Console:
    """A console on stderr."""
    return Console(stderr=True)


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """A spinner with a few words; nothing when stderr is no terminal."""
    with console().status(what):
        yield


@contextmanager
def drawing_progress(plan: StoryPlan) -> Iterator[Callable[[Event], None]]:
    """A bar over all steps of all frames; gives the function to call with every event."""
    total = len(plan.frames)
    bar = Progress(
        TextColumn("drawing"),
        BarColumn(bar_width=None),
        TextColumn("{task.fields[done]}/" + str(total) + " frames"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console(),
    )
    with bar:
        task = bar.add_task("steps", total=total * plan.settings.steps, done=0)
        done = 0

        def on_event(event: Event) -> None:
            nonlocal done
            if isinstance(event, Step):
                bar.advance(task)
            elif isinstance(event, FrameDone):
                done += 1
                bar.update(task, done=done)

        yield on_event
