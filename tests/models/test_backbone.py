from __future__ import annotations

from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline

from consistent_gen.errors import InputError, LimitError
from consistent_gen.models import load_backbone
from consistent_gen.models.backbone import MAX_PROMPT_CHARACTERS, Backbone
from consistent_gen.models.tiny_transformers import build_tiny_transformer
from consistent_gen.story.plan import plan_story
from consistent_gen.story.script import parse_story

PROMPTS = ("a red fox reading in the city .", "a cat", "")


def test_shapes(tiny: Backbone) -> None:
    assert tiny.default_size == (128, 128)
    assert tiny.latent_shape(128, 128) == (16, 16, 16)
    assert tiny.latent_shape(192, 96) == (16, 12, 24)
    tokens = tiny.encode_prompt(PROMPTS)
    assert tokens.shape == (3, 24, 32)
    pictures = tiny.decode(torch.zeros(2, 16, 12, 24))
    assert pictures.shape == (2, 96, 192, 3)
    assert pictures.dtype == np.uint8


@pytest.mark.parametrize(
    ("size", "named"), [((100, 128), "96x128"), ((128, 1), "128x32"), ((-32, 0), "32x32")]
)
def test_a_size_that_does_not_fit_names_the_nearest(
    tiny: Backbone, size: tuple[int, int], named: str
) -> None:
    with pytest.raises(InputError, match=f"multiples of 32.*{named}"):
        tiny.latent_shape(*size)


def test_a_huge_size_is_refused(tiny: Backbone) -> None:
    with pytest.raises(LimitError):
        tiny.latent_shape(4096, 128)


def test_prompts_are_checked(tiny: Backbone) -> None:
    with pytest.raises(InputError, match=r"'foxx'; did you mean 'fox'\?"):
        tiny.encode_prompt(["a red foxx"])
    with pytest.raises(InputError, match=r"42 tokens .* reads 24: shorten it by 18"):
        tiny.encode_prompt(["fox " * 40])
    with pytest.raises(LimitError):
        tiny.encode_prompt(["a" * (MAX_PROMPT_CHARACTERS + 1)])
    assert tiny.unknown_words("a Red fox") == []


def test_encoding_does_not_depend_on_company(tiny: Backbone) -> None:
    alone = {prompt: tiny.encode_prompt([prompt])[0] for prompt in PROMPTS}
    for order in permutations(PROMPTS):
        for prompt, tokens in zip(order, tiny.encode_prompt(order), strict=True):
            assert torch.equal(tokens, alone[prompt])


def test_decoding_does_not_depend_on_company(tiny: Backbone) -> None:
    latents = torch.randn(3, 16, 16, 16, generator=torch.Generator().manual_seed(1))
    alone = [tiny.decode(latent[None])[0] for latent in latents]
    for order in permutations(range(3)):
        together = tiny.decode(latents[list(order)])
        for place, index in enumerate(order):
            assert np.array_equal(together[place], alone[index])


def test_encodes_like_the_stock_pipeline(tiny: Backbone) -> None:
    pipeline = StableDiffusionPipeline.from_pretrained(tiny.path)
    stock, negative = pipeline.encode_prompt(PROMPTS[0], "cpu", 1, True, negative_prompt="a cat")
    assert torch.equal(tiny.encode_prompt([PROMPTS[0]]), stock)
    assert torch.equal(tiny.encode_prompt(["a cat"]), negative)


@pytest.mark.parametrize("negative", ["", "a cat"])
def test_encodes_like_the_stock_xl_pipeline(tiny_xl: Backbone, negative: str) -> None:
    pipeline = StableDiffusionXLPipeline.from_pretrained(tiny_xl.path)
    stock = pipeline.encode_prompt(
        PROMPTS[0], device="cpu", negative_prompt=negative if negative else None
    )
    for ours, (tokens, pooled) in (
        (tiny_xl.condition(PROMPTS[0], (128, 96)), (stock[0], stock[2])),
        (tiny_xl.condition(negative, (128, 96), negative=True), (stock[1], stock[3])),
    ):
        assert torch.equal(ours.tokens[None], tokens)
        assert torch.equal(ours.added["text_embeds"][None], pooled)
        assert ours.added["time_ids"].tolist() == [96, 128, 0, 0, 96, 128]


def test_latents_with_a_mean_and_a_deviation(tmp_path: Path) -> None:
    """As some folders' autoencoders have; what is encoded is what is decoded."""
    model = load_backbone(build_tiny_transformer(tmp_path / "m", "flux-dev"), device="cpu")
    picture = np.random.default_rng(0).integers(0, 255, (1, 32, 32, 3), np.uint8)
    plain = model.encode(picture)
    seen = model.decode(plain)
    scale, shift = model.vae.config.scaling_factor, model.vae.config.shift_factor
    model.vae.register_to_config(
        latents_mean=[0.5, 0.0, 0.0, 0.0], latents_std=[2.0, 1.0, 1.0, 1.0]
    )
    moved = model.encode(picture)
    raw = plain / scale + shift
    assert torch.allclose(moved[:, 0], ((raw[:, 0] - 0.5) / 2.0 - shift) * scale, atol=1e-5)
    assert torch.allclose(moved[:, 1:], plain[:, 1:], atol=1e-6)
    assert np.abs(model.decode(moved).astype(int) - seen.astype(int)).max() <= 1
    assert np.abs(model.decode(plain).astype(int) - seen.astype(int)).max() > 1


def test_half_of_a_taught_word_is_refused(tmp_path: Path) -> None:
    """Textual inversion of two vectors, in a folder that a pipeline was saved as."""
    folder = build_tiny_transformer(tmp_path / "m", "sd3")
    made = load_backbone(folder, device="cpu")
    made.tokenizer.add_tokens(["<hat>", "<hat>_1"])
    made.text_encoder.resize_token_embeddings(len(made.tokenizer))
    made.tokenizer.save_pretrained(folder / "tokenizer")
    made.text_encoder.save_pretrained(folder / "text_encoder")
    model = load_backbone(folder, device="cpu")
    model.check_prompt("a <hat> <hat>_1 on a fox")
    words = "textual inversion.*write all of them: <hat> <hat>_1"
    with pytest.raises(InputError, match=words):
        model.check_prompt("a <hat> on a fox")
    story = parse_story("title: A\nframes:\n- a fox\n- a fox with a <hat>\n")
    with pytest.raises(InputError, match=words) as told:
        plan_story(story, model)
    assert told.value.line == 4


def test_trials_are_small_on_a_cpu(tiny: Backbone, tmp_path: Path) -> None:
    dev = load_backbone(build_tiny_transformer(tmp_path / "m", "flux-dev"), device="cpu")
    assert (dev.default_size, dev.trial_size) == ((1024, 1024), (256, 256))
    assert tiny.trial_size == tiny.default_size
