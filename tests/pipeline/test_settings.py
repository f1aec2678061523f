"""What anchors and readers have in common, by content."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import consistent_gen
from consistent_gen.errors import InputError
from consistent_gen.pipeline.settings import by_content, fingerprint
from tests.every_run import or_slow
from tests.pipeline.toys import OPTIONS, picture, pipe, unet

WITH_WINDOWS = ("consistory", "consistyle", "head_start", "style_aligned")


class Wide(nn.Module):
    """One weight of many numbers, of which float32 cannot count all."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1).expand(29_491_200))


def test_a_models_name_follows_from_its_weights() -> None:
    one, other = nn.Linear(4, 4), nn.Linear(4, 4)
    assert fingerprint(one) == fingerprint(one) != fingerprint(other)
    other.load_state_dict(one.state_dict())
    assert fingerprint(one) == fingerprint(other)
    assert fingerprint(Wide()) is not None
    assert fingerprint(nn.Linear(4, 4, device="meta")) is None


def test_options_by_content() -> None:
    assert by_content({"a": [1, "b", None]}) == {"a": [1, "b", None]}
    assert by_content(picture("red")) == by_content(picture("red")) != by_content(picture("blue"))
    numbers = np.arange(4.0, dtype=np.float32)
    assert by_content(numbers) == by_content(torch.from_numpy(numbers))


def test_a_character_is_refused_by_another_model_and_old_files_open(tmp_path: Path) -> None:
    from diffusers import StableDiffusionPipeline

    tried = pipe(StableDiffusionPipeline)
    path = tmp_path / "fox.json"
    with consistent_gen.share(tried, "head_start", **OPTIONS) as story:
        story.anchor("a red fox", 1, subject="fox").save(path)
    tried.unet = unet()
    with consistent_gen.share(tried, "head_start", **OPTIONS) as story:
        story.load(path)  # equal weights
    tried.unet.conv_in.bias.data += 1.0
    with (
        consistent_gen.share(tried, "head_start", **OPTIONS) as story,
        pytest.raises(InputError, match=r"was saved with model '.*'; this story has '"),
    ):
        story.load(path)
    saved: dict[str, Any] = json.loads(path.read_text())
    for name in ("model", "freeu", "adapter_scales", "image_adapter_scales"):
        del saved["settings"][name]
    path.write_text(json.dumps(saved))
    with consistent_gen.share(tried, "head_start", **OPTIONS) as story:
        assert story.load(path).name == "fox"


def test_pictures_and_masks_belong_to_a_saved_character(tmp_path: Path) -> None:
    from diffusers import StableDiffusionPipeline

    tried, path = pipe(StableDiffusionPipeline), tmp_path / "fox.json"
    mask = {0: torch.ones(4, 4)}
    given: dict[str, Any] = {"pictures": {0: picture("red")}, "masks": mask}
    with consistent_gen.share(tried, "style_aligned", **OPTIONS) as story:
        hero = story.anchor("a red fox", 1, subject="fox", **given)
        expected = story.frame("a fox reading", 3, [hero])
        hero.save(path)
    with consistent_gen.share(tried, "style_aligned", **OPTIONS) as story:
        with pytest.raises(InputError, match="was saved with masks"):
            story.load(path)
        with pytest.raises(InputError, match="was saved with pictures"):
            story.load(path, masks=mask, pictures={0: picture("blue")})
        again = story.load(path, **given)
        assert np.array_equal(story.frame("a fox reading", 3, [again]), expected)


def test_two_with_equal_words_have_a_mention_each() -> None:
    from diffusers import StableDiffusionPipeline

    with consistent_gen.share(pipe(StableDiffusionPipeline), "head_start", **OPTIONS) as story:
        two = [story.anchor("a fox", seed, subject="fox", name=f"fox {seed}") for seed in (1, 2)]
        first, second = story._uses("a red fox and a fox", two)
        assert len(first.tokens) == len(second.tokens) == 1 and first.tokens < second.tokens
        with pytest.raises(InputError, match=r"2 characters are called 'fox', .* says it 1 times"):
            story.frame("a red fox", 3, two)
        assert len(story._uses("a red fox and a fox", two[:1])[0].tokens) == 2


FEW_STEPS = [(method, steps) for method in WITH_WINDOWS for steps in (1, 2, 4)]


@pytest.mark.parametrize("case", or_slow(FEW_STEPS, [("consistory", 1), ("head_start", 4)]))
def test_few_steps_share_too(case: tuple[str, int]) -> None:
    method, steps = case
    from diffusers import StableDiffusionPipeline

    tried = pipe(StableDiffusionPipeline)
    options = OPTIONS | {"num_inference_steps": steps}
    with consistent_gen.share(tried, method, **options) as story:
        count = story.run.recipe.anchors
        prompts = ["a red fox", "a fox sitting"][:count]
        if method == "head_start" and steps == 1:
            with pytest.raises(InputError, match="earlier steps, and one step has none"):
                story.anchor(prompts, [1], subject="fox")
            return
        hero = story.anchor(prompts, list(range(count)), subject="fox")
        plain = story.frame("a fox reading", 3)
        assert not np.allclose(story.frame("a fox reading", 3, [hero]), plain, atol=1e-3)
        looked = any(story.run.recipe.looks(step, steps) for step in range(steps))
        assert looked == method.startswith("consis")
