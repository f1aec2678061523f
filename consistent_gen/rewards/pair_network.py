"""PaCo-Reward in small, for the story world: do two pictures show the same somebody?

A Siamese network. Its eye, a reader with half of the weights, reads each picture factor by factor
and with how sure it is; two pictures are compared factor by factor, and each disagreement has a
price that was learnt from pairs with labels from the truth. A factor that one of them cannot show
costs nothing. What compares has 29 numbers, so that pairs cannot be known by heart, and it does not
know which picture came first. A set of n pictures costs n passes.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from consistent_gen.checkpoints import folder_sha256, load_network, save_network, weights_folder
from consistent_gen.encoders.factors import Reading
from consistent_gen.encoders.reader import Reader
from consistent_gen.rewards.base import Floats, ImageSet, MetricCard, Picture
from consistent_gen.rewards.looking import MAX_BATCH, SIDE, stacked
from consistent_gen.rewards.pairs import MatrixReward
from consistent_gen.rewards.sight import PASSING

KIND = "pair network 3"
WEIGHTS = "pair_reward"  # folder of the weights
SEEN_CELLS = 2.0  # of 32 x 32: a part of this size counts half
# Factors that a picture may cut off, and the part they are seen on.
PART_OF = {"bottom": "bottom", "bottom_hue": "bottom", "shoes": "shoes", "shoe_hue": "shoes"}
# Factors that are not there when another one has one of these classes.
NEEDS = {
    "bottom": ("top", ("dress", "overalls")),
    "bottom_hue": ("top", ("dress", "overalls")),
    "pattern_hue": ("pattern", ("plain",)),
    "pattern_scale": ("pattern", ("plain",)),
    "accessory_hue": ("accessory", ("none",)),
}


def cost(apart: Tensor, seen: Tensor, prices: Tensor) -> Tensor:
    """What disagreements n f cost by prices f, as if all factors were seen: n. Otherwise who hides
    much would be like anybody.
    """
    found: Tensor = (apart @ prices) * prices.sum() / (seen @ prices).clamp_min(1e-3)
    return found


class PairNetwork(nn.Module):
    """Pictures b 3 128 128 to views b d, and two pictures' views to a logit.

    eye: what reads them, and does not learn from pairs.
    """

    def __init__(self, eye: Reader) -> None:
        super().__init__()
        self.eye, self.schema = eye, eye.schema
        # In one order, whatever order a schema comes in.
        self.classes = tuple(sorted(n for n in self.schema.subject if n not in PASSING))
        self.names = (*self.classes, *self.schema.hues, *self.schema.scalars)
        # What wholly other values cost, and the logit of two pictures that agree in all.
        self.prices = nn.Parameter(torch.full((len(self.names),), 2.5))
        self.start = nn.Parameter(torch.tensor(8.0))

    def embed(self, pictures: Tensor) -> Tensor:
        """Views b d of pictures b 3 h w (uint8, or floats in [0, 1]; brought to 128 pixels a
        side).
        """
        return self.views(self.eye(pictures))

    def views(self, reading: Reading) -> Tensor:
        """What the largest figure of each picture looks like, b d: roots of probabilities, hues as
        points on the circle, scalars, and last how much of each factor is to be seen, in [0, 1].
        """
        areas = reading.masks.softmax(1)[:, 1:].mean((2, 3))  # b 3
        there = torch.arange(areas.shape[1], device=areas.device) < reading.count()[:, None].clamp(
            min=1
        )
        slot = torch.where(there, areas, -1.0).argmax(1)
        row = torch.arange(len(slot), device=slot.device)
        shares = {n: reading.subject[n][row, slot].softmax(-1) for n in reading.subject}
        seen = self._seen(reading, slot, shares)
        roots = [shares[name].sqrt() for name in self.classes]
        hues = F.normalize(reading.hues[row, slot], dim=-1).flatten(1)
        return torch.cat([*roots, hues, reading.scalars[row, slot].clamp(0.0, 1.0), seen], 1)

    def _seen(self, reading: Reading, slot: Tensor, shares: dict[str, Tensor]) -> Tensor:
        """How much of each factor a picture shows, b f in [0, 1]."""
        assert reading.parts is not None, "the reader says where parts are"
        own = reading.masks.argmax(1) == slot[:, None, None] + 1
        part = reading.parts.argmax(1)
        found = []
        for name in self.names:
            seen = torch.ones_like(reading.present[:, 0])
            if name in PART_OF:
                number = 1 + self.schema.parts.index(PART_OF[name])
                size = (own & (part == number)).sum((1, 2))
                seen = size / (size + SEEN_CELLS)
            if name in NEEDS:
                factor, without = NEEDS[name]
                places = [self.schema.subject[factor].index(word) for word in without]
                seen = seen * (1.0 - shares[factor][:, places].sum(1))
            found.append(seen)
        return torch.stack(found, 1)

    def compared(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """How much views n d disagree in each factor, and how much both show of it: n f each, in
        [0, 1]. What one of the two cannot show is no disagreement.
        """
        sizes = [*(len(self.schema.subject[name]) for name in self.classes)]
        rest = [2 * len(self.schema.hues), len(self.schema.scalars), len(self.names)]
        first, second = a.split([*sizes, *rest], -1), b.split([*sizes, *rest], -1)
        parts = [1.0 - (p * q).sum(-1) for p, q in zip(first[:-3], second[:-3], strict=True)]
        turned = (first[-3] * second[-3]).unflatten(-1, (-1, 2)).sum(-1)
        apart = [torch.stack(parts, -1), (1.0 - turned) / 2.0, (first[-2] - second[-2]).abs()]
        seen = first[-1] * second[-1]
        return torch.cat(apart, -1) * seen, seen

    def logits(self, a: Tensor, b: Tensor) -> Tensor:
        """How surely pictures with views n d show the same somebody: n."""
        return self.start - cost(*self.compared(a, b), self.prices)

    def save(self, folder: str | Path, dtype: torch.dtype = torch.float16) -> None:
        """Write the weights to `folder`, those of the eye with them."""
        eye = {"width": self.eye.width, "schema": self.schema.to_json(), **self.eye.shape}
        save_network(folder, self, {"kind": KIND, "factors": list(self.names), **eye}, dtype)

    @classmethod
    def load(cls, folder: str | Path) -> PairNetwork:
        """Read what `save` wrote.

        Raises:
            CheckpointError: the folder is missing, damaged, or holds another kind of network.
        """
        return load_network(folder, KIND, _made_of)


def _made_of(told: Mapping[str, Any]) -> PairNetwork:
    network = PairNetwork(Reader.made_of(told))
    if list(network.names) != told["factors"]:
        raise ValueError("it has prices of other factors than its eye reads")
    return network


class PairNetworkReward(MatrixReward):
    """The network as a reward. folder: of its weights; None for the shipped ones."""

    card = MetricCard(
        name="pair_network",
        says="how surely a network trained on re-paired sets says that two pictures show the same",
        range=(0.0, 1.0),
        symmetric=True,
        version=3,
        features=KIND,
        resolution=f"{SIDE} x {SIDE}",
        mask="the largest figure, by its eye's masks",
        direction="higher is better",
        known_failure="its eye learnt from the reader and errs where that does; other worlds are "
        "unknown",
        trained_on=False,
    )

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._network: PairNetwork | None = None

    def matrix(self, item: ImageSet) -> Floats:
        """See `MatrixReward`. Raises ``CheckpointError`` without weights."""
        return self.similarities((*item.pictures, *item.references))

    def similarities(self, pictures: Sequence[Picture]) -> Floats:
        """s of all pairs, n n, symmetric to the bit; its diagonal is what equal pictures get."""
        if not pictures:
            return np.zeros((0, 0))
        with self._lock, torch.inference_mode():
            network = self._load()
            small = torch.from_numpy(stacked(pictures)).permute(0, 3, 1, 2).contiguous()
            views = torch.cat([network.embed(part) for part in small.split(MAX_BATCH)])
            rows, columns = torch.triu_indices(len(views), len(views))
            values = torch.cat(
                [
                    network.logits(views[i], views[j]).sigmoid()
                    for i, j in zip(rows.split(4096), columns.split(4096), strict=True)
                ]
            )
        s = np.zeros((len(views), len(views)))
        s[rows.numpy(), columns.numpy()] = values.double().numpy()
        s[columns.numpy(), rows.numpy()] = values.double().numpy()
        return s

    def _load(self) -> PairNetwork:
        if self._network is None:
            folder = self._folder or weights_folder(WEIGHTS)
            self._network = PairNetwork.load(folder)
            self.card = replace(self.card, sha256=folder_sha256(folder))
        return self._network
