"""Pure tensor functions of attention sharing.

Shapes: `b` rows, `h` heads, `n` queries, `m` keys, `d` head width, `c` channels, `t` text tokens.
Heads come last but one ([b n h d]), as diffusers' attention dispatch takes them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

# Flash kernels want head widths in multiples of eight.
BIAS_CHANNELS = 8


def token_statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of every channel over the tokens of x [n h d], each [1 h d].

    The deviation is sqrt(variance + 1e-5), with the unbiased variance. In float32 at least: squares
    of half-precision features exceed what 16 bits hold.
    """
    x = x if x.dtype == torch.float64 else x.float()
    mean = x.mean(dim=0, keepdim=True)
    # Two plain sums: torch.var_mean takes three times as long on a CPU.
    variance = (x - mean).square().sum(dim=0, keepdim=True) / (len(x) - 1)
    return mean, (variance + 1e-5).sqrt()


def adain(x: Tensor, source: tuple[Tensor, Tensor], target: tuple[Tensor, Tensor]) -> Tensor:
    """Move x [n h d] from the statistics `source` to `target` (arXiv 1703.06868, equation 8)."""
    mean, deviation = source
    factor = target[1] / deviation
    # One pass over x instead of four; the small tensors cost nothing.
    return torch.addcmul(target[0] - mean * factor, x.to(factor.dtype), factor).to(x.dtype)


def join(
    rows: Sequence[Sequence[Tensor]], levels: Sequence[Sequence[float]] | None = None
) -> Tensor:
    """Rows of parts [m h d], one part after the other: [r m h d], a view if there is one part.

    levels: of every part, in the first of `BIAS_CHANNELS` further channels whose others are 0. With
    1 for queries, bias / scale for keys and 0 for values, scale * q k^T gains the bias, so that no
    mask is needed. Of the output only the first d channels count.
    """
    first = rows[0][0]
    if levels is None and len(rows) == 1 and len(rows[0]) == 1:
        return first[None]
    length, d = sum(len(part) for part in rows[0]), first.shape[-1]
    further = 0 if levels is None else BIAS_CHANNELS
    joined = first.new_empty(len(rows), length, *first.shape[1:-1], d + further)
    if further:
        joined[..., d:] = 0.0
    for i, parts in enumerate(rows):
        row, start = joined[i], 0  # one view each: those of an iteration may not be written to
        for j, part in enumerate(parts):
            here = row[start : start + len(part)]
            here[..., :d] = part
            if levels is not None and levels[i][j] != 0.0:
                here[..., d] = levels[i][j]
            start += len(part)
    return joined


def text_attention(q: Tensor, k: Tensor, words: Tensor | None = None) -> Tensor:
    """How much image tokens q [n h d] look at text tokens k [t h d]: [n t], mean over heads.

    words: which text tokens are no padding, [t]; None for all. Every row sums to 1.
    """
    logits = torch.einsum("nhd,thd->hnt", q.float(), k.float()) / math.sqrt(q.shape[-1])
    if words is not None:
        logits = logits.masked_fill(~words, -math.inf)
    return logits.softmax(-1).mean(0)


def otsu_threshold(values: Tensor) -> float:
    """The threshold that separates `values` [n] best: maximal variance between the two classes.

    Exact over all cuts between neighbouring values (Otsu, 1979, equation 18): the upper class is
    `values > threshold`. Equal values have no cut; their threshold is the value itself.
    """
    x = values.flatten().double().sort().values
    n = x.numel()
    if n < 2 or x[0] == x[-1]:
        return float(x[-1]) if n else math.inf
    count = torch.arange(1, n, dtype=torch.float64, device=x.device)
    below = x.cumsum(0)[:-1] / count
    above = (x.sum() - x.cumsum(0)[:-1]) / (n - count)
    between = count * (n - count) * (above - below).square()
    between[x[:-1] == x[1:]] = -1.0  # no threshold lies between equal values
    return float(x[int(between.argmax())])


def nearest_tokens(targets: Tensor, sources: Tensor) -> tuple[Tensor, Tensor]:
    """For every target [n c] the most similar source [m c]: its index [n] and distance [n].

    The distance is 1 - cosine, in 0..2; of equally near sources the first is taken.
    """
    similarity = F.normalize(targets, dim=-1) @ F.normalize(sources, dim=-1).T
    best, index = similarity.max(dim=-1)
    return index, 1.0 - best


def resize_grid(
    x: Tensor, old: tuple[int, int], new: tuple[int, int], *, average: bool = True
) -> Tensor:
    """Resample tokens x [n c] from grid `old` (height, width) to `new`, bilinear.

    average: whether shrinking averages over what it drops, so that a mask keeps its area; without
    it only what lies next to a new token counts.
    """
    if old == new:
        return x
    picture = x.T.reshape(1, -1, *old).float()
    shrink = average and (new[0] < old[0] or new[1] < old[1])
    resized = F.interpolate(
        picture, size=new, mode="bilinear", align_corners=False, antialias=shrink
    )
    return resized.reshape(x.shape[-1], -1).T.to(x.dtype)


def smooth_grid(
    x: Tensor, grid: tuple[int, int], around: Literal["replicate", "constant"] = "replicate"
) -> Tensor:
    """Gaussian filter, 3 x 3 with sigma 1, over tokens x [n c]; around the grid stand its edges
    once more, or zeros.
    """
    weights = torch.exp(-0.5 * torch.tensor([1.0, 0.0, 1.0], device=x.device)).to(x.dtype)
    weights = weights / weights.sum()
    picture = x.T.reshape(-1, 1, *grid)
    picture = F.pad(picture, (1, 1, 1, 1), mode=around)
    kernel = torch.outer(weights, weights)[None, None]
    return F.conv2d(picture, kernel).reshape(x.shape[-1], -1).T


def draw_tokens(
    tokens: Tensor, dropout: float, generator: torch.Generator, *, larger: bool = False
) -> Tensor:
    """Keep (1 - dropout) m of the token numbers [m], drawn evenly; ascending.

    A fixed count keeps shapes static and bytes predictable. It is rounded down, or up where the
    `larger` part is kept.
    """
    kept = kept_count(len(tokens), dropout, larger=larger)
    if kept == len(tokens):
        return tokens
    order = torch.randperm(len(tokens), generator=generator)[:kept].sort().values
    return tokens[order.to(tokens.device)]


def kept_count(tokens: int, dropout: float, *, larger: bool = False) -> int:
    """How many of `tokens` tokens `draw_tokens` keeps."""
    share = (1.0 - dropout) * tokens
    return math.ceil(share - 1e-9) if larger else math.floor(share + 1e-9)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding of x [b n h d] by cos and sin [n d], pairs of neighbouring channels.

    arXiv 2104.09864, equation 34, with every angle twice in a row as diffusers lays them out, and
    in float32 like there, so that the two give equal bytes.
    """
    real, imaginary = x.reshape(*x.shape[:-1], -1, 2).unbind(-1)
    turned = torch.stack([-imaginary, real], dim=-1).flatten(3)
    cos, sin = cos[None, :, None, :].to(x.device), sin[None, :, None, :].to(x.device)
    return (x.float() * cos + turned.float() * sin).to(x.dtype)
