"""A story in a user's own diffusers pipeline: anchors, frames, and what they have in common.

The pipeline is neither copied nor changed: policies are attached to what denoises in it for the
length of the block, and hooks tell them which row of a call is whose. What is saved of a character
is the recipe (prompts, seeds, settings), from which its anchors are drawn again.
"""

from __future__ import annotations

import itertools
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageOps
from torch import Tensor

from consistent_gen.attention.backends import select_backend
from consistent_gen.attention.budget import KeepingPlan, Sampling, choose, free_bytes
from consistent_gen.attention.keeping import AUTO, KV, Where, keeping
from consistent_gen.attention.layers import find_sites
from consistent_gen.attention.patch import adds_to_projections, attached, policies_in
from consistent_gen.attention.roles import FrameRole, Source, Subject
from consistent_gen.attention.run import SharedRun
from consistent_gen.attention.sharing import Sharing
from consistent_gen.errors import InputError
from consistent_gen.inputs import as_rgb
from consistent_gen.methods.tuning import recipe_of
from consistent_gen.pipeline.calls import Calls, Pass, residuals
from consistent_gen.pipeline.contract import (
    Support,
    check_frame_options,
    check_options,
    check_pipeline,
    compiled_form,
    seam_of,
)
from consistent_gen.pipeline.settings import by_content, settings_of
from consistent_gen.runtime import generator
from consistent_gen.saved_character import SavedCharacter, read_character

logger = logging.getLogger(__name__)


