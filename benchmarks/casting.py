"""What gets drawn of characters whose writer named one colour and nothing else.

    python -m benchmarks.casting [--count 200] [--true 400] [--mend 2] [--json OUT]

Stories of held-out pairs of kind and colour, no mood and no headwear named, go through own words
and character sheets as the command line sends them, are drawn with the defaults and read by the
network that never trained anything. Three questions: does a face look sad or angry, does somebody
wear a hat, crown or bow, and is the colour there that was named, beside how often the same network
reads colours right in true pictures. A pair that the words refuse or replace with a notice counts
as refused beforehand and for nothing else. `--mend 0` leaves first frames as they were drawn; how
many drawings were begun anew otherwise is the price, and who sees their faults is the shipped
reader, never the network that measures.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from consistent_gen.checkpoints import weights_folder, write_json
from consistent_gen.encoders.judge import Judge
from consistent_gen.models import load_backbone
from consistent_gen.persona.statistics import share
from consistent_gen.rewards.looking import stacked
from consistent_gen.rewards.sight import Sight, main_sights
from consistent_gen.runtime import tune_allocator
from consistent_gen.story.draw import draw_story
from consistent_gen.story.plan import Overrides, plan_story, usual_mend
from consistent_gen.story.types import Character, Frame, Story
from consistent_gen.story.wording import Vocabulary, read_vocabulary, word_story
from consistent_gen.world.dataset import StoryWorld
from consistent_gen.world.naming import named_factors
from consistent_gen.world.palette import hue_anchors

PEOPLE = ("girl", "boy", "woman", "man")
OTHERS = ("fox", "cat", "bear", "rabbit", "dog", "robot")
GARMENTS = ("shirt", "sweater", "jacket")
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "black", "white", "brown")
PLACES = ("the meadow", "the forest", "the city", "the kitchen", "a library", "the beach")
NAMES = ("Ada", "Ben", "Cleo", "Dara", "Edo", "Faye", "Gus", "Hana")
HEADWEAR = ("hat", "crown", "bow")


def stories(count: int, seed: int = 5) -> Iterator[Story]:
    """`count` characters, one frame each, in stories of eight at most."""
    rng = random.Random(seed)
    pairs = [(kind, colour) for kind in PEOPLE + OTHERS for colour in COLOURS]
    chosen = [rng.choice(pairs) for _ in range(count)]
    for start in range(0, count, len(NAMES)):
        characters, frames = {}, []
        for name, (kind, colour) in zip(NAMES, chosen[start : start + len(NAMES)], strict=False):
            article = "an" if colour[0] in "aeiou" else "a"
            text = f"{article} {colour} {kind}"
            if kind in PEOPLE:
                text = f"a {kind} in {article} {colour} {rng.choice(GARMENTS)}"
            characters[name] = Character(name=name, description=text)
            frames.append(Frame(prompt=f"{name} is in {rng.choice(PLACES)}."))
        yield Story(title="Casting", seed=start, characters=characters, frames=tuple(frames))


@dataclass
class DrawnCharacters:
    """Pictures, n h w 3, what the prompts that drew them name of each, the notices of refused
    pairs, and how many drawings were begun anew.
    """

    pictures: np.ndarray
    named: list[dict[str, str]]
    refused: list[str]
    again: int


def draw(count: int, vocabulary: Vocabulary, mend: int | None) -> DrawnCharacters:
    """Draw `count` characters."""
    backbone = load_backbone(None, device="cpu", dtype="float32")
    pictures: list[np.ndarray] = []
    named: list[dict[str, str]] = []
    refused: list[str] = []
    again = 0
    for story in stories(count):
        wording = word_story(story, vocabulary, sheets=True)
        often = usual_mend(backbone) if mend is None else mend
        plan = plan_story(wording.story, backbone, Overrides(mend=often))
        with tempfile.TemporaryDirectory() as folder:
            drawing = draw_story(plan, backbone, Path(folder) / "out", scorers={})
        again += drawing.drawn_again
        print(
            f"{len(pictures) + len(plan.frames)} drawn, {again} anew", file=sys.stderr, flush=True
        )
        for drawn, name in zip(drawing.frames, story.characters, strict=True):
            said = story.characters[name].description
            colour = next(c for c in COLOURS if f" {c} " in f" {said} ")
            looks = wording.story.characters[name].description
            if colour not in looks:
                refused.append(f"{said} -> {looks}")
            pictures.append(drawn.picture)
            named.append({"colour": colour if colour in looks else "", **named_factors(looks)})
    return DrawnCharacters(stacked(pictures), named, refused, again)


def sights(judge: Judge, pictures: np.ndarray) -> list[Sight]:
    """What the network sees of the largest figure in each of n h w 3."""
    tensor = torch.from_numpy(pictures).permute(0, 3, 1, 2)
    with torch.inference_mode():
        readings = [judge(part) for part in tensor.split(32)]
    return [sight for reading in readings for sight in main_sights(reading, judge.schema)]


def colour_right(sight: Sight, named: dict[str, str]) -> bool:
    """Whether garments and coat have the colours that the prompt names."""
    anchors = hue_anchors()
    wanted = {f: w for f, w in named.items() if f in ("coat", "top_hue", "bottom_hue")}
    return all(sight.shows(factor, word, anchors) for factor, word in wanted.items())


def true_sights(judge: Judge, count: int) -> tuple[list[Sight], list[dict[str, str]]]:
    """The control: true pictures of one character, and what their full captions name."""
    world = StoryWorld("validation", seed=0)
    found = [n for n in range(8 * count) if len(world.frame(n).subjects) == 1][:count]
    pictures = np.stack([world.picture(n).rgb for n in found])
    named = [named_factors(world.caption(n, share=1.0).text) for n in found]
    return sights(judge, pictures), named


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--true", type=int, default=400)
    parser.add_argument("--mend", type=int, help="see `StoryPlan.mend` (default: as is usual)")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(argv)
    tune_allocator()
    judge = Judge.load(weights_folder("judge")).eval()
    drawn = draw(options.count, read_vocabulary(), options.mend)
    named, refused = drawn.named, drawn.refused
    seen = sights(judge, drawn.pictures)
    control, control_named = true_sights(judge, options.true)
    rows: dict[str, tuple[int, int]] = {
        "sad or angry faces": (
            sum(s.word("expression") in ("sad", "angry") for s in seen), len(seen),
        ),
        "headwear": (sum(s.word("accessory") in HEADWEAR for s in seen), len(seen)),
        "nobody seen": (sum(not s.present for s in seen), len(seen)),
        "colours as named": (
            sum(colour_right(s, n) for s, n in zip(seen, named, strict=True)), len(seen),
        ),
        "colours as named, true pictures": (
            sum(colour_right(s, n) for s, n in zip(control, control_named, strict=True)),
            len(control),
        ),
        "refused beforehand": (len(refused), len(seen)),
        "drawn again": (drawn.again, len(seen)),
    }  # fmt: skip
    table = Table("figure", "share", "interval", title=f"Casting, {len(seen)} characters")
    result: dict[str, Any] = {}
    for name, (hits, total) in rows.items():
        found = share(hits, total)
        result[name] = {"share": found.value, "low": found.low, "high": found.high}
        table.add_row(name, f"{found.value:.3f}", f"{found.low:.3f} to {found.high:.3f}")
    Console().print(table)
    if options.json is not None:
        write_json(options.json, result | {"refused": sorted(set(refused))})


if __name__ == "__main__":
    main()
