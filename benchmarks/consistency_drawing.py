"""Stories of the consistency benchmark drawn by a method, many at once, and kept on disk.

Drawing is what the benchmark costs, so pictures are kept (in an ignored folder) under everything
that decides them, and a run that was stopped, or that asks for one more method, draws what is
missing only. Stories share denoiser calls: a frame's bytes do not depend on its company.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import consistency_scores as scores
from benchmarks.consistency_stories import (
    FRAMES,
    HERO,
    BenchmarkStory,
    true_frames,
    with_sheet,
)
from consistent_gen.attention.roles import twin_id
from consistent_gen.attention.settings import Recipe
from consistent_gen.checkpoints import atomic_file
from consistent_gen.engine import Engine, FrameRequest
from consistent_gen.engine.exactness import DEFAULT_BUCKET, MAX_BUCKET
from consistent_gen.engine.sharing import SharedStory
from consistent_gen.errors import InputError
from consistent_gen.methods.tuning import recipe_of, tuned
from consistent_gen.models.backbone import Backbone
from consistent_gen.runtime import frame_seed
from consistent_gen.story.wording import read_vocabulary

VANILLA, BEST_OF_4, TRUTH = "vanilla", "best_of_4", "truth"
PUBLISHED, SHEETS = " as published", " with sheets"
CANDIDATES = 4
FORMAT = 2  # of what is kept on disk; raise it when drawings change though no setting did


@dataclass(frozen=True)
class Candidate:
    """A row of the table: a method, or a baseline, with its settings."""

    label: str
    recipe: Recipe | None = None  # None: frames are drawn alone
    sheets: bool = False  # what the words leave open is completed (see `with_sheet`)


@dataclass(frozen=True, kw_only=True)
class DrawingSettings:
    """How stories are drawn."""

    steps: int
    guidance: float
    strength: float = 1.0


@dataclass
class DrawnStory:
    """Pictures [n h w 3] of one story, and where its anchors' subjects were taken to be.

    masks: number of a shown frame that is an anchor -> plane of 0 and 1 on the finest grid.
    """

    pictures: np.ndarray
    masks: Mapping[int, np.ndarray]


def parse_candidate(text: str, backbone: Backbone | None = None) -> Candidate:
    """ "consistory", "consistory: dropout=0.2; window.blocks=[mid, up]", "consistory as published",
    "consistory with sheets", "vanilla with sheets".

    Settings are those that the model recommends for the method, as in stories, then the given ones;
    "as published", and without a model, they are the method's own.

    Raises:
        UnknownNameError, InputError: no such method or setting, with the nearest one.
    """
    name, _, rest = text.partition(":")
    name = name.strip()
    if name.endswith(SHEETS):
        bare = parse_candidate(text.replace(SHEETS, "", 1), backbone)
        return replace(bare, label=name + bare.label[len(name) - len(SHEETS) :], sheets=True)
    if name in (VANILLA, BEST_OF_4, TRUTH):
        if rest:
            raise InputError(f"{name} has no settings; got {rest.strip()!r}")
        return Candidate(name)
    given = [part.strip() for part in rest.split(";") if part.strip()]
    label = f"{name}: {'; '.join(given)}" if given else name
    plain = name.removesuffix(PUBLISHED)
    if backbone is None or plain != name:
        return Candidate(label, recipe_of(plain, {}, given))
    return Candidate(label, tuned(name, backbone, given))


def engine_for(backbone: Backbone) -> Engine:
    """An engine whose calls are as large as they may be on a GPU, which small ones leave idle."""
    on_cpu = backbone.device.type == "cpu"
    return Engine(backbone, bucket=DEFAULT_BUCKET if on_cpu else MAX_BUCKET)


def drain(engine: Engine) -> dict[str, np.ndarray]:
    """Run until nothing is left; pictures by frame id. An error is raised."""
    return {name: event.image for name, event in engine.drain().items()}


def anchors_of(
    story: BenchmarkStory, recipe: Recipe, seed: int, settings: DrawingSettings
) -> tuple[list[FrameRequest], list[FrameRequest]]:
    """A character's anchors and its other frames: a hidden portrait if the recipe has one, then the
    first frames.
    """
    options = seed, settings.steps, settings.guidance
    requests = [story.request(i, *options) for i in range(FRAMES)]
    shown = min(recipe.anchors - recipe.portrait, FRAMES - 1)
    portraits = [
        replace(story.portrait(i, *options), hidden=True) for i in range(recipe.anchors - shown)
    ]
    return [*portraits, *requests[:shown]], requests[shown:]


def draw_stories(
    backbone: Backbone,
    wanted: Sequence[tuple[BenchmarkStory, int]],
    candidate: Candidate,
    settings: DrawingSettings,
) -> list[DrawnStory]:
    """Draw (story, story seed) pairs side by side."""
    if candidate.sheets:
        vocabulary = read_vocabulary()
        wanted = [(with_sheet(story, seed, vocabulary), seed) for story, seed in wanted]
    engine = engine_for(backbone)
    shared: list[SharedStory | None] = []
    for story, seed in wanted:
        if candidate.recipe is None or not candidate.recipe.rules:
            shared.append(None)
            for request in story.requests(seed, settings.steps, settings.guidance):
                engine.submit(request)
            continue
        run = SharedStory(engine, candidate.recipe, seed=seed)
        shared.append(run)
        anchors, others = anchors_of(story, candidate.recipe, seed, settings)
        run.cast(HERO, anchors, strength=settings.strength)
        for request in others:
            run.submit(request)
    done = drain(engine)
    results = []
    for (story, seed), drawn in zip(wanted, shared, strict=True):
        ids = [str(r.id) for r in story.requests(seed, settings.steps, settings.guidance)]
        masks = {} if drawn is None else _anchor_masks(drawn, ids)
        results.append(DrawnStory(np.stack([done[i] for i in ids]), masks))
    return results


def _anchor_masks(story: SharedStory, ids: Sequence[str]) -> dict[int, np.ndarray]:
    """The final masks of anchors that are frames of the story."""
    run, found = story.run, {}
    if run.recipe.masks is None:
        return {}
    for number, name in enumerate(ids):
        drawing = twin_id(name) if twin_id(name) in run.roles else name
        grid = run.masks.finest(drawing)
        mask = None if grid is None else run.masks.mask(drawing, HERO, 1 << 30, grid)
        if grid is not None and mask is not None:
            found[number] = mask.reshape(grid).cpu().numpy().astype(np.uint8)
    return found


def draw_best_of(
    backbone: Backbone,
    wanted: Sequence[tuple[BenchmarkStory, int]],
    plain: Sequence[DrawnStory],
    settings: DrawingSettings,
    reader: Any,
) -> list[DrawnStory]:
    """Per frame, of vanilla's picture and three more seeds the one most like frame 0."""
    engine = engine_for(backbone)
    tries: list[list[list[str]]] = []
    for story, seed in wanted:
        tries.append([])
        for request in story.requests(seed, settings.steps, settings.guidance)[1:]:
            more = [
                replace(request, id=f"{request.id}-{k}", seed=frame_seed(request.seed, k))
                for k in range(1, CANDIDATES)
            ]
            tries[-1].append([engine.submit(r) for r in more])
    done = drain(engine)
    results = []
    for groups, vanilla in zip(tries, plain, strict=True):
        chosen = [vanilla.pictures[0]]
        for number, ids in enumerate(groups, start=1):
            group = [vanilla.pictures[number], *(done[i] for i in ids)]
            seen = scores.see(scores.read(reader, np.stack([chosen[0], *group])))
            alike = scores.identity_similarity(seen, seen)[0, 1:].nan_to_num(-1.0)
            chosen.append(group[int(alike.argmax())])
        results.append(DrawnStory(np.stack(chosen), {}))
    return results


