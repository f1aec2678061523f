"""Do characters that are given by pictures keep their identity? Adapters beside other ways.

    python -m benchmarks.identity [one] [crowd] [drift] --out benchmarks/results/identity.json

Every character is a held-out identity that is given by one true picture of it, in another place,
pose and style than what is asked for, and by a sentence that names no more than its kind ("a
girl"). Parts, all without a name:

- one: a frame that shows one character;
- crowd: a frame that shows two, and one that shows three, each with a picture of its own;
- drift: a story of twelve frames that shows one.

Every row of a table draws the same stories from the same seeds:

- kind named: the sentences alone, the floor; all named: with everything of the identity that words
  can say, the ceiling of what this model draws from words;
- sharing: the pictures are read through attention (`--method`), as without an adapter;
- an adapter (the shipped one, and every `--arm NAME=FOLDER`), alone and beside sharing.

All is read by the judge, which trained neither the model nor any adapter:
- identity: share of the factors of the identity, its kind left out, that the asked scene can show
  and that are drawn as they are; `of the way` is where that lies between floor and ceiling;
- alignment: share of what the sentence names that is shown; pose: the action alone;
- copied place: share of frames that show the reference's place, which was not asked for;
- copy: WithAnyone's angular copy metric in the judge's features: 1 is the reference again, -1 what
  the true picture of the asked scene shows, so lower is better; ViStoryBench's copy rate likewise;
- all there: share of frames that show as many characters as are asked for; swapped: share of the
  frames of several whose factors fit them better in another order than in their own;
- late: identity of the last four frames less that of the first four.

Intervals are 95 % bootstraps over stories. Drawings are kept in `--keep`, so a run that was stopped
goes on. A frame takes about a second on two idle cores.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.table import Table

from consistent_gen.checkpoints import folder_sha256, read_json, weights_folder, write_json
from consistent_gen.encoders.factors import Reading
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
from consistent_gen.story.identity import StoryAdapter, has_adapter, story_adapter
from consistent_gen.story.plan import Overrides, StoryPlan, plan_story
from consistent_gen.story.types import Character, Frame, Story
from consistent_gen.training.probes import IGNORE
from consistent_gen.training.truth import hidden_factors, schema, subject_truth
from consistent_gen.world.captions import Caption, caption, words_of
from consistent_gen.world.painter import PARTS as BODY
from consistent_gen.world.palette import HUES
from consistent_gen.world.scene import ScenePicture, render
from consistent_gen.world.spec import (
    KINDS,
    FrameSpec,
    Identity,
    identity_held_out,
    sample_frame,
    sample_identity,
)

Rgb = NDArray[np.uint8]
CROWDS = (2, 3)  # how many such a frame shows
PARTS = {"one": 60, "crowd": 20, "drift": 6}  # and how many stories each draws
NAMES = ("A", "B", "C")
LONG = 12  # frames of a story in `drift`
TRIES = 200  # of captions that say the same of the scene
ANCHORS = {name: degrees / 360.0 for name, (degrees, _, _) in HUES.items()}
HUE_STEP = 1 / 16  # how far a hue may be off
FLOOR, CEILING, SHARING = "kind named", "all named", "sharing"


@dataclass(frozen=True)
class AskedStory:
    """A story: who is in it, the picture that each is given by, and what each frame asks for.

    frames: as the world would draw them, their subjects in the order of `people`. templates: with
    {A} for the first of them. kinds, wholes: what stands for each, by kind alone and by all that
    can be named, of the first frame. named: what the open sentences say.
    """

    people: tuple[Identity, ...]
    given: tuple[FrameSpec, ...]
    frames: tuple[FrameSpec, ...]
    templates: tuple[str, ...]
    kinds: tuple[str, ...]
    wholes: tuple[str, ...]
    named: tuple[Wanted, ...]


def asked(part: str, number: int, people: int, frames: int) -> AskedStory:
    """Story `number` of a part."""
    rng = random.Random(f"identity {part} {number}")
    kinds = rng.sample(KINDS, people)
    who = tuple(sample_identity(rng, held_out=True, kind=kind) for kind in kinds)
    scenes = tuple(sample_frame(rng, held_out=True, identities=who) for _ in range(frames))
    return asked_story(rng, who, scenes)


def asked_story(
    rng: random.Random, who: tuple[Identity, ...], scenes: tuple[FrameSpec, ...]
) -> AskedStory:
    """The story of these scenes, each of which shows all of `who`."""
    given = tuple(_given(rng, one, scenes) for one in who)
    captions = [_captions(rng, scene) for scene in scenes]
    opened, full = captions[0]
    return AskedStory(
        people=who, given=given, frames=scenes,
        templates=tuple(_template(one)[0] for one, _ in captions),
        kinds=_template(opened)[1], wholes=_template(full)[1],
        named=tuple(Wanted(one.named, one.scene) for one, _ in captions),
    )  # fmt: skip


def _given(rng: random.Random, who: Identity, scenes: Sequence[FrameSpec]) -> FrameSpec:
    """Another scene with one character: another place, pose and style than the first one's."""
    first = scenes[0]
    while True:
        found = sample_frame(rng, held_out=identity_held_out(who), identities=(who,))
        pose = first.subjects[[s.identity for s in first.subjects].index(who)].action
        elsewhere = found.place != first.place and found.style != first.style
        if elsewhere and found.subjects[0].action != pose and found.camera != "far":
            return found


