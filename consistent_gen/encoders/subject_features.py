"""What the story world's adapters are told of a subject, read from its picture by the reader.

The vector is what the reader names the subject's factors from. Patches are its features of places,
under the subject's mask and nothing else, so that no background comes along: in a window around
the subject (`crop`), and in one around its face and hair (`face`). Masks and windows come from the
reader's own maps, so nothing has to be cut out by hand.

Shapes: `n` subjects, `m` patches of a window, `f` features of a patch, `s` side of the maps.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from consistent_gen.encoders.factors import Reading, Schema

WINDOW = 8  # patches along the side of a window
PATCHES = WINDOW * WINDOW
FACE = ("face", "hair")
_SEEN = 0.5  # a place is the subject's from this share on
_MARGIN = 1.1  # of a window, so that edges are inside


@dataclass(frozen=True)
class SubjectFeatures:
    """What was read of n subjects: identity [n v], face and crop [n m f] (f: the maps' features,
    then the mask), masks [n s s] in 0..1: where they are.
    """

    identity: Tensor
    face: Tensor
    crop: Tensor
    masks: Tensor


def subject_features(
    reading: Reading, schema: Schema, pictures: Tensor, slots: Tensor
) -> SubjectFeatures:
    """The features of chosen subjects of a reading.

    pictures, slots: [n], the number of the picture and of the subject in it, from left to right.
    """
    assert reading.vectors is not None and reading.maps is not None and reading.parts is not None
    owner = reading.masks[pictures].softmax(1)  # n 4 s s
    masks = owner.gather(1, (slots + 1)[:, None, None, None].expand(-1, 1, *owner.shape[2:]))[:, 0]
    rows = [1 + schema.parts.index(name) for name in FACE]
    faces = masks * reading.parts[pictures].softmax(1)[:, rows].sum(1)  # n s s
    maps = reading.maps[pictures]
    return SubjectFeatures(
        # Of equal length for everybody: a vector's length says how sure the reader is.
        identity=F.layer_norm(reading.vectors[pictures, slots], reading.vectors.shape[-1:]),
        face=_patches(maps, faces, masks),
        crop=_patches(maps, masks, masks),
        masks=masks,
    )


def _patches(maps: Tensor, where: Tensor, mask: Tensor) -> Tensor:
    """Features [n m f] in the square window around each map of `where` [n s s]."""
    boxes = _boxes(where)
    centre = (boxes[:, :2] + boxes[:, 2:]) - 1.0  # n 2, in -1..1
    half = (boxes[:, 2:] - boxes[:, :2]).amax(1, keepdim=True) * _MARGIN  # n 1
    move = torch.zeros(len(maps), 2, 3, device=maps.device)
    move[:, 0, 0] = move[:, 1, 1] = half[:, 0]
    move[:, :, 2] = centre
    layers = torch.cat([maps * mask.unsqueeze(1), mask.unsqueeze(1)], 1)  # n f s s
    grid = F.affine_grid(move, [len(maps), 1, WINDOW, WINDOW], align_corners=False)
    return F.grid_sample(layers, grid, align_corners=False).flatten(2).transpose(1, 2)


def _boxes(where: Tensor) -> Tensor:
    """x0 y0 x1 y1 in 0..1 around what is seen of each map [n s s]; all of it, if nothing is."""
    side = where.shape[-1]
    seen = where >= _SEEN * where.amax((1, 2), keepdim=True).clamp_min(1e-6)
    found = []
    for shown in (seen.any(1), seen.any(2)):  # columns, rows
        first = shown.float().argmax(1)
        last = side - shown.flip(1).float().argmax(1)
        found.append((first, last))
    (x0, x1), (y0, y1) = found
    return torch.stack([x0, y0, x1, y1], 1).float() / side
