"""Guidance away from rows whose self-attention is the identity (arXiv 2403.17377)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from consistent_gen.attention.identity import IdentityAttention
from consistent_gen.attention.patch import attached
from consistent_gen.checkpoints import write_json
from consistent_gen.diffusion.unet import UNetSeam
from consistent_gen.draw_settings import DrawSettings
from consistent_gen.engine import Engine, FrameDone, FrameRequest, replay
from consistent_gen.errors import CheckpointError
from consistent_gen.models import load_backbone
from consistent_gen.models.backbone import Backbone
from consistent_gen.models.pretrained import RECOMMENDED
from consistent_gen.models.tiny import build_tiny

FOX = FrameRequest(
    prompt="a red fox", seed=5, settings=DrawSettings(steps=4, guidance=3.0, size=(96, 160))
)


class Identity:
    """The oracle: a processor of diffusers' kind that returns the values."""

    def __call__(self, attn: Any, hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:
        values: Tensor = attn.to_out[0](attn.to_v(hidden_states))
        return values


def picture(backbone: Backbone, request: FrameRequest) -> FrameDone:
    return next(e for e in Engine(backbone).run([request]) if isinstance(e, FrameDone))


def test_the_named_rows_have_identity_maps_and_the_others_their_own_bytes(tiny: Backbone) -> None:
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(3, *tiny.latent_shape(96, 160), generator=generator)
    times = torch.tensor([700, 300, 300])
    one = tiny.condition("a red fox", (96, 160))
    tokens = torch.stack([one.tokens] * 3)
    with torch.inference_mode():
        plain = tiny.denoise(latents, times, tokens, {})
        with attached(tiny.denoiser, IdentityAttention(tiny.denoiser, [1])):
            found = tiny.denoise(latents, times, tokens, {})
        before = dict(tiny.denoiser.attn_processors)
        own = {
            name: Identity()
            if name.endswith("attn1.processor") and not name.startswith("down")
            else processor
            for name, processor in before.items()
        }
        assert 0 < sum(isinstance(p, Identity) for p in own.values()) < len(own) / 2
        tiny.denoiser.set_attn_processor(own)
        expected = tiny.denoise(latents, times, tokens, {})
        tiny.denoiser.set_attn_processor(before)
        again = tiny.denoise(latents, times, tokens, {})
    assert torch.equal(found[[0, 2]], plain[[0, 2]])
    assert torch.allclose(found[1], expected[1], atol=1e-5)
    assert not torch.allclose(found[1], plain[1], atol=1e-3)
    assert torch.equal(again, plain), "the model is as it was"


def test_it_takes_the_turn_of_every_second_step(
    tiny: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    scales: list[float] = []

    guide = UNetSeam.guide

    def recorded(self: UNetSeam, cond: Tensor, uncond: Tensor, scale: float) -> Tensor:
        scales.append(scale)
        return guide(self, cond, uncond, scale)

    monkeypatch.setattr(UNetSeam, "guide", recorded)
    picture(tiny, FOX.with_settings(contours=2.0))
    assert scales == [3.0, 2.0, 3.0, 2.0]
    scales.clear()
    picture(tiny, FOX)
    assert scales == [3.0] * 4


def test_without_guidance_it_does_nothing(tiny: Backbone) -> None:
    plain = FOX.with_settings(guidance=1.0)
    assert np.array_equal(
        picture(tiny, plain).image, picture(tiny, plain.with_settings(contours=3.0)).image
    )


def test_a_folder_recommends_and_a_request_decides(tmp_path: Path) -> None:
    folder = build_tiny(tmp_path / "tiny")
    plain = load_backbone(folder, device="cpu")
    write_json(folder / RECOMMENDED, {"contours": 2.0, "guidance_rescale": 0.5})
    advised = load_backbone(folder, device="cpu")
    assert advised.sha256 != plain.sha256, "it draws other pictures, so it is another model"
    asked = FOX.with_settings(contours=2.0, guidance_rescale=0.5)
    left = picture(advised, FOX)
    assert np.array_equal(left.image, picture(plain, asked).image)
    assert (left.metadata["contours"], left.metadata["guidance_rescale"]) == (2.0, 0.5)
    off = picture(advised, FOX.with_settings(contours=0.0, guidance_rescale=0.0))
    assert np.array_equal(off.image, picture(plain, FOX).image)
    assert replay(left.image, left.metadata, advised).verdict == "identical"
    assert replay(off.image, off.metadata, advised).verdict == "identical"


def test_older_pictures_had_no_contours(tiny: Backbone) -> None:
    drawn = picture(tiny, FOX)
    old = {name: value for name, value in drawn.metadata.items() if name != "contours"}
    assert replay(drawn.image, old, tiny).verdict == "identical"


@pytest.mark.parametrize(
    "content",
    [[], {"contours": "2"}, {"contours": True}, {"contours": -1}, {"guidance_rescale": 2},
     {"seed": 5}],
    ids=str,
)  # fmt: skip
def test_odd_recommendations_are_refused(tmp_path: Path, content: object) -> None:
    folder = build_tiny(tmp_path / "tiny")
    write_json(folder / RECOMMENDED, content)
    with pytest.raises(CheckpointError, match=r"contours \(0 to 100\)"):
        load_backbone(folder, device="cpu")
