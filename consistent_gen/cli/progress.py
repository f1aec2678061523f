"""What a user sees while a model is loaded and a story drawn: on stderr, so stdout stays clean."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from consistent_gen.engine.events import Event, FrameDone, Step
from consistent_gen.story.plan import StoryPlan

if TYPE_CHECKING:
    from consistent_gen.models.backbone import Backbone
    from consistent_gen.models.loras import LoraFile


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
    """A bar over all steps of all frames, or of all their candidates; gives the function to call
    with every event.
    """
    total = len(plan.frames) * plan.best_of
    what = "frames" if plan.best_of == 1 else "candidates"
    bar = Progress(
        TextColumn("drawing"),
        BarColumn(bar_width=None),
        TextColumn("{task.fields[done]}/" + f"{total} {what}"),
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
                done = min(done + 1, total)  # what others read is drawn once more
                bar.update(task, done=done)

        yield on_event


def load_model(
    path: str | None,
    attention_backend: str | None = None,
    dtype: str | None = None,
    loras: Sequence[LoraFile] = (),
    offload: str | None = None,
    *,
    silent: bool = False,
) -> Backbone:
    """The model in the folder `path`, or the shipped one, with the named attention kernel.

    dtype: the number format to compute in (see `runtime.dtype`). loras, offload: as in
    `models.load_backbone`. silent: do not say that it takes a while.

    Raises:
        As `models.load_backbone` and `attention.backends.select_backend`.
    """
    with nullcontext() if silent else waiting("loading the model"):
        import diffusers
        import transformers

        from consistent_gen.models import load_backbone

        # Their bars would stand between ours.
        transformers.utils.logging.disable_progress_bar()
        diffusers.utils.logging.disable_progress_bar()
        backbone = load_backbone(path, dtype=dtype, loras=loras, offload=offload)
        if attention_backend is not None:
            from consistent_gen.attention.backends import select_backend

            select_backend(backbone.denoiser, attention_backend)
    return backbone
