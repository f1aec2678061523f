"""Compiled networks: a whole one cannot be shared, and says so; parts of one may be compiled."""

from __future__ import annotations

import pytest
import torch

import consistent_gen
from consistent_gen.errors import InputError
from tests.pipeline.test_contract import hero_of, made
from tests.pipeline.toys import OPTIONS, differ


@pytest.mark.filterwarnings("ignore")
def test_a_compiled_unet_is_refused_in_each_form() -> None:
    eager = {"backend": "eager"}
    for form in ("wrapped", "in place", "forward", "block"):
        tried = made("StableDiffusionPipeline")
        if form == "wrapped":
            tried.unet = torch.compile(tried.unet, **eager)
        elif form == "in place":
            tried.unet.compile(**eager)
        elif form == "forward":
            tried.unet.forward = torch.compile(tried.unet.forward, **eager)
        else:
            tried.unet.up_blocks[0].compile(**eager)
        with (
            pytest.raises(InputError, match=r"is compiled .*'FeedForward'"),
            consistent_gen.share(tried),
        ):
            pass


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_parts_of_a_unet_may_be_compiled() -> None:
    tried, eager = made("StableDiffusionPipeline"), {"backend": "eager"}
    results = []
    for compiled in (False, True):
        for part in tried.unet.modules() if compiled else ():
            if type(part).__name__ in ("FeedForward", "ResnetBlock2D"):
                part.compile(**eager)
        with consistent_gen.share(tried, "head_start", **OPTIONS) as story:
            results.append(story.frame("a fox reading", 3, [hero_of(story)]))
    assert differ(*results) < 1e-4
    with consistent_gen.share(tried, "head_start", **OPTIONS) as story:
        tried.unet.compile(**eager)
        with pytest.raises(InputError, match=r"was compiled .* after the story began"):
            hero_of(story)
