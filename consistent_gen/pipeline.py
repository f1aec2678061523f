"""Consistent characters in a user's own diffusers pipeline.

    with consistent_gen.share(pipe, "consistyle") as story:
        hero = story.anchor(["a fox in a meadow", "a fox, portrait"], [1, 2], subject="fox")
        picture = story.frame("a fox reading in a library", seed=3, subjects=[hero])
        hero.save("fox.json")

The pipeline is neither copied nor changed: policies are attached to its UNet for the length of the
block, and hooks tell them which row of a denoiser call is whose. What is saved of a character is
the recipe (prompts, seeds, settings), from which its anchors are drawn again.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from consistent_gen.attention.backends import select_backend
from consistent_gen.attention.bank import DEFAULT_LIMIT_BYTES
from consistent_gen.attention.layers import find_sites
from consistent_gen.attention.patch import attached
from consistent_gen.attention.roles import FrameRole, Source, Subject
from consistent_gen.attention.rows import Branch, Call, Row
from consistent_gen.attention.run import SharedRun
from consistent_gen.attention.sharing import Sharing
from consistent_gen.errors import InputError
from consistent_gen.methods.tuning import recipe_of
from consistent_gen.runtime import generator
from consistent_gen.saved_character import SavedCharacter, read_character

# What the pipelines take when nothing is said.
DEFAULT_STEPS, DEFAULT_GUIDANCE = 50, 7.5


@dataclass
class _Pass:
    """One run of the pipeline: the frames in its batch, and how many calls it has made."""

    frames: tuple[str, ...]
    steps: int
    step: int = 0
    references: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)


class PipelineStory:
    """Draws frames that share attention with one pipeline; made by `share`."""

    def __init__(self, pipe: Any, method: str, run: SharedRun, options: Mapping[str, Any]) -> None:
        self.pipe = pipe
        self.method = method
        self.run = run
        self.policy = Sharing(run)
        self.policy.bind(find_sites(pipe.unet))
        self._options = dict(options)
        self._pass: _Pass | None = None
        self._looking = False
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
            InputError: another number of anchors, or a prompt without the subject.
        """
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
        self.run.bank.promise([Source(name)], self._most_bytes())
        frames, twins = [], []
        try:
            for number, prompt in enumerate(prompts):
                use = Subject(name=name, tokens=self._tokens(prompt, subject), strength=strength)
                role = FrameRole(frame=self._free_id(), subjects=(use,), anchor=number)
                twins.append(self.run.add_with_twin(role, settings))
                frames.append(role.frame)
                if masks is not None and number in masks:
                    self.run.masks.set_external(twins[-1] or role.frame, name, masks[number])
            images = self._draw(frames, twins, prompts, seeds, pictures or {})
        except BaseException:
            self.run.drop(name)  # half an anchor is nobody's
            raise
        self.run.bank.drawn(Source(name))
        return SavedCharacter(
            name=name, subject=subject, prompts=tuple(prompts), seeds=tuple(seeds),
            strength=strength, settings=settings, images=tuple(images),
        )  # fmt: skip

    def frame(self, prompt: str, seed: int, subjects: Sequence[SavedCharacter] = ()) -> Any:
        """Draw one frame that shows `subjects`; returns the pipeline's picture.

        Raises:
            InputError: a subject's words are not in the prompt, or the pipeline's settings
                (scheduler, adapters) have changed since the anchors were drawn.
        """
        uses = tuple(
            Subject(name=c.name, tokens=self._tokens(prompt, c.subject), strength=c.strength)
            for c in subjects
        )
        role = FrameRole(frame=self._free_id(), subjects=uses)
        twin = self.run.add_with_twin(role, self._settings())
        try:
            return self._draw([role.frame], [twin], [prompt], [seed], {})[0]
        finally:
            self.run.release(role.frame)

    def drop(self, character: SavedCharacter) -> None:
        """Forget a character and free its bank."""
        self.run.drop(character.name)

    def load(self, path: str | Path) -> SavedCharacter:
        """Draw the anchors of a saved character again.

        Raises:
            InputError: the file is no saved character, or was saved under other settings.
        """
        saved = read_character(Path(path), self._settings())
        return self.anchor(
            saved["prompts"], saved["seeds"], saved["subject"],
            name=saved["name"], strength=saved["strength"],
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
    ) -> list[Any]:
        """One run of the pipeline for the twins, if any, and one for the frames."""
        first = [twin for twin in twins if twin is not None]
        if first:
            self._run_pipeline(first, prompts, seeds, pictures, output_type="latent")
        return list(self._run_pipeline(frames, prompts, seeds, pictures))

    def _run_pipeline(
        self,
        frames: Sequence[str],
        prompts: Sequence[str],
        seeds: Sequence[int],
        pictures: Mapping[int, Any],
        **extra: Any,
    ) -> Any:
        negative = self._options.get("negative_prompt")
        options = self._options | extra
        if isinstance(negative, str):
            options["negative_prompt"] = [negative] * len(prompts)
        self._pass = _Pass(tuple(frames), 0)
        for number, picture in pictures.items():
            noise = generator(seeds[number], "reference")
            self._pass.references[number] = self._encoded(picture, noise)
        generators = [generator(seed, "latent") for seed in seeds]
        try:
            found = self.pipe(prompt=list(prompts), generator=generators, **options)
        finally:
            self._pass = None
        return found.images

    def _encoded(self, picture: Any, noise: torch.Generator) -> tuple[Tensor, Tensor]:
        """Clean latent [c h w] of a picture, and its noise."""
        vae = self.pipe.vae
        size = {k: self._options[k] for k in ("height", "width") if k in self._options}
        x = self.pipe.image_processor.preprocess(picture, **size)
        with torch.no_grad():
            latent = vae.encode(x.to(vae.device, vae.dtype)).latent_dist.mode()[0]
        latent = latent * vae.config.scaling_factor
        return latent, torch.randn(latent.shape, generator=noise).to(latent)

    def before_call(self, unet: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """Forward pre-hook of the UNet: announce the rows, put noised references in, look first."""
        now = self._pass
        if now is None or self._looking:
            return None
        now.steps = len(self.pipe.scheduler.timesteps)
        sample = args[0] if args else kwargs["sample"]
        time = float(args[1] if len(args) > 1 else kwargs["timestep"])
        trained = int(self.pipe.scheduler.config.num_train_timesteps)
        count = len(now.frames)
        branches: tuple[Branch, ...] = ("uncond", "cond") if len(sample) == 2 * count else ("cond",)
        if len(sample) != count * len(branches):
            raise InputError(
                f"the pipeline calls its UNet with {len(sample)} rows for {count} pictures; "
                "expected one per picture, or two with guidance"
            )
        rows = tuple(
            Row(slot * count + i, frame, branch, now.step, now.steps, (time + 1) / trained)
            for slot, branch in enumerate(branches)
            for i, frame in enumerate(now.frames)
        )
        if now.references:
            sample = self._with_references(now, sample, len(branches))
            args, kwargs = (
                ((sample, *args[1:]), kwargs) if args else (args, {**kwargs, "sample": sample})
            )
        call = Call(len(sample), (sample.shape[-2], sample.shape[-1]), rows)
        self._look(unet, call, args, kwargs)
        self.policy.begin(call)
        return args, kwargs

    def _look(self, unet: Any, call: Call, args: Any, kwargs: dict[str, Any]) -> None:
        """Call the UNet on the same latents without sharing if a frame's queries are mixed now."""
        rows = tuple(
            replace(row, look=True)
            for row in call.rows
            if self.run.looks(row.frame, row.step, row.steps)
        )
        if not rows:
            return
        self._looking = True
        self.policy.begin(replace(call, rows=rows))
        try:
            unet(*args, **kwargs)
        finally:
            self.policy.end()
            self._looking = False

    def _with_references(self, now: _Pass, sample: Tensor, branches: int) -> Tensor:
        """The latents [b c h w] with pictures of the user's own, noised to this step's level."""
        sample = sample.clone()
        scheduler = self.pipe.scheduler
        moment = scheduler.timesteps[now.step]
        for number, (clean, noise) in now.references.items():
            noised = scheduler.add_noise(clean[None], noise[None], moment[None].cpu())
            noised = scheduler.scale_model_input(noised, moment)[0]
            for slot in range(branches):
                sample[slot * len(now.frames) + number] = noised.to(sample)
        return sample

    def after_call(self, _unet: Any, _args: Any, _output: Any) -> None:
        """Forward hook of the UNet."""
        if self._looking:
            return
        self.policy.end()
        if self._pass is not None:
            self._pass.step += 1

    def _tokens(self, prompt: str, subject: str) -> tuple[int, ...]:
        """Where the subject's last word stands in the encoded prompt."""
        tokenizer = self.pipe.tokenizer
        text = tokenizer(prompt, truncation=True, max_length=tokenizer.model_max_length).input_ids
        words = tokenizer(subject, add_special_tokens=False).input_ids
        found = [i for i in range(len(text)) if text[i : i + len(words)] == words]
        if not found or not words:
            raise InputError(
                f"a prompt does not say {subject!r}, or only after what the model reads"
            )
        return tuple(i + len(words) - 1 for i in found)

    def _most_bytes(self) -> int:
        """Bytes of one character's bank at most (see `SharedRun.most_bytes`)."""
        unet, options = self.pipe.unet, self._options
        side = unet.config.sample_size
        default = (side, side) if isinstance(side, int) else tuple(side)
        factor = self.pipe.vae_scale_factor
        height, width = (
            int(options[key]) // factor if options.get(key) else int(cells)
            for key, cells in zip(("height", "width"), default, strict=True)
        )
        steps = int(options.get("num_inference_steps", DEFAULT_STEPS))
        guided = float(options.get("guidance_scale", DEFAULT_GUIDANCE)) > 1.0
        return self.run.most_bytes(
            find_sites(unet).values(),
            (height, width),
            steps=steps,
            guided=steps if guided else 0,
            element_bytes=unet.dtype.itemsize,
        )

    def _settings(self) -> dict[str, Any]:
        """What anchors and readers must have in common."""
        scheduler = self.pipe.scheduler
        config = {k: v for k, v in scheduler.config.items() if not k.startswith("_")}
        return {
            "method": self.run.recipe.digest(),
            "seed": self.run.seed,
            "scheduler": type(scheduler).__name__,
            "scheduler_config": json.dumps(config, sort_keys=True, default=str),
            "options": json.dumps(self._options, sort_keys=True, default=str),
            "adapters": sorted(getattr(self.pipe.unet, "peft_config", None) or {}),
        }


@contextmanager
def share(
    pipe: Any,
    method: str = "consistyle",
    *,
    seed: int = 0,
    limit_bytes: int = DEFAULT_LIMIT_BYTES,
    bank_device: torch.device | None = None,
    attention_backend: str | None = None,
    settings: Mapping[str, Any] | None = None,
    **options: Any,
) -> Iterator[PipelineStory]:
    """Share attention between pictures of a stock StableDiffusion(XL)Pipeline within a block.

    Args:
        pipe: the pipeline; after the block its UNet is what it was.
        method: a name of `methods.METHODS`. settings: the method's settings by name.
        seed: of the method's own random choices.
        limit_bytes: most memory for the anchors' bank. bank_device: where it is kept.
        attention_backend: a name of `attention.backends.BACKENDS`; it stays after the block.
        options: passed to every call of the pipeline (num_inference_steps, guidance_scale, ...).

    Raises:
        UnknownNameError: no such method or backend. InputError: a pipeline without a UNet.
    """
    if getattr(pipe, "unet", None) is None:
        raise InputError(
            f"a {type(pipe).__name__} has no UNet; expected a StableDiffusionPipeline "
            "or a StableDiffusionXLPipeline"
        )
    recipe = recipe_of(method, settings)
    if attention_backend is not None:
        select_backend(pipe.unet, attention_backend)
    run = SharedRun(recipe, seed=seed, limit_bytes=limit_bytes, bank_device=bank_device)
    story = PipelineStory(pipe, method, run, options)
    with attached(pipe.unet, story.policy):
        hooks = [
            pipe.unet.register_forward_pre_hook(story.before_call, with_kwargs=True),
            pipe.unet.register_forward_hook(story.after_call, always_call=True),
        ]
        try:
            yield story
        finally:
            for hook in hooks:
                hook.remove()
