"""What anchors take in every mode: by formula as counted, and something that fits for everybody."""

from __future__ import annotations

import pytest
import torch

from benchmarks.sharing_cost import RECIPES
from benchmarks.sharing_flop import TRANSFORMERS, Shapes
from benchmarks.sharing_memory import (
    BESIDE,
    COUNTED,
    countable,
    held_to_formula,
    measure,
    plan_on_card,
)
from tests.every_run import or_slow

XL = "Stable Diffusion XL, 1024 px"


@pytest.fixture(scope="module")
def small() -> Shapes:
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        unet = UNet2DConditionModel(
            block_out_channels=(32, 64), layers_per_block=1, norm_num_groups=8,
            down_block_types=("CrossAttnDownBlock2D",) * 2, attention_head_dim=2,
            up_block_types=("CrossAttnUpBlock2D",) * 2, cross_attention_dim=32,
        )  # fmt: skip
    return Shapes(unet.eval(), 16, 32)


@pytest.mark.parametrize("method", or_slow(list(RECIPES), ["head_start"]))
def test_the_formula_is_what_a_bank_holds(small: Shapes, method: str) -> None:
    for mode in COUNTED:
        predicted, counted = held_to_formula(small, RECIPES[method], 4, mode)
        assert predicted == counted, mode


@pytest.mark.slow
@pytest.mark.parametrize("name", [XL, *TRANSFORMERS])
@pytest.mark.parametrize("method", RECIPES)
def test_every_method_fits_a_card_of_24_gb(method: str, name: str) -> None:
    """On published shapes at 1024 pixels in 50 steps; counted at fewer."""
    shapes = Shapes.of(name)
    plan = plan_on_card(shapes, name, RECIPES[method], 50)
    assert plan.bytes <= plan.free and plan.keeping.exact
    mode = "hidden" if plan.keeping.what == "hidden" else "kv"
    if countable(name, RECIPES[method]):
        predicted, counted = held_to_formula(shapes, RECIPES[method], 4, mode)
        assert counted == predicted


@pytest.mark.slow
def test_the_table_has_every_network_and_mode() -> None:
    name = next(iter(BESIDE))
    rows = measure({"head_start": RECIPES["head_start"]}, 5, 3, [name])[name]["head_start"]
    assert rows["auto_24_gb"] == "kv"
    assert [rows["modes"][mode]["counted_over_formula"] for mode in COUNTED] == [1.0] * 3
    assert rows["modes"]["replay"]["extra_calls"] == 5
