"""StoryIn -> StoryPlan: everything about a story that can be wrong is found here, before drawing.

A request is a tree whose places are paths (`frames[2].prompt`), and the reader of story files reads
it: the server accepts and refuses exactly what `consistent-gen story` does, and errors name a path.

A `Planner` needs a model's tokenizer and configs but not its weights, so a gateway without an
engine can hold one.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path, PurePath
from typing import Any, Protocol

from consistent_gen.checkpoints import read_json
from consistent_gen.client.types import LoraOut, ModelInfo, StoryIn
from consistent_gen.diffusion.families import folder_of, seam_of
from consistent_gen.diffusion.readers import PromptReader
from consistent_gen.draw_settings import SCHEDULERS, DrawSettings
from consistent_gen.errors import CheckpointError, InputError
from consistent_gen.methods import METHODS, default_method, why_not
from consistent_gen.methods.tuning import Recommending, tuned
from consistent_gen.models import pretrained
from consistent_gen.models.folders import INDEX, find_folder, model_name
from consistent_gen.models.loras import Lora, LoraFile, identified, named_with
from consistent_gen.models.words import closed_vocabulary, unknown_words
from consistent_gen.story.changes import drawn_from
from consistent_gen.story.plan import FramePlan, Model, StoryPlan, plan_story, usual_mend
from consistent_gen.story.prompts import story_world_styles
from consistent_gen.story.script import placeholders
from consistent_gen.story.types import Story
from consistent_gen.story.yaml_tree import refusal
from services.plans.own_words import Worded, read_request, story_of, word_request


class ModelOutline:
    """Answers `story.plan.Model` as the loaded `Backbone` of the same folder does, from configs and
    tokenizer: a few hundred kilobytes of a folder of gigabytes.

    Args:
        path, loras: as in `models.load_backbone`; whether the files fit is not looked at.

    Raises:
        CheckpointError: the folder or one of the files is missing or damaged.
    """

    def __init__(self, path: str | Path | None = None, loras: Sequence[LoraFile] = ()) -> None:
        self.loras: tuple[Lora, ...] = identified(loras)
        self.path = find_folder(path)
        index = read_json(self.path / INDEX)
        holds = folder_of(index, self.path / INDEX)
        self._seam = seam_of(holds.seam)
        present = holds.present(index)
        tokenizers = [
            pretrained._part(self.path, index, f"tokenizer{end}") if end in present else None
            for end in holds.encoders
        ]
        self._tokenizer = tokenizers[0]
        config, vae = self._config(self._seam.part), self._config("vae")
        try:
            height, width = self._seam.default_cells(config)
            factor = self._seam.cell_pixels(vae)
            self._size = width * factor, height * factor
            self._multiple = self._seam.size_multiple(config, factor)
            self._own = self._seam.recommended(config)
            self._unable = self._seam.unable(config)
            self._readers = self._seam.readers(tokenizers, self._seam.text_length(config))
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"the configs of {self.path} lack what a size follows from: {error!r}"
            ) from None

    @property
    def name(self) -> str:
        """The model's name."""
        return model_name(self.path)

    @property
    def readers(self) -> tuple[PromptReader, ...]:
        """Whose tokens stand in what it reads of a prompt."""
        return self._readers

    @property
    def unable(self) -> Mapping[str, str]:
        """What it cannot do, by the names of settings and "negative": why."""
        return self._unable

    @property
    def default_size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self._size

    @property
    def size_multiple(self) -> int:
        """What both sides must be multiples of."""
        return self._multiple

    @cached_property
    def recommended(self) -> Mapping[str, float]:
        """Settings that the folder recommends or its family is drawn with, by name."""
        return self._own | pretrained.recommendations(self.path)[0]

    @cached_property
    def method_settings(self) -> Mapping[str, Mapping[str, Any]]:
        """Settings of methods that the folder recommends, by their names."""
        return pretrained.recommendations(self.path)[1]

    @cached_property
    def sha256(self) -> str:
        """The hash that names the folder's contents and the LoRAs."""
        return named_with(pretrained._sha256(self.path), self.loras)

    def vocabulary(self) -> frozenset[str] | None:
        """The words of a closed vocabulary, None for an open one."""
        return closed_vocabulary(self._tokenizer)

    def unknown_words(self, prompt: str) -> list[str]:
        """Words of `prompt` that a closed vocabulary lacks."""
        return unknown_words(self._tokenizer, prompt)

    def _config(self, part: str) -> dict[str, Any]:
        config = read_json(self.path / part / "config.json")
        if not isinstance(config, dict):
            raise CheckpointError(f"{self.path / part / 'config.json'} is not a JSON object")
        return config


