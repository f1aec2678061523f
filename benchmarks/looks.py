"""How pictures look, beside true pictures of the same prompts.

`python -m benchmarks.looks [--prompts 2000] [--set steps=25 --set refine=0] --out FILE.json` draws
held-out prompts and measures, against what the world itself draws of them:
  steps across the borders of 8 x 8 patches over steps inside (the grid that patches leave);
  Frechet distance, precision and recall (Kynkaanniemi et al., arXiv 1904.06991) in features of a
    network that was trained on photographs elsewhere (EfficientNet-lite0, 1,280 of them);
  how often a linear classifier of these features tells drawn from true, on pictures that it was
    not fitted to (50 % is perfect; a two-sample test, Lopez-Paz and Oquab, arXiv 1610.06545);
  faces whose eyes, nose and mouth are all there and stand as in true faces (`looks_faces.py`);
  moods and patterns that are read as named, by the reader and by the judge.
Each has an interval by bootstrap over prompts, and controls that must score as expected: true
pictures against other true ones, blurred ones, and ones with a grid.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from rich.console import Console
from torch import Tensor

from benchmarks.consistency_drawing import engine_for
from benchmarks.looks_faces import face_finder, faces
from benchmarks.model_card import PromptSet, draw, prompt_set, read
from consistent_gen.checkpoints import weights_folder, write_json
from consistent_gen.draw_settings import SETTINGS, chosen
from consistent_gen.encoders.judge import Judge
from consistent_gen.encoders.reader import Reader
from consistent_gen.models import load_backbone
from consistent_gen.rewards.distribution import frechet_distance
from consistent_gen.rewards.photo_features import PhotoFeatures
from consistent_gen.runtime import tune_allocator, versions
from consistent_gen.world.dataset import StoryWorld

NEIGHBOUR = 3  # the k of precision and recall
FOLDS = 5
DRAWS = 200  # of the bootstrap


def patch_steps(pictures: np.ndarray) -> np.ndarray:
    """How much steeper each picture (n h w 3) is across the borders of the latent's cells than
    inside them: 1 is no seam. Mean absolute differences of neighbours, both directions.
    """
    x = torch.from_numpy(pictures).permute(0, 3, 1, 2).float()
    cell = x.shape[-1] // 16
    found = []
    for turned in (x, x.transpose(-1, -2)):
        steps = (turned[..., 1:] - turned[..., :-1]).abs().mean((1, 2))  # n w-1
        border = torch.arange(steps.shape[1]) % cell == cell - 1
        found.append(torch.stack([steps[:, border].mean(1), steps[:, ~border].mean(1)]))
    across, inside = (found[0] + found[1]) / 2
    return torch.stack([across, inside], 1).numpy()


def step_ratio(parts: np.ndarray) -> float:
    """The ratio over a set of pictures, from `patch_steps`."""
    across, inside = parts.mean(0)
    return float(across / inside)


def precision_recall(drawn: Tensor, true: Tensor) -> tuple[float, float]:
    """Share of drawn pictures within the true ones' neighbourhoods, and the other way round."""

    def inside(points: Tensor, of: Tensor) -> float:
        radius = torch.cdist(of, of).kthvalue(NEIGHBOUR + 1, dim=1).values
        return float((torch.cdist(points, of) <= radius).any(1).float().mean())

    return inside(drawn, true), inside(true, drawn)


def told_apart(drawn: Tensor, true: Tensor) -> np.ndarray:
    """For each prompt, the share of its two pictures that a linear classifier calls rightly.

    Ridge regression on standardised features with one fixed penalty, fitted on the other folds:
    both pictures of a prompt are in the same fold, so what a prompt shows is no help.
    """
    n = len(drawn)
    x = torch.cat([drawn, true]).double()
    y = torch.cat([torch.ones(n), -torch.ones(n)]).double()
    fold = torch.arange(n) % FOLDS
    fold = torch.cat([fold, fold])
    right = torch.zeros(2 * n)
    for held in range(FOLDS):
        fit = fold != held
        mean, std = x[fit].mean(0), x[fit].std(0).clamp(min=1e-6)
        a = (x - mean) / std
        gram = a[fit] @ a[fit].T  # fewer rows than features: solve in the rows
        weights = torch.linalg.solve(gram + len(gram) * torch.eye(len(gram)), y[fit])
        said = (a[~fit] @ a[fit].T) @ weights
        right[~fit] = (said.sign() == y[~fit]).float()
    return right.view(2, n).mean(0).numpy()


def interval(count: int, value: Callable[[np.ndarray], float]) -> dict[str, float]:
    """`value` of all prompts' indices, and 95 % of it over draws of prompts."""
    rng = np.random.default_rng(0)
    draws = sorted(value(rng.integers(0, count, count)) for _ in range(DRAWS))
    everything = value(np.arange(count))
    low, high = draws[int(0.025 * DRAWS)], draws[int(0.975 * DRAWS)]
    return {"mean": everything, "low": low, "high": high}


