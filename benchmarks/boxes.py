"""Do characters stand where a story says? Boxes against none.

    python -m benchmarks.boxes --out benchmarks/results/boxes.json

The same sentences, with the same seeds, are drawn without boxes and with boxes: two characters of
unlike kinds who shall stand the other way round than they are named, and one who shall stand on the
left or on the right. The judge, which trained neither the model nor the reader, says who stands
where: `asked` is the share of frames in which every one asked for is there and on the asked side.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from consistent_gen.checkpoints import weights_folder, write_json
from consistent_gen.encoders.factors import Reading
from consistent_gen.encoders.judge import Judge
from consistent_gen.engine import Engine
from consistent_gen.models import load_backbone
from consistent_gen.models.backbone import Backbone
from consistent_gen.rewards.statistics import bootstrap
from consistent_gen.runtime import tune_allocator, versions
from consistent_gen.story.cast import Cast
from consistent_gen.story.plan import Overrides, plan_story
from consistent_gen.story.types import PLACES, Character, Frame, Story

PAIRS = (("girl", "bear"), ("boy", "fox"), ("cat", "robot"), ("woman", "rabbit"), ("man", "dog"))
DOING = ("dancing", "reading a book", "waving", "running")
SETTINGS = ("in a meadow", "on the beach", "in the forest")


@dataclass(frozen=True)
class BoxedStory:
    """A story of one frame; kinds: who shall be seen, from left to right; side: of one alone."""

    story: Story
    kinds: tuple[str, ...]
    side: str = ""


def asked(number: int, people: int) -> BoxedStory:
    """What frame `number` of so many people asks for."""
    pair = PAIRS[number % len(PAIRS)]
    first, second = pair if number % 2 else pair[::-1]
    names = ("A", "B")[:people]
    kinds = (first, second)[:people]
    characters = {
        name: Character(name=name, description=f"a {kind}")
        for name, kind in zip(names, kinds, strict=True)
    }
    what = f"{DOING[number % len(DOING)]} {SETTINGS[number % len(SETTINGS)]}"
    if people == 2:
        prompt = f"{{A}} and {{B}} {what}"
        boxes, side = {"A": PLACES["right"], "B": PLACES["left"]}, ""
    else:
        side = ("left", "right")[number % 2]
        prompt, boxes = f"{{A}} {what}", {"A": PLACES[side]}
    frame = Frame(prompt=prompt, seed=number, boxes=boxes)
    story = Story(title="boxes", characters=characters, frames=(frame,))
    return BoxedStory(story, tuple(reversed(kinds)), side)


def drawn(backbone: Backbone, stories: Sequence[Story], method: str) -> list[NDArray[np.uint8]]:
    """The picture of each story."""
    engine, ids = Engine(backbone), []
    for number, story in enumerate(stories):
        plan = plan_story(story, backbone, Overrides(method=method))
        ids.append(Cast(plan, engine, prefix=f"{number}/").draw(plan.frames[0]))
    done = engine.drain()
    return [done[str(one)].image for one in ids]


def right(judge: Judge, reading: Reading, row: int, one: BoxedStory) -> float:
    """Whether everybody is there and on the asked side."""
    kinds = judge.schema.subject["kind"]
    count = int(reading.count()[row])
    seen = tuple(kinds[int(reading.subject["kind"][row, slot].argmax())] for slot in range(count))
    if not one.side:
        return float(seen == one.kinds)
    where = reading.masks[row].softmax(0)[1]  # h w
    middle = float((where.sum(0) * (torch.arange(where.shape[1]) + 0.5)).sum() / where.sum())
    middle /= where.shape[1]
    on_side = middle < 0.4 if one.side == "left" else middle > 0.6
    return float(seen == one.kinds and on_side)


def main(argv: Sequence[str] | None = None) -> None:
    """Draw, judge, print, save."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--frames", type=int, default=24, help="of each kind")
    parser.add_argument("--method", default="head_start")
    options = parser.parse_args(argv)
    tune_allocator()
    backbone, judge = load_backbone(), Judge.load(weights_folder("judge"))
    rows: dict[str, Any] = {}
    for people, name in ((2, "two, exchanged"), (1, "one, on a side")):
        stories = [asked(number, people) for number in range(options.frames)]
        for boxed in (False, True):
            told = [
                one.story
                if boxed
                else replace(one.story, frames=(replace(one.story.frames[0], boxes={}),))
                for one in stories
            ]
            pictures = np.stack(drawn(backbone, told, options.method))  # n h w 3
            with torch.inference_mode():
                reading = judge(torch.from_numpy(pictures).permute(0, 3, 1, 2))
            hits = [[right(judge, reading, i, one)] for i, one in enumerate(stories)]
            found = bootstrap(hits)
            row = {"asked": found.mean, "low": found.low, "high": found.high}
            rows[f"{name}, {'boxes' if boxed else 'no boxes'}"] = row
            print(name, "boxes" if boxed else "no boxes", row, flush=True)
    write_json(
        options.out,
        {"frames": options.frames, "method": options.method, "rows": rows, "versions": versions()},
    )


if __name__ == "__main__":
    main()
