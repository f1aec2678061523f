"""A planned story through the engine into a folder: pictures, page, web page and report."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from consistent_gen.checkpoints import write_json
from consistent_gen.engine.events import Event, FrameDone, FrameError, Step
from consistent_gen.engine.exactness import DEFAULT_BUCKET
from consistent_gen.engine.loop import Engine
from consistent_gen.engine.metadata import write_png
from consistent_gen.engine.request import FrameRequest, Subject
from consistent_gen.engine.schedulers import SCHEDULERS
from consistent_gen.story.layout import Panel, draw_page
from consistent_gen.story.output import PAGE, REPORT, WEB_PAGE, frame_path, story_folder
from consistent_gen.story.plan import Defaults, FramePlan, StoryPlan
from consistent_gen.story.report import (
    Drawing,
    DrawnFrame,
    Scorer,
    build_report,
    frame_scores,
    score,
)
from consistent_gen.story.scoring import reader_scorers
from consistent_gen.story.sharing import submit_frames
from consistent_gen.story.webpage import WebFrame, web_page

if TYPE_CHECKING:
    from consistent_gen.models.backbone import Backbone

_ENGINE = {field.name: field.default for field in fields(FrameRequest)}
DEFAULTS = Defaults(
    scheduler=str(_ENGINE["scheduler"]),
    steps=int(str(_ENGINE["steps"])),
    guidance=float(str(_ENGINE["guidance"])),
    schedulers=tuple(SCHEDULERS),
)


def draw_story(
    plan: StoryPlan,
    backbone: Backbone,
    out: str | Path,
    *,
    bucket: int = DEFAULT_BUCKET,
    on_event: Callable[[Event], None] | None = None,
    scorers: Mapping[str, Scorer] | None = None,
    wording: Mapping[str, Any] | None = None,
) -> Drawing:
    """Draw `plan` and write `out`/frames/NN.png, page.png, index.html and report.json.

    `out` is filled at the very end (see `output.story_folder`): an exception or an interrupt
    leaves it as it was. `on_event` is called with every event of the engine, in this thread.
    scorers: None for those of `scoring.reader_scorers`; with an empty mapping nothing is scored.
    wording: what became of the writer's words (`Wording.to_json`), for the report.

    Raises:
        CheckpointError: the weights of the scorers are damaged.
        InputError: `out` is a file or holds somebody else's files under our names.
        LimitError: the method would keep more in memory than it may.
        OutputError: the result cannot be written.
        ConsistentGenError: a frame failed; the engine's own error.
    """
    chosen = reader_scorers(backbone) if scorers is None else scorers
    with story_folder(out) as folder:
        started = time.perf_counter()
        frames = _draw_frames(plan, backbone, folder, bucket, on_event)
        seconds = time.perf_counter() - started
        drawing = Drawing(
            plan=plan,
            frames=frames,
            model_name=backbone.name,
            model_sha256=backbone.sha256,
            seconds_total=seconds,
            scores=score(chosen, [frame.picture for frame in frames], plan),
            wording=wording,
        )
        _write_pages(drawing, folder)
    return drawing


def frame_requests(plan: StoryPlan) -> list[FrameRequest]:
    """What the engine is asked for; ids are the frames' indices."""
    return [_request(plan, frame) for frame in plan.frames]


def _request(plan: StoryPlan, frame: FramePlan) -> FrameRequest:
    story: dict[str, Any] = {"title": plan.title, "frame": frame.index, "seed": plan.seed}
    return FrameRequest(
        prompt=frame.prompt,
        negative=frame.negative,
        seed=frame.seed,
        steps=plan.steps,
        guidance=plan.guidance,
        contours=plan.contours,
        guidance_until=plan.guidance_until,
        scheduler=plan.scheduler,
        width=plan.width,
        height=plan.height,
        id=str(frame.index),
        subjects=tuple(
            Subject(name=s.name, tokens=tuple(range(*s.tokens))) for s in frame.subjects
        ),
        method=plan.method,
        story=story,
    )


def _draw_frames(
    plan: StoryPlan,
    backbone: Backbone,
    folder: Path,
    bucket: int,
    on_event: Callable[[Event], None] | None,
) -> tuple[DrawnFrame, ...]:
    steps = dict.fromkeys(range(len(plan.frames)), 0)
    done: dict[int, np.ndarray] = {}
    for event in _events(plan, Engine(backbone, bucket=bucket)):
        if isinstance(event, FrameError):
            raise event.error
        if isinstance(event, Step):
            steps[int(event.id)] = event.step
        if isinstance(event, FrameDone):
            index = int(event.id)
            write_png(folder / frame_path(index), event.image, event.metadata)
            done[index] = event.image
        if on_event is not None:
            on_event(event)
    return tuple(DrawnFrame(picture=done[i], steps=steps[i]) for i in range(len(plan.frames)))


def _events(plan: StoryPlan, engine: Engine) -> Iterator[Event]:
    submit_frames(plan, engine, frame_requests(plan))
    while not engine.idle:
        yield from engine.step()


def _write_pages(drawing: Drawing, folder: Path) -> None:
    plan = drawing.plan
    panels = [
        Panel(Image.fromarray(drawn.picture), frame.caption, is_pixelated(frame))
        for drawn, frame in zip(drawing.frames, plan.frames, strict=True)
    ]
    draw_page(plan.title, panels).save(folder / PAGE)
    made_with = f"{drawing.model_name}, {plan.method}, {plan.steps} steps, story seed {plan.seed}"
    page = web_page(plan.title, [_web_frame(drawing, i) for i in range(len(panels))], made_with)
    (folder / WEB_PAGE).write_text(page, encoding="utf-8")
    write_json(folder / REPORT, build_report(drawing))


def _web_frame(drawing: Drawing, index: int) -> WebFrame:
    frame = drawing.plan.frames[index]
    height, width = drawing.frames[index].picture.shape[:2]
    return WebFrame(
        path=frame_path(index),
        width=int(width),
        height=int(height),
        prompt=frame.prompt,
        seed=frame.seed,
        caption=frame.caption,
        negative=frame.negative,
        pixelated=is_pixelated(frame),
        scores=tuple(frame_scores(drawing, index).items()),
    )


def is_pixelated(frame: FramePlan) -> bool:
    """Whether the frame's picture keeps hard pixels when it is enlarged."""
    return frame.style is not None and "pixel" in frame.style.lower()
