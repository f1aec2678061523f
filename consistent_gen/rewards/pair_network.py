"""PaCo-Reward in small, for the story world: do two pictures show the same somebody?

Each picture becomes a vector for each part of the figure (face, hair, top, ...), pooled where the
network sees that part; two pictures are compared part by part through |a - b| and a b, which do not
know which one came first, and a part that one of them hardly shows hardly counts. So the score is
symmetric by construction, and a set of n pictures costs n passes. The first layers are the
reader's, as they are; what is learnt is where the parts are, what to keep of them, and what to make
of a difference.
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

from consistent_gen.checkpoints import folder_sha256, load_network, save_network, weights_folder
from consistent_gen.encoders.factors import normalized
from consistent_gen.encoders.reader import REGIONS, ConvNeXtBlock
from consistent_gen.rewards.base import Floats, ImageSet, MetricCard, Picture
from consistent_gen.rewards.looking import MAX_BATCH, SIDE, stacked
from consistent_gen.rewards.pairs import MatrixReward

KIND = "pair network 2"
WEIGHTS = "pair_reward"  # folder of the weights
WIDTH, REGION_WIDTH = 96, 64
EYE = 96  # channels at 32 x 32, as the reader has them
EYE_PARTS = ("stem", "stage1", "stage2")  # modules that are the reader's, by its names
SEEN_CELLS = 2.0  # of 32 x 32: a part of this size counts half


class PairNetwork(nn.Module):
    """Pictures b 3 128 128 to parts, and two pictures' parts to a logit. names: of the parts that a
    figure has; width: how many channels are learnt.
    """

    def __init__(self, names: Sequence[str], width: int = WIDTH) -> None:
        super().__init__()
        self.names, self.width = tuple(names), width
        self.stem = nn.Sequential(
            nn.Conv2d(3, 32, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(32, EYE, 3, stride=2, padding=1),
        )
        self.stage1 = nn.Sequential(*[ConvNeXtBlock(EYE) for _ in range(2)])
        self.stage2 = nn.Sequential(
            nn.Conv2d(EYE, 2 * EYE, 2, stride=2), *[ConvNeXtBlock(2 * EYE) for _ in range(3)]
        )
        self.norm_low, self.norm_middle = nn.GroupNorm(1, EYE), nn.GroupNorm(1, 2 * EYE)
        self.enter = nn.Conv2d(2 * EYE, width, 1)
        self.coarse = nn.Sequential(
            nn.Conv2d(width, width, 2, stride=2), *[ConvNeXtBlock(width) for _ in range(2)]
        )
        self.fuse = ConvNeXtBlock(width)
        self.fine = nn.Conv2d(EYE, width, 1)
        self.refine = ConvNeXtBlock(width)
        self.parts = nn.Conv2d(width, 1 + len(self.names), 1)  # background first
        # Which parts make a region, r p: the reader's regions, the whole figure first.
        belongs = [[float(name in region) for name in self.names] for region in REGIONS]
        self.register_buffer("belongs", torch.tensor(belongs), persistent=False)
        # A region has its own words for what it shows, of itself and of the whole figure.
        pooled = width + EYE
        self.first = nn.Parameter(torch.empty(len(REGIONS), 2 * pooled, 2 * REGION_WIDTH))
        self.second = nn.Parameter(torch.empty(len(REGIONS), 2 * REGION_WIDTH, REGION_WIDTH))
        for weight in (self.first, self.second):
            nn.init.normal_(weight, std=weight.shape[1] ** -0.5)
        self.compare = nn.Sequential(
            nn.Linear(len(REGIONS) * (2 * REGION_WIDTH + 1), 128), nn.GELU(), nn.Linear(128, 1)
        )

    def eye(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """What the reader's first layers see, b c 32 32 and b 2c 16 16, of pictures b 3 h w (uint8,
        or floats in [0, 1]; brought to 128 pixels a side).
        """
        x = normalized(pictures).to(self.first.dtype)
        low = self.stage1(self.stem(x))
        return low, self.stage2(low)

    def look(self, low: Tensor, middle: Tensor) -> tuple[Tensor, Tensor]:
        """Regions b r d + 1 (what each shows, and how much of it is to be seen, in [0, 1]), and
        where the parts are as logits b p 32 32, of what the eye gave.
        """
        low = self.norm_low(low)
        x = self.enter(self.norm_middle(middle))  # b w 16 16
        x = self.fuse(x + F.interpolate(self.coarse(x), scale_factor=2.0))
        x = self.refine(F.interpolate(x, scale_factor=2.0) + self.fine(low))  # b w 32 32
        parts = self.parts(x)
        where = parts.flatten(2).softmax(1)[:, 1:]  # b p n
        where = self.belongs @ where  # b r n
        size = where.sum(-1, keepdim=True)
        features = torch.cat([x, low], 1).flatten(2).transpose(1, 2)  # b n c
        pooled = (where / (size + 0.5)) @ features  # b r c
        both = torch.cat([pooled, pooled[:, :1].expand_as(pooled)], -1)
        hidden = F.gelu(torch.einsum("brc,rcd->brd", both, self.first))
        shown = torch.einsum("brd,rde->bre", hidden, self.second).tanh()
        return torch.cat([shown, size / (size + SEEN_CELLS)], -1), parts

    def embed(self, pictures: Tensor) -> Tensor:
        """Regions b r d + 1 of pictures, as `eye` takes them."""
        return self.look(*self.eye(pictures))[0]

    def logits(self, a: Tensor, b: Tensor) -> Tensor:
        """How surely pictures with regions n r d + 1 show the same somebody: n."""
        seen = a[..., -1:] * b[..., -1:]
        a, b = a[..., :-1], b[..., :-1]
        pairs = torch.cat([(a - b).abs() * seen, a * b * seen, seen], -1).flatten(1)
        found: Tensor = self.compare(pairs).squeeze(-1)
        return found

    def save(self, folder: str | Path, dtype: torch.dtype = torch.float16) -> None:
        """Write the weights to `folder`."""
        told = {"kind": KIND, "width": self.width, "parts": list(self.names)}
        save_network(folder, self, told, dtype)

    @classmethod
    def load(cls, folder: str | Path) -> PairNetwork:
        """Read what `save` wrote, as float32.

        Raises:
            CheckpointError: the folder is missing, damaged, or holds another kind of network.
        """
        return load_network(folder, KIND, lambda told: cls(told["parts"], told["width"]))


class PairNetworkReward(MatrixReward):
    """The network as a reward. folder: of its weights, None for the shipped ones."""

    card = MetricCard(
        name="pair_network",
        says="how surely a network trained on re-paired sets says that two pictures show the same",
        range=(0.0, 1.0),
        symmetric=True,
        version=2,
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
