"""The reader: a convolutional network that reads the factors of a story-world picture.

It first finds where each subject and each part is, then pools features under those masks, so that
what it says about a garment comes from the garment. It measures; the judge (`judge.py`), of another
architecture, checks it and is never trained against.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from consistent_gen.checkpoints import folder_sha256
from consistent_gen.encoders.factors import (
    MAX_SUBJECTS,
    FactorHeads,
    PictureReader,
    Reading,
    Schema,
    normalized,
)

# Regions that features are pooled in, as sets of part names; the whole subject comes first.
REGIONS: tuple[tuple[str, ...], ...] = (
    ("skin", "face", "hair", "top", "bottom", "shoes", "accessory", "held"),
    ("face",),
    ("hair",),
    ("top",),
    ("bottom", "shoes"),
    ("accessory",),
)


class ConvNeXtBlock(nn.Module):
    """Depthwise 5 x 5 convolution, then a two-layer perceptron per place (Liu et al., arXiv
    2201.03545). hidden: how wide the perceptron is, 0 for three times the width.
    """

    def __init__(self, width: int, hidden: int = 0) -> None:
        super().__init__()
        hidden = hidden or 3 * width
        self.mix = nn.Conv2d(width, width, 5, padding=2, groups=width)
        self.norm = nn.GroupNorm(1, width)
        self.wide = nn.Conv2d(width, hidden, 1)
        self.narrow = nn.Conv2d(hidden, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """b c h w to b c h w."""
        change: Tensor = self.narrow(F.gelu(self.wide(self.norm(self.mix(x)))))
        return x + change


class Reader(PictureReader):
    """Reads pictures b 3 128 128.

    width: channels at 32 x 32. hidden: of the perceptrons at 16 x 16 and at 8 x 8, which hold most
    of the weights; (0, 0) for three times their channels.
    """

    kind = "reader"
    shapes = ("hidden",)

    def __init__(self, schema: Schema, width: int = 96, hidden: Sequence[int] = (0, 0)) -> None:
        super().__init__(schema, width, **({"hidden": list(hidden)} if any(hidden) else {}))
        w1, w2, w3 = width, 2 * width, 3 * width
        self.stem = nn.Sequential(
            nn.Conv2d(3, 32, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(32, w1, 3, stride=2, padding=1),
        )
        self.stage1 = nn.Sequential(*[ConvNeXtBlock(w1) for _ in range(2)])
        self.stage2 = nn.Sequential(
            nn.Conv2d(w1, w2, 2, stride=2), *[ConvNeXtBlock(w2, hidden[0]) for _ in range(3)]
        )
        self.stage3 = nn.Sequential(
            nn.Conv2d(w2, w3, 2, stride=2), *[ConvNeXtBlock(w3, hidden[1]) for _ in range(3)]
        )
        self.lateral2, self.lateral3 = nn.Conv2d(w2, w1, 1), nn.Conv2d(w3, w1, 1)
        self.fuse = nn.Sequential(ConvNeXtBlock(w1), ConvNeXtBlock(w1))
        self.masks = nn.Conv2d(w1, 1 + MAX_SUBJECTS, 1)
        self.parts = nn.Conv2d(w1, 1 + len(schema.parts), 1)
        subject_width = 4 * width
        self.subject = nn.Sequential(
            nn.Linear(len(REGIONS) * (w1 + w1) + 3, subject_width),
            nn.GELU(),
            nn.Linear(subject_width, subject_width),
            nn.GELU(),
        )
        self.scene = nn.Sequential(nn.Linear(w3 + 2 * w1, 2 * width), nn.GELU())
        self.heads = FactorHeads(schema, subject_width, 2 * width)

    def forward(self, pictures: Tensor) -> Reading:
        """Read pictures (b 3 h w, brought to 128 pixels a side; uint8, or floats in [0, 1])."""
        x = normalized(pictures).to(self.masks.weight.dtype)
        low = self.stage1(self.stem(x))  # b w1 32 32
        middle = self.stage2(low)
        high = self.stage3(middle)  # b w3 8 8
        up = F.interpolate(self.lateral3(high), scale_factor=2.0) + self.lateral2(middle)
        fused = self.fuse(F.interpolate(up, scale_factor=2.0) + low)
        masks, parts = self.masks(fused), self.parts(fused)
        pooled = torch.cat([fused, low], 1).flatten(2)  # b 2w1 n
        subjects = self._pool_subjects(pooled, masks, parts)
        background = masks.flatten(2).softmax(1)[:, 0]  # b n
        behind = _pool(pooled, background.unsqueeze(1)).squeeze(1)
        scene = self.scene(torch.cat([high.mean((2, 3)), behind], 1))
        reading: Reading = self.heads(self.subject(subjects), scene, masks, parts)
        reading.maps = fused.float()
        return reading

    def _pool_subjects(self, features: Tensor, masks: Tensor, parts: Tensor) -> Tensor:
        """Features under each region of each subject, and how large each is: b 3 (r * 2w1 + 3)."""
        where = masks.flatten(2).softmax(1)[:, 1:]  # b 3 n
        part = parts.flatten(2).softmax(1)[:, 1:]  # b p n
        regions = []
        for region in REGIONS:
            rows = [self.schema.parts.index(name) for name in region]
            regions.append(where * part[:, rows].sum(1, keepdim=True))
        # One product for all regions: each pass over the features costs more than its arithmetic.
        pools = _pool(features, torch.cat(regions, 1)).chunk(len(REGIONS), 1)
        size = where.mean(-1, keepdim=True)
        n = masks.shape[-1]
        x = torch.arange(n, device=masks.device, dtype=masks.dtype).repeat(n) / n
        centre = (where * x).sum(-1, keepdim=True) / (where.sum(-1, keepdim=True) + 1e-3)
        return torch.cat([*pools, size, size.sqrt(), centre], -1)


MOST_KEPT = 2  # readers
_kept: OrderedDict[str, Reader] = OrderedDict()
_keeping = threading.Lock()


def kept_reader(folder: str | Path) -> Reader:
    """The reader in a folder, read once for its contents; the last ones are kept. It is shared, so
    nobody may train or move it.

    Raises:
        CheckpointError: the folder is missing, damaged, or holds another kind of network.
    """
    name = folder_sha256(folder)
    with _keeping:
        if name not in _kept:
            _kept[name] = Reader.load(folder)
        _kept.move_to_end(name)
        while len(_kept) > MOST_KEPT:
            _kept.popitem(last=False)
        return _kept[name]


def _pool(features: Tensor, weights: Tensor) -> Tensor:
    """Weighted means of features (b c n) under weights (b k n): b k c."""
    total = weights.sum(-1, keepdim=True) + 1e-2
    return torch.bmm(weights / total, features.transpose(1, 2))
