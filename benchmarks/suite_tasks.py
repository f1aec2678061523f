"""What the offline benchmark does, in pieces that anybody may run anywhere in any order.

A `SuitePlan` is data. `tasks` turns it into `SuiteTask`s: a drawing of one story by one system
under one seed, or the scores of a story from its drawings. A task's artifact is a folder named by
the hash of all that decides what is in it, and appears by rename: it is whole or it is not there.
So a run that was killed goes on where it was, two runs share what they have in common, and who runs
the tasks (`consistent_gen.bulk`: processes of this machine, Ray) is nobody's concern here.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from consistent_gen.checkpoints import atomic_dir, folder_sha256, read_json, weights_folder
from consistent_gen.checkpoints import write_json as write
from consistent_gen.errors import InputError
from consistent_gen.inputs import open_picture
from consistent_gen.methods import METHODS
from consistent_gen.registry import unknown_name
from consistent_gen.runtime import frame_seed

if TYPE_CHECKING:
    from consistent_gen.encoders.factors import Reading
    from consistent_gen.models.backbone import Backbone
    from consistent_gen.story.plan import FramePlan, StoryPlan

FORMAT = 1  # raise it when artifacts change though nothing that their keys name did
NETWORKS = ("reader", "judge")
RESULT = "scores.json"
Kind = Literal["draw", "score", "pictures"]


@dataclass(frozen=True, kw_only=True)
class SetEntry:
    """A story of a set: its file's text, or pictures that are there already.

    number: its place in the set, which goes into the seed that it is drawn with.
    pictures: system -> seed -> files, of a folder with a manifest; prompts: of those pictures.
    """

    name: str
    number: int = 0
    text: str = ""
    pictures: Mapping[str, Mapping[str, Sequence[str]]] = field(default_factory=dict)
    prompts: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class SuitePlan:
    """Sets x systems x seeds.

    sets: name -> its stories. systems: "METHOD" or "METHOD best_of=4", for stories that are drawn;
    the first one is what others are compared with. seeds: of stories; excess consistency needs two.
    bucket: rows of a denoiser call, of which bytes depend. model: its folder, None for the shipped.
    """

    sets: Mapping[str, Sequence[SetEntry]]
    systems: Sequence[str]
    seeds: Sequence[int] = (1, 2)
    steps: int = 25
    bucket: int = 8
    model: str | None = None

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class SuiteTask:
    """One piece of work. inputs: JSON values that decide its artifact; needs: keys of tasks whose
    artifacts it reads. about: for people and reports, and of no account for the key.
    """

    kind: Kind
    inputs: Mapping[str, Any]
    needs: tuple[str, ...] = ()
    about: Mapping[str, Any] = field(default_factory=dict)

    @functools.cached_property
    def key(self) -> str:
        """Names the artifact."""
        said = [FORMAT, self.kind, self.inputs, list(self.needs)]
        text = json.dumps(said, sort_keys=True, ensure_ascii=False)
        return f"{self.kind}-{hashlib.sha256(text.encode()).hexdigest()[:24]}"

    def done(self, root: Path) -> bool:
        """Whether its artifact is there, and so whole."""
        return artifact(root, self.key).is_dir()

    def make(self, root: Path) -> None:
        """Make its artifact.

        Raises:
            ConsistentGenError: the story cannot be drawn, or a picture cannot be read.
        """
        with atomic_dir(artifact(root, self.key)) as place:
            said = {"kind": self.kind, "inputs": self.inputs, "about": self.about}
            write(place / "task.json", said)
            if self.kind == "draw":
                _draw(self.inputs, place)
            elif self.kind == "score":
                write(place / RESULT, _score(self, root))
            else:
                write(place / RESULT, _score_pictures(self.inputs))


@dataclass(frozen=True)
class DrawnSystem:
    """How stories are drawn: "head_start best_of=4"."""

    method: str
    best_of: int = 1

    @classmethod
    def parse(cls, text: str) -> DrawnSystem:
        """The system that a text names.

        Raises:
            UnknownNameError, InputError: no such method, or words that are no settings.
        """
        method, *rest = text.split()
        if method not in METHODS:
            raise unknown_name("method", method, METHODS)
        said = dict(word.split("=", 1) for word in rest if "=" in word)
        if (
            len(said) != len(rest)
            or said.keys() - {"best_of"}
            or not all(number.isdigit() for number in said.values())
        ):
            raise InputError(f"{text!r} is no system; write a method such as 'vanilla best_of=4'")
        return cls(method, int(said.get("best_of", 1)))


def artifact(root: Path, key: str) -> Path:
    """Where the artifact of that key lies in a run's folder."""
    return root / "artifacts" / key