def _captions(rng: random.Random, scene: FrameSpec) -> tuple[Caption, Caption]:
    """A caption that names kinds only, and one that says the same of the scene and names all."""
    opened = caption(scene, rng, share=0.0)
    full = caption(scene, rng, share=1.0)
    for _ in range(TRIES):
        if full.scene == opened.scene and _moods(full) == _moods(opened):
            break
        full = caption(scene, rng, share=1.0)
    return opened, full


def _moods(one: Caption) -> list[str | None]:
    return [named.get("expression") for named in one.named]


def _template(one: Caption) -> tuple[str, tuple[str, ...]]:
    """The caption with {A} for its first subject and so on, and the subjects' words. A mood belongs
    to the frame: {sad A}.
    """
    words, parts, phrases, at = words_of(one.text), list[str](), list[str](), 0
    for name, (start, end), named in zip(NAMES, one.spans, one.named, strict=False):
        phrase, mood = words[start:end], list[str]()
        if "expression" in named:  # the adjective after the article
            mood, phrase = phrase[1:2], [phrase[0], *phrase[2:]]
            phrase[0] = "an" if phrase[1][0] in "aeiou" else "a"
        phrases.append(_joined(phrase))
        parts += [*words[at:start], f"{{{' '.join([*mood, name])}}}"]
        at = end
    return _joined([*parts, *words[at:]]), tuple(phrases)


def _joined(words: Sequence[str]) -> str:
    return " ".join(words).replace(" ,", ",")


@cache
def true_picture(scene: FrameSpec) -> ScenePicture:
    """A scene as the world draws it."""
    return render(scene, 128)


def png(picture: Rgb) -> bytes:
    """A picture as a file."""
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "PNG")
    return stream.getvalue()


@dataclass(frozen=True)
class Arm:
    """A row of a table. whole: words name all. reference: pictures are given. adapter: its folder,
    None for the shipped one, "" for none.
    """

    name: str
    whole: bool = False
    reference: bool = False
    method: str = "vanilla"
    adapter: Path | str | None = ""


def rows(arms: Mapping[str, Path | None], method: str) -> list[Arm]:
    """The rows of a table for these adapters."""
    found = [
        Arm(FLOOR),
        Arm(CEILING, whole=True),
        Arm(SHARING, reference=True, method=method),
    ]
    for name, folder in arms.items():
        found.append(Arm(name, reference=True, adapter=folder))
        found.append(Arm(f"{name} and sharing", reference=True, method=method, adapter=folder))
    return found


def story_of(one: AskedStory, arm: Arm) -> Story:
    """What a row draws of a story."""
    characters = {}
    for i, name in enumerate(NAMES[: len(one.people)]):
        references: tuple[str | bytes, ...] = ()
        if arm.reference:
            references = (png(true_picture(one.given[i]).rgb),)
        words = one.wholes[i] if arm.whole else one.kinds[i]
        characters[name] = Character(name=name, description=words, references=references)
    frames = tuple(Frame(prompt=template) for template in one.templates)
    return Story(title="Identity", characters=characters, frames=frames)


class AdaptedCast(Cast):
    """A cast with an adapter of the benchmark's choice."""

    def __init__(self, plan: StoryPlan, engine: Engine, adapter: StoryAdapter | None, **more: Any):
        super().__init__(plan, engine, **more)
        # Where the cast would look for the shipped one.
        self.references.__dict__["_adapter"] = adapter