def looks(
    drawn: np.ndarray, true: np.ndarray, other: np.ndarray, network: PhotoFeatures, finder: Any
) -> dict[str, Any]:
    """All measures that need pictures alone.

    Args:
        drawn: n h w 3. true: of the same prompts. other: true pictures of other prompts, as many.
    """
    a, b, c = network(drawn), network(true), network(other)
    steps, right = patch_steps(drawn), told_apart(a, b)
    face = faces(finder, drawn, true)
    n = len(drawn)
    precision, recall = precision_recall(a, c)
    return {
        "step_ratio": interval(n, lambda i: step_ratio(steps[i])),
        "frechet": frechet_distance(a, c),
        "precision": precision,
        "recall": recall,
        "told_apart": interval(n, lambda i: float(right[i].mean())),
        "faces_found": interval(n, lambda i: float(face["drawn_found"][i].mean())),
        "face_shape": interval(n, lambda i: float(np.median(face["drawn_distance"][i]))),
    }


def blurred(pictures: np.ndarray) -> np.ndarray:
    """Pictures under a box of a fortieth of their side."""
    side = 2 * (pictures.shape[1] // 80) + 1
    x = torch.from_numpy(pictures).permute(0, 3, 1, 2).float()
    x = F.avg_pool2d(x, side, 1, side // 2, count_include_pad=False)
    return x.round().byte().permute(0, 2, 3, 1).numpy()


def gridded(pictures: np.ndarray, strength: float = 12.0) -> np.ndarray:
    """Pictures whose cells have a brightness of their own, as drawn latents leave them."""
    cell = pictures.shape[1] // 16
    rng = np.random.default_rng(0)
    offsets = rng.normal(0.0, strength, (len(pictures), 16, 16, 1))
    offsets = offsets.repeat(cell, 1).repeat(cell, 2)
    return np.clip(np.round(pictures + offsets), 0, 255).astype(np.uint8)


def named(model: Any, pictures: np.ndarray, prompts: PromptSet) -> dict[str, float]:
    """Moods and patterns that are read as the prompts name them."""
    accuracy = read(model, pictures, prompts)["all"]
    return {name: accuracy[name] for name in ("expression", "pattern") if name in accuracy}


def true_pictures(prompts: PromptSet, side: int) -> np.ndarray:
    """What the world draws of the same frames, at `side` pixels."""
    world = StoryWorld(prompts.world.split, prompts.world.seed, size=side)
    return np.stack([world.picture(i).rgb for i in prompts.indices])


def main(argv: list[str] | None = None) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description="Measure how drawn pictures look.")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/looks.json"))
    parser.add_argument("--keep", type=Path, default=None, help="write drawn pictures here (.npy)")
    parser.add_argument("--drawn", type=Path, default=None, help="measure these instead (.npy)")
    parser.add_argument("--finder", type=Path, default=Path("runs/looks/faces.safetensors"))
    parser.add_argument("--model", type=Path, default=None)
    parser.add_argument("--prompts", type=int, default=2000)
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of the drawing"
    )
    parser.add_argument("--controls", action="store_true", help="measure the controls, too")
    options = parser.parse_args(argv)
    tune_allocator()
    console = Console(width=110)
    prompts = prompt_set("looks", "held_out", options.prompts, 1)
    others = prompt_set("others", "validation", options.prompts, 1)
    backbone = load_backbone(options.model)
    pairs = [pair.split("=", 1) for pair in options.set]
    said = {name: SETTINGS[name].parse(value) for name, value in pairs}
    settings = chosen(said, backbone.recommended)
    started = time.perf_counter()
    if options.drawn is None:
        drawn = draw(prompts, engine_for(backbone), **settings)
        if options.keep is not None:
            options.keep.parent.mkdir(parents=True, exist_ok=True)
            np.save(options.keep, drawn)
    else:
        drawn = np.load(options.drawn)[: options.prompts]
    seconds = time.perf_counter() - started
    side = drawn.shape[1]
    true, other = true_pictures(prompts, side), true_pictures(others, side)
    network, finder = PhotoFeatures(), face_finder(options.finder)
    sets = {"drawn": drawn, "true": true}
    if options.controls:
        sets |= {"blurred": blurred(true), "gridded": gridded(true)}
    report: dict[str, Any] = {
        "prompts": len(drawn), "side": side, "seconds": seconds, "settings": settings,
        "model": {"name": backbone.name, "sha256": backbone.sha256},
        "features": network.sha256, "versions": versions(),
    }  # fmt: skip
    readers: dict[str, Any] = {
        "reader": Reader.load(weights_folder("reader")),
        "judge": Judge.load(weights_folder("judge")),
    }
    for name, pictures in sets.items():
        # True pictures are measured against other true ones: the floor.
        against = true if name != "true" else true_pictures(
            prompt_set("floor", "validation", 2 * options.prompts, 1), side
        )[options.prompts :]  # fmt: skip
        report[name] = looks(pictures, against, other, network, finder)
        report[name] |= {who: named(model, pictures, prompts) for who, model in readers.items()}
        console.print(name, report[name])
    write_json(options.out, report)


if __name__ == "__main__":
    main()
