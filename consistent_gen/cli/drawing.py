"""Remembered identities to pictures: the drawer that `consistent-gen chat` gives its assistant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from consistent_gen.draw_settings import DrawSettings
from consistent_gen.errors import InputError, StoryError

if TYPE_CHECKING:
    from consistent_gen.memory.recall.pictures import Picture
    from consistent_gen.memory.talk.assistant import DrawJob
    from consistent_gen.models.backbone import Backbone


class StoryDrawer:
    """Draws `DrawJob`s with one story model, which is loaded when the first picture is asked for.

    What is asked for is a story of one frame, and each attempt has a seed of its own. With a method
    that shares attention, the confirmed crops of a character are its anchors: at every step the
    model looks at them, noised to that step, and the new picture reads what it saw there. Where
    there are fewer crops than the method has anchors, neutral portraits in words take the open
    places. With `vanilla` words alone draw. The crops stay in memory; nothing is written to the
    disk.
    """

    def __init__(
        self,
        model: str | None,
        *,
        method: str | None = None,
        seed: int = 1,
        steps: int = DrawSettings.steps,
    ) -> None:
        """method: a name of `METHODS`; None is the default. Raises ``UnknownNameError``."""
        from consistent_gen.methods import DEFAULT_METHOD, METHODS
        from consistent_gen.registry import resolve

        self.method = DEFAULT_METHOD if method is None else method
        resolve(METHODS, self.method, kind="method")
        self._model, self._seed, self._steps = model, seed, steps
        self._loaded: Backbone | None = None

    @property
    def details(self) -> Mapping[str, Any]:
        """What, with the prompt and the number of the attempt, draws a picture again."""
        name = "" if self._loaded is None else self._loaded.name
        return {"method": self.method, "seed": self._seed, "steps": self._steps, "model": name}

    def __call__(self, job: DrawJob) -> Picture:
        """Draw one attempt. Raises ``InputError`` for words that the model never learned."""
        from consistent_gen.cli.loading import load_model
        from consistent_gen.engine.loop import Engine
        from consistent_gen.runtime import frame_seed
        from consistent_gen.story.cast import Cast, remembered_story
        from consistent_gen.story.plan import plan_story

        if self._loaded is None:
            self._loaded = load_model(self._model)

        story = remembered_story(job, self._loaded)
        seed = frame_seed(self._seed, job.attempt)
        settings = {"steps": self._steps}
        story = replace(story, method=self.method, seed=seed, settings=settings)
        try:
            plan = plan_story(story, self._loaded)
        except StoryError as error:  # nobody wrote the story, so it has no lines
            raise InputError(error.message) from None
        engine = Engine(self._loaded, bucket=4)
        drawn = Cast(plan, engine).draw(plan.frames[0])
        return engine.drain()[str(drawn)].image
