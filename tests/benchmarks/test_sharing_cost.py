"""What an added frame costs: counted by running it and by shapes alone, against the formula."""

from __future__ import annotations

import pytest
import torch

from benchmarks import sharing_cost, sharing_flop
from benchmarks.sharing_cost import RECIPES, CostTrial, measure
from consistent_gen.methods.tuning import recipe_of
from consistent_gen.models import load_backbone
from consistent_gen.models.tiny import build_tiny
from tests.attention.toys import held

STEPS = 5


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> CostTrial:
    backbone = load_backbone(build_tiny(tmp_path_factory.mktemp("models") / "tiny"), device="cpu")
    return CostTrial("tiny", backbone, "a fox in the forest", 2, STEPS)


@pytest.fixture(scope="module")
def rows(trial: CostTrial) -> dict[str, dict[str, float]]:
    return measure(trial, RECIPES, repeats=0)


@pytest.mark.slow
@pytest.mark.parametrize("method", RECIPES)
def test_counted_flop_are_those_of_the_formula(
    rows: dict[str, dict[str, float]], method: str
) -> None:
    row = rows[method]
    # Watching the words' attention and matching are products too, on top of the formula.
    assert row["flop_ratio_formula"] <= row["flop_ratio"] * 1.001
    assert row["flop_ratio"] <= row["flop_ratio_formula"] * 1.05


@pytest.mark.slow
@pytest.mark.parametrize("method", RECIPES)
def test_bytes_are_predicted_before_an_anchor_leaves_any(
    rows: dict[str, dict[str, float]], method: str
) -> None:
    row = rows[method]
    if RECIPES[method].masks is None:
        assert row["bank_bytes"] == row["bank_bytes_predicted"]
    else:
        # How much of a picture its character covers is found while drawing: at most all of it.
        assert 0.2 < row["bank_bytes"] / row["bank_bytes_predicted"] <= 1.0


@pytest.mark.slow
def test_the_last_frame_of_a_long_story_costs_what_the_first_did(trial: CostTrial) -> None:
    story = sharing_cost.BenchStory(trial, recipe_of("consistory"))
    counted, sizes = [], []
    for _ in range(4):
        counted.append(sharing_cost.frame_flop(story))
        sizes.append(held(story.shared.run))
    # Frames differ in how large their subject is, and so in what matching takes: under 1 in 1000.
    assert max(counted) <= min(counted) * 1.001
    assert sizes == [sizes[0]] * 4


@pytest.fixture(scope="module")
def shapes() -> sharing_flop.Shapes:
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        unet = UNet2DConditionModel(
            block_out_channels=(32, 64), layers_per_block=1, norm_num_groups=8,
            down_block_types=("CrossAttnDownBlock2D",) * 2, attention_head_dim=2,
            up_block_types=("CrossAttnUpBlock2D",) * 2, cross_attention_dim=32,
        )  # fmt: skip
    return sharing_flop.Shapes(unet.eval(), 16, 32)


@pytest.mark.slow
@pytest.mark.parametrize("method", RECIPES)
def test_counting_on_shapes_alone(shapes: sharing_flop.Shapes, method: str) -> None:
    recipe = RECIPES[method]
    flop, base = sharing_flop.frame_flop(shapes, recipe, STEPS)
    ratio = sharing_flop.formula(shapes, recipe, STEPS, base)
    assert ratio <= flop / base * 1.001
    assert flop / base <= ratio * 1.05
    assert sharing_flop.frame_flop(shapes, recipe_of("vanilla"), STEPS) == (base, base)