def validate_story(
    request: StoryIn,
    model: Model,
    *,
    references: Mapping[str, Sequence[str]] | None = None,
    folder: Path | None = None,
) -> StoryPlan:
    """Settle `request` for `model`, drawing nothing.

    references: character -> names of picture files in `folder`.

    Raises:
        InputError: names the place in the request, what is wrong there and how to mend it.
    """
    story = _with_loras_of(model, story_of(request, references or {}))
    return plan_story(story, model, folder=folder)


def _with_loras_of(model: Model, story: Story) -> Story:
    """The story for a model that has its LoRA files. A request means one by its name, and nothing
    that it names is ever opened.

    Raises:
        StoryError: it asks for others than act in the model, or for other weights.
    """
    asked = sorted((PurePath(lora.path).name, lora.weight) for lora in story.loras)
    has = sorted((str(lora.name), lora.weight) for lora in model.loras)
    if story.loras and asked != has:
        told = ", ".join(f"{name} (weight {weight:g})" for name, weight in has)
        raise refusal(
            f"this server draws with {f'the LoRAs {told}' if told else 'no LoRA files'}; leave "
            "loras out, or draw the story file with consistent-gen story",
            story.place_of("loras"),
        )
    return replace(story, loras=())


class KnownModel(Model, Recommending, Protocol):
    """A model, and the hash that names it; `Backbone` and `ModelOutline` are."""

    @property
    def sha256(self) -> str:
        """Hash of the folder's contents and of LoRA files."""


