"""Two characters in one story: does each stay itself, and does neither take the other's clothes?

    python -m benchmarks.consistency_pairs --stories 40 --methods vanilla,consistory,consistyle \\
        --steps 25 --out benchmarks/results/consistency_pairs.json

Every story casts two held-out characters of different kinds and draws five scenes with both, and
the same five with each of them alone, from the same banks. Anchors are what a story has
(`consistent_gen.story.cast.plan_anchors`): the first frames of both, or with methods that want
portraits (`Topology.portrait`) hidden ones of each, and if the method has `together` the first
frame of both beside them.
In a frame of both, a figure is taken for the character whose kind it has (the words name kinds).

- c_star_alone, c_star_together: excess consistency of a character in the frames without and with
  the other, mean over both; loss is the first less the second, paired by story.
- c_star_across: the same between frames with and without the other: is a character the same one
  in both?
- swap_rate: share of figures whose garments, accessory and colours are more like those of the other
  character's own frames than like their own.
- found: share of frames of both in which two figures are seen.

A story costs 15 frames and the portraits, for each of two story seeds: 40 stories of 25 steps at
57 denoiser rows/s take 18 minutes for vanilla, 47 for consistory and for consistyle.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from benchmarks import consistency_scores as scores
from benchmarks.consistency import (
    DEV_STORY_SEEDS,
    DEV_WORLD,
    KEEP,
    STORY_SEEDS,
    load_networks,
    machine,
)
from benchmarks.consistency_drawing import (
    Candidate,
    DrawingSettings,
    DrawnStory,
    PictureStore,
    drain,
    draw_missing,
    engine_for,
    parse_candidate,
)
from benchmarks.consistency_scores import Seen
from benchmarks.consistency_stories import (
    FRAMES,
    NAMED_SHARE,
    PORTRAIT_ACTIONS,
    SceneWords,
    noun_index,
    sample_scenes,
)
from consistent_gen.checkpoints import write_json
from consistent_gen.draw_settings import DrawSettings
from consistent_gen.engine import FrameRequest, Subject
from consistent_gen.engine.sharing import SharedStory
from consistent_gen.models import load_backbone
from consistent_gen.models.backbone import Backbone
from consistent_gen.runtime import DTYPES, frame_seed, versions
from consistent_gen.world import phrases
from consistent_gen.world.captions import describe, style_phrase, words_of
from consistent_gen.world.spec import ACTIONS, KINDS, sample_identity

NAMES = ("left", "right")
GARMENTS = ("top", "sleeve", "pattern", "bottom", "shoes", "accessory")
_PORTRAIT_INDEX = 20_000


@dataclass(frozen=True)
class PairStory:
    """Two characters' words, their kinds, the scenes and what the right one does in each."""

    number: int
    words: tuple[str, str]
    kinds: tuple[str, str]
    scenes: tuple[SceneWords, ...]
    actions: tuple[str, ...]

    def requests(self, seed: int, steps: int, guidance: float) -> list[FrameRequest]:
        """Frames of both, then of the left one alone, then of the right one alone."""
        found = []
        for who in ((0, 1), (0,), (1,)):
            for i, scene in enumerate(self.scenes):
                acts = [(k, scene.action if k == 0 else self.actions[i]) for k in who]
                name = "".join(NAMES[k][0] for k in who)
                text = self._request(acts, scene, frame_seed(seed, i, len(who) * 3 + who[0]))
                found.append(
                    replace(
                        text,
                        id=f"pair{self.number}-{seed}-{name}{i}",
                        settings=DrawSettings(steps=steps, guidance=guidance),
                    )
                )
        return found

    def portraits(
        self, who: int, count: int, seed: int, steps: int, guidance: float
    ) -> list[FrameRequest]:
        """Hidden anchors of one character."""
        found = []
        for number in range(count):
            action = PORTRAIT_ACTIONS[number % len(PORTRAIT_ACTIONS)]
            scene = SceneWords(action, self.scenes[0].place, self.scenes[0].style)
            own = frame_seed(seed, _PORTRAIT_INDEX + who, number)
            found.append(
                replace(
                    self._request([(who, action)], scene, own),
                    hidden=True,
                    settings=DrawSettings(steps=steps, guidance=guidance),
                    id=f"pair{self.number}-{seed}-portrait{who}{number}",
                )
            )
        return found

    def _request(
        self, acts: Sequence[tuple[int, str]], scene: SceneWords, seed: int
    ) -> FrameRequest:
        text, subjects = f"{style_phrase(scene.style)} of", []
        for order, (who, action) in enumerate(acts):
            text += " and" if order else ""
            noun = 1 + len(words_of(text)) + noun_index(self.words[who])
            subjects.append(Subject(name=NAMES[who], tokens=(noun,)))
            text += f" {self.words[who]} {phrases.ACTION_PHRASES[action][0][0]}"
        text += f" {phrases.PLACE_PHRASES[scene.place][0]}"
        return FrameRequest(prompt=text, seed=seed, subjects=tuple(subjects))


