"""A reader with fewer weights that says what a trained one says."""

from __future__ import annotations

import pytest
import torch

from consistent_gen.encoders.reader import Reader
from consistent_gen.training.narrowing import explaining, narrowed
from consistent_gen.training.reader import unlikeness
from consistent_gen.training.truth import schema


def test_channels_that_repeat_others_go_first() -> None:
    rng = torch.Generator().manual_seed(0)
    three = torch.randn(3, 500, generator=rng).double()
    mixed = torch.cat([three, three[:2] + three[2:], three[:1] * 0.5])  # three dimensions of six
    covariance = mixed @ mixed.T / 500
    kept = explaining(covariance, 3)
    assert len(set(kept.tolist())) == 3
    assert int(torch.linalg.matrix_rank(covariance[kept][:, kept])) == 3
    assert torch.equal(explaining(covariance, 6), torch.arange(6))


def test_what_is_left_says_what_the_whole_said() -> None:
    torch.manual_seed(0)
    teacher = Reader(schema(), 32)
    with torch.no_grad():  # half of every perceptron's channels follow from the others
        for stage in ("stage2", "stage3"):
            for block in list(teacher.get_submodule(stage))[1:]:
                half = block.wide.out_channels // 2  # type: ignore[union-attr, operator]
                block.wide.weight[half:] = block.wide.weight[:half]  # type: ignore[union-attr, index]
                block.wide.bias[half:] = block.wide.bias[:half]  # type: ignore[union-attr, index]
    pictures = torch.rand(12, 3, 128, 128, generator=torch.Generator().manual_seed(1))
    model = narrowed(teacher, (96, 144), pictures)
    assert sum(p.numel() for p in model.parameters()) < sum(p.numel() for p in teacher.parameters())
    with torch.inference_mode():
        assert float(unlikeness(model(pictures), teacher(pictures))) < 1e-4
    less = narrowed(teacher, (8, 8), pictures)
    with torch.inference_mode():
        assert float(unlikeness(less(pictures), teacher(pictures))) > 1e-4
    with pytest.raises(RuntimeError):
        model.load_state_dict(teacher.state_dict())
