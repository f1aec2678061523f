"""A reader with fewer weights that says what a trained one says, as far as that can be solved for.

Most of a reader's weights are in the perceptrons of its later stages. Of each, the hidden channels
are kept that explain the others best, and the layer behind them is fitted anew by least squares, so
that the block adds what it added before. What is then still missing is learnt
(`training.reader`, `teacher`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from consistent_gen.encoders.factors import normalized
from consistent_gen.encoders.reader import ConvNeXtBlock, Reader
from consistent_gen.training.truth import schema

RIDGE = 1e-4  # of the mean variance of hidden channels
STAGES = ("stage2", "stage3")


@torch.no_grad()
def narrowed(teacher: Reader, hidden: Sequence[int], pictures: Tensor) -> Reader:
    """`teacher` with perceptrons of `hidden` channels at 16 x 16 and 8 x 8.

    pictures: b 3 128 128 like those that it shall read, floats in [0, 1]; 256 are enough.
    """
    # In the order that truth comes in; that of a folder is another one.
    model = Reader(schema(), teacher.width, hidden)
    own = model.state_dict()
    model.load_state_dict(
        {name: t if t.shape == own[name].shape else own[name]
         for name, t in teacher.state_dict().items()}
    )  # fmt: skip
    x = model.stage1(model.stem(normalized(pictures)))
    for stage in STAGES:
        own_blocks, blocks = (net.get_submodule(stage).children() for net in (model, teacher))
        for block, wide in zip(own_blocks, blocks, strict=True):
            if isinstance(block, ConvNeXtBlock) and isinstance(wide, ConvNeXtBlock):
                _fit(block, wide, x)
            x = block(x)
    return model


def _fit(block: ConvNeXtBlock, wide: ConvNeXtBlock, x: Tensor) -> None:
    """Let `block`, which mixes and normalises as `wide` does, do to features x b c h w what that
    does, with fewer hidden channels.
    """
    h = F.gelu(wide.wide(wide.norm(wide.mix(x)))).transpose(0, 1).flatten(1).double()  # m n
    mean = h.mean(1, keepdim=True)
    centred = h - mean
    covariance = centred @ centred.T / h.shape[1]  # m m
    out = wide.narrow.weight.flatten(1).double()  # c m
    weight = out.norm(dim=0)  # a channel counts as much as what follows listens to it
    kept = explaining(covariance * weight[:, None] * weight, block.wide.out_channels)
    ridge = RIDGE * covariance.diagonal().mean() * torch.eye(len(kept), dtype=torch.float64)
    # out h ~ fitted h[kept]: normal equations of least squares, with means apart.
    among = covariance[kept][:, kept] + ridge
    fitted = torch.linalg.solve(among, covariance[kept] @ out.T).T  # c k
    bias = _bias(wide.narrow).double() + (out @ mean - fitted @ mean[kept]).squeeze(1)
    _set(block.wide, wide.wide.weight[kept].flatten(1), _bias(wide.wide)[kept])
    _set(block.narrow, fitted, bias)


def explaining(covariance: Tensor, count: int) -> Tensor:
    """Numbers of the `count` channels that leave least of `covariance` (m m) unexplained, chosen
    one after the other: a Cholesky decomposition that always takes the largest remainder.
    """
    rest, kept = covariance.diagonal().clone(), list[int]()
    factors = covariance.new_zeros(len(covariance), count)
    for k in range(count):
        most = int(rest.argmax())
        column = covariance[:, most] - factors[:, :k] @ factors[most, :k]
        factors[:, k] = column / column[most].clamp_min(1e-30).sqrt()
        rest = (rest - factors[:, k].square()).clamp_min(0.0)
        kept.append(most)
        rest[kept] = -1.0
    return torch.tensor(sorted(kept))


def _set(layer: nn.Conv2d, weight: Tensor, bias: Tensor) -> None:
    layer.weight.copy_(weight[..., None, None])
    _bias(layer).copy_(bias)


def _bias(layer: nn.Conv2d) -> Tensor:
    assert layer.bias is not None
    return layer.bias