class Drawings:
    """Draws stories row by row, and keeps what was drawn for later runs."""

    def __init__(self, backbone: Backbone, keep: Path, steps: int) -> None:
        self.backbone, self.keep, self.steps = backbone, keep, steps

    def of(self, arm: Arm, stories: Sequence[AskedStory]) -> list[list[Rgb]]:
        """The frames of every story."""
        engine, adapter = Engine(self.backbone), None
        if arm.adapter != "":
            adapter = story_adapter(self.backbone, arm.adapter)
            assert adapter is not None, "no adapter fits the model"
        found = []
        for number, one in enumerate(stories):
            places = [self._place(arm, one, i) for i in range(len(one.frames))]
            if not all(place.exists() for place in places):
                for place, picture in zip(
                    places, self._draw(engine, arm, one, adapter, str(number)), strict=True
                ):
                    place.parent.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(picture).save(place)
            found.append([np.asarray(Image.open(place)) for place in places])
        return found

    def _draw(
        self, engine: Engine, arm: Arm, one: AskedStory, adapter: StoryAdapter | None, prefix: str
    ) -> list[Rgb]:
        seed = int(hashlib.sha256(repr(one.people).encode()).hexdigest()[:8], 16)
        settings = {"steps": self.steps, "likeness": 0.0 if adapter is None else 1.0}
        plan = plan_story(
            story_of(one, arm), self.backbone,
            Overrides(method=arm.method, seed=frame_seed(11, seed), settings=settings),
        )  # fmt: skip
        cast = AdaptedCast(plan, engine, adapter, prefix=f"{prefix} ")
        ids = [str(cast.draw(frame)) for frame in plan.frames]
        pictures: dict[str, Rgb] = {}
        while not engine.idle:
            for event in engine.step():
                if isinstance(event, FrameError):
                    raise event.error
                if isinstance(event, FrameDone):
                    pictures[event.id] = event.image
        return [pictures[name] for name in ids]

    def _place(self, arm: Arm, one: AskedStory, frame: int) -> Path:
        told: Any = arm.adapter
        if arm.adapter != "":
            told = folder_sha256(arm.adapter or weights_folder("adapter"))
        row = replace(arm, name="", adapter=told)
        key = repr((row, one, frame, self.backbone.sha256, self.steps))
        return self.keep / f"{hashlib.sha256(key.encode()).hexdigest()[:20]}.png"


def read(judge: Judge, pictures: Sequence[Rgb]) -> Reading:
    """What the judge sees."""
    small = [
        np.asarray(Image.fromarray(p).resize((128, 128), Image.Resampling.BOX)) for p in pictures
    ]
    batch = torch.from_numpy(np.stack(small)).permute(0, 3, 1, 2).contiguous()
    with torch.inference_mode():
        found: Reading = judge(batch)
    return found


