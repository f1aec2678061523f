from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline

from consistent_gen.errors import InputError, LimitError
from consistent_gen.models.backbone import MAX_PROMPT_CHARACTERS, Backbone

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
