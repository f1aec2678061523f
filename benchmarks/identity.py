"""Do characters that are given by a picture keep their identity? Adapters beside other ways.

    python -m benchmarks.identity --out benchmarks/results/identity.json [--cases 60]
        [--arm NAME=FOLDER]

A case is a held-out identity: a true picture of it is the reference, and a story of one frame asks
for it in another place, another pose and another style, by a sentence that names no more than its
kind ("a girl"). Every row of the table draws the same cases from the same seeds:

- kind named: the sentence alone, the floor; all named: with everything of the identity that words
  can say, the ceiling of what this model draws from words;
- sharing: the reference is read through attention (`--method`), as without an adapter;
- an adapter (the shipped one, and every `--arm NAME=FOLDER`), alone and beside sharing.

All is read by the judge, which trained neither the model nor any adapter:
- identity: share of the factors of the identity, its kind left out, that the asked scene can show
  and that are drawn as they are; `of the way` is where that lies between floor and ceiling;
- alignment: share of what the sentence names that is shown; pose: the action alone;
- copied place: share of pictures that show the reference's place, which was not asked for;
- copy: WithAnyone's angular copy metric in the judge's features: 1 is the reference again, -1 what
  the true picture of the asked scene shows, so lower is better; ViStoryBench's copy rate likewise.

Intervals are 95 % bootstraps over cases. Drawings are kept in `--keep`, so a run that was stopped
goes on. Sixty cases take about a minute a row on two idle cores.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.table import Table

from consistent_gen.checkpoints import folder_sha256, weights_folder, write_json
from consistent_gen.encoders.judge import Judge
from consistent_gen.engine import Engine, FrameDone, FrameError
from consistent_gen.models import load_backbone
from consistent_gen.models.backbone import Backbone
from consistent_gen.rewards.attributes import Wanted, attribute_hits
from consistent_gen.rewards.copying import angular_copy, copy_rate
from consistent_gen.rewards.sight import PASSING
from consistent_gen.rewards.statistics import bootstrap
from consistent_gen.runtime import frame_seed, tune_allocator, versions
from consistent_gen.story.cast import Cast
from consistent_gen.story.identity import StoryAdapter, story_adapter
from consistent_gen.story.plan import Overrides, StoryPlan, plan_story
from consistent_gen.story.types import Character, Frame, Story
from consistent_gen.training.probes import IGNORE
from consistent_gen.training.truth import schema, truth
from consistent_gen.world.captions import Caption, caption, words_of
from consistent_gen.world.dataset import StoryWorld
from consistent_gen.world.palette import HUES

WORLD = StoryWorld("held_out", seed=5, pairs=True)
NAME = "A"
TRIES = 200  # of captions that say the same of the scene
ANCHORS = {name: degrees / 360.0 for name, (degrees, _, _) in HUES.items()}
HUE_STEP = 1 / 16  # how far a hue may be off
# Rows: the words, whether the picture is given, and what reads it.
FLOOR, CEILING, SHARING = "kind named", "all named", "sharing"


@dataclass(frozen=True)
class Case:
    """A reference picture and what is asked for.

    picture: of the reference, in `WORLD`. scene: the number of the asked picture. words: the frame
    with {A}, and what A is: by kind alone, and by all that can be named. named: what the open
    sentence says.
    """

    picture: int
    scene: int
    frame: str
    kind: str
    whole: str
    named: Wanted


def cases(count: int) -> list[Case]:
    """The first pairs of pictures of one held-out subject in unlike scenes."""
    found: list[Case] = []
    number = 0
    while len(found) < count:
        one, other = WORLD.frame(number), WORLD.frame(number + 1)
        alone = len(one.subjects) == len(other.subjects) == 1
        unlike = one.place != other.place and one.style != other.style
        if alone and unlike and one.subjects[0].action != other.subjects[0].action:
            found.append(_case(number))
        number += 2
    return found


def _case(number: int) -> Case:
    frame = WORLD.frame(number + 1)
    rng = random.Random(f"identity {number}")
    opened = caption(frame, rng, share=0.0)
    for _ in range(TRIES):
        full = caption(frame, rng, share=1.0)
        if full.scene == opened.scene and _mood(full) == _mood(opened):
            break
    template, kind = _template(opened)
    _, whole = _template(full)
    return Case(number, number + 1, template, kind, whole, Wanted(opened.named, opened.scene))


def _mood(one: Caption) -> str | None:
    return one.named[0].get("expression")


def _template(one: Caption) -> tuple[str, str]:
    """The caption with {A} for its subject, and the subject's words."""
    words, (start, end) = words_of(one.text), one.spans[0]
    parts = [" ".join(words[:start]), f"{{{NAME}}}", " ".join(words[end:])]
    return _joined(parts), _joined(words[start:end])


def _joined(parts: Sequence[str]) -> str:
    return " ".join(part for part in parts if part).replace(" ,", ",")


