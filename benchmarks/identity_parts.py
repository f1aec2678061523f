"""A character's face after a picture, or its body, and nothing else: what changes, and what stays?

    python -m benchmarks.identity_parts --out benchmarks/results/identity_parts.json

Every frame shows one held-out identity, drawn from words that name no more than its kind. Then one
of its parts is drawn again (`redraw --only face|body --like PICTURE`), after one true picture of
the identity in another place, pose and style. Rows, of the same frames and seeds:

- words: the frame as it was drawn;
- whole: drawn anew, all of it after the picture;
- face, body: the frame with that part drawn again.

Read by the judge: `face` and `body` are the shares of the identity's factors of that part that are
drawn as the picture has them, `face kept` and `body kept` the shares that are as the frame from
words has them; `outside` is the share of pixels outside of what is marked that changed at all.
`face` are its small details; `coat` is the colour of hair or fur, which animals have on the body,
too. Intervals are 95 % bootstraps over frames. A frame takes about eight seconds of a core, and
drawings are kept in `--keep`, so a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from PIL import Image

from benchmarks.identity import (
    FLOOR,
    HUE_STEP,
    Arm,
    AskedStory,
    Rgb,
    asked,
    read,
    story_of,
    true_picture,
)
from consistent_gen.checkpoints import weights_folder, write_json
from consistent_gen.encoders.factors import Reading
from consistent_gen.encoders.judge import Judge
from consistent_gen.engine import Engine
from consistent_gen.engine.redrawing import Redrawing
from consistent_gen.engine.request import FrameRequest
from consistent_gen.errors import InputError
from consistent_gen.models import load_backbone
from consistent_gen.models.backbone import Backbone
from consistent_gen.rewards.statistics import bootstrap
from consistent_gen.runtime import frame_seed, tune_allocator, versions
from consistent_gen.story.cast import frame_request
from consistent_gen.story.identity import StoryAdapter, story_adapter
from consistent_gen.story.marking import Only, character_mask
from consistent_gen.story.plan import Overrides, plan_story
from consistent_gen.training.truth import hidden_factors, schema
from consistent_gen.world.painter import PARTS as LABELS

FACTORS = {
    "coat": ("coat",),
    "face": ("hair_style", "cheeks", "eye_color", "nose", "ear_shape"),
    "body": ("top", "sleeve", "pattern", "bottom", "shoes", "top_hue", "pattern_hue",
             "bottom_hue", "shoe_hue"),
}  # fmt: skip
WORDS, WHOLE = "words", "whole"
Values = dict[str, float]  # of the factors of a subject: a class, or a hue


def drawn(engine: Engine, request: FrameRequest, place: Path) -> Rgb:
    """One picture, kept at a place."""
    if not place.exists():
        engine.submit(request)
        (done,) = engine.drain().values()
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(done.image).save(place)
    return np.asarray(Image.open(place))


def pictures(
    one: AskedStory, number: int, backbone: Backbone, adapter: StoryAdapter, steps: int, keep: Path
) -> tuple[dict[str, Rgb], dict[str, np.ndarray]] | None:
    """The rows of a frame, and what was marked of it, bool [h w]; None where nobody was drawn."""
    plan = plan_story(
        story_of(one, Arm(FLOOR)), backbone,
        Overrides(method="vanilla", seed=frame_seed(12, number), settings={"steps": steps}),
    )  # fmt: skip
    request, engine = frame_request(plan, plan.frames[0]), Engine(backbone)
    shown = adapter.shown([adapter.read("its character", [true_picture(one.given[0]).rgb])])
    if shown is None:
        return None
    made_of = repr((one, request.seed, steps, backbone.sha256, adapter.sha256))
    place = keep / hashlib.sha256(made_of.encode()).hexdigest()[:20]
    found = {WORDS: drawn(engine, request, place / f"{WORDS}.png")}
    found[WHOLE] = drawn(engine, replace(request, identities=shown), place / f"{WHOLE}.png")
    masks = {}
    for only in get_args(Only):
        try:
            masks[only] = character_mask(found[WORDS], 1, 1, only)
        except InputError:  # nobody, or no such part, is seen
            return None
        again = Redrawing(picture=found[WORDS], mask=masks[only])
        asked_again = replace(request, identities=shown, redrawing=again)
        found[only] = drawn(engine, asked_again, place / f"{only}.png")
    return found, masks


def values_of(reading: Reading, row: int) -> Values:
    """What the judge reads of the first subject of a picture."""
    found = {name: float(scores[row, 0].argmax()) for name, scores in reading.subject.items()}
    hues = zip(schema().hues, reading.hue_angles()[row, 0].tolist(), strict=True)
    return found | dict(hues)


def truth_of(one: AskedStory) -> Values:
    """The identity's factors that the asked scene can show, of either part."""
    scene, who = one.frames[0], one.people[0]
    labels = true_picture(scene).labels[2::4, 2::4].astype(int)
    part = np.where(labels > 0, (labels - 1) % len(LABELS), -1)
    hidden = hidden_factors(who, torch.tensor([(part == p).sum() for p in range(len(LABELS))]))
    words, classes = who.to_dict(), schema().subject
    names = [name for of in FACTORS.values() for name in of if name not in hidden]
    return {n: float(classes[n].index(words[n]) if n in classes else words[n]) for n in names}


