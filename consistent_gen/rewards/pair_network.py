"""PaCo-Reward in small, for the story world: do two pictures show the same somebody?

Each picture becomes a few region vectors, pooled where the network sees the figure; two pictures
are compared region by region through |a - b| and a b, which do not know which one came first. So
the score is symmetric by construction, and a set of n pictures costs n passes. The first layers are
the reader's, as they are; what is learnt is what to look at, and what to make of a difference.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from consistent_gen.checkpoints import (
    folder_sha256,
    load_tensors,
    read_json,
    save_tensors,
    weights_folder,
    write_json,
)
from consistent_gen.encoders.factors import normalized
from consistent_gen.encoders.reader import ConvNeXtBlock
from consistent_gen.errors import CheckpointError
from consistent_gen.rewards.base import Floats, ImageSet, MetricCard, Picture
from consistent_gen.rewards.looking import MAX_BATCH, SIDE, stacked
from consistent_gen.rewards.pairs import MatrixReward

KIND = "pair network"
WEIGHTS = "pair_reward"  # folder of the weights
REGIONS, REGION_WIDTH = 6, 48
EYE = 96  # channels at 32 x 32, as the reader has them
EYE_PARTS = ("stem", "stage1", "stage2")  # modules that are the reader's, by its names
SEEN = 3 * EYE  # channels of what the eye gives


class PairNetwork(nn.Module):
    """Pictures b 3 128 128 to regions, and two pictures' regions to a logit. `width` is the number
    of channels at 8 x 8.
    """

    def __init__(self, width: int = 112) -> None:
        super().__init__()
        self.width = width
        self.stem = nn.Sequential(
            nn.Conv2d(3, 32, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(32, EYE, 3, stride=2, padding=1),
        )
        self.stage1 = nn.Sequential(*[ConvNeXtBlock(EYE) for _ in range(2)])
        self.stage2 = nn.Sequential(
            nn.Conv2d(EYE, 2 * EYE, 2, stride=2), *[ConvNeXtBlock(2 * EYE) for _ in range(3)]
        )
        self.norm = nn.GroupNorm(1, SEEN)
        self.enter = nn.Conv2d(SEEN, width, 1)
        self.coarse = nn.Sequential(
            nn.Conv2d(width, width, 2, stride=2), *[ConvNeXtBlock(width) for _ in range(2)]
        )
        self.fuse = ConvNeXtBlock(width)
        self.figure = nn.Conv2d(width, 1, 1)
        self.places = nn.Conv2d(width, REGIONS, 1)
        self.regions = nn.Linear(SEEN + width, REGION_WIDTH)
        self.own = nn.Parameter(torch.zeros(REGIONS, REGION_WIDTH))
        self.compare = nn.Sequential(
            nn.Linear(2 * REGIONS * REGION_WIDTH, 96), nn.GELU(), nn.Linear(96, 1)
        )

    def eye(self, pictures: Tensor) -> Tensor:
        """What the reader's first layers see, b c 16 16, of pictures b 3 h w (uint8, or floats in
        [0, 1]; brought to 128 pixels a side).
        """
        x = normalized(pictures).to(self.own.dtype)
        low = self.stage1(self.stem(x))  # b c 32 32
        return torch.cat([self.stage2(low), F.avg_pool2d(low, 2)], 1)

    def look(self, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Regions b k d, and where the figure is as logits b 1 16 16, of what the eye gave."""
        seen = self.norm(seen)
        x = self.enter(seen)
        x = self.fuse(x + F.interpolate(self.coarse(x), scale_factor=2.0))
        figure = self.figure(x)
        # Regions look where the figure is: what is behind it has next to no weight.
        at = self.places(x).flatten(2) + 4.0 * F.logsigmoid(figure).flatten(2)
        features = torch.cat([seen, x], 1).flatten(2)  # b c n
        pooled = at.softmax(-1) @ features.transpose(1, 2)  # b k c
        return torch.tanh(self.regions(pooled) + self.own), figure

    def embed(self, pictures: Tensor) -> Tensor:
        """Regions b k d of pictures, as `eye` takes them."""
        return self.look(self.eye(pictures))[0]

    def logits(self, a: Tensor, b: Tensor) -> Tensor:
        """How surely pictures with regions n k d show the same somebody: n."""
        found: Tensor = self.compare(torch.cat([(a - b).abs(), a * b], -1).flatten(1)).squeeze(-1)
        return found

    def save(self, folder: str | Path, dtype: torch.dtype = torch.float16) -> None:
        """Write the weights to `folder`."""
        write_json(Path(folder) / "config.json", {"kind": KIND, "width": self.width})
        tensors = {name: t.to(dtype) for name, t in self.state_dict().items()}
        save_tensors(Path(folder) / "model.safetensors", tensors)

    @classmethod
    def load(cls, folder: str | Path) -> PairNetwork:
        """Read what `save` wrote, as float32.

        Raises:
            CheckpointError: the folder is missing, damaged, or holds another kind of network.
        """
        config = read_json(Path(folder) / "config.json")
        if config.get("kind") != KIND:
            raise CheckpointError(f"{folder} holds a {config.get('kind')!r}; expected a {KIND!r}")
        model = cls(config["width"])
        tensors = load_tensors(Path(folder) / "model.safetensors")
        try:
            model.load_state_dict({name: t.float() for name, t in tensors.items()})
        except RuntimeError as error:
            raise CheckpointError(f"{folder} holds other tensors: {error}") from None
        return model.eval()


class PairNetworkReward(MatrixReward):
    """The network as a reward. folder: of its weights, None for the shipped ones."""

    card = MetricCard(
        name="pair_network",
        says="how surely a network trained on re-paired sets says that two pictures show the same",
        range=(0.0, 1.0),
        symmetric=True,
        version=1,
        features=KIND,
        resolution=f"{SIDE} x {SIDE}",
        mask="the figure, as the network itself sees it",
        direction="higher is better",
        known_failure="several figures in a picture are pooled into one; other worlds are unknown",
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
            regions = torch.cat([network.embed(part) for part in small.split(MAX_BATCH)])
            rows, columns = torch.triu_indices(len(regions), len(regions))
            values = torch.cat(
                [
                    network.logits(regions[i], regions[j]).sigmoid()
                    for i, j in zip(rows.split(4096), columns.split(4096), strict=True)
                ]
            )
        s = np.zeros((len(regions), len(regions)))
        s[rows.numpy(), columns.numpy()] = values.double().numpy()
        s[columns.numpy(), rows.numpy()] = values.double().numpy()
        return s

    def _load(self) -> PairNetwork:
        if self._network is None:
            folder = self._folder or weights_folder(WEIGHTS)
            self._network = PairNetwork.load(folder)
            self.card = replace(self.card, sha256=folder_sha256(folder))
        return self._network