class PipelineStory:
    """Draws frames that share attention with one pipeline; made by `share`."""

    def __init__(
        self,
        pipe: Any,
        method: str,
        run: SharedRun,
        support: Support,
        options: Mapping[str, Any],
        *,
        memory: str = AUTO,
        limit_bytes: int | None = None,
    ) -> None:
        self.pipe = pipe
        self.method = method
        self.run = run
        self.plans: dict[str, KeepingPlan] = {}
        """How each character's anchors are kept, and what that costs (see `budget.KeepingPlan`)."""
        self.policy = Sharing(run)
        self._support, self._seam = support, seam_of(support)
        self._model = self._seam.model(pipe)
        self._options = dict(options)
        self._memory, self._limit = memory, limit_bytes
        self._sites = find_sites(self._model)
        self.policy.bind(self._sites)
        self.calls = Calls(pipe, self._seam, run, self.policy, self._sites, self._plan)
        self._planning: str | None = None
        self._open = True
        self._numbers = itertools.count()

    def anchor(
        self,
        prompts: str | Sequence[str],
        seeds: int | Sequence[int],
        subject: str,
        *,
        name: str | None = None,
        strength: float = 1.0,
        pictures: Mapping[int, Any] | None = None,
        masks: Mapping[int, Tensor] | None = None,
    ) -> SavedCharacter:
        """Draw a character's anchors in one batch, and keep what they leave for later frames.

        prompts, seeds: one per anchor; the method says how many. subject: the words in every
        prompt that mean the character ("red fox"). name: to tell characters apart, `subject` by
        default. strength: weight of its shared keys, 1 as published, 0 is off.
        pictures: anchor number -> a PIL picture that stands in for the drawing: it is noised to
        each step's level instead. masks: anchor number -> where the character is, 0..1 [h w].

        Raises:
            InputError: another number of anchors, or a prompt without the subject. LimitError: what
                they leave does not fit (see `share`).
        """
        self._check_open()
        prompts = [prompts] if isinstance(prompts, str) else list(prompts)
        seeds = [seeds] if isinstance(seeds, int) else list(seeds)
        wanted = self.run.recipe.anchors
        if not len(prompts) == len(seeds) == wanted:
            raise InputError(
                f"method {self.method!r} takes {wanted} anchors, each with a prompt and a seed; "
                f"got {len(prompts)} prompts and {len(seeds)} seeds"
            )
        name = name or subject
        if name in self.run.subjects():
            raise InputError(f"a character {name!r} exists already; give this one another name")
        settings = self._settings()
        frames, twins = [], []
        self._planning = name
        try:
            for number, prompt in enumerate(prompts):
                use = Subject(name=name, tokens=self._tokens(prompt, subject), strength=strength)
                role = FrameRole(frame=self._free_id(), subjects=(use,), anchor=number)
                twins.append(self.run.add_with_twin(role, settings))
                frames.append(role.frame)
                if masks is not None and number in masks:
                    self.run.set_mask(role.frame, name, masks[number])
            images = self._draw(frames, twins, prompts, seeds, pictures or {})
        except BaseException:
            self._forget(name)  # half an anchor is nobody's
            raise
        finally:
            self._planning = None
        self.run.bank.drawn(Source(name))
        return SavedCharacter(
            name=name, subject=subject, prompts=tuple(prompts), seeds=tuple(seeds),
            strength=strength, settings=settings | _given(pictures, masks), images=tuple(images),
        )  # fmt: skip

    def frame(
        self, prompt: str, seed: int, subjects: Sequence[SavedCharacter] = (), **own: Any
    ) -> Any:
        """Draw one frame that shows `subjects`; returns the pipeline's picture.

        own: options of this frame alone, such as `negative_prompt` and, where the pipeline takes
        one, `image`; docs/backbones.md lists them.

        Raises:
            InputError: a subject's words are not in the prompt, or the pipeline's settings
                (scheduler, adapters, weights) have changed since the anchors were drawn.
        """
        return self.frames([prompt], [seed], subjects, **own)[0]

    def frames(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        subjects: Sequence[SavedCharacter] = (),
        **own: Any,
    ) -> list[Any]:
        """Draw several frames of the same subjects in one batch.

        Where anchors are drawn again beside every step (`memory="replay"`), once serves all.

        Raises:
            InputError: as `frame`, or not as many seeds as prompts.
        """
        self._check_open()
        check_frame_options(self.pipe, self._support, own)
        if len(prompts) != len(seeds) or not prompts:
            raise InputError(
                f"each frame has a prompt and a seed; got {len(prompts)} prompts and "
                f"{len(seeds)} seeds"
            )
        roles = [
            FrameRole(frame=self._free_id(), subjects=self._uses(prompt, subjects, own))
            for prompt in prompts
        ]
        settings = self._settings()
        try:
            twins = [self.run.add_with_twin(role, settings) for role in roles]
            frames = [role.frame for role in roles]
            return self._draw(frames, twins, prompts, seeds, {}, own)
        finally:
            for role in roles:
                self.run.release(role.frame)

    def drop(self, character: SavedCharacter) -> None:
        """Forget a character and free what is kept of it."""
        self._forget(character.name)

    def close(self) -> None:
        """Free everything; nothing can be drawn any more. `share` does so at the end."""
        self._open = False
        for name in self.run.subjects():
            self.calls.forget(name)
        self.run.bank.close()

    def load(
        self,
        path: str | Path,
        *,
        pictures: Mapping[int, Any] | None = None,
        masks: Mapping[int, Tensor] | None = None,
    ) -> SavedCharacter:
        """Draw the anchors of a saved character again.

        pictures, masks: those that they were drawn from, if any; a file holds none.

        Raises:
            InputError: the file is no saved character, or was saved under other settings.
        """
        self._check_open()
        saved = read_character(Path(path), self._settings() | _given(pictures, masks))
        return self.anchor(
            saved["prompts"], saved["seeds"], saved["subject"], name=saved["name"],
            strength=saved["strength"], pictures=pictures, masks=masks,
        )  # fmt: skip

    def _free_id(self) -> str:
        return f"frame-{next(self._numbers)}"

    def _draw(
        self,
        frames: Sequence[str],
        twins: Sequence[str | None],
        prompts: Sequence[str],
        seeds: Sequence[int],
        pictures: Mapping[int, Any],
        own: Mapping[str, Any] | None = None,
    ) -> list[Any]:
        """One run of the pipeline for the twins, if any, and one for the frames."""
        own = own or {}
        first = [twin for twin in twins if twin is not None]
        if first:
            hidden = {**own, "output_type": "latent"}
            self._run_pipeline(first, prompts, seeds, pictures, hidden)
        return list(self._run_pipeline(frames, prompts, seeds, pictures, own))

    def _run_pipeline(
        self,
        frames: Sequence[str],
        prompts: Sequence[str],
        seeds: Sequence[int],
        pictures: Mapping[int, Any],
        own: Mapping[str, Any],
    ) -> Any:
        options = {**self._options, **own}
        if self._seam.guided(self.pipe, options) != self._seam.guided(self.pipe, self._options):
            raise InputError(
                "a frame cannot have negative_prompt= of its own where the story has none: its "
                "anchors were drawn without; give one to share()"
            )
        for name in options:
            if "prompt" in name and isinstance(options[name], str):
                options[name] = [options[name]] * len(prompts)
        for name in self._support.repeated:
            if not isinstance(options[name], list):
                options[name] = [options[name]] * len(prompts)
        for name in options.keys() & {"image", "control_image"}:
            options[name] = _shown(options[name])
        one = Pass(tuple(frames), options)
        for number, picture in pictures.items():
            noise = generator(seeds[number], "reference")
            one.references[number] = self._encoded(picture, noise)
        generators = [generator(seed, "latent") for seed in seeds]
        with self._seam.running(self.pipe), self.calls.during(one):
            found = self.pipe(prompt=list(prompts), generator=generators, **options)
        return found.images

    def _encoded(self, picture: Any, noise: torch.Generator) -> tuple[Tensor, Tensor]:
        """Clean latent of a picture and its noise, each in the form of a call's row."""
        size = {k: self._options[k] for k in ("height", "width") if k in self._options}
        if isinstance(picture, Image.Image):
            picture = as_rgb(picture)
            if len(size) == 2:  # cropped around the middle, not squashed
                picture = ImageOps.fit(picture, (size["width"], size["height"]))
        pixels = self.pipe.image_processor.preprocess(picture, **size)
        latent = self._seam.encoded(self.pipe, pixels)
        clean = latent.to(next(self._model.parameters()).dtype)
        noises = torch.randn(clean.shape, generator=noise).to(clean)  # c h w
        return self._seam.row(self.pipe, clean), self._seam.row(self.pipe, noises)

    def _plan(self, drawing: Sampling, kwargs: Mapping[str, Any]) -> None:
        """Choose how the character whose anchors are about to be drawn is kept."""
        name, beside = self._planning, residuals(kwargs)
        if name is None or name in self.plans:
            return self._follow(beside)
        refused = []
        if adds_to_projections(self._model):
            refused.append("hidden")
        if beside or len(policies_in(self._model)) > 1:
            refused.append("replay")
        self._check_steps(drawing.steps)
        device = self._execution_device()
        plan = choose(
            self._memory, self.run, self._sites.values(), drawing, self._free,
            on_processor=device.type == "cpu", refused=refused,
        )  # fmt: skip
        self._check_way(plan.keeping.what, beside)
        self.run.bank.promise([Source(name)], plan.bytes, plan.keeping)
        self.plans[name] = plan
        level = logging.INFO if plan.keeping == KV else logging.WARNING
        logger.log(level, "%s is kept as %s", name, plan)
        self._follow(beside)

    def _follow(self, beside: Sequence[str]) -> None:
        """Keep the calls of anchors that are to be drawn again."""
        now, name = self.calls.now, self._planning
        if now is not None and name is not None:
            again = self.plans[name].keeping.what == "replay"
            now.anchors_of = name if again else None

    def _check_steps(self, steps: int) -> None:
        probe = self.run.recipe.masks
        if probe is not None and probe.source == "running" and steps < 2:
            raise InputError(
                f"method {self.method!r} looks for a character in earlier steps, and one step has "
                "none; draw in two steps or more, or choose 'style_aligned' or 'story_diffusion'"
            )

    def _check_way(self, what: str, beside: Sequence[str]) -> None:
        if what != "replay":
            return
        if beside or len(policies_in(self._model)) > 1:
            reason = f"its calls take {beside[0]}" if beside else "an adapter is attached"
            raise InputError(
                f"anchors of this pipeline cannot be drawn again beside each step: {reason}; "
                "choose another memory mode"
            )

    def _free(self, where: Where) -> int:
        if self._limit is not None:
            return self._limit - self.run.bank.bytes
        return free_bytes(where, self._execution_device())

    def _execution_device(self) -> torch.device:
        return torch.device(self.pipe._execution_device)

    def _forget(self, name: str) -> None:
        self.run.drop(name)
        self.calls.forget(name)
        self.plans.pop(name, None)

    def _check_open(self) -> None:
        """Refuse to draw what would share nothing."""
        if not self._open:
            raise InputError("this story is closed; draw its frames within the `with` block")
        noun = self._seam.noun
        if self._seam.model(self.pipe) is not self._model:
            raise InputError(
                f"the pipeline has another {noun} than when the story began; begin a new one"
            )
        if form := compiled_form(self._model, self._seam):
            raise InputError(f"the {noun} was compiled ({form}) after the story began")
        self._seam.check_scheduler(self.pipe.scheduler)

    def _uses(
        self,
        prompt: str,
        subjects: Sequence[SavedCharacter],
        own: Mapping[str, Any] | None = None,
    ) -> tuple[Subject, ...]:
        """The subjects with their words; several with equal words have one mention each."""
        uses = []
        for character in subjects:
            tokens = self._tokens(prompt, character.subject, own)
            same = [other.name for other in subjects if other.subject == character.subject]
            if len(same) > 1:
                if len(tokens) != len(same):
                    raise InputError(
                        f"{len(same)} characters are called {character.subject!r}, and the prompt "
                        f"says it {len(tokens)} times; name each once, in their order"
                    )
                tokens = (tokens[same.index(character.name)],)
            uses.append(Subject(name=character.name, tokens=tokens, strength=character.strength))
        return tuple(uses)

    def _tokens(
        self, prompt: str, subject: str, own: Mapping[str, Any] | None = None
    ) -> tuple[int, ...]:
        """Where the subject's last word stands in the text that the model reads."""
        found = self._seam.tokens(self.pipe, prompt, subject, {**self._options, **(own or {})})
        if not found:
            raise InputError(
                f"a prompt does not say {subject!r}, or only after what the model reads"
            )
        return found

    def _settings(self) -> dict[str, Any]:
        return settings_of(self.pipe, self._model, self.run, self._options)