@cache
def true_picture(number: int) -> NDArray[np.uint8]:
    """A picture of the world, h w 3."""
    return WORLD.picture(number).rgb


def png(picture: NDArray[np.uint8]) -> bytes:
    """A picture as a file."""
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "PNG")
    return stream.getvalue()


@dataclass(frozen=True)
class Arm:
    """A row of the table. adapter: its folder, None for the shipped one, "" for none."""

    name: str
    whole: bool = False
    reference: bool = False
    method: str = "vanilla"
    adapter: Path | str | None = ""


def story_of(case: Case, arm: Arm) -> Story:
    """The story of one frame that a row draws of a case."""
    references: tuple[str | bytes, ...] = ()
    if arm.reference:
        references = (png(true_picture(case.picture)),)
    who = Character(
        name=NAME, description=case.whole if arm.whole else case.kind, references=references
    )
    return Story(title="Identity", characters={NAME: who}, frames=(Frame(prompt=case.frame),))


class AdaptedCast(Cast):
    """A cast with an adapter of the benchmark's choice."""

    def __init__(self, plan: StoryPlan, engine: Engine, adapter: StoryAdapter | None, **more: Any):
        super().__init__(plan, engine, **more)
        self.__dict__["_adapter"] = adapter  # where the cast would look for the shipped one


def draw(
    arm: Arm, chosen_cases: Sequence[Case], backbone: Backbone, steps: int
) -> list[NDArray[np.uint8]]:
    """One picture per case."""
    engine = Engine(backbone)
    adapter = None
    if arm.adapter != "":
        adapter = story_adapter(backbone, arm.adapter)
        assert adapter is not None, "no adapter fits the model"
    settings = {"steps": steps, "likeness": 0.0 if adapter is None else 1.0}
    ids: dict[str, int] = {}
    pictures: dict[int, NDArray[np.uint8]] = {}
    casts = []
    for i, case in enumerate(chosen_cases):
        plan = plan_story(
            story_of(case, arm), backbone,
            Overrides(method=arm.method, seed=frame_seed(11, case.picture), settings=settings),
        )  # fmt: skip
        cast = AdaptedCast(plan, engine, adapter, prefix=f"{i} ")
        casts.append(cast)  # a cast that is gone has no anchors
        ids[str(cast.draw(plan.frames[0]))] = i
        while not engine.idle:
            for event in engine.step():
                if isinstance(event, FrameError):
                    raise event.error
                if isinstance(event, FrameDone):
                    pictures[ids[event.id]] = event.image
    return [pictures[i] for i in range(len(chosen_cases))]


def judged(
    judge: Judge, pictures: Sequence[NDArray[np.uint8]], chosen_cases: Sequence[Case]
) -> dict[str, list[float]]:
    """What the judge reads of one picture per case, by measure."""
    reading = _read(judge, pictures)
    names = schema()
    labels = torch.stack(
        [torch.from_numpy(WORLD.picture(c.scene).labels[2::4, 2::4].copy()) for c in chosen_cases]
    )
    wanted = truth(WORLD, [c.scene for c in chosen_cases], labels)
    kept = [i for i, n in enumerate(names.subject) if n not in {*PASSING, "kind"}]
    hits = attribute_hits(
        reading, [c.named for c in chosen_cases], names.subject, names.hues, names.scene, ANCHORS
    )
    found: dict[str, list[float]] = {n: [] for n in ("identity", "alignment", "pose", "place")}
    angles = reading.hue_angles()
    for row, case in enumerate(chosen_cases):
        right: list[float] = []
        for i in kept:
            name, target = list(names.subject)[i], int(wanted["factors"][row, 0, i])
            if target != IGNORE:
                right.append(float(int(reading.subject[name][row, 0].argmax()) == target))
        for u in range(len(names.hues)):
            hue = float(wanted["hues"][row, 0, u])
            if hue == hue:
                off = abs((float(angles[row, 0, u]) - hue + 0.5) % 1.0 - 0.5)
                right.append(float(off <= HUE_STEP))
        found["identity"].append(float(np.mean(right)))
        found["alignment"].append(float(np.mean(list(hits[row].values()))))
        found["pose"].append(hits[row].get("action", float("nan")))
        place = names.scene["place"][int(reading.scene["place"][row].argmax())]
        found["place"].append(float(place == WORLD.frame(case.picture).place))
    return found


def copies(
    judge: Judge, pictures: Sequence[NDArray[np.uint8]], chosen_cases: Sequence[Case]
) -> dict[str, list[float]]:
    """Copy measures in the judge's features of the whole picture."""
    made, given, target = (
        _read(judge, shown).features.double().numpy()
        for shown in (
            pictures,
            [true_picture(c.picture) for c in chosen_cases],
            [true_picture(c.scene) for c in chosen_cases],
        )
    )
    angular = [angular_copy(*vectors) for vectors in zip(made, given, target, strict=True)]
    return {
        "angular copy": [float("nan") if one is None else one for one in angular],
        "copy rate": [copy_rate(*vectors) for vectors in zip(made, given, target, strict=True)],
    }