class Planner:
    """Plans stories for one model folder; loaded when first used. Safe to share between threads.

    Args:
        model: folder or name of a shipped model, None for the default one. loras: files that act
            in it.
        loaded: a model that is in memory already, instead of reading the folder.
    """

    def __init__(
        self,
        model: str | Path | None = None,
        loras: Sequence[LoraFile] = (),
        *,
        loaded: KnownModel | None = None,
    ) -> None:
        self._folder, self._loras = model, loras
        self._loaded = loaded
        self._lock = threading.Lock()

    @property
    def model(self) -> KnownModel:
        """What planning knows of the model.

        Raises:
            CheckpointError: no such folder, or it is damaged.
        """
        from services.plans.planner import ModelOutline

        with self._lock:
            if self._loaded is None:
                self._loaded = ModelOutline(self._folder, self._loras)
            return self._loaded

    def plan(self, request: StoryIn) -> StoryPlan:
        """As `validate_story`, for this planner's model.

        Raises:
            InputError: as `validate_story`. CheckpointError: as `model`.
        """
        return validate_story(request, self.model)

    def begun(self, request: StoryIn) -> StoryIn:
        """A new story as it is stored: what it leaves open and a later version might choose
        otherwise is written down. Raises CheckpointError as `model`.
        """
        mend = usual_mend(self.model) if request.mend is None else request.mend
        return request.model_copy(update={"mend": mend})

    def word(self, request: StoryIn, pictured: Collection[str] = ()) -> Worded:
        """As `word_request`, for this planner's model.

        Raises:
            InputError: as `word_request`. CheckpointError: as `model`.
        """
        return word_request(request, self.model, pictured)

    def read(self, request: StoryIn, pictured: Collection[str] = ()) -> Worded:
        """As `word`, but what cannot be drawn stands in its `problems`.

        Raises:
            InputError: what needs no model to be wrong. CheckpointError: as `model`.
        """
        return read_request(request, self.model, pictured)

    def plan_reroll(self, request: StoryIn, index: int, prompt: str | None) -> StoryPlan:
        """The plan with another prompt in frame `index`; errors name `prompt`.

        Raises:
            InputError: as `plan`, or the story has no such frame.
        """
        if not 0 <= index < len(request.frames):
            raise InputError(f"the story has {len(request.frames)} frames, none {index}")
        if prompt is None:
            return self.plan(request)
        with _of_a_reroll(index):
            return self.plan(with_prompt(request, index, prompt))

    def word_reroll(
        self, request: StoryIn, index: int, prompt: str, pictured: Collection[str] = ()
    ) -> str:
        """Another prompt for frame `index`, in the model's words; errors name `prompt`.

        Raises:
            InputError: as `word`.
        """
        with _of_a_reroll(index):
            worded = self.word(with_prompt(request, index, prompt), pictured).request
        return worded.frames[index].prompt

    def drawn_from(
        self,
        request: StoryIn,
        prompts: Mapping[int, str],
        references: Mapping[str, Sequence[str]],
    ) -> list[Hashable]:
        """What the picture of each frame follows from (see `story.changes`).

        prompts: by frame, those of re-rolls, in the model's words. references: character -> ids of
        pictures.

        Raises:
            InputError: as `plan` and `plan_reroll`.
        """
        plan = self.plan(request)
        shown = {
            index: self.plan_reroll(request, index, prompt).frames[index]
            for index, prompt in prompts.items()
        }
        frames = [_pictured(shown.get(f.index, f), references) for f in plan.frames]
        plan = replace(plan, frames=tuple(_pictured(frame, references) for frame in plan.frames))
        return drawn_from(plan, tuned(plan.method, self.model), frames)

    def model_info(self, layouts: Iterable[str] = ()) -> ModelInfo:
        """What GET /v1/models says.

        Raises:
            CheckpointError: as `model`.
        """
        model = self.model
        width, height = model.default_size
        words = model.vocabulary()
        return ModelInfo(
            name=model.name,
            sha256=model.sha256,
            loras=[LoraOut(file=str(one.name), weight=one.weight) for one in model.loras],
            width=width,
            height=height,
            size_multiple=model.size_multiple,
            methods=[name for name in METHODS if why_not(name, model.unable) is None],
            default_method=default_method(model.unable),
            schedulers=list(SCHEDULERS),
            styles=[] if words is None else list(story_world_styles()),
            layouts=list(layouts),
            words=None if words is None else sorted(words),
            steps=int(model.recommended.get("steps", DrawSettings.steps)),
            guidance=model.recommended.get("guidance", DrawSettings.guidance),
        )


@contextmanager
def _of_a_reroll(index: int) -> Iterator[None]:
    """What is wrong with a frame's prompt is wrong with the `prompt` that a re-roll asks for."""
    try:
        yield
    except InputError as error:
        if error.source == f"frames[{index}].prompt":
            error.source = "prompt"
        raise


def _pictured(frame: FramePlan, references: Mapping[str, Sequence[str]]) -> FramePlan:
    """The frame with references that are named and not opened."""
    members = tuple(
        replace(member, references=tuple(map(Path, references.get(member.name, ()))))
        for member in frame.members
    )
    return replace(frame, members=members)


def with_prompt(request: StoryIn, index: int, prompt: str) -> StoryIn:
    """The request with another prompt in frame `index`; whom it does not name has no box there."""
    frames = list(request.frames)
    named = {found.name for found in placeholders(prompt, request.characters)}
    boxes = {name: box for name, box in (frames[index].boxes or {}).items() if name in named}
    update = {"prompt": prompt, "boxes": boxes or None}
    frames[index] = frames[index].model_copy(update=update)
    return request.model_copy(update={"frames": frames})
