"""What pictures of the story world show, as tensors: the targets of whoever learns to read them.

A factor is a target only where it can be seen: the bottom's hue under a dress, shoes cut off by the
camera or the second hue of a plain pattern would teach a reader to guess.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from consistent_gen.encoders.factors import MAX_SUBJECTS, Schema
from consistent_gen.training.probes import IGNORE
from consistent_gen.world import spec
from consistent_gen.world.dataset import StoryWorld
from consistent_gen.world.painter import PARTS


def schema() -> Schema:
    """The story world's factors."""
    return Schema(
        subject={**spec.DISCRETE, "action": spec.ACTIONS, "expression": spec.EXPRESSIONS},
        hues=spec.HUE_FACTORS,
        scalars=spec.SCALAR_FACTORS,
        scene={
            "place": spec.PLACES,
            "weather": spec.WEATHERS,
            "style": spec.STYLES,
            "camera": spec.CAMERAS,
            "prop": spec.PROPS,
        },
        parts=PARTS,
    )


def truth(world: StoryWorld, numbers: Sequence[int], labels: Tensor) -> dict[str, Tensor]:
    """Targets of pictures `numbers`, of which `labels` (n s s, uint8) says what can be seen.

    Returns:
        factors: n 3 f int8, class of each discrete factor of a subject, in the schema's order;
            IGNORE where it is not seen or there is no such subject.
        hues, scalars: n 3 u and n 3 s float16; nan likewise.
        scene: n c int8, class of each factor of the frame.
        present: n 3 uint8, 1 where there is such a subject.
    """
    n, names = len(numbers), schema()
    factors = torch.full((n, MAX_SUBJECTS, len(names.subject)), IGNORE, dtype=torch.int8)
    hues = torch.full((n, MAX_SUBJECTS, len(names.hues)), math.nan, dtype=torch.float16)
    scalars = torch.full((n, MAX_SUBJECTS, len(names.scalars)), math.nan, dtype=torch.float16)
    scene = torch.zeros(n, len(names.scene), dtype=torch.int8)
    present = torch.zeros(n, MAX_SUBJECTS, dtype=torch.uint8)
    seen = F.one_hot(labels.flatten(1).long(), 1 + MAX_SUBJECTS * len(PARTS)).sum(1)[:, 1:]
    seen = seen.view(n, MAX_SUBJECTS, len(PARTS))
    for row, number in enumerate(numbers):
        frame = world.frame(number)
        for i, (name, classes) in enumerate(names.scene.items()):
            scene[row, i] = classes.index(getattr(frame, name))
        for k, actor in enumerate(frame.subjects):
            hidden = hidden_factors(actor.identity, seen[row, k])
            present[row, k] = 1
            words = {
                **actor.identity.to_dict(),
                "action": actor.action,
                "expression": actor.expression,
            }
            factors[row, k], hues[row, k], scalars[row, k] = subject_truth(names, words, hidden)
    return {
        "factors": factors,
        "hues": hues,
        "scalars": scalars,
        "scene": scene,
        "present": present,
    }


def subject_truth(
    names: Schema, words: Mapping[str, Any], hidden: set[str]
) -> tuple[Tensor, Tensor, Tensor]:
    """One subject's targets as in `truth`: factors f int8, hues u and scalars s float16.

    words: the values of its factors. hidden: those that the picture cannot show.
    """
    factors = [
        IGNORE if name in hidden else classes.index(words[name])
        for name, classes in names.subject.items()
    ]
    hues, scalars = (
        torch.tensor([math.nan if n in hidden else words[n] for n in group], dtype=torch.float16)
        for group in (names.hues, names.scalars)
    )
    return torch.tensor(factors, dtype=torch.int8), hues, scalars


def hidden_factors(identity: spec.Identity, seen: Tensor) -> set[str]:
    """Factors that this picture cannot show. `seen` counts label samples per part, shape (p,)."""
    count = dict(zip(PARTS, seen.tolist(), strict=True))
    hidden: set[str] = set()
    if identity.top in ("dress", "overalls") or count["bottom"] < 3:
        hidden |= {"bottom", "bottom_hue"}
    if count["shoes"] < 2:
        hidden |= {"shoes", "shoe_hue"}
    if identity.pattern == "plain":
        hidden |= {"pattern_hue", "pattern_scale"}
    if count["top"] < 4:
        hidden |= {"top", "top_hue", "pattern", "pattern_hue", "pattern_scale", "sleeve"}
    if identity.accessory == "none" or count["accessory"] < 1:
        hidden.add("accessory_hue")
    if not identity.is_person:
        hidden.add("skin")
    return hidden
