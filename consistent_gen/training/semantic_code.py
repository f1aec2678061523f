"""The semantic channels of a latent: what is where, as a code that a denoiser can draw.

A denoiser that draws a coarse semantic map together with the picture learns several times faster
than one that draws the picture alone, since the map is settled at noise levels where the picture
still is a blur, and details follow from it (Kouzelis et al., "Boosting generative image modeling
via joint image-feature synthesis", arXiv 2504.16064, with components of DINOv2 features). The story
world knows its own truth, so the map is made from that: per latent a code of the part that is shown
and of what that part looks like. The decoder never sees it.

Eighteen channels: 4 for the part; 4 for its class (the kind on skin, face and hair, the garment on
garments, what is held, the place on the background); 3 for a second class (coat, pattern, weather);
2 for a hue, on face and hair for the hair style; 3 for what the subject does, on faces for the
expression, on the background for the style; 2 on heads for where in the face a latent lies, so
that features finer than a latent find their place. Classes of one factor are points of a sphere,
far apart from each other.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from consistent_gen.world import spec
from consistent_gen.world.dataset import StoryWorld
from consistent_gen.world.painter import PARTS, label
from consistent_gen.world.palette import COATS
from consistent_gen.world.spec import FrameSpec, SubjectSpec

CHANNELS = 18
_GROUPS = (4, 4, 3, 2, 3)  # part, class, second class, hue, doing; then the place in the face
_CODED = sum(_GROUPS)
_HEAD = ("face", "hair", "accessory")
_VARIANCE = 2.0  # of a channel, before the scaling factor of the autoencoder
_ROWS = 1 + 3 * len(PARTS)  # label bytes
_HUES = {
    "top": "top_hue",
    "bottom": "bottom_hue",
    "shoes": "shoe_hue",
    "accessory": "accessory_hue",
}


@functools.cache
def spread(count: int, dimensions: int) -> Tensor:
    """`count` points of a sphere that repel each other, count x dimensions, variance _VARIANCE.

    The same on every machine up to rounding.
    """
    generator = torch.Generator().manual_seed(count * 100 + dimensions)
    points = F.normalize(torch.randn(count, dimensions, generator=generator).double(), dim=1)
    for step in range(400):
        apart = points[:, None] - points[None]  # n n d
        push = (apart / (apart.square().sum(-1, keepdim=True) + 1e-3) ** 1.5).sum(1)
        points = F.normalize(points + 0.3 * 0.99**step * push / count, dim=1)
    return (points * math.sqrt(_VARIANCE * dimensions)).float()


def _point(words: Sequence[str], word: str, dimensions: int) -> Tensor:
    return spread(len(words), dimensions)[list(words).index(word)]


def _hue(value: float) -> Tensor:
    angle = 2.0 * math.pi * value
    return torch.tensor([math.cos(angle), math.sin(angle)]) * math.sqrt(2.0 * _VARIANCE)


def _part_code(subject: SubjectSpec, part: str) -> Tensor:
    """The code of one part of a subject, shape (_CODED,)."""
    who = subject.identity
    second, hue = torch.zeros(3), torch.zeros(2)
    doing = _point(spec.ACTIONS, subject.action, 3)
    if part in ("skin", "face", "hair"):
        kind = _point(spec.KINDS, who.kind, 4)
        second = _point(tuple(COATS), who.coat, 3)
        if part != "skin":
            hue = _point(spec.HAIR_STYLES, who.hair_style, 2)
        if part == "face":
            doing = _point(spec.EXPRESSIONS, subject.expression, 3)
    elif part == "held":
        kind = _point(spec.ACTIONS, subject.action, 4)
    else:
        kind = _point(spec.DISCRETE[part], getattr(who, part), 4)
        hue = _hue(getattr(who, _HUES[part]))
        if part == "top":
            second = _point(spec.PATTERNS, who.pattern, 3)
    return torch.cat([_point(("background", *PARTS), part, 4), kind, second, hue, doing])


def _table(frame: FrameSpec) -> Tensor:
    """The code of every label byte of a picture, 25 x _CODED; what is not there has zeros."""
    table = torch.zeros(_ROWS, _CODED)
    table[0] = torch.cat(
        [
            _point(("background", *PARTS), "background", 4),
            _point(spec.PLACES, frame.place, 4),
            _point(spec.WEATHERS, frame.weather, 3),
            torch.zeros(2),
            _point(spec.STYLES, frame.style, 3),
        ]
    )
    for k, subject in enumerate(frame.subjects):
        for part in PARTS:
            table[label(k, part)] = _part_code(subject, part)
    return table


def face_places(data: Mapping[str, Tensor]) -> Tensor:
    """Where each label sample of a head lies in its face, b s s 2: right and down from the middle
    of the five keypoints, in quarters of the head's height, at most 4; zero elsewhere.
    """
    labels = data["labels"].long()
    b, s, _ = labels.shape
    subject, part = (labels - 1) // len(PARTS), (labels - 1) % len(PARTS)
    on_head = torch.isin(part, torch.tensor([PARTS.index(p) for p in _HEAD])) & (labels > 0)
    heads, points = data["heads"].float(), data["keypoints"].float()  # b 3 4, b 3 5 2
    rows, owner = torch.arange(b).view(-1, 1, 1), subject.clamp(min=0)
    middle = points.mean(2)[rows, owner]  # b s s 2
    height = (heads[..., 3] - heads[..., 1])[rows, owner].unsqueeze(-1)
    grid = (torch.arange(s) + 0.5) / s
    here = torch.stack(torch.meshgrid(grid, grid, indexing="xy"), -1)  # s s 2, x then y
    place = (here - middle) / height.clamp(min=1e-3) * 4.0
    return torch.where(on_head.unsqueeze(-1), place.nan_to_num().clamp(-4.0, 4.0), 0.0)


def semantic_code(world: StoryWorld, numbers: Sequence[int], data: Mapping[str, Tensor]) -> Tensor:
    """Unscaled semantic channels of pictures `numbers`, b 18 s/2 s/2.

    Args:
        data: labels b s s, heads b 3 4 and keypoints b 3 5 2 of the pictures, as in a shard. A
            latent's code is the mean over its 2 x 2 label samples.
    """
    tables = torch.stack([_table(world.frame(number)) for number in numbers])  # b 25 c
    rows = torch.arange(len(numbers)).view(-1, 1, 1)
    code = torch.cat([tables[rows, data["labels"].long()], face_places(data)], -1)  # b s s c
    return F.avg_pool2d(code.permute(0, 3, 1, 2), 2)
