"""CLIP and DINO: real classes of transformers at toy size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    BitImageProcessor,
    CLIPImageProcessor,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    Dinov2Config,
    Dinov2Model,
)

from consistent_gen.encoders import IMAGE_ENCODERS
from consistent_gen.encoders.pretrained import ClipEncoder, DinoEncoder, ImageEncoder
from consistent_gen.errors import CheckpointError
from consistent_gen.registry import resolve

SMALL = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "image_size": 32}
SIZES = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("pretrained")
    config = CLIPVisionConfig(**SMALL, patch_size=8, projection_dim=16, intermediate_size=32)
    CLIPVisionModelWithProjection(config).save_pretrained(root / "clip")
    CLIPImageProcessor(**SIZES).save_pretrained(root / "clip")
    Dinov2Model(Dinov2Config(**SMALL, patch_size=8, mlp_ratio=2)).save_pretrained(root / "dino")
    BitImageProcessor(**SIZES).save_pretrained(root / "dino")
    return {"clip": root / "clip", "dino": root / "dino"}


@pytest.mark.parametrize("name", ["clip", "dino"])
def test_vectors_and_hidden_states(name: str, folders: dict[str, Path]) -> None:
    encoder = resolve(IMAGE_ENCODERS, name)(folders[name])
    assert isinstance(encoder, ImageEncoder)
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (h, 40, 3), np.uint8) for h in (40, 64)]
    vectors, hidden = encoder.embed(pictures), encoder.hidden(pictures)
    assert vectors.shape == (2, encoder.dimensions)
    assert hidden.shape == (2, 1 + 16, encoder.width)
    assert torch.allclose(encoder.embed(pictures[1:]), vectors[1:], atol=1e-5)
    assert not torch.allclose(vectors[0], vectors[1])
    assert not torch.allclose(encoder.hidden(pictures, -1), hidden)
    assert encoder.encoder_id.startswith(f"{name}:")


def test_other_folders_are_refused_in_one_line(folders: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"holds a 'dinov2' model; expected clip"):
        ClipEncoder(folders["dino"])
    with pytest.raises(CheckpointError, match="holds a 'clip_vision_model' model; expected dinov2"):
        DinoEncoder(folders["clip"])
    with pytest.raises(CheckpointError, match="is missing"):
        ClipEncoder(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    with pytest.raises(CheckpointError, match="cannot be read as clip") as caught:
        ClipEncoder(tmp_path)
    assert "\n" not in str(caught.value)
