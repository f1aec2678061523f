"""The lab tab: one story by several methods, side by side, with scores."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import gradio as gr

from consistent_gen.client.types import JobState, StoryOut
from consistent_gen.errors import ConsistentGenError, InputError
from ui.board import current_version
from ui.lab import (
    MIN_FOR_IDENTITY,
    Score,
    groups,
    identity_mean,
    mean,
    scores_html,
    seconds_per_picture,
    with_portraits,
)
from ui.markup import contact_sheet_html
from ui.messages import readable, warn
from ui.state import Draft, draft_of_story, story_request, with_seed
from ui.story_actions import StoryActions
from ui.story_tab import status_html
from ui.wiring import plain_html, setting_slider, wire

EXPLANATION = (
    "<p class='hint'>Draws the story on the desk once by each method, with the same seeds. "
    "“Same character” compares what is seen of a character in its pictures (1 is the same in all "
    "of them); “What the words ask” is the share of named features that are seen.</p>"
)


class LabTab:
    """Components and handlers of the tab. Which stories were compared is kept in the project."""

    def __init__(self, actions: StoryActions, project: gr.BrowserState) -> None:
        self.actions = actions
        self.studio = actions.studio
        self.project = project
        plain_html(f"<h3>Compare methods</h3>{EXPLANATION}")
        with gr.Column(elem_classes="paper-card"):
            self.methods = gr.CheckboxGroup([], label="Methods", elem_id="lab-methods")
            self.steps = setting_slider("steps", "lab-steps")
            self.portraits = gr.Checkbox(
                True, label="Add portraits, so that every character can be measured alone",
                container=False, elem_id="lab-portraits",
            )  # fmt: skip
        with gr.Row():
            self.run = gr.Button("Compare", variant="primary", elem_id="lab-run", scale=0)
            self.stop = gr.Button("Cancel", variant="stop", visible=False, scale=0)
        self.status = plain_html(status_html(""), elem_id="lab-status")
        self.sheet = plain_html(elem_id="lab-sheet")
        self.scores = plain_html(elem_id="lab-scores")
        shown = [self.status, self.sheet, self.scores, self.stop]
        wire(
            self.run.click,
            self.compare,
            [project, self.methods, self.steps, self.portraits],
            shown,
            stream=True,
        )
        wire(self.stop.click, self.cancel, [project], [self.status])

    @property
    def restored(self) -> list[Any]:
        """The outputs of `restore`."""
        return [self.methods, self.steps, self.status, self.sheet, self.scores, self.stop]

    # Handlers -----------------------------------------------------------------------------------
    def restore(self, project: str) -> Iterator[tuple[Any, ...]]:
        """The methods on offer, and the last comparison with its scores."""
        model = self.studio.model()
        kept = self.studio.projects.open(project)
        lab = {} if kept is None else self._stories(kept.lab)
        chosen = list(lab) or [m for m in model.methods if m in _first(model.methods)]
        steps = next((s.request.steps for s in lab.values() if s.request.steps), model.steps)
        offers = gr.update(choices=model.methods, value=chosen)
        if not lab:
            yield offers, steps, status_html("Nothing is compared yet."), "", "", _hidden()
            return
        yield offers, steps, status_html("Reading the scores…", busy=True), *self._shown(lab, [])
        scores = [self._score(method, story) for method, story in lab.items()]
        told = status_html(f"{len(lab)} methods are compared.")
        yield gr.skip(), gr.skip(), told, *self._shown(lab, scores)

    def compare(
        self, project: str, methods: list[str], steps: float, portraits: bool
    ) -> Iterator[tuple[Any, ...]]:
        """Draw the desk's story by each method in turn; scores come as they are known."""
        kept = self.studio.projects.open(project)
        if kept is None or not methods:
            raise InputError("Choose at least one method.")
        draft = replace(with_seed(self.actions.draft(kept)), steps=int(steps))
        draft = with_portraits(draft) if portraits else draft
        stories: dict[str, StoryOut] = {}
        scores: list[Score] = []
        for number, method in enumerate(methods, 1):
            state = JobState.queued
            for story, now in self._draw(draft, method):
                stories[method], state = story, now
                self.studio.projects.change(project, lab={m: s.id for m, s in stories.items()})
                told = f"Method {number} of {len(methods)}: {method}"
                yield (status_html(told, busy=True), *self._shown(stories, scores, busy=True))
            if state is JobState.cancelled:
                break
            scores.append(self._score(method, stories[method]))
        told = status_html(f"{len(scores)} of {len(methods)} methods are compared.")
        yield (told, *self._shown(stories, scores))

    def cancel(self, project: str) -> str:
        """Stop the comparison that runs; what is drawn stays."""
        kept = self.studio.projects.open(project)
        mine = set(kept.lab.values()) if kept else set()
        for job in self.studio.client.jobs(limit=50).jobs:
            if job.story in mine and not job.state.finished:
                self.studio.client.cancel(job.id)
        return status_html("Stopping…", busy=True)

    def _draw(self, draft: Draft, method: str) -> Iterator[tuple[StoryOut, JobState]]:
        title = f"{draft.title or 'A story'} ({method})"[:120]
        wish = story_request(replace(draft, method=method, title=title), preview_every=0)
        accepted = self.studio.client.create_story(wish)
        story = self.studio.client.story(accepted.story)
        yield story, JobState.running
        for event in self.studio.client.events(accepted.job):
            if event.type == "frame":
                yield self.studio.client.story(accepted.story), JobState.running
        state = self.studio.client.job(accepted.job).state
        yield self.studio.client.story(accepted.story), state

    def _shown(
        self, stories: dict[str, StoryOut], scores: list[Score], *, busy: bool = False
    ) -> tuple[Any, ...]:
        prompts = [frame.prompt for frame in next(iter(stories.values())).frames] if stories else []
        rows = {
            method: [v.artifact if (v := current_version(f)) else None for f in story.frames]
            for method, story in stories.items()
        }
        sheet = contact_sheet_html(rows, self.studio.picture, prompts)
        return sheet, scores_html(scores), gr.update(visible=busy)

    def _score(self, method: str, story: StoryOut) -> Score:
        """The scores of a drawn story; what the server cannot score is left open."""
        matrices: list[list[list[float | None]]] = []
        fits: list[float | None] = []
        for group in groups(story, draft_of_story(story)):
            try:
                answer = self.studio.client.score(list(group.artifacts), list(group.prompts))
            except ConsistentGenError as error:
                warn(f"The scores of {method} are missing. {readable(error)}")
                break
            fits += answer.alignment
            if len(group.artifacts) >= MIN_FOR_IDENTITY:
                matrices.append(answer.identity)
        drawn = [v for frame in story.frames if (v := current_version(frame))]
        seconds = None
        if drawn:
            seconds = seconds_per_picture(self.studio.client.job(drawn[0].job))
        return Score(method, identity_mean(matrices), mean(fits), seconds, len(drawn))

    def _stories(self, lab: dict[str, str]) -> dict[str, StoryOut]:
        found = {}
        for method, story in lab.items():
            try:
                found[method] = self.studio.client.story(story)
            except ConsistentGenError:  # deleted meanwhile
                continue
        return found


def _first(methods: list[str]) -> list[str]:
    """What is ticked at first: a method that shares nothing, and one that does."""
    return [m for m in methods if m in ("vanilla", "consistory")] or methods[:2]


def _hidden() -> Any:
    return gr.update(visible=False)
