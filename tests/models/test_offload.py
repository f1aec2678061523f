"""Weights that wait on the CPU, with accelerate's hooks: the same pictures."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from consistent_gen.draw_settings import DrawSettings
from consistent_gen.engine import Engine, FrameRequest
from consistent_gen.errors import CheckpointError, InputError
from consistent_gen.models import load_backbone
from consistent_gen.models.backbone import Backbone
from consistent_gen.models.offload import OneOnDevice
from consistent_gen.models.tiny_transformers import build_tiny_transformer
from tests.every_run import or_slow
from tests.models.lora_toys import diffusers_file, parts_of, trained


def drawn(model: Backbone, size: tuple[int, int]) -> np.ndarray:
    engine = Engine(model)
    settings = DrawSettings(steps=2, size=size)
    engine.submit(FrameRequest(id="a", prompt="a red fox", seed=1, settings=settings))
    return engine.drain()["a"].image


@pytest.mark.parametrize("family", or_slow(["unet", "flux"], ["unet"]))
def test_pictures_are_the_same_to_the_byte(family: str, tiny_folder: Path, tmp_path: Path) -> None:
    folder, size = tiny_folder, (128, 128)
    if family == "flux":
        folder, size = build_tiny_transformer(tmp_path / "flux", "flux-schnell"), (64, 64)
    layers = trained(parts_of(load_backbone(folder, device="cpu"), "text_encoder"))
    file = diffusers_file(tmp_path / "l.safetensors", layers)
    plain = load_backbone(folder, device="cpu", loras=[file])
    expected = drawn(plain, size)
    for how in ("model", "sequential"):
        model = load_backbone(folder, device="cpu", loras=[file], offload=how)
        devices = {p.device.type for p in model.denoiser.parameters()}
        assert devices == {"meta" if how == "sequential" else "cpu"}
        assert np.array_equal(drawn(model, size), expected)
        assert torch.equal(model.encode(expected[None]), plain.encode(expected[None]))


def test_one_network_at_a_time_is_on_the_device() -> None:
    """On a device that every machine has beside the CPU, on which nothing is computed."""
    networks = [torch.nn.Linear(2, 2) for _ in range(3)]
    hooks = [OneOnDevice(torch.device("meta"), networks) for _ in networks]
    seen = []
    for number in (0, 2, 1, 1):
        hooks[number].pre_forward(networks[number])
        seen.append([n.weight.device.type == "meta" for n in networks])
        networks[number].to_empty(device="cpu")
    assert seen == [[i == number for i in range(3)] for number in (0, 2, 1, 1)]


def test_an_unknown_way_is_refused(tiny_folder: Path) -> None:
    with pytest.raises(InputError, match="'disk'; expected one of model, sequential"):
        load_backbone(tiny_folder, device="cpu", offload="disk")


def test_folders_of_half_precision_alone_load(tiny_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "half"))
    model = load_backbone(tiny_folder, device="cpu")
    for part, network in (("unet", model.denoiser), ("text_encoder", model.text_encoder)):
        for file in (folder / part).glob("*.safetensors*"):
            file.unlink()
        # In several files, as large networks are published.
        shard = "20KB" if part == "unet" else "5GB"
        network.half().save_pretrained(folder / part, variant="fp16", max_shard_size=shard)
    assert len([*(folder / "unet").glob("*.fp16-*.safetensors")]) > 1
    loaded = load_backbone(folder, device="cpu")
    for part, network in (("denoiser", model.denoiser), ("text_encoder", model.text_encoder)):
        own = dict(getattr(loaded, part).named_parameters())
        assert all(torch.equal(own[n], p.float()) for n, p in network.named_parameters()), part
    other = folder / "text_encoder" / "model.ema.safetensors"
    shutil.copy(folder / "text_encoder" / "model.fp16.safetensors", other)
    with pytest.raises(CheckpointError, match="as ema and as fp16; keep one"):
        load_backbone(folder, device="cpu")


def test_a_single_file_is_told_apart(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    file = tmp_path / "big.safetensors"
    xl = "conditioner.embedders.1.model.transformer.resblocks.9.mlp.c_proj.bias"
    first = "model.diffusion_model.input_blocks.0.0.weight"
    for keys, words in (
        ([first], "import StableDiffusionPipeline as P"),
        ([first, xl], "import StableDiffusionXLPipeline as P"),
        (["lora_unet_x.lora_down.weight"], "is a LoRA and no model"),
        (["weight"], "of no family"),
    ):
        save_file({key: torch.zeros(2, 4, 1, 1) for key in keys}, file)
        with pytest.raises(CheckpointError, match=words):
            load_backbone(file)
    file.write_bytes(b"\x00" * 9)
    with pytest.raises(CheckpointError, match="damaged"):
        load_backbone(file)