def _read(judge: Judge, pictures: Sequence[NDArray[np.uint8]]) -> Any:
    batch = torch.from_numpy(np.stack([_small(p) for p in pictures])).permute(0, 3, 1, 2)
    with torch.inference_mode():
        return judge(batch.contiguous())


def _small(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    image = Image.fromarray(picture)
    return np.asarray(
        image if image.width == 128 else image.resize((128, 128), Image.Resampling.BOX)
    )


class Kept:
    """Drawings of earlier runs, by row, case and settings."""

    def __init__(self, folder: Path, backbone: Backbone, steps: int) -> None:
        self.folder, self.backbone, self.steps = folder, backbone, steps

    def draw(self, arm: Arm, chosen_cases: Sequence[Case]) -> list[NDArray[np.uint8]]:
        """The pictures of a row; what is not there is drawn."""
        places = [self._place(arm, case) for case in chosen_cases]
        missing = [i for i, place in enumerate(places) if not place.exists()]
        for start in range(0, len(missing), 10):
            part = missing[start : start + 10]
            drawn = draw(arm, [chosen_cases[i] for i in part], self.backbone, self.steps)
            for i, picture in zip(part, drawn, strict=True):
                places[i].parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(picture).save(places[i])
        return [np.asarray(Image.open(place)) for place in places]

    def _place(self, arm: Arm, case: Case) -> Path:
        told: Any = arm.adapter
        if arm.adapter != "":
            told = folder_sha256(arm.adapter or weights_folder("adapter"))
        key = repr((replace(arm, name="", adapter=told), case, self.backbone.sha256, self.steps))
        return self.folder / f"{hashlib.sha256(key.encode()).hexdigest()[:20]}.png"


def rows(arms: Mapping[str, Path | None], method: str) -> list[Arm]:
    """The rows of the table for these adapters."""
    found = [
        Arm(FLOOR),
        Arm(CEILING, whole=True),
        Arm(SHARING, reference=True, method=method),
    ]
    for name, folder in arms.items():
        found.append(Arm(name, reference=True, adapter=folder))
        found.append(Arm(f"{name} and sharing", reference=True, method=method, adapter=folder))
    return found


def summary(values: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Means with intervals."""
    found = {}
    for name, row in values.items():
        one = bootstrap([[v] for v in row])
        found[name] = {"mean": one.mean, "low": one.low, "high": one.high}
    return found


def show(table_rows: Mapping[str, Mapping[str, Any]]) -> None:
    """Print the table."""
    table = Table(title="characters given by one picture")
    names = ["identity", "alignment", "pose", "place", "angular copy", "copy rate"]
    for column in ("", *names, "of the way"):
        table.add_column(column, justify="right" if column else "left")
    for name, values in table_rows.items():
        cells = [f"{values[n]['mean']:.3f}" for n in names]
        table.add_row(name, *cells, f"{values['of the way']:.2f}")
    Console().print(table)


def main(argv: Sequence[str] | None = None) -> None:
    """Draw, judge, print, save."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--keep", type=Path, default=Path("out/identity"))
    parser.add_argument("--cases", type=int, default=60)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--method", default="head_start", help="of the rows with sharing")
    parser.add_argument("--only", action="append", help="rows; floor and ceiling are always there")
    parser.add_argument("--arm", action="append", default=[], metavar="NAME=FOLDER",
                        help="an adapter beside the shipped one")  # fmt: skip
    options = parser.parse_args(argv)
    tune_allocator()
    backbone = load_backbone()
    arms: dict[str, Path | None] = {}
    if story_adapter(backbone) is not None:
        arms["adapter"] = None
    for given in options.arm:
        name, _, folder = given.partition("=")
        arms[name] = Path(folder)
    chosen_cases = cases(options.cases)
    judge, kept = Judge.load(weights_folder("judge")), Kept(options.keep, backbone, options.steps)
    only = {FLOOR, CEILING, *(options.only or ())}
    result: dict[str, Any] = {}
    for arm in rows(arms, options.method):
        if options.only and arm.name not in only:
            continue
        pictures = kept.draw(arm, chosen_cases)
        values = judged(judge, pictures, chosen_cases) | copies(judge, pictures, chosen_cases)
        result[arm.name] = summary(values)
    low, high = (result[name]["identity"]["mean"] for name in (FLOOR, CEILING))
    for row in result.values():
        row["of the way"] = (row["identity"]["mean"] - low) / (high - low)
    show(result)
    write_json(
        options.out,
        {
            "cases": options.cases, "steps": options.steps, "method": options.method,
            "model": backbone.sha256, "rows": result, "versions": versions(),
        },
    )  # fmt: skip


if __name__ == "__main__":
    main()
