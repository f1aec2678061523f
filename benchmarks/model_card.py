"""How well the story-world model draws what it is told, read by the reader and the judge.

`python -m benchmarks.model_card --out FILE.json [--sheet FILE.png]` draws pictures of captions that
training never saw, from three sets: new captions of training combinations ("validation"),
combinations and (action, place) pairs that training never showed ("held_out"), and two characters
in one prompt. It prints accuracy per named attribute, a Frechet distance in reader features with
its floor (real against real pictures), and the autoencoder's reconstruction quality. The readers'
own accuracy on real pictures of the same specifications stands beside each figure, since no drawing
can be read better.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.consistency_drawing import engine_for
from consistent_gen.checkpoints import weights_folder, write_json
from consistent_gen.draw_settings import DrawSettings
from consistent_gen.encoders.judge import Judge
from consistent_gen.encoders.reader import Reader
from consistent_gen.engine import Engine, FrameDone, FrameRequest
from consistent_gen.errors import CheckpointError
from consistent_gen.models import load_backbone
from consistent_gen.rewards.attributes import Wanted, attribute_hits, read_words
from consistent_gen.rewards.distribution import frechet_distance
from consistent_gen.runtime import DTYPES, frame_seed, versions
from consistent_gen.training.autoencoder import psnr
from consistent_gen.world.captions import Caption
from consistent_gen.world.dataset import StoryWorld
from consistent_gen.world.palette import HUES

# The attributes that the headline averages, as the table calls them -> the factors behind them.
HEADLINE = {
    "kind": "kind",
    "hair or fur colour": "coat",
    "garment colour": "top_hue",
    "accessory": "accessory",
    "action": "action",
    "place": "place",
    "style": "style",
}
ANCHORS = {name: degrees / 360.0 for name, (degrees, _, _) in HUES.items()}
SEED = 20_000  # first index of the pictures used here, clear of those that training validated on


@dataclass(frozen=True)
class PromptSet:
    """Numbered pictures of one split and their captions."""

    name: str
    world: StoryWorld
    indices: tuple[int, ...]
    captions: tuple[Caption, ...]

    @property
    def wanted(self) -> list[Wanted]:
        """What each caption names."""
        return [Wanted(caption.named, caption.scene) for caption in self.captions]


def prompt_set(name: str, split: str, count: int, subjects: int) -> PromptSet:
    """The first `count` pictures of `split` with `subjects` subjects, with a caption each."""
    world = StoryWorld(split, seed=1)  # training draws from seed 0
    indices: list[int] = []
    index = SEED
    while len(indices) < count:
        if len(world.frame(index).subjects) == subjects:
            indices.append(index)
        index += 1
    return PromptSet(name, world, tuple(indices), tuple(world.caption(i) for i in indices))


def draw(prompts: PromptSet, engine: Engine, **settings: Any) -> np.ndarray:
    """One picture per prompt, uint8 (n h w 3); `settings` are those of `DrawSettings`."""
    requests = [
        FrameRequest(
            prompt=caption.text,
            seed=frame_seed(7, index),
            settings=DrawSettings(**settings),
            id=f"{prompts.name} {position}",
        )
        for position, (index, caption) in enumerate(
            zip(prompts.indices, prompts.captions, strict=True)
        )
    ]
    pictures: dict[int, np.ndarray] = {}
    for event in track(_done(engine, requests), total=len(requests), description=prompts.name):
        pictures[int(event.id.rpartition(" ")[2])] = event.image
    return np.stack([pictures[i] for i in range(len(requests))])


def _done(engine: Engine, requests: list[FrameRequest]) -> Iterator[FrameDone]:
    for event in engine.run(requests):
        if isinstance(event, FrameDone):
            yield event


def read(model: Any, pictures: np.ndarray, prompts: PromptSet) -> dict[str, Any]:
    """Accuracy of every named attribute, their headline mean, and kinds of all subjects right."""
    schema = model.schema
    hits: dict[str, list[float]] = {}
    kinds: list[float] = []
    features: list[torch.Tensor] = []
    for start in range(0, len(pictures), 50):
        rows = slice(start, min(start + 50, len(pictures)))
        batch = torch.from_numpy(pictures[rows]).permute(0, 3, 1, 2).contiguous()
        with torch.inference_mode():
            reading = model(batch)
        wanted = prompts.wanted[rows]
        found = attribute_hits(reading, wanted, schema.subject, schema.hues, schema.scene, ANCHORS)
        for row, (words, entry) in enumerate(zip(wanted, found, strict=True)):
            for name, value in entry.items():
                hits.setdefault(name, []).append(value)
            seen = sorted(
                read_words(reading, ANCHORS, row, slot, schema.subject, schema.hues)["kind"]
                for slot in range(len(words.subjects))
            )
            kinds.append(float(seen == sorted(subject["kind"] for subject in words.subjects)))
        features.append(reading.features)
    accuracy = {name: sum(v) / len(v) for name, v in hits.items()}
    return {
        "headline": {label: accuracy[factor] for label, factor in HEADLINE.items()},
        "mean": sum(accuracy[factor] for factor in HEADLINE.values()) / len(HEADLINE),
        "all": accuracy,
        "named": {name: len(v) for name, v in hits.items()},
        "kinds_right": sum(kinds) / len(kinds),
        "features": torch.cat(features),
    }


def reconstruction_psnr(backbone: Any, pictures: np.ndarray) -> float:
    """Mean PSNR in dB of the autoencoder on real pictures."""
    vae = backbone.vae
    weight = next(vae.parameters())  # half precision on a GPU

    def reconstruct(x: torch.Tensor) -> torch.Tensor:
        latents = vae.encode(x.to(weight)).latent_dist.mode()
        decoded: torch.Tensor = vae.decode(latents).sample.to(x)
        return decoded

    return psnr(
        reconstruct,
        torch.from_numpy(pictures).permute(0, 3, 1, 2),
    )


def sheet(pictures: np.ndarray, real: np.ndarray, columns: int = 10, rows: int = 4) -> Image.Image:
    """Drawings in rows, each above the real picture of the same specification."""
    lines = []
    for r in range(rows):
        for group in (pictures, real):
            lines.append(np.concatenate(list(group[r * columns : (r + 1) * columns]), axis=1))
    return Image.fromarray(np.concatenate(lines, axis=0))


def print_table(results: dict[str, Any], console: Console) -> None:
    """Accuracy by attribute, drawn and real, for each set."""
    table = Table(title="named attributes: drawn (real pictures of the same specifications)")
    table.add_column("attribute")
    for name in results:
        table.add_column(name, justify="right")
    for row in [*HEADLINE, "mean", "kinds_right"]:
        cells = []
        for entry in results.values():
            drawn, real = entry["reader"], entry["reader_on_real"]
            if row in HEADLINE:
                drawn, real = drawn["headline"], real["headline"]
            cells.append(f"{drawn[row]:.3f} ({real[row]:.3f})")
        table.add_row(row, *cells)
    console.print(table)


def main(argv: list[str] | None = None) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description="Measure the story-world model.")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/model_card.json"))
    parser.add_argument(
        "--sheet", type=Path, default=None, help="also write an examples sheet (PNG)"
    )
    parser.add_argument("--model", type=Path, default=None)
    parser.add_argument("--dtype", choices=DTYPES, default=None, help="number format to draw in")
    parser.add_argument("--prompts", type=int, default=500, help="prompts per single-character set")
    parser.add_argument("--pairs", type=int, default=200, help="two-character prompts")
    parser.add_argument("--steps", type=int, default=DrawSettings.steps)
    parser.add_argument("--guidance", type=float, default=DrawSettings.guidance)
    parser.add_argument("--scheduler", default=DrawSettings.scheduler)
    parser.add_argument("--contours", type=float, default=None, help="default: the model's own")
    options = parser.parse_args(argv)
    backbone = load_backbone(options.model, dtype=options.dtype)
    engine = engine_for(backbone)
    readers: dict[str, Any] = {"reader": Reader.load(weights_folder("reader"))}
    console = Console(width=110)
    try:
        readers["judge"] = Judge.load(weights_folder("judge"))
    except CheckpointError as missing:
        console.print(f"no second opinion: {missing}")
    sets = (
        prompt_set("validation", "validation", options.prompts, 1),
        prompt_set("held_out", "held_out", options.prompts, 1),
        prompt_set("two_characters", "held_out", options.pairs, 2),
    )
    settings = {
        name: getattr(options, name) for name in ("steps", "guidance", "scheduler", "contours")
    }
    results: dict[str, Any] = {}
    for prompts in sets:
        started = time.perf_counter()
        drawn = draw(prompts, engine, **settings)
        seconds = time.perf_counter() - started
        real = np.stack([prompts.world.picture(i).rgb for i in prompts.indices])
        entry: dict[str, Any] = {"prompts": len(drawn), "seconds": seconds}
        for name, model in readers.items():
            entry[name], entry[f"{name}_on_real"] = (
                read(model, drawn, prompts),
                read(model, real, prompts),
            )
        a, b = entry["reader"]["features"], entry["reader_on_real"]["features"]
        half = len(b) // 2
        entry["frechet"] = frechet_distance(a[:half], b[half:])
        entry["frechet_floor"] = frechet_distance(b[:half], b[half:])
        for value in entry.values():
            if isinstance(value, dict):
                del value["features"]
        if prompts.name == "held_out":
            entry["reconstruction_psnr"] = reconstruction_psnr(backbone, real)
            if options.sheet:
                options.sheet.parent.mkdir(parents=True, exist_ok=True)
                sheet(drawn, real).save(options.sheet)
        results[prompts.name] = entry
    print_table(results, console)
    for name, entry in results.items():
        console.print(f"{name}: Frechet {entry['frechet']:.2f}, floor {entry['frechet_floor']:.2f}")
    console.print(f"reconstruction: {results['held_out']['reconstruction_psnr']:.2f} dB")
    report = {
        "sets": results, **settings, "recommended": dict(backbone.recommended),
        "model": {"name": backbone.name, "sha256": backbone.sha256}, "versions": versions(),
        "device": backbone.device.type,
    }  # fmt: skip
    write_json(options.out, report)


if __name__ == "__main__":
    main()
