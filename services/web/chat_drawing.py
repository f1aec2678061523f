""" "Draw ..." in a talk: a job in the same queue as every other, waited for, and its picture.

The pictures by which the concept is known go along as references. They are temporary artifacts, so
that nothing of a concept is left behind once it is forgotten.
"""

from __future__ import annotations

import hashlib
import time

from consistent_gen.client.types import FrameIn, Job, JobState, StoryIn
from consistent_gen.errors import ConsistentGenError, InputError
from consistent_gen.memory.recall.pictures import Picture, read_picture
from consistent_gen.memory.talk.assistant import DrawJob
from consistent_gen.runtime import frame_seed
from consistent_gen.story.cast import remembered_story
from consistent_gen.story.types import Story
from services.web.ordering import order_story
from services.web.security import Caller
from services.web.state import ServerState

# Below the time after which temporary artifacts without a holder are swept.
DEADLINE_S = 240.0
WAIT_S = DEADLINE_S + 10.0


class NotDrawn(ConsistentGenError):
    """The picture did not come about; the text says why, for the person who asked."""


class ChatDrawer:
    """Draws for one turn of one caller; `artifacts` are the pictures in the order of attempts."""

    def __init__(self, state: ServerState, caller: Caller) -> None:
        self._state, self._caller = state, caller
        self.artifacts: list[str] = []

    def __call__(self, job: DrawJob) -> Picture:
        """The picture of one attempt. Raises ``NotDrawn``."""
        if not self._state.chat_drawings.acquire(blocking=False):
            raise NotDrawn("I cannot draw now: many others are waiting for drawings in their talks")
        try:
            return self._draw(job)
        finally:
            self._state.chat_drawings.release()

    def _draw(self, job: DrawJob) -> Picture:
        artifacts = self._state.artifacts
        try:
            story = remembered_story(job, self._state.planner.model)
            request = _request(story, job)
            held = {
                character.name: [
                    artifacts.put(self._caller.owner, data, "image/png", temporary=True).id
                    for data in character.references
                    if isinstance(data, bytes)
                ]
                for character in story.characters.values()
            }
            ordered = order_story(self._state, self._caller, request, references=held)
        except InputError as error:
            raise NotDrawn(f"I cannot draw that: {error.message}") from error
        except ConsistentGenError as error:
            raise NotDrawn(f"I cannot draw now: {error.message}") from error
        done = self._wait(ordered)
        artifact = done.frames[0].artifact
        if done.state is not JobState.succeeded or artifact is None:
            problem = done.frames[0].error
            raise NotDrawn(
                f"The drawing was not finished: {problem.detail if problem else done.state.value}"
            )
        self.artifacts.append(artifact)
        return read_picture(artifacts.read(self._caller.owner, artifact))

    def _wait(self, job: Job) -> Job:
        jobs, end = self._state.jobs, time.monotonic() + WAIT_S
        seq = jobs.changed()
        while True:
            now = jobs.get(self._caller.owner, job.id)
            if now.state.finished:
                return now
            left_s = end - time.monotonic()
            if left_s <= 0 or self._state.feed.closed:
                jobs.cancel(self._caller.owner, job.id)
                raise NotDrawn("The drawing took too long; ask again when less is waiting.")
            seq = jobs.wait(seq, min(left_s, 1.0), job=job.id)


def _request(story: Story, job: DrawJob) -> StoryIn:
    seed = int.from_bytes(hashlib.sha256(job.prompt.encode()).digest()[:7], "big")
    (frame,) = story.frames
    try:
        return StoryIn.model_validate(
            {
                "title": story.title,
                "characters": {
                    c.name: {"description": c.description[:400]} for c in story.characters.values()
                },
                "frames": [FrameIn(prompt=frame.prompt, negative=frame.negative)],
                "seed": frame_seed(seed, job.attempt),
                "deadline_s": DEADLINE_S,
            }
        )
    except ValueError as error:
        raise NotDrawn("I cannot draw that: the description is too long") from error