def tasks(plan: SuitePlan) -> list[SuiteTask]:
    """All tasks of a plan, those first that others need.

    Raises:
        InputError: a system that is none. CheckpointError: the model's folder is damaged.
    """
    model = folder_sha256(_model_folder(plan.model))
    networks = {name: folder_sha256(weights_folder(name)) for name in NETWORKS}
    draws: list[SuiteTask] = []
    scores: list[SuiteTask] = []
    for set_name, entries in plan.sets.items():
        for entry in entries:
            if entry.pictures:
                scores += _picture_tasks(set_name, entry, networks)
                continue
            for label in plan.systems:
                system = DrawnSystem.parse(label)
                own = [_draw_task(plan, model, entry, system, seed) for seed in plan.seeds]
                about = {"set": set_name, "story": entry.name, "system": label}
                draws += [replace(one, about={**about, "seed": s})
                          for one, s in zip(own, plan.seeds, strict=True)]  # fmt: skip
                inputs = {"networks": networks, "model": plan.model}
                scores.append(SuiteTask("score", inputs, tuple(one.key for one in own), about))
    return [*draws, *scores]


def _draw_task(
    plan: SuitePlan, model: str, entry: SetEntry, system: DrawnSystem, seed: int
) -> SuiteTask:
    inputs: dict[str, Any] = {
        "story": entry.text, "method": system.method, "steps": plan.steps,
        # Stories that shared a seed would share their noise, and so be no independent samples.
        "seed": frame_seed(seed, entry.number),
        "bucket": plan.bucket, "model": plan.model, "model_sha256": model,
    }  # fmt: skip
    if system.best_of > 1:
        chooses = {name: folder_sha256(weights_folder(name)) for name in ("reader", "pair_reward")}
        inputs |= {"best_of": system.best_of, "chooses": chooses}
    return SuiteTask("draw", inputs)


def _picture_tasks(
    set_name: str, entry: SetEntry, networks: Mapping[str, str]
) -> Iterator[SuiteTask]:
    for system, by_seed in entry.pictures.items():
        files = {
            seed: [[path, hashlib.sha256(Path(path).read_bytes()).hexdigest()] for path in paths]
            for seed, paths in by_seed.items()
        }
        inputs = {"files": files, "prompts": list(entry.prompts), "networks": dict(networks)}
        about = {"set": set_name, "story": entry.name, "system": system}
        yield SuiteTask("pictures", inputs, (), about)


# Drawing ------------------------------------------------------------------------------------------


def _model_folder(model: str | None) -> Path:
    return weights_folder("storyworld") if model is None else Path(model)


@functools.cache
def _backbone(model: str | None) -> Backbone:
    from consistent_gen.models import load_backbone

    return load_backbone(model)


def _planned(inputs: Mapping[str, Any]) -> StoryPlan:
    from consistent_gen.story.plan import Overrides, plan_story
    from consistent_gen.story.script import parse_story

    overrides = Overrides(
        method=inputs["method"],
        seed=inputs["seed"],
        best_of=inputs.get("best_of"),
        settings={"steps": inputs["steps"]},
    )
    return plan_story(parse_story(inputs["story"]), _backbone(inputs["model"]), overrides)


def _draw(inputs: Mapping[str, Any], place: Path) -> None:
    from consistent_gen.story.draw import draw_story

    plan = _planned(inputs)
    draw_story(
        plan, _backbone(inputs["model"]), place / "story", bucket=inputs["bucket"], scorers={}
    )