def fits(reading: Reading, row: int, slot: int, scene: FrameSpec, which: int) -> float:
    """Share of the factors of subject `which` of a scene that a subject of a picture shows."""
    names, actor = schema(), scene.subjects[which]
    labels = true_picture(scene).labels[2::4, 2::4].astype(int)
    own = np.where((labels - 1) // len(BODY) == which, (labels - 1) % len(BODY), -1)[labels > 0]
    count = torch.tensor([(own == part).sum() for part in range(len(BODY))])
    words = actor.identity.to_dict() | {"action": actor.action, "expression": actor.expression}
    factors, hues, _ = subject_truth(names, words, hidden_factors(actor.identity, count))
    right = [
        float(int(reading.subject[name][row, slot].argmax()) == int(target))
        for name, target in zip(names.subject, factors, strict=True)
        if name not in PASSING and name != "kind" and int(target) != IGNORE
    ]
    for angle, hue in zip(reading.hue_angles()[row, slot], hues.float(), strict=True):
        if not hue.isnan():
            right.append(float(abs((float(angle) - float(hue) + 0.5) % 1.0 - 0.5) <= HUE_STEP))
    return float(np.mean(right))


Measured = dict[str, list[list[float]]]  # by measure and story, a value for each frame


def measured(
    judge: Judge, drawn: Sequence[Sequence[Rgb]], stories: Sequence[AskedStory]
) -> Measured:
    """What the judge reads of the frames of every story."""
    names, found = schema(), dict[str, list[list[float]]]()
    for pictures, one in zip(drawn, stories, strict=True):
        reading, values = read(judge, pictures), dict[str, list[float]]()
        hits = attribute_hits(reading, one.named, names.subject, names.hues, names.scene, ANCHORS)
        counts, people = reading.count().tolist(), len(one.people)
        target = read(judge, [true_picture(scene).rgb for scene in one.frames]).features
        source = read(judge, [true_picture(scene).rgb for scene in one.given]).features
        given_places = {scene.place for scene in one.given}
        for row, scene in enumerate(one.frames):
            slots = range(min(counts[row], people))
            table = [[fits(reading, row, s, scene, w) for w in range(people)] for s in slots]
            own = [line[i] for i, line in enumerate(table)]
            place = names.scene["place"][int(reading.scene["place"][row].argmax())]
            value = {
                "identity": float(np.sum(own)) / people,
                "identity of those there": float(np.mean(own)) if own else float("nan"),
                "alignment": float(np.mean(list(hits[row].values()))),
                "pose": hits[row].get("action", float("nan")),
                "copied place": float(place in given_places - {scene.place}),
                "all there": float(counts[row] == people),
            }
            if people > 1 and len(table) == people:
                orders = [sum(table[s][w] for s, w in enumerate(order))
                          for order in permutations(range(people))]  # fmt: skip
                value["swapped"] = float(max(orders) > orders[0])
            if people == 1:
                vectors = [
                    v.double().numpy() for v in (reading.features[row], source[0], target[row])
                ]
                angular = angular_copy(*vectors)
                value["angular copy"] = float("nan") if angular is None else angular
                value["copy rate"] = copy_rate(*vectors)
            for name, number in value.items():
                values.setdefault(name, []).append(number)
        if len(one.frames) >= 8:
            row_values = values["identity"]
            values["late"] = [float(np.mean(row_values[-4:]) - np.mean(row_values[:4]))]
        for name, row_values in values.items():
            found.setdefault(name, []).append(row_values)
    return found


def summary(values: Measured) -> dict[str, dict[str, float]]:
    """Means with intervals over stories."""
    found = {}
    for name, by_story in values.items():
        if not any(np.isfinite(v) for row in by_story for v in row):
            continue
        one = bootstrap(by_story)
        found[name] = {"mean": one.mean, "low": one.low, "high": one.high}
    return found


def show(title: str, table_rows: Mapping[str, Mapping[str, Any]]) -> None:
    """Print a table."""
    names = list(dict.fromkeys(n for row in table_rows.values() for n in row if n != "of the way"))
    table = Table(title=title)
    for column in ("", *names, "of the way"):
        table.add_column(column, justify="right" if column else "left")
    for name, values in table_rows.items():
        cells = [f"{values[n]['mean']:.3f}" if n in values else "" for n in names]
        table.add_row(name, *cells, f"{values['of the way']:.2f}")
    Console(width=160).print(table)


def table_of(
    stories: Sequence[AskedStory], arms: Sequence[Arm], drawings: Drawings, judge: Judge
) -> dict[str, Any]:
    """Rows of a table, by name."""
    result: dict[str, Any] = {}
    for arm in arms:
        result[arm.name] = summary(measured(judge, drawings.of(arm, stories), stories))
    low, high = (result[name]["identity"]["mean"] for name in (FLOOR, CEILING))
    for row in result.values():
        row["of the way"] = (row["identity"]["mean"] - low) / (high - low)
    return result


def main(argv: Sequence[str] | None = None) -> None:
    """Draw, judge, print, save."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; all without a name")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--keep", type=Path, default=Path("out/identity"))
    parser.add_argument("--stories", type=int, help="of each part, instead of its own number")
    parser.add_argument("--people", type=int, choices=CROWDS, help="of crowd, only frames of these")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--method", default="head_start", help="of the rows with sharing")
    parser.add_argument("--only", action="append", help="rows; floor and ceiling are always there")
    parser.add_argument("--arm", action="append", default=[], metavar="NAME=FOLDER",
                        help="an adapter beside the shipped one")  # fmt: skip
    options = parser.parse_args(argv)
    if strange := set(options.parts) - PARTS.keys():
        parser.error(f"no part {min(strange)!r}; expected {', '.join(PARTS)}")
    tune_allocator()
    backbone, judge = load_backbone(), Judge.load(weights_folder("judge"))
    named = (given.partition("=") for given in options.arm)
    adapters: dict[str, Path | None] = {"adapter": None} if has_adapter(backbone) else {}
    adapters |= {name: Path(folder) for name, _, folder in named}
    only = {FLOOR, CEILING, *(options.only or ())}
    arms = [a for a in rows(adapters, options.method) if not options.only or a.name in only]
    drawings = Drawings(backbone, options.keep, options.steps)
    result = read_json(options.out) if options.out.exists() else {}
    for part in options.parts or PARTS:
        count = options.stories or PARTS[part]
        crowds = CROWDS if options.people is None else (options.people,)
        for people in crowds if part == "crowd" else (1,):
            stories = [asked(part, n, people, LONG if part == "drift" else 1) for n in range(count)]
            table = table_of(stories, arms, drawings, judge)
            title = f"{part} of {people}" if part == "crowd" else part
            show(f"{title}: {count} stories", table)
            result[title] = {"stories": count, "rows": table}
            write_json(options.out, result | {
                "steps": options.steps, "method": options.method, "model": backbone.sha256,
                "versions": versions(),
            })  # fmt: skip


if __name__ == "__main__":
    main()
