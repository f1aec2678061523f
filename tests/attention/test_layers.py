from __future__ import annotations

from collections import Counter

import pytest
import torch

from consistent_gen.attention.layers import feature_module, find_sites
from consistent_gen.errors import InputError
from tests.attention.toys import FAMILIES, build


def unet(**config: object) -> torch.nn.Module:
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):  # shapes without weights
        model: torch.nn.Module = UNet2DConditionModel(**config)
    return model


def test_sdxl_has_its_layers_where_papers_say() -> None:
    model = unet(
        sample_size=128,
        block_out_channels=(320, 640, 1280),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 2, 10),
        attention_head_dim=(5, 10, 20),
        cross_attention_dim=2048,
        addition_embed_type="text_time",
        addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=2816,
        use_linear_projection=True,
    )
    sites = find_sites(model)
    assert Counter(site.kind for site in sites.values()) == {"self": 70, "cross": 70}
    up = Counter(s.grid((128, 128)) for s in sites.values() if (s.kind, s.block) == ("self", "up"))
    assert up == {(32, 32): 30, (64, 64): 6}
    assert {s.rank for s in sites.values() if s.grid((128, 128)) == (64, 64)} == {0}
    assert feature_module(model, 2) == "up_blocks.0"


def test_sd15_grids_follow_the_picture() -> None:
    sites = find_sites(unet(cross_attention_dim=768, attention_head_dim=8))
    selfs = [s for s in sites.values() if s.kind == "self"]
    assert len(selfs) == 16
    assert sum(s.block == "up" for s in selfs) == 9
    assert {s.grid((64, 96)) for s in selfs} == {(64, 96), (32, 48), (16, 24), (8, 12)}
    assert {s.grid((33, 65)) for s in selfs} == {(33, 65), (17, 33), (9, 17), (5, 9)}
    assert next(s for s in selfs if s.block == "mid").grid((64, 96)) == (8, 12)


@pytest.mark.parametrize("family", FAMILIES)
def test_grids_are_what_the_layers_see(family: str) -> None:
    """Against the token counts that really arrive at every layer."""
    toy = build(family)
    seen = {}
    hooks = []
    for name in find_sites(toy.model):

        def look(_m: object, args: tuple[torch.Tensor, ...], kwargs: dict[str, torch.Tensor],
                 name: str = name) -> None:  # fmt: skip
            hidden = args[0] if args else kwargs["hidden_states"]
            seen[name] = hidden.shape[1]

        hooks.append(
            toy.model.get_submodule(name).register_forward_pre_hook(look, with_kwargs=True)
        )
    tokens, pooled = toy.text(1, "cond")
    with torch.no_grad():
        toy.denoise(toy.noise(1)[None], [0.5], tokens[None], pooled[None])
    assert len(seen) == len(find_sites(toy.model)) > 0
    for name, site in find_sites(toy.model).items():
        height, width = site.grid(toy.grid)
        text = len(tokens) if site.kind == "single" else 0
        assert seen[name] == height * width + text, name
    depths = [s.depth for s in find_sites(toy.model).values() if s.sees_images]
    assert depths == sorted(depths) and depths[0] == 0.0 and depths[-1] == 1.0
    for hook in hooks:
        hook.remove()


def test_other_models_are_refused() -> None:
    with pytest.raises(InputError, match="a Linear cannot be shared; expected one of UNet2D"):
        find_sites(torch.nn.Linear(1, 1))