def make_pair(number: int, *, seed: int = 0) -> PairStory:
    """Story `number`: two held-out identities of different kinds, sparingly described."""
    rng = random.Random(f"pairs {seed} {number}")
    kinds = rng.sample(KINDS, 2)
    people = [sample_identity(rng, held_out=True, kind=kind) for kind in kinds]
    # Captions of two name less of each, as in training.
    words = [describe(person, rng, share=0.75 * NAMED_SHARE)[0] for person in people]
    scenes = sample_scenes(rng, style_diverse=False)
    actions = tuple(rng.sample(ACTIONS, FRAMES))
    return PairStory(number, (words[0], words[1]), (kinds[0], kinds[1]), scenes, actions)


def draw_pairs(
    backbone: Backbone,
    candidate: Candidate,
    settings: DrawingSettings,
    part: Sequence[tuple[PairStory, int]],
) -> list[DrawnStory]:
    """Draw (story, story seed) pairs side by side; pictures in the order of the requests."""
    engine = engine_for(backbone)
    options = settings.steps, settings.guidance
    orders = []
    for story, seed in part:
        requests = story.requests(seed, *options)
        orders.append([str(request.id) for request in requests])
        recipe = candidate.recipe
        if recipe is None or not recipe.rules:
            for request in requests:
                engine.submit(request)
            continue
        run = SharedStory(engine, recipe, seed=seed)
        if recipe.portrait:
            for who, name in enumerate(NAMES):
                portraits = story.portraits(who, recipe.anchors, seed, *options)
                run.cast(name, portraits, strength=settings.strength)
            if recipe.together:
                run.cast_together(requests[0])
            cast = int(recipe.together)
        else:
            cast = recipe.anchors
            run.cast_all(dict.fromkeys(NAMES, settings.strength), requests[:cast])
        for request in requests[cast:]:
            run.submit(request)
    done = drain(engine)
    return [DrawnStory(np.stack([done[i] for i in order]), {}) for order in orders]


def score_pair(
    story: PairStory, pair: Sequence[DrawnStory], networks: Mapping[str, Any]
) -> dict[str, float]:
    """All scores of a story that was drawn with two story seeds, by the mean of the networks."""
    rows = [_score_by(story, pair, network) for network in networks.values()]
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def _score_by(story: PairStory, pair: Sequence[DrawnStory], network: Any) -> dict[str, float]:
    drawings = [_figures(story, drawn, network) for drawn in pair]
    alone, together, across = [], [], []
    for who in range(2):
        alone.append(scores.excess_consistency(*(d[f"alone {who}"] for d in drawings)))
        together.append(scores.excess_consistency(*(d[f"together {who}"] for d in drawings)))
        parts = [[d[f"{name} {who}"] for name in ("alone", "together")] for d in drawings]
        across.append(scores.consistency_across(*parts))
    swaps = [_swaps(d, who) for d in drawings for who in range(2)]
    seen = torch.cat([d["together 0"].present for d in drawings])
    known = torch.cat(swaps)
    return {
        "c_star_alone": float(np.mean(alone)),
        "c_star_together": float(np.mean(together)),
        "c_star_across": float(np.mean(across)),
        "loss": float(np.mean(alone) - np.mean(together)),
        "swap_rate": float(known.mean()) if len(known) else float("nan"),
        "found": float(seen.float().mean()),
    }


@torch.inference_mode()
def _figures(story: PairStory, drawn: DrawnStory, network: Any) -> dict[str, Seen]:
    """Both characters alone and in the frames of both, found there by their kinds."""
    both, *single = (
        scores.read(network, drawn.pictures[k * FRAMES : (k + 1) * FRAMES]) for k in range(3)
    )
    left, right = (KINDS.index(kind) for kind in story.kinds)
    kinds = both.subject["kind"][:, :2].log_softmax(-1)
    straight = kinds[:, 0, left] + kinds[:, 1, right]
    crossed = kinds[:, 1, left] + kinds[:, 0, right]
    slots = (crossed > straight).long()
    two = both.count() >= 2
    found = {f"alone {who}": scores.see(reading) for who, reading in enumerate(single)}
    for who in range(2):
        at = slots if who == 0 else 1 - slots
        found[f"together {who}"] = replace(scores.see(both, at.tolist()), present=two)
    return found