def _given(
    pictures: Mapping[int, Any] | None, masks: Mapping[int, Tensor] | None
) -> dict[str, Any]:
    """What anchors were drawn from beside words, by content."""
    return {"pictures": by_content(pictures or {}), "masks": by_content(masks or {})}


def _shown(pictures: Any) -> Any:
    """Pictures of an option as a viewer shows them; arrays and tensors as they are."""
    if isinstance(pictures, list):
        return [_shown(picture) for picture in pictures]
    return as_rgb(pictures) if isinstance(pictures, Image.Image) else pictures


@contextmanager
def share(
    pipe: Any,
    method: str = "consistyle",
    *,
    seed: int = 0,
    memory: str = AUTO,
    limit_bytes: int | None = None,
    attention_backend: str | None = None,
    settings: Mapping[str, Any] | None = None,
    **options: Any,
) -> Iterator[PipelineStory]:
    """Share attention between pictures of a stock diffusers pipeline within a block.

    Args:
        pipe: one of `contract.PIPELINES`; after the block what denoises in it is what it was.
        method: a name of `methods.METHODS`. settings: the method's settings by name.
        seed: of the method's own random choices.
        memory: how what anchors leave is kept, a name of `keeping.MODES` (docs/memory_modes.md).
            "auto" measures what is free when a character's anchors are drawn, takes the cheapest
            exact mode that fits, and says in a log line which and at what cost; the story's `plans`
            have the same.
        limit_bytes: most bytes for all characters together, wherever they are kept. None is what is
            free there, with room for drawing.
        attention_backend: a name of `attention.backends.BACKENDS`; it stays after the block.
        options: passed to every call of the pipeline (num_inference_steps, guidance_scale, ...).

    Raises:
        UnknownNameError: no such method, memory mode or backend.
        InputError: a pipeline, scheduler or option that cannot take part; the message says why.
    """
    support = check_pipeline(pipe)
    check_options(pipe, support, options)
    if memory != AUTO:
        keeping(memory)
    # Models of one to eight steps would step over most windows.
    recipe = recipe_of(method, settings).at_few_steps()
    if recipe.pictures:
        raise InputError(
            f"method {method!r} shares no attention: give the character's picture to an edit "
            "pipeline yourself (its argument image), or draw a story file with it"
        )
    if attention_backend is not None:
        select_backend(seam_of(support).model(pipe), attention_backend)
    run = SharedRun(
        recipe, seed=seed, limit_bytes=sys.maxsize if limit_bytes is None else limit_bytes
    )
    story = PipelineStory(
        pipe, method, run, support, options, memory=memory, limit_bytes=limit_bytes
    )
    model = seam_of(support).model(pipe)
    with attached(model, story.policy):
        hooks = [
            model.register_forward_pre_hook(story.calls.before, with_kwargs=True),
            model.register_forward_hook(story.calls.after, always_call=True),
        ]
        try:
            yield story
        finally:
            for hook in hooks:
                hook.remove()
            story.close()
