from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch

from consistent_gen.checkpoints import (
    describe,
    folder_sha256,
    load_tensors,
    read_json,
    save_tensors,
    write_json,
    write_manifest,
)
from consistent_gen.errors import CheckpointError, InputError
from consistent_gen.models import load_backbone
from consistent_gen.models.backbone import Backbone
from consistent_gen.models.tiny import build_tiny
from consistent_gen.story.wording.vocabulary import read_vocabulary


@pytest.fixture
def copy(tiny_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_folder, tmp_path / "model"))


def edit_index(folder: Path, **changes: object) -> None:
    place = folder / "model_index.json"
    place.write_text(json.dumps(json.loads(place.read_text()) | changes))


def test_loads_what_was_built(tiny: Backbone, tiny_folder: Path) -> None:
    assert tiny.name == "tiny"
    assert tiny.sha256 == folder_sha256(tiny_folder)
    assert tiny.denoiser.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    assert not any(p.requires_grad for p in tiny.denoiser.parameters())
    assert not tiny.denoiser.training


def test_building_is_reproducible_and_leaves_the_global_generator(tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    hashes = [folder_sha256(build_tiny(tmp_path / str(i), seed=seed)) for i, seed in
              enumerate((0, 0, 1))]  # fmt: skip
    assert torch.equal(torch.rand(3), expected)
    assert hashes[0] == hashes[1] != hashes[2]


def test_half_precision_files_load_as_float32(copy: Path) -> None:
    whole = load_backbone(copy, device="cpu")
    whole.denoiser.half().save_pretrained(copy / "unet")
    loaded = load_backbone(copy, device="cpu")
    assert loaded.denoiser.dtype == torch.float32
    assert loaded.sha256 != whole.sha256


def test_bfloat16_on_request(tiny_folder: Path) -> None:
    loaded = load_backbone(tiny_folder, device="cpu", dtype="bfloat16")
    assert {p.dtype for p in loaded.denoiser.parameters()} == {torch.bfloat16}
    assert loaded.decode(torch.zeros(1, 16, 16, 16)).shape == (1, 128, 128, 3)
    with pytest.raises(InputError, match="bfloat16"):
        load_backbone(tiny_folder, device="cpu", dtype="bfloat")


def test_default_and_bare_names_come_from_the_weights_folder(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy.rename(copy.parent / "storyworld")
    monkeypatch.setenv("CONSISTENT_GEN_WEIGHTS", str(copy.parent))
    assert load_backbone(device="cpu").name == "storyworld"
    assert load_backbone("storyworld", device="cpu").name == "storyworld"
    with pytest.raises(CheckpointError, match=r"'storyword'.*storyworld"):
        load_backbone("storyword", device="cpu")


def test_an_id_means_what_was_fetched_from_the_hub(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cache holds blobs by hash and, for each revision, a folder of links to them."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    place = tmp_path / "models--owner--fox"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text("0" * 40)
    (place / "blobs").mkdir()
    for number, file in enumerate(p for p in tiny_folder.rglob("*") if p.is_file()):
        blob = place / "blobs" / str(number)
        blob.write_bytes(file.read_bytes())
        link = place / "snapshots" / ("0" * 40) / file.relative_to(tiny_folder)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(blob)
    found = load_backbone("owner/fox", device="cpu")
    assert found.name == "fox" and read_vocabulary("owner/fox").words == found.vocabulary()
    assert found.sha256 == load_backbone(tiny_folder, device="cpu").sha256
    with pytest.raises(CheckpointError, match=r"nor has it been fetched.*hf download owner/wolf"):
        load_backbone("owner/wolf")
    for path in ("owner/no/wolf", "../wolf", "owner/wolf\n"):
        with pytest.raises(CheckpointError, match="no model folder"):
            load_backbone(path)


def test_a_missing_folder_names_its_neighbour(copy: Path) -> None:
    with pytest.raises(CheckpointError, match=r"did you mean .*model"):
        load_backbone(copy.parent / "modle")
    (copy / "model_index.json").unlink()
    with pytest.raises(CheckpointError, match="diffusers format"):
        load_backbone(copy)


def test_weights_of_equal_size_in_their_place_have_another_name(copy: Path) -> None:
    """Whatever the manifest says, and whatever the file's time says."""
    entry = describe(copy.parent, "model", licence="Apache-2.0", command="made up", scores={})
    write_manifest(copy.parent, {"model": entry})
    before = load_backbone(copy, device="cpu")
    assert before.sha256 == entry.sha256
    weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
    size, time = weights.stat().st_size, weights.stat().st_mtime_ns
    before.denoiser.conv_in.weight.data.neg_()
    before.denoiser.save_pretrained(copy / "unet")
    os.utime(weights, ns=(time, time))
    assert weights.stat().st_size == size
    after = load_backbone(copy, device="cpu")
    assert after.sha256 == folder_sha256(copy) != entry.sha256
    (copy / "scheduler" / "more.json").write_text("{}")
    assert load_backbone(copy, device="cpu").sha256 == folder_sha256(copy) != after.sha256


def test_an_unknown_family_is_named(copy: Path) -> None:
    edit_index(copy, _class_name="SanaPipeline")
    with pytest.raises(CheckpointError, match=r"'SanaPipeline': .*linear.*StableDiffusionPipeline"):
        load_backbone(copy)
    edit_index(copy, _class_name="NobodysPipeline")
    with pytest.raises(CheckpointError, match=r"'NobodysPipeline'; the families"):
        load_backbone(copy)


@pytest.mark.parametrize("entry", [["os", "system"], ["builtins", "eval"], "unet", None, [1, 2]])
def test_a_folder_cannot_choose_what_is_imported(copy: Path, entry: object) -> None:
    edit_index(copy, unet=entry)
    with pytest.raises(CheckpointError, match="unet; known classes"):
        load_backbone(copy)


def test_a_unet_that_is_told_its_guidance_is_refused(copy: Path) -> None:
    """As latent consistency models are: drawn without it, they would look well and be wrong."""
    unet = load_backbone(copy, device="cpu").denoiser
    told = type(unet).from_config({**unet.config, "time_cond_proj_dim": 8})
    told.save_pretrained(copy / "unet")
    with pytest.raises(CheckpointError, match=r"time_cond_proj_dim is 8.*`share`"):
        load_backbone(copy, device="cpu")


def test_only_safetensors_are_read(copy: Path) -> None:
    weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(CheckpointError, match=r"no \.safetensors file"):
        load_backbone(copy)


@pytest.mark.parametrize("part", ["unet", "text_encoder"])
def test_a_weight_that_is_missing_is_not_made_up(copy: Path, part: str) -> None:
    file = next((copy / part).glob("*.safetensors"))
    weights = load_tensors(file)
    gone = sorted(weights)[0]
    save_tensors(file, {name: value for name, value in weights.items() if name != gone})
    with pytest.raises(CheckpointError, match=f"{part} lacks 1 of the weights of its .*such as"):
        load_backbone(copy)


@pytest.mark.parametrize("part", ["unet", "text_encoder"])
def test_weights_that_another_package_unpacks_are_refused_in_a_line(copy: Path, part: str) -> None:
    file = copy / part / "config.json"
    said = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    write_json(file, read_json(file) | {"quantization_config": said})
    with pytest.raises(CheckpointError, match=f"{part} cannot be loaded .*quantised") as told:
        load_backbone(copy)
    assert "\n" not in told.value.message


@pytest.mark.parametrize("part", ["unet", "text_encoder", "vae"])
@pytest.mark.parametrize("damage", ["cut", "config", "gone"])
def test_damage_is_reported_with_the_part(copy: Path, part: str, damage: str) -> None:
    weights = next((copy / part).glob("*.safetensors"))
    if damage == "cut":
        weights.write_bytes(weights.read_bytes()[:1000])
    elif damage == "config":
        (copy / part / "config.json").write_text("{")
    else:
        shutil.rmtree(copy / part)
    with pytest.raises(CheckpointError, match=part):
        load_backbone(copy)
