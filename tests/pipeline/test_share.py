"""`consistent_gen.share` on stock diffusers pipelines, built untrained at tiny size."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline
from PIL import Image

import consistent_gen
from consistent_gen.attention.roles import Source
from consistent_gen.checkpoints import weights_folder
from consistent_gen.errors import InputError, LimitError, UnknownNameError
from consistent_gen.models.tiny import build_tiny
from consistent_gen.pipeline import PipelineStory
from consistent_gen.runtime import generator
from consistent_gen.saved_character import SavedCharacter
from tests.every_run import or_slow

OPTIONS: dict[str, Any] = {"num_inference_steps": 3, "guidance_scale": 3.0, "output_type": "np"}
PORTRAITS = ["a red fox", "a fox sitting in the meadow"]


@pytest.fixture(scope="module", params=or_slow(["sd", "xl"], ["sd"]))
def pipe(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    xl = request.param == "xl"
    folder = build_tiny(tmp_path_factory.mktemp("models") / request.param, xl=xl)
    family = StableDiffusionXLPipeline if xl else StableDiffusionPipeline
    made = family.from_pretrained(folder)
    made.set_progress_bar_config(disable=True)
    return made


def plain(pipe: Any, prompt: str, seed: int) -> Any:
    return pipe(prompt=[prompt], generator=[generator(seed, "latent")], **OPTIONS).images[0]


def fox(story: PipelineStory, **options: Any) -> SavedCharacter:
    return story.anchor(PORTRAITS, [1, 2], subject="fox", **options)


@pytest.mark.parametrize("method", or_slow(["consistyle", "consistory"], ["consistyle"]))
def test_a_story(pipe: Any, method: str, tmp_path: Path) -> None:
    before = dict(pipe.unet.attn_processors)
    untouched = plain(pipe, "a fox reading", 3)
    with consistent_gen.share(pipe, method, seed=5, **OPTIONS) as story:
        hero = fox(story)
        assert len(hero.images) == 2
        shared = story.frame("a fox reading", seed=3, subjects=[hero])
        # The bank stays: another frame in between changes nothing.
        other = story.frame("a fox walking in the city", seed=4, subjects=[hero])
        assert np.array_equal(story.frame("a fox reading", seed=3, subjects=[hero]), shared)
        # A frame of nobody is the pipeline's own.
        assert np.array_equal(story.frame("a fox reading", seed=3), untouched)
        hero.save(tmp_path / "fox.json")
    assert not np.allclose(shared, untouched, atol=1e-3)
    assert shared.shape == other.shape == untouched.shape
    assert all(pipe.unet.attn_processors[name] is p for name, p in before.items())
    assert np.array_equal(plain(pipe, "a fox reading", 3), untouched)
    assert "images" not in json.loads((tmp_path / "fox.json").read_text())
    with consistent_gen.share(pipe, method, seed=5, **OPTIONS) as story:
        again = story.load(tmp_path / "fox.json")
        assert np.array_equal(story.frame("a fox reading", seed=3, subjects=[again]), shared)
    with (
        consistent_gen.share(pipe, method, seed=6, **OPTIONS) as story,
        pytest.raises(InputError, match="was saved with seed 5; this story has 6"),
    ):
        story.load(tmp_path / "fox.json")


def test_the_shipped_model_in_a_stock_pipeline() -> None:
    """Its latents have more channels than its decoder reads."""
    shipped = StableDiffusionPipeline.from_pretrained(weights_folder("storyworld"))
    shipped.set_progress_bar_config(disable=True)
    options = {"num_inference_steps": 2, "output_type": "np"}
    with consistent_gen.share(shipped, "style_aligned", **options) as story:
        hero = story.anchor("a girl in a meadow", 1, subject="girl")
        picture = story.frame("a girl in a forest", 2, [hero])
    assert picture.shape == hero.images[0].shape
    assert picture.std() > 0.05


def test_queries_are_mixed_by_a_second_call_on_the_same_latents(pipe: Any) -> None:
    """Calls of the UNet with equal latents, in the steps that mix and for whoever shares."""
    calls: list[torch.Tensor] = []
    hook = pipe.unet.register_forward_pre_hook(lambda _m, args, _k: calls.append(args[0].clone()),
                                               with_kwargs=True)  # fmt: skip
    results = []
    for weight in (0.0, 1.0):
        mixed = {"injection": 0.0, "mixing_steps": 0.7, "mixing": (weight, weight)}
        with consistent_gen.share(pipe, "consistory", settings=mixed, **OPTIONS) as story:
            hero = fox(story)
            calls.clear()
            results.append(story.frame("a fox reading", seed=3, subjects=[hero]))
            assert len(calls) == story.run.recipe.calls(3) == 5
            equal = [torch.equal(a, b) for a, b in itertools.pairwise(calls)]
            assert equal == [False, True, False, True]
            calls.clear()
            story.frame("a fox reading", seed=3)
            assert len(calls) == 3
    hook.remove()
    assert not np.allclose(*results, atol=1e-4)
    off = {"injection": 0.0, "mixing_steps": 0.0}
    with consistent_gen.share(pipe, "consistory", settings=off, **OPTIONS) as story:
        plain = story.frame("a fox reading", seed=3, subjects=[fox(story)])
    assert np.allclose(results[0], plain, atol=1e-5)


def test_ones_own_picture_as_an_anchor(pipe: Any) -> None:
    results = []
    for colour in ("red", "blue"):
        with consistent_gen.share(pipe, "style_aligned", **OPTIONS) as story:
            picture = Image.new("RGB", (128, 128), colour)
            hero = story.anchor("a fox", 1, subject="fox", pictures={0: picture})
            results.append(story.frame("a fox reading", seed=3, subjects=[hero]))
    assert not np.allclose(*results, atol=1e-3)


def test_an_outside_mask_and_no_guidance(pipe: Any) -> None:
    options = OPTIONS | {"guidance_scale": 1.0}
    results = []
    for size in (2, 8):
        mask = torch.zeros(16, 16)
        mask[:size, :size] = 1.0
        with consistent_gen.share(pipe, "consistory", **options) as story:
            hero = fox(story, masks={0: mask, 1: mask})
            results.append(story.frame("a fox reading", seed=3, subjects=[hero]))
            assert {key[3] for key in story.run.bank._exports} == {"cond"}
    assert not np.allclose(*results, atol=1e-4)


def test_mistakes_are_named(pipe: Any) -> None:
    with consistent_gen.share(pipe, "consistory", **OPTIONS) as story:
        with pytest.raises(InputError, match="takes 2 anchors, each with a prompt and a seed"):
            story.anchor("a fox", 1, subject="fox")
        with pytest.raises(InputError, match="a prompt does not say 'cat'"):
            story.anchor(PORTRAITS, [1, 2], subject="cat")
        hero = fox(story)
        with pytest.raises(InputError, match="a character 'fox' exists already"):
            fox(story)
        with pytest.raises(InputError, match="a prompt does not say 'fox'"):
            story.frame("a cat", seed=3, subjects=[hero])
        scheduler = pipe.scheduler
        pipe.scheduler = DDIMScheduler.from_config(scheduler.config, beta_end=0.02)
        with pytest.raises(InputError, match=r"scheduler_config is .* draw the anchors again"):
            story.frame("a fox", seed=3, subjects=[hero])
        pipe.scheduler = scheduler
        story.drop(hero)
        assert story.run.bank.bytes == 0
    with (
        consistent_gen.share(pipe, "consistory", memory="kv", limit_bytes=1000, **OPTIONS) as story,
        pytest.raises(LimitError, match="MB are allowed"),
    ):
        fox(story)


def test_a_bank_that_might_be_too_large_is_refused_and_leaves_nothing(pipe: Any) -> None:
    """A character may fill the picture, so room for that is asked; what it leaves free is free."""
    with consistent_gen.share(pipe, "consistory", **OPTIONS) as story:
        fox(story, masks=dict.fromkeys(range(2), torch.ones(16, 16)))
        whole = story.run.bank.bytes
    kept: dict[str, Any] = {"memory": "kv", **OPTIONS}
    with consistent_gen.share(pipe, "consistory", limit_bytes=whole - 1, **kept) as story:
        with pytest.raises(LimitError, match=f"takes {whole / 1e6:.1f} MB, and .* raise the limit"):
            fox(story)
        assert story.run.bank.bytes == 0 and story.run.subjects() == ()
    with consistent_gen.share(pipe, "consistory", limit_bytes=whole, **kept) as story:
        with pytest.raises(InputError, match="a prompt does not say 'cat'"):
            story.anchor(PORTRAITS, [1, 2], subject="cat")  # keeps no room
        hero = fox(story)
        used = story.run.bank.bytes
        assert 0 < used < whole
        story.run.bank.promise([Source("cat")], whole - used)
        story.frame("a fox reading", seed=3, subjects=[hero])


def test_a_file_that_is_no_saved_character_is_refused(pipe: Any, tmp_path: Path) -> None:
    path = tmp_path / "fox.json"
    with consistent_gen.share(pipe, "consistory", **OPTIONS) as story:
        for content, named in (
            ("[]", "is not a saved character"),
            ('{"format": "consistent-gen character 1", "name": "fox"}', "does not say subject"),
        ):
            path.write_text(content)
            with pytest.raises(InputError, match=named):
                story.load(path)
    with (
        pytest.raises(UnknownNameError, match="did you mean 'consistory'"),
        consistent_gen.share(pipe, "consistori"),
    ):
        pass
    with (
        pytest.raises(InputError, match="a Linear has no UNet"),
        consistent_gen.share(torch.nn.Linear(1, 1)),
    ):
        pass
