"""A planned story through the engine into a folder: pictures, page, web page and report."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from consistent_gen.checkpoints import write_json
from consistent_gen.engine.events import Event, FrameDone, FrameError, Step
from consistent_gen.engine.exactness import DEFAULT_BUCKET
from consistent_gen.engine.loop import Engine
from consistent_gen.engine.metadata import write_png
from consistent_gen.story.cast import Cast
from consistent_gen.story.enlarge import check_enlarging, enlarged
from consistent_gen.story.layout import Panel, draw_page
from consistent_gen.story.output import (
    PAGE,
    REPORT,
    WEB_PAGE,
    enlarged_path,
    frame_path,
    story_folder,
)
from consistent_gen.story.plan import FramePlan, StoryPlan
from consistent_gen.story.provenance import COMPOSED, Provenance
from consistent_gen.story.report import (
    Drawing,
    DrawnFrame,
    Scorer,
    build_report,
    frame_scores,
    score,
)
from consistent_gen.story.scoring import reader_scorers
from consistent_gen.story.webpage import WebFrame, web_page

if TYPE_CHECKING:
    from consistent_gen.models.backbone import Backbone


def draw_story(
    plan: StoryPlan,
    backbone: Backbone,
    out: str | Path,
    *,
    bucket: int = DEFAULT_BUCKET,
    on_event: Callable[[Event], None] | None = None,
    scorers: Mapping[str, Scorer] | None = None,
    wording: Mapping[str, Any] | None = None,
    enlarge: int | None = None,
    provenance: Provenance | None = None,
) -> Drawing:
    """Draw `plan` and write `out`/frames/NN.png, page.png, index.html and report.json.

    `out` is filled at the very end (see `output.story_folder`): an exception or an interrupt
    leaves it as it was. `on_event` is called with every event of the engine, in this thread.
    scorers: None for those of `scoring.reader_scorers`; with an empty mapping nothing is scored.
    wording: what became of the writer's words (`Wording.to_json`), for the report.
    enlarge: 2 or 4, for frames/NN.large.png and pages that show these (see `story.enlarge`).
    provenance: signs the pictures and the page; None for nothing.

    Raises:
        CheckpointError: the weights of the scorers are damaged.
        InputError: `out` is a file or holds somebody else's files under our names.
        LimitError: the method would keep more in memory than it may.
        OutputError: the result cannot be written.
        ConsistentGenError: a frame failed; the engine's own error.
    """
    if enlarge is not None:
        check_enlarging(enlarge)
    chosen = reader_scorers(backbone) if scorers is None else scorers
    with story_folder(out) as folder:
        started = time.perf_counter()
        engine = Engine(backbone, bucket=bucket)
        cast = Cast(plan, engine)
        frames = _draw_frames(plan, engine, cast, folder, on_event)
        seconds = time.perf_counter() - started
        plan = _as_drawn(plan, frames)
        drawing = Drawing(
            plan=plan,
            frames=frames,
            model_name=backbone.name,
            model_sha256=backbone.folder_sha256,
            loras=backbone.loras,
            seconds_total=seconds,
            scores=score(chosen, [frame.picture for frame in frames], plan),
            wording=wording,
            references=cast.references.report(),
        )
        _write_pages(drawing, folder, enlarge)
        if provenance is not None:
            _sign(provenance, plan, folder)
    return drawing


def _sign(provenance: Provenance, plan: StoryPlan, folder: Path) -> None:
    prompts = [frame.prompt for frame in plan.frames]
    for index, prompt in enumerate(prompts):
        for path in (folder / frame_path(index), folder / enlarged_path(index)):
            if path.exists():
                provenance.sign_picture(path, prompts=[prompt])
    provenance.sign_picture(folder / PAGE, source=COMPOSED, prompts=prompts)


def _draw_frames(
    plan: StoryPlan,
    engine: Engine,
    cast: Cast,
    folder: Path,
    on_event: Callable[[Event], None] | None,
) -> tuple[DrawnFrame, ...]:
    steps: dict[str, int] = {}

    def run() -> Iterator[FrameDone]:
        while not engine.idle:
            for event in engine.step():
                if isinstance(event, FrameError):
                    raise event.error
                if isinstance(event, Step):
                    steps[event.id] = event.step
                if isinstance(event, FrameDone):
                    yield event
                if on_event is not None:
                    on_event(event)

    while any([cast.before(frame) for frame in plan.frames]):
        for done in run():
            cast.drawn(done)
    submitted = [cast.candidates(frame) for frame in plan.frames]
    ids = [[one if isinstance(one, str) else one.id for one in frame] for frame in submitted]
    place = {id_: index for index, frame in enumerate(ids) for id_ in frame}
    there = [one for frame in submitted for one in frame if not isinstance(one, str)]
    drawn: dict[str, FrameDone] = {}
    found: dict[int, DrawnFrame] = {}
    for done in chain(there, run()):
        drawn[done.id], index = done, place[done.id]
        if any(id_ not in drawn for id_ in ids[index]):
            continue  # another candidate of the frame is still drawn
        choice = None
        if plan.best_of > 1:
            choice = cast.choose(plan.frames[index], [drawn[id_] for id_ in ids[index]])
            done = choice.done
        write_png(folder / frame_path(index), done.image, done.metadata)
        found[index] = DrawnFrame(picture=done.image, steps=steps[done.id], choice=choice)
    return tuple(found[index] for index in range(len(plan.frames)))


def _as_drawn(plan: StoryPlan, drawn: Sequence[DrawnFrame]) -> StoryPlan:
    """The plan with the seeds of the candidates that were kept."""
    frames = [
        frame if one.choice is None else replace(frame, seed=one.choice.seed)
        for frame, one in zip(plan.frames, drawn, strict=True)
    ]
    return replace(plan, frames=tuple(frames))


def _write_pages(drawing: Drawing, folder: Path, enlarge: int | None) -> None:
    plan = drawing.plan
    panels = []
    for index, (drawn, frame) in enumerate(zip(drawing.frames, plan.frames, strict=True)):
        picture = Image.fromarray(drawn.picture)
        if enlarge is not None:
            picture = enlarged(picture, enlarge, pixelated=is_pixelated(frame))
            picture.save(folder / enlarged_path(index), compress_level=6)
        panels.append(Panel(picture, frame.caption, is_pixelated(frame)))
    draw_page(plan.title, panels).save(folder / PAGE)
    steps, seed = plan.settings.steps, plan.seed
    made_with = f"{drawing.model_name}, {plan.method}, {steps} steps, story seed {seed}"
    page = web_page(
        plan.title, [_web_frame(drawing, i, enlarge) for i in range(len(panels))], made_with
    )
    (folder / WEB_PAGE).write_text(page, encoding="utf-8")
    write_json(folder / REPORT, build_report(drawing))


def _web_frame(drawing: Drawing, index: int, enlarge: int | None) -> WebFrame:
    frame = drawing.plan.frames[index]
    height, width = drawing.frames[index].picture.shape[:2]
    return WebFrame(
        path=frame_path(index) if enlarge is None else enlarged_path(index),
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
