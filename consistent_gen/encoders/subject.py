"""The subject encoder: one vector that says who or what is in a crop, and where its parts are.

For people, animals, robots and things alike, in pictures of the story world. The network looks at
64 x 64 pixels around one subject, together with a mask of it (coarse is enough, a box will do). It
finds parts and keypoints first and pools features under the parts, so that what the vector says of
hair comes from the hair. Its vectors of one subject are near each other whatever the pose, the
style and the place, since it learnt from pairs (`training.subject_encoder`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from consistent_gen.checkpoints import folder_sha256, load_network, save_network
from consistent_gen.encoders.faces import Box, Mask, Picture, checked
from consistent_gen.encoders.reader import REGIONS, ConvNeXtBlock
from consistent_gen.errors import InputError

KIND = "subject_encoder"
CROP, GRID = 64, 32  # pixels of a crop, and of its maps of parts and keypoints
MARGIN = 1.2  # of the square that is cut out, to the longer side of the subject's box
KEYPOINTS = 5  # as in `faces.Face`
MAX_BATCH = 64


@dataclass
class SubjectReading:
    """What the encoder says of b crops.

    embeddings: b d, length 1. features: b f, what they are made from, for probes.
    parts: b 1+p 32 32 logits, whatever is not the subject first.
    keypoints: b 5 2, x y as shares of the crop; they mean little where the face is hidden.
    """

    embeddings: Tensor
    features: Tensor
    parts: Tensor
    keypoints: Tensor


@dataclass(frozen=True)
class CropWindow:
    """The square of a picture that a crop shows: left, top, side in pixels; may reach outside."""

    x: float
    y: float
    side: float

    def back(self, points: NDArray[np.floating]) -> NDArray[np.float32]:
        """Points (n 2, shares of the crop) as pixels of the picture."""
        found = np.asarray([self.x, self.y] + points * self.side, np.float32)
        return found


class SubjectEncoder(nn.Module):
    """Reads crops b 4 64 64 (red, green, blue, mask).

    Args:
        parts: names of the parts it tells apart.
        width: channels at 16 x 16.
        dimensions: of the vector.

    Attributes:
        encoder_id: names the space of its vectors, by the hash of its weights.
    """

    encoder_id = f"storyworld:{KIND}:untrained"

    def __init__(self, parts: Sequence[str], width: int = 72, dimensions: int = 128) -> None:
        super().__init__()
        self.part_names, self.width, self.dimensions = tuple(parts), width, dimensions
        wide = 2 * width
        self.stem = nn.Sequential(
            nn.Conv2d(4, 32, 3, stride=2, padding=1), nn.GELU(), nn.Conv2d(32, width, 2, stride=2)
        )
        self.stage1 = nn.Sequential(*[ConvNeXtBlock(width) for _ in range(2)])
        self.stage2 = nn.Sequential(
            nn.Conv2d(width, wide, 2, stride=2), *[ConvNeXtBlock(wide) for _ in range(3)]
        )
        self.lateral = nn.Conv2d(wide, width, 1)
        self.fuse = ConvNeXtBlock(width)
        # Four neighbours at a time: maps of 32 x 32 from features of 16 x 16.
        self.parts = nn.Conv2d(width, 4 * (1 + len(self.part_names)), 1)
        self.points = nn.Conv2d(width, 4 * KEYPOINTS, 1)
        pooled = len(REGIONS) * (2 * width + 1) + wide
        self.features = nn.Sequential(
            nn.Linear(pooled, 4 * width), nn.GELU(), nn.Linear(4 * width, 4 * width), nn.GELU()
        )
        self.embed = nn.Linear(4 * width, dimensions)

    def forward(self, crops: Tensor) -> SubjectReading:
        """Read crops b 4 64 64 (uint8, or floats in [0, 1])."""
        x = crops.float() / 127.5 - 1.0 if crops.dtype == torch.uint8 else crops * 2.0 - 1.0
        low = self.stage1(self.stem(x.to(self.embed.weight.dtype)))  # b w 16 16
        high = self.stage2(low)  # b 2w 8 8
        fused = self.fuse(F.interpolate(self.lateral(high), scale_factor=2.0) + low)
        parts = F.pixel_shuffle(self.parts(fused), 2).float()  # b 1+p 32 32
        heat = F.pixel_shuffle(self.points(fused), 2).float()  # b 5 32 32
        where = F.avg_pool2d(parts.softmax(1), 2).flatten(2).to(low.dtype)  # b 1+p n
        regions = torch.stack(
            [
                where[:, [1 + self.part_names.index(name) for name in region]].sum(1)
                for region in REGIONS
            ],
            1,
        )  # b r n
        size = regions.mean(-1)  # b r
        values = torch.cat([fused, low], 1).flatten(2).transpose(1, 2)  # b n 2w
        pools = torch.bmm(regions / (regions.sum(-1, keepdim=True) + 1e-2), values)
        features = self.features(
            torch.cat([pools.flatten(1), size.sqrt(), high.mean((2, 3))], 1)
        ).float()
        embeddings = F.normalize(self.embed(features.to(low.dtype)).float(), dim=-1)
        return SubjectReading(embeddings, features, parts, expected_places(heat))

    def save(self, folder: str | Path, dtype: torch.dtype = torch.float16) -> None:
        """Write weights and sizes to `folder`."""
        config = {
            "kind": KIND, "width": self.width, "dimensions": self.dimensions,
            "parts": list(self.part_names),
        }  # fmt: skip
        save_network(folder, self, config, dtype)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what `save` wrote, as float32, ready to read crops.

        Raises:
            CheckpointError: the folder is missing, damaged, or holds another kind of network.
        """
        model = load_network(
            folder, KIND, lambda told: cls(told["parts"], told["width"], told["dimensions"])
        )
        model.encoder_id = f"storyworld:{KIND}:{folder_sha256(folder)[:12]}"
        return model.requires_grad_(False)

    @torch.inference_mode()
    def read(
        self, rgb: Picture, boxes: Sequence[Box], masks: Sequence[Mask] | None = None
    ) -> tuple[SubjectReading, list[CropWindow]]:
        """What is in each box of a picture, and the window of its crop.

        Args:
            rgb: h w 3, uint8.
            boxes: n boxes in pixels.
            masks: of each subject, h w in [0, 1]; without them a box counts as a mask.

        Raises:
            InputError: the picture, a box or a mask cannot be used.
        """
        picture = checked(rgb)
        known = [None] * len(boxes) if masks is None else masks
        cuts = [subject_crop(picture, *pair) for pair in zip(boxes, known, strict=True)]
        crops = [torch.from_numpy(crop) for crop, _ in cuts]
        x = torch.stack(crops) if crops else torch.zeros(0, 4, CROP, CROP, dtype=torch.uint8)
        chunks = [self(part) for part in x.to(self.embed.weight.device).split(MAX_BATCH)]
        whole = SubjectReading(
            *(torch.cat([getattr(c, name) for c in chunks]).cpu() for name in _FIELDS)
        )
        return whole, [window for _, window in cuts]

    def part_masks(self, rgb: Picture, box: Box, mask: Mask | None = None) -> Mapping[str, Mask]:
        """Where each part of one subject is: name -> h w in [0, 1]. Raises as `read`."""
        reading, (window,) = self.read(rgb, [box], None if mask is None else [mask])
        shares = reading.parts[0].softmax(0).numpy()
        height, width = rgb.shape[:2]
        return {
            name: _pasted(shares[1 + i], window, width, height)
            for i, name in enumerate(self.part_names)
        }


