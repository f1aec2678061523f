"""Pairs of pictures that show the same characters and read each other's keys in training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from consistent_gen.errors import InputError
from consistent_gen.models.story_world import StoryWorldConfig, build_unet
from consistent_gen.training import story_model
from consistent_gen.training.attention_kernel import training_attention
from consistent_gen.training.denoising import timesteps
from consistent_gen.training.loop import load_run
from consistent_gen.training.pairs import PairedKeys, swapped
from consistent_gen.world.captions import vocabulary
from consistent_gen.world.dataset import StoryWorld

TOY = StoryWorldConfig(
    widths=(16, 16, 32), heads=(2, 2, 2), text_width=32, text_layers=1, text_heads=1
)


@pytest.fixture
def unet() -> Any:
    torch.manual_seed(0)
    return build_unet(TOY).eval()


def call(unet: Any, x: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    hidden = torch.randn(len(x), 8, 32, generator=generator)
    with torch.no_grad():
        out: Tensor = unet(x, torch.full((len(x),), 500), hidden).sample
    return out


def test_odd_pictures_show_whom_the_even_ones_show() -> None:
    world = StoryWorld("train", pairs=True)
    subsets = same_style = 0
    for index in range(0, 200, 2):
        first, second = world.frame(index), world.frame(index + 1)
        who = [subject.identity for subject in first.subjects]
        again = [subject.identity for subject in second.subjects]
        assert again == who or (len(again) == 1 < len(who) and again[0] in who)
        subsets += again != who
        same_style += first.style == second.style
        assert first.layout_seed != second.layout_seed
    assert 5 < subsets < 40 and 35 < same_style < 75
    assert world.frame(7) == StoryWorld("train", pairs=True).frame(7)
    assert world.frame(0) != StoryWorld("train").frame(0)


def test_the_second_of_two_is_further_on() -> None:
    generator = torch.Generator().manual_seed(0)
    t = timesteps(600, generator, 0.5, lead=(0.1, 0.3))
    first, second = t[::2], t[1::2]
    ahead = (first - second)[second > 0]
    assert int(second.min()) == 0 and int(first.max()) > 990
    assert int(ahead.max()) in range(290, 301) and int(ahead.min()) in range(100, 110)
    assert int((first - second).max()) <= 300


def test_alone_is_the_model_itself(unet: Any) -> None:
    x = torch.randn(4, 50, 16, 16, generator=torch.Generator().manual_seed(1))
    plain = call(unet, x)
    paired = PairedKeys(unet)
    assert torch.allclose(call(unet, x), plain, atol=1e-5)
    paired.share(torch.zeros(4, 32, 32, dtype=torch.uint8), torch.Generator(), 0.0)
    assert torch.allclose(call(unet, x), plain, atol=1e-5), "nobody is there to be read"


@pytest.mark.parametrize("kernel", ["fused", "explicit"])
def test_the_first_of_two_reads_the_seconds_subject_and_nobody_else(unet: Any, kernel: str) -> None:
    x = torch.randn(4, 50, 16, 16, generator=torch.Generator().manual_seed(1))
    paired = PairedKeys(unet)
    labels = torch.zeros(4, 32, 32, dtype=torch.uint8)
    labels[:, :16, :16] = 1
    paired.share(labels, torch.Generator().manual_seed(0), 0.0)

    def draw(latents: Tensor) -> Tensor:
        if kernel == "fused":
            return call(unet, latents)
        with training_attention(latents.device):
            return call(unet, latents)

    before = draw(x)
    changed = x.clone()
    changed[1] += 1.0
    after = draw(changed)
    assert not torch.allclose(after[0], before[0], atol=1e-4)
    assert torch.allclose(after[2:], before[2:], atol=1e-5)
    changed = x.clone()
    changed[0] += 1.0
    assert torch.allclose(draw(changed)[1:], before[1:], atol=1e-5), "the second reads nothing"
    changed = x.clone()
    changed[1] += 1.0
    paired.alone()
    assert torch.allclose(draw(changed)[0], draw(x)[0], atol=1e-5)


def test_attention_is_over_own_keys_and_the_partners_subject(unet: Any) -> None:
    paired = PairedKeys(unet)
    labels = torch.zeros(2, 32, 32, dtype=torch.uint8)
    labels[:, :, :10] = 1
    paired.share(labels, torch.Generator().manual_seed(0), 0.4)
    assert paired.masks is not None
    attn = unet.up_blocks[1].attentions[0].transformer_blocks[0].attn1
    hidden = torch.randn(2, 64, 16, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        found = attn(hidden)
        q, k, v = (f(hidden).double().view(2, 64, 2, 8) for f in (attn.to_q, attn.to_k, attn.to_v))
        for row in (0, 1):
            kept = paired.masks[64][row]
            # Three of eight columns, some left out.
            assert 0 < kept.sum() < 24 if row == 0 else kept.sum() == 0
            keys = torch.cat([k[row], k[1 - row][kept]])
            values = torch.cat([v[row], v[1 - row][kept]])
            scores = torch.einsum("nhd,mhd->hnm", q[row], keys) * 8**-0.5
            out = torch.einsum("hnm,mhd->nhd", scores.softmax(-1), values)
            expected = attn.to_out[0](out.flatten(1).float())
            assert torch.allclose(found[row], expected, atol=1e-5)


def test_partners_change_places() -> None:
    assert swapped(torch.arange(6)).tolist() == [1, 0, 3, 2, 5, 4]


@pytest.mark.filterwarnings("ignore:.*should be kept in float32.*")
def test_the_recipe_trains_on_pairs(paired_rows: Path, vae: Path, tmp_path: Path) -> None:
    config = story_model.StoryModelConfig(
        run=tmp_path, out=tmp_path / "storyworld", rows=paired_rows, vae=vae, model=TOY,
        images=8, batch=4, processes=1, pairs=True,
    )  # fmt: skip
    story_model.main(config)
    saved = load_run(tmp_path / "checkpoint")
    assert saved is not None and saved[1]["seen_images"] >= 4
    assert (tmp_path / "storyworld" / "recommended.json").is_file()


@pytest.mark.filterwarnings("ignore:.*should be kept in float32.*")
def test_only_what_the_pattern_names_learns(paired_rows: Path, vae: Path, tmp_path: Path) -> None:
    config = story_model.StoryModelConfig(
        run=tmp_path, out=tmp_path / "storyworld", rows=paired_rows, vae=vae, model=TOY,
        images=8, batch=4, processes=1, pairs=True,
        learn="up_blocks.*attn1",
    )  # fmt: skip
    story_model.main(config)
    torch.manual_seed(config.seed)  # initial weights, as the recipe draws them
    text = story_model.build_text(TOY, vocabulary())[1]
    unet = build_unet(TOY)
    saved = load_run(tmp_path / "checkpoint")
    assert saved is not None
    for prefix, module in (("unet.", unet), ("text.", text)):
        for name, before in module.named_parameters():
            learnt = prefix == "unet." and "up_blocks" in name and "attn1" in name
            assert torch.equal(saved[0][prefix + name], before) != learnt, name


def test_a_pattern_without_a_match_is_refused(paired_rows: Path, vae: Path, tmp_path: Path) -> None:
    config = story_model.StoryModelConfig(
        run=tmp_path, rows=paired_rows, vae=vae, model=TOY, processes=1, learn="atn1"
    )
    with pytest.raises(InputError, match=r"atn1.*try attn1"):
        story_model.main(config)