def agreeing(a: Mapping[str, float], b: Mapping[str, float], names: Sequence[str]) -> float:
    """Share of factors that are the same; not a number if there are none."""
    hues = set(schema().hues)
    same = [
        abs((a[n] - b[n] + 0.5) % 1.0 - 0.5) <= HUE_STEP if n in hues else a[n] == b[n]
        for n in names
    ]
    return float(np.mean(same)) if same else float("nan")


def measured(
    found: Mapping[str, Rgb], masks: Mapping[str, np.ndarray], one: AskedStory, judge: Judge
) -> Iterator[tuple[str, str, float]]:
    """Row, measure and value of one frame."""
    reading, truth = read(judge, list(found.values())), truth_of(one)
    before = values_of(reading, 0)
    for i, name in enumerate(found):
        now = values_of(reading, i)
        for part, factors in FACTORS.items():
            names = [factor for factor in factors if factor in truth]
            yield name, part, agreeing(now, truth, names)
            yield name, f"{part} kept", agreeing(now, before, names)
        if name in masks:
            changed = (found[name] != found[WORDS]).any(-1)
            yield name, "outside", float(changed[~masks[name]].mean())


def main(argv: Sequence[str] | None = None) -> None:
    """Draw, judge, print, save."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--keep", type=Path, default=Path("out/identity_parts"))
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--steps", type=int, default=10)
    options = parser.parse_args(argv)
    tune_allocator()
    backbone, judge = load_backbone(), Judge.load(weights_folder("judge"))
    adapter = story_adapter(backbone)
    assert adapter is not None, "the shipped model has one"
    table: dict[str, dict[str, list[float]]] = {}
    seen = 0
    for number in range(options.frames):
        one = asked("parts", number, 1, 1)
        drawings = pictures(one, number, backbone, adapter, options.steps, options.keep)
        if drawings is None:
            continue
        seen += 1
        for row, measure, value in measured(*drawings, one, judge):
            table.setdefault(row, {}).setdefault(measure, []).append(value)
        rows: dict[str, Any] = {
            row: {name: summary(values) for name, values in by.items()} for row, by in table.items()
        }
        write_json(options.out, {
            "frames": number + 1, "seen": seen, "rows": rows, "steps": options.steps,
            "model": backbone.sha256, "adapter": adapter.sha256, "versions": versions(),
        })  # fmt: skip
    for row, by in rows.items():
        print(row, *(f"{name} {value['mean']:.3f}" for name, value in by.items()), sep="  ")


def summary(values: Sequence[float]) -> dict[str, float]:
    """Mean and interval over frames."""
    one = bootstrap([[value] for value in values if np.isfinite(value)])
    return {"mean": one.mean, "low": one.low, "high": one.high}


if __name__ == "__main__":
    main()