def drawn_pictures(root: Path, key: str) -> list[Path]:
    """The picture files of a drawing, in order."""
    return sorted((artifact(root, key) / "story" / "frames").glob("*.png"))


# Scores -------------------------------------------------------------------------------------------


@functools.cache
def _networks() -> dict[str, Any]:
    from consistent_gen.encoders.judge import Judge
    from consistent_gen.encoders.reader import Reader

    kinds = {"reader": Reader, "judge": Judge}
    return {name: kinds[name].load(weights_folder(name)) for name in NETWORKS}


def _score(task: SuiteTask, root: Path) -> dict[str, Any]:
    """metric -> a value per seed; excess consistency has one for all seeds."""
    from consistent_gen.rewards.base import ImageSet

    plans = [_planned(read_json(artifact(root, key) / "task.json")["inputs"]) for key in task.needs]
    shown = [np.stack([_pixels(path) for path in drawn_pictures(root, key)]) for key in task.needs]
    found: dict[str, Any] = {}
    for plan, pictures in zip(plans, shown, strict=True):
        prompts = tuple(frame.prompt for frame in plan.frames)
        item = ImageSet(pictures=tuple(pictures), prompts=prompts)
        for name, value in _rewards(item).items():
            found.setdefault(name, []).append(value)
    if len(plans) == 2:
        for name, network in _networks().items():
            found[f"c_star_{name}"] = [_excess(network, plans[0].frames, shown)]
    return found


def _rewards(item: Any) -> dict[str, float | None]:
    from consistent_gen.rewards.pair_network import PairNetworkReward
    from consistent_gen.rewards.story_world import story_world_rewards
    from consistent_gen.world.naming import read_prompt
    from consistent_gen.world.palette import hue_anchors

    rewards = [*story_world_rewards(None, read_prompt, hue_anchors()), PairNetworkReward()]
    return {reward.name: reward.one(item).value for reward in rewards}


def _excess(network: Any, frames: Sequence[FramePlan], shown: Sequence[np.ndarray]) -> float | None:
    """C* of a story drawn twice: the mean over its characters of what is theirs beyond the words.

    Characters stand from left to right as the prompt mentions them; where more or fewer are seen
    nobody tells who is who, and the frame counts for none of them.
    """
    from benchmarks import consistency_scores as scores

    readings = [scores.read(network, pictures) for pictures in shown]
    names = dict.fromkeys(s.name for frame in frames for s in frame.subjects)
    values = []
    for name in names:
        at = [i for i, f in enumerate(frames) if name in {s.name for s in f.subjects}]
        if len(at) > 1:
            first, second = (_of_character(r, frames, at, name) for r in readings)
            values.append(scores.excess_consistency(first, second))
    known = [value for value in values if np.isfinite(value)]
    return float(np.mean(known)) if known else None


def _of_character(
    reading: Reading, frames: Sequence[FramePlan], at: Sequence[int], name: str
) -> Any:
    from benchmarks import consistency_scores as scores

    counts = reading.count().tolist()
    mentioned = [list(dict.fromkeys(s.name for s in frame.subjects)) for frame in frames]
    slots = [mentioned[i].index(name) if i in at else 0 for i in range(len(frames))]
    clear = [i in at and counts[i] == len(mentioned[i]) for i in range(len(frames))]
    seen = scores.see(reading, slots)
    return replace(seen, present=seen.present & seen.present.new_tensor(clear))


def _score_pictures(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Scores of pictures that are there: what the words ask needs prompts."""
    from consistent_gen.rewards.base import ImageSet

    found: dict[str, Any] = {}
    for files in inputs["files"].values():
        pictures = tuple(_pixels(Path(path)) for path, _ in files)
        item = ImageSet(pictures=pictures, prompts=tuple(inputs["prompts"]))
        for name, value in _rewards(item).items():
            found.setdefault(name, []).append(value)
    return found


def _pixels(path: Path) -> np.ndarray:
    try:
        return np.asarray(open_picture(path), np.uint8)
    except InputError as error:
        raise error.at(str(path), None) from None