_FIELDS = ("embeddings", "features", "parts", "keypoints")


def expected_places(heat: Tensor) -> Tensor:
    """Where maps b k s s, as distributions over their cells, lie on average: b k 2, x y shares."""
    side = heat.shape[-1]
    places = (torch.arange(side, device=heat.device, dtype=heat.dtype) + 0.5) / side
    chance = heat.flatten(2).softmax(-1).unflatten(-1, (side, side))  # b k y x
    return torch.stack([(chance.sum(2) * places).sum(-1), (chance.sum(3) * places).sum(-1)], -1)


def window_of(box: Box) -> CropWindow:
    """The square around a box, with `MARGIN`."""
    x0, y0, x1, y1 = box
    side = MARGIN * max(x1 - x0, y1 - y0)
    return CropWindow((x0 + x1 - side) / 2, (y0 + y1 - side) / 2, side)


def subject_crop(
    rgb: Picture, box: Box, mask: Mask | None = None
) -> tuple[NDArray[np.uint8], CropWindow]:
    """The crop that the encoder reads (4 64 64: red, green, blue, mask), and its window.

    Raises:
        InputError: the box is empty or outside of the picture, or the mask has another size.
    """
    height, width = rgb.shape[:2]
    x0, y0, x1, y1 = box
    if not (min(x1, width) - max(x0, 0) >= 1 and min(y1, height) - max(y0, 0) >= 1):
        raise InputError(
            f"box {tuple(round(v) for v in box)} shows nothing of a picture of {width} x {height}; "
            "expected left, top, right, bottom in pixels"
        )
    if mask is None:
        mask = np.zeros((height, width), np.float32)
        mask[max(0, round(y0)) : round(y1), max(0, round(x0)) : round(x1)] = 1.0
    elif mask.shape != (height, width):
        raise InputError(f"a mask of shape {mask.shape} for a picture of {height} x {width}")
    window = window_of(box)
    square = (window.x, window.y, window.x + window.side, window.y + window.side)
    byte = (np.clip(mask, 0.0, 1.0) * 255.0).astype(np.uint8)
    layers = [
        np.asarray(_cut(Image.fromarray(values), square)).reshape(CROP, CROP, -1)
        for values in (rgb, byte)
    ]
    return np.ascontiguousarray(np.concatenate(layers, -1).transpose(2, 0, 1)), window


def _cut(image: Image.Image, square: Box) -> Image.Image:
    """A square of an image, black outside of it, as CROP x CROP pixels."""
    x0, y0, x1, y1 = square
    left, top = int(np.floor(x0)), int(np.floor(y0))
    right, bottom = max(left + 1, int(np.ceil(x1))), max(top + 1, int(np.ceil(y1)))
    whole = image.crop((left, top, right, bottom))
    inside = (x0 - left, y0 - top, x1 - left, y1 - top)
    return whole.resize((CROP, CROP), Image.Resampling.BILINEAR, box=inside)


def _pasted(share: Mask, window: CropWindow, width: int, height: int) -> Mask:
    """A map of a crop (s s) in the place of its window in a picture: h w, 0 elsewhere."""
    left, top = round(window.x), round(window.y)
    side = max(1, round(window.side))
    sized = np.asarray(
        Image.fromarray(share.astype(np.float32)).resize((side, side), Image.Resampling.BILINEAR)
    )
    out = np.zeros((height, width), np.float32)
    x0, y0, x1, y1 = max(0, left), max(0, top), min(width, left + side), min(height, top + side)
    out[y0:y1, x0:x1] = sized[y0 - top : y1 - top, x0 - left : x1 - left]
    return out