def _swaps(drawing: Mapping[str, Seen], who: int) -> torch.Tensor:
    """Per frame of both, 1 if the figure wears what the other wears; unseen ones are left out."""
    figure, own, other = (
        drawing[name] for name in (f"together {who}", f"alone {who}", f"alone {1 - who}")
    )
    like = [
        scores.identity_similarity(figure, frames, GARMENTS).nanmean(1) for frames in (own, other)
    ]
    known = like[0].isfinite() & like[1].isfinite()
    return (like[1] > like[0])[known].float()


def draw_all(
    backbone: Backbone,
    candidate: Candidate,
    settings: DrawingSettings,
    stories: Sequence[PairStory],
    seeds: Sequence[int],
    keep: Path,
) -> PictureStore:
    """Draw what is missing of a candidate's stories, each with every story seed."""
    identity = {
        "pairs": repr(stories[0]), "model": backbone.sha256, "label": candidate.label,
        "recipe": None if candidate.recipe is None else candidate.recipe.digest(),
        "settings": vars(settings), "portrait": stories[0].portraits(0, 1, 0, 1, 0.0)[0].prompt,
    }  # fmt: skip
    if backbone.dtype != torch.float32:
        identity["dtype"] = str(backbone.dtype)
    store = PictureStore(keep, f"pairs-{candidate.label}", identity)
    wanted = [(story, frame_seed(seed, story.number)) for story in stories for seed in seeds]
    together = 2 if backbone.device.type == "cpu" else 8
    draw_missing(
        store, wanted, partial(draw_pairs, backbone, candidate, settings), together=together
    )
    return store


def score_all(
    store: PictureStore,
    stories: Sequence[PairStory],
    seeds: Sequence[int],
    networks: Mapping[str, Any],
) -> dict[str, dict[str, float]]:
    """Means over stories with intervals, by score."""
    columns: dict[str, list[float]] = {}
    for story in stories:
        pair = [store.get(story.number, frame_seed(seed, story.number)) for seed in seeds]
        for name, value in score_pair(story, pair, networks).items():
            columns.setdefault(name, []).append(value)
    return {name: scores.interval(values) for name, values in columns.items()}


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stories", type=int, default=40)
    parser.add_argument("--methods", default="vanilla,consistory,consistyle")
    parser.add_argument("--variant", action="append", default=[], help="a method with settings")
    parser.add_argument("--steps", type=int, default=DrawSettings.steps)
    parser.add_argument("--guidance", type=float, default=DrawSettings.guidance)
    parser.add_argument("--strength", type=float, default=1.0)
    parser.add_argument("--dev", action="store_true", help="other stories, to choose settings by")
    parser.add_argument("--model", type=Path, default=None)
    parser.add_argument("--dtype", choices=DTYPES, default=None, help="number format to draw in")
    parser.add_argument("--keep", type=Path, default=KEEP, help="where drawings are kept")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(argv)
    console = Console(width=140)
    networks = load_networks(console)
    backbone = load_backbone(options.model, dtype=options.dtype)
    names = [*filter(None, options.methods.split(",")), *options.variant]
    candidates = [parse_candidate(name, backbone) for name in names]
    settings = DrawingSettings(
        steps=options.steps, guidance=options.guidance, strength=options.strength
    )
    world, seeds = (DEV_WORLD, DEV_STORY_SEEDS) if options.dev else (0, STORY_SEEDS)
    stories = [make_pair(n, seed=world) for n in range(options.stories)]
    summary: dict[str, Any] = {}
    for candidate in candidates:
        store = draw_all(backbone, candidate, settings, stories, seeds, options.keep)
        summary[candidate.label] = score_all(store, stories, seeds, networks)
        console.print(f"{candidate.label}: {len(stories)} stories drawn and read")
    print_table(summary, console)
    write_json(
        options.out,
        {
            "methods": scores.without_nan(summary),
            "networks": list(networks),
            "machine": machine(backbone),
            "versions": versions(),
            "seeds": {"stories": [s.number for s in stories], "drawings": seeds},
            "model": {"name": backbone.name, "sha256": backbone.sha256},
            "settings": {k: str(v) for k, v in vars(options).items() if k not in ("keep", "out")},
        },
    )


def print_table(summary: Mapping[str, Mapping[str, Mapping[str, float]]], console: Console) -> None:
    """One row per method, means with intervals."""
    table = Table("method", *(n.replace("_", " ") for n in next(iter(summary.values()))))
    for name, columns in summary.items():
        ranges = [f"{c['mean']:.3f} ({c['lo']:.3f} to {c['hi']:.3f})" for c in columns.values()]
        table.add_row(name, *ranges)
    console.print(table)


if __name__ == "__main__":
    main()
