"""A planned story through the engine into a folder: pictures, page, web page and report."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from consistent_gen.checkpoints import write_json
from consistent_gen.engine.events import Event, FrameDone, FrameError, Step
from consistent_gen.engine.exactness import DEFAULT_BUCKET
from consistent_gen.engine.loop import Engine
from consistent_gen.engine.metadata import write_png
from consistent_gen.errors import Cancelled
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
        sitting = _Sitting(plan, engine, cast, on_event)
        frames = sitting.draw(folder)
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
            mended=cast.mending.tries,
            drawn_again=sitting.drawn_again,
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


class _Sitting:
    """The frames of a plan, drawn in one engine. drawn_again: drawings that were begun anew after
    a first frame had shown what nobody asked for.
    """

    def __init__(
        self,
        plan: StoryPlan,
        engine: Engine,
        cast: Cast,
        on_event: Callable[[Event], None] | None,
    ) -> None:
        self.plan, self.cast = plan, cast
        self.drawn_again = 0
        self._engine, self._on_event = engine, on_event
        self._steps: dict[str, int] = {}
        self._ids: dict[int, list[str]] = {}  # of a frame's drawings, by its index
        self._drawn: dict[str, FrameDone] = {}

    def draw(self, folder: Path) -> tuple[DrawnFrame, ...]:
        """All frames, in order, with a picture of each in `folder`."""
        while any([self.cast.before(frame) for frame in self.plan.frames]):
            for done in self._run():
                self.cast.drawn(done)
        for frame in self.plan.frames:
            self._submit(frame)
        for done in self._run():
            self._drawn[done.id] = done
            self.cast.drawn(done)
            self._amend(done)
        return tuple(self._finished(frame, folder) for frame in self.plan.frames)

    def _submit(self, frame: FramePlan) -> None:
        found = self.cast.candidates(frame)
        self._drawn |= {one.id: one for one in found if not isinstance(one, str)}
        self._ids[frame.index] = [one if isinstance(one, str) else one.id for one in found]

    def _amend(self, done: FrameDone) -> None:
        """Begin anew what reads a first frame that is drawn again."""
        key = self.cast.amend(done)
        if key is None:
            return
        again = [frame for frame in self.plan.frames if self.cast.reads(frame, key)]
        self.drawn_again += len(again)
        for frame in again:
            for frame_id in self._ids[frame.index]:
                self._engine.cancel(frame_id)
        for frame in again:
            self._submit(frame)

    def _run(self) -> Iterator[FrameDone]:
        while not self._engine.idle:
            for event in self._engine.step():
                if isinstance(event, FrameError):
                    if isinstance(event.error, Cancelled):
                        continue  # it was begun anew
                    raise event.error
                if isinstance(event, Step):
                    self._steps[event.id] = event.step
                if isinstance(event, FrameDone):
                    yield event
                if self._on_event is not None:
                    self._on_event(event)

    def _finished(self, frame: FramePlan, folder: Path) -> DrawnFrame:
        drawn = [self._drawn[frame_id] for frame_id in self._ids[frame.index]]
        choice = self.cast.choose(frame, drawn) if self.plan.best_of > 1 else None
        done = drawn[0] if choice is None else choice.done
        write_png(folder / frame_path(frame.index), done.image, done.metadata)
        seed, steps = done.metadata["seed"], self._steps[done.id]
        return DrawnFrame(picture=done.image, steps=steps, seed=seed, choice=choice)


def _as_drawn(plan: StoryPlan, drawn: Sequence[DrawnFrame]) -> StoryPlan:
    """The plan with the seeds of the drawings that were kept."""
    frames = [
        frame if one.seed is None else replace(frame, seed=one.seed)
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
