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
from tests.pipeline.toys import OPTIONS, picture, pipe, unet


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
        pytest.raises(InputError, match="was saved with model '.*'; this story has '"),
    ):
        story.load(path)
    saved: dict[str, Any] = json.loads(path.read_text())
    for name in ("model", "freeu", "adapter_scales", "image_adapter_scales"):
        del saved["settings"][name]
    path.write_text(json.dumps(saved))
    with consistent_gen.share(tried, "head_start", **OPTIONS) as story:
        assert story.load(path).name == "fox"