def draw_truth(wanted: Sequence[tuple[BenchmarkStory, int]]) -> list[DrawnStory]:
    """The same stories drawn by the world itself: what scores can reach at best."""
    from consistent_gen.world.scene import render

    results = []
    for story, seed in wanted:
        frames = true_frames(story, random.Random(f"truth {story.number} {seed}"))
        pictures = np.stack([np.asarray(render(frame).rgb) for frame in frames])
        results.append(DrawnStory(pictures, {}))
    return results


class PictureStore:
    """Drawings of one candidate on disk, by story and story seed."""

    def __init__(self, root: Path, label: str, identity: Mapping[str, Any]) -> None:
        text = json.dumps({"format": FORMAT, **identity}, sort_keys=True, default=str)
        name = label.partition(":")[0]
        self.folder = root / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"

    def path(self, story: int, seed: int) -> Path:
        """The file of one drawing."""
        return self.folder / f"{story}-{seed}.npz"

    def has(self, story: int, seed: int) -> bool:
        """Whether the drawing is there."""
        return self.path(story, seed).exists()

    def put(self, story: int, seed: int, drawn: DrawnStory) -> None:
        """Keep a drawing, by rename."""
        masks: dict[str, Any] = {f"mask{n}": plane for n, plane in drawn.masks.items()}
        with atomic_file(self.path(story, seed)) as place, place.open("wb") as file:
            np.savez_compressed(file, pictures=drawn.pictures, **masks)

    def get(self, story: int, seed: int) -> DrawnStory:
        """What was kept."""
        with np.load(self.path(story, seed)) as kept:
            masks = {int(key[4:]): kept[key] for key in kept if key.startswith("mask")}
            return DrawnStory(kept["pictures"], masks)


def chunks(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """Consecutive parts of at most `size` items."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def draw_missing(
    store: PictureStore,
    wanted: Sequence[tuple[Any, int]],
    draw: Callable[[Sequence[tuple[Any, int]]], list[DrawnStory]],
    *,
    together: int = 4,
    tell: Callable[[int, int], None] | None = None,
) -> None:
    """Draw what `store` lacks of (story, story seed) pairs, `together` of them at a time."""
    missing = [(story, seed) for story, seed in wanted if not store.has(story.number, seed)]
    done = 0
    for part in chunks(missing, together):
        with torch.inference_mode():
            drawn = draw(part)
        for (story, seed), result in zip(part, drawn, strict=True):
            store.put(story.number, seed, result)
        done += len(part)
        if tell is not None:
            tell(done, len(missing))
