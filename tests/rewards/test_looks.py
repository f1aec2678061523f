"""The looks score: true pictures, and the faults that it is meant to see."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from benchmarks.looks import gridded
from consistent_gen.rewards.base import ImageSet
from consistent_gen.rewards.looks import SIDES, Looks, drawing_numbers, looks_of
from consistent_gen.world.dataset import StoryWorld

COUNT = 24


@pytest.fixture(scope="module", params=SIDES)
def true(request: pytest.FixtureRequest) -> np.ndarray:
    world = StoryWorld("held_out", 1, size=request.param)
    return np.stack([world.picture(i).rgb for i in range(COUNT)])


def blurred(pictures: np.ndarray) -> np.ndarray:
    x = torch.from_numpy(pictures).permute(0, 3, 1, 2).float()
    x = F.avg_pool2d(x, 5, 1, 2, count_include_pad=False)
    return x.round().byte().permute(0, 2, 3, 1).numpy()


def test_true_pictures_look_true_and_faulty_ones_do_not(true: np.ndarray) -> None:
    found = {
        name: Looks().one(ImageSet(pictures=tuple(shown)))
        for name, shown in {"true": true, "blurred": blurred(true), "grid": gridded(true)}.items()
    }
    value = {name: score.value for name, score in found.items()}
    assert value["true"] is not None and value["true"] > 0.97
    assert value["blurred"] is not None and value["blurred"] < 0.6
    assert value["grid"] is not None and value["grid"] < value["true"] - 0.05
    seams = {name: score.parts["seams"] for name, score in found.items()}
    assert seams["true"] is not None and seams["grid"] is not None
    assert seams["grid"] > seams["true"] + 0.1


def test_numbers_do_not_see_what_is_mirrored_or_brighter() -> None:
    x = torch.rand(2, 3, 128, 128, generator=torch.Generator().manual_seed(0)) * 0.5
    numbers = drawing_numbers(x)
    assert numbers.shape == (2, 13)
    assert torch.allclose(numbers, drawing_numbers(x + 0.25), atol=1e-3)
    # All but the seams, whose cells begin at the left.
    assert torch.allclose(numbers[:, :-1], drawing_numbers(x.flip(-1))[:, :-1], atol=1e-5)


def test_pictures_that_are_too_small_have_no_score() -> None:
    small, plain = np.zeros((100, 300, 3), np.uint8), np.full((128, 200, 3), 90, np.uint8)
    assert looks_of(small) is None
    score = Looks().one(ImageSet(pictures=(small, plain)))
    assert score.value is not None and "1 smaller than 128 pixels" in score.reason
    assert Looks()([ImageSet(pictures=(small,))]).valid == (False,)
