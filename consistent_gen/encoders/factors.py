"""What the networks that read pictures share: the schema of factors, prediction heads over it,
readings, and a folder on disk.

The schema is data that travels with the weights, so that a reader needs no story world at run time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from consistent_gen.checkpoints import load_network, save_network

SIDE = 128  # pixels of the pictures that networks learn to read
MAX_SUBJECTS = 3


@dataclass(frozen=True, kw_only=True)
class Schema:
    """Names of the factors.

    subject: discrete factors of a subject and their classes ("kind", ..., "action", "expression").
    hues: circular factors, read as cosine and sine. scalars: factors in [0, 1].
    scene: discrete factors of the frame. parts: classes of the part mask after the background.
    """

    subject: Mapping[str, tuple[str, ...]]
    hues: tuple[str, ...]
    scalars: tuple[str, ...]
    scene: Mapping[str, tuple[str, ...]]
    parts: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values, for a weights folder."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Schema:
        """Undo `to_json`."""
        return cls(
            subject={k: tuple(v) for k, v in content["subject"].items()},
            hues=tuple(content["hues"]),
            scalars=tuple(content["scalars"]),
            scene={k: tuple(v) for k, v in content["scene"].items()},
            parts=tuple(content["parts"]),
        )


@dataclass
class Reading:
    """What a reader sees in b pictures; subjects are ordered from left to right.

    present: b 3, probability that there is such a subject.
    subject: per discrete factor b 3 c logits. hues: b 3 u 2 (cosine, sine). scalars: b 3 s.
    scene: per factor b c logits.
    masks: b 4 s s logits of background and subjects. parts: b 1+p s s logits, or None.
    features: b d, the penultimate features of the whole picture.
    vectors: b 3 w, the features that a subject's factors are read from.
    maps: b c s s, the features that masks and parts are read from.
    """

    present: Tensor
    subject: dict[str, Tensor]
    hues: Tensor
    scalars: Tensor
    scene: dict[str, Tensor]
    masks: Tensor
    parts: Tensor | None
    features: Tensor
    vectors: Tensor | None = None
    maps: Tensor | None = None

    def count(self) -> Tensor:
        """Number of subjects per picture, shape b: slots fill from the left."""
        return (self.present > 0.5).long().cumprod(1).sum(1)

    def hue_angles(self) -> Tensor:
        """Hues in [0, 1), b 3 u."""
        angle = torch.atan2(self.hues[..., 1], self.hues[..., 0]) / (2.0 * math.pi)
        return angle % 1.0


class FactorHeads(nn.Module):
    """Linear predictions of all factors from subject features (b 3 d) and scene features (b e)."""

    def __init__(self, schema: Schema, subject_width: int, scene_width: int) -> None:
        super().__init__()
        self.schema = schema
        self.present = nn.Linear(subject_width, 1)
        self.subject = nn.ModuleDict(
            {name: nn.Linear(subject_width, len(c)) for name, c in schema.subject.items()}
        )
        self.hues = nn.Linear(subject_width, 2 * len(schema.hues))
        self.scalars = nn.Linear(subject_width, len(schema.scalars))
        self.scene = nn.ModuleDict(
            {name: nn.Linear(scene_width, len(c)) for name, c in schema.scene.items()}
        )

    def forward(
        self, subjects: Tensor, scene: Tensor, masks: Tensor, parts: Tensor | None
    ) -> Reading:
        """Apply every head, to features of subjects b s c and of the scene b c.

        masks: b 1+s h w, and parts: b 1+p h w, as logits.
        """
        return Reading(
            present=self.present(subjects).squeeze(-1).float().sigmoid(),
            subject={name: head(subjects).float() for name, head in self.subject.items()},
            hues=self.hues(subjects).float().unflatten(-1, (len(self.schema.hues), 2)),
            scalars=self.scalars(subjects).float(),
            scene={name: head(scene).float() for name, head in self.scene.items()},
            masks=masks.float(),
            parts=None if parts is None else parts.float(),
            features=scene.float(),
            vectors=subjects.float(),
        )


def normalized(pictures: Tensor) -> Tensor:
    """Pictures b 3 h w, uint8 or floats in [0, 1], as floats in [-1, 1] of the side in training."""
    x = pictures.float() / 127.5 - 1.0 if pictures.dtype == torch.uint8 else pictures * 2.0 - 1.0
    # A second stage draws larger than the networks have learnt to read.
    return x if x.shape[-2:] == (SIDE, SIDE) else F.interpolate(x, (SIDE, SIDE), mode="area")


class PictureReader(nn.Module):
    """A network from pictures (b 3 128 128) to a `Reading` of the factors in `schema`."""

    kind: ClassVar[str]
    shapes: ClassVar[tuple[str, ...]] = ()  # names of what may tell its form beside the width

    def __init__(self, schema: Schema, width: int, **shape: Any) -> None:
        """shape: what else of the network's form its folder has to tell, for its class."""
        super().__init__()
        self.schema, self.width, self.shape = schema, width, shape

    def save(self, folder: str | Path, dtype: torch.dtype = torch.float16) -> None:
        """Write weights and schema to `folder`."""
        config = {"kind": self.kind, "width": self.width, "schema": self.schema.to_json()}
        save_network(folder, self, config | self.shape, dtype)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what `save` wrote, as float32, ready to read pictures.

        Raises:
            CheckpointError: the folder is missing, damaged, or holds another kind of network.
        """
        return load_network(folder, cls.kind, cls.made_of)

    @classmethod
    def made_of(cls, told: Mapping[str, Any]) -> Self:
        """The network with weights of chance that a folder tells of."""
        shape = {name: told[name] for name in cls.shapes if name in told}
        return cls(Schema.from_json(told["schema"]), told["width"], **shape)
