"""Stories with LoRA files: what diffusers draws with them, under every way of sharing."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from consistent_gen import runtime
from consistent_gen.draw_settings import DrawSettings
from consistent_gen.engine import Engine, FrameDone, FrameRequest
from consistent_gen.engine.replaying import replay
from consistent_gen.errors import InputError
from consistent_gen.models import load_backbone
from consistent_gen.models.backbone import Backbone
from consistent_gen.models.loras import LoraFile
from consistent_gen.models.tiny_transformers import build_tiny_transformer
from consistent_gen.story.cast import Cast
from consistent_gen.story.plan import Overrides, plan_story
from consistent_gen.story.script import parse_story
from tests.models.lora_toys import diffusers_file, parts_of, trained
from tests.models.stock import stock_pipeline

WEIGHT = 0.6
STORY = """\
title: Two
seed: 3
steps: 3
size: {size}
characters: {{Mia: a girl with a red hat, Bo: a small bear}}
frames: ["{{Mia}} reading in a city", "{{Mia}} and {{Bo}}"]
"""


@pytest.fixture(scope="module")
def flux_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_transformer(tmp_path_factory.mktemp("models") / "flux", "flux-schnell")


def lora_for(folder: Path, place: Path) -> Path:
    layers = trained(parts_of(load_backbone(folder, device="cpu"), "text_encoder"))
    return diffusers_file(place / "l.safetensors", layers)


def pictures(model: Backbone, method: str, size: str) -> dict[int, np.ndarray]:
    plan = plan_story(parse_story(STORY.format(size=size)), model, Overrides(method=method))
    engine = Engine(model)
    cast = Cast(plan, engine)
    for frame in plan.frames:
        cast.draw(frame)
    done = [event for event in engine.drain().values() if isinstance(event, FrameDone)]
    return {int(event.metadata["story"]["frame"]): event.image for event in done}


@pytest.mark.parametrize("kind", ["unet", "flux"])
def test_a_frame_is_that_of_diffusers_own_pipeline(
    kind: str, tiny_folder: Path, flux_folder: Path, tmp_path: Path
) -> None:
    folder, size = (tiny_folder, (128, 128)) if kind == "unet" else (flux_folder, (64, 64))
    file = lora_for(folder, tmp_path)
    model = load_backbone(folder, device="cpu", loras=[LoraFile(path=file, weight=WEIGHT)])
    guidance = 2.0 if kind == "unet" else 1.0
    settings = DrawSettings(steps=4, size=size, guidance=guidance)
    engine = Engine(model)
    engine.submit(FrameRequest(id="one", prompt="a red fox", seed=3, settings=settings))
    (state,) = engine.frames
    engine.drain()

    pipe = stock_pipeline(folder)
    pipe.load_lora_weights(str(file), adapter_name="x")
    noise = torch.randn(model.latent_shape(*size), generator=runtime.generator(3, "latent"))
    said: dict[str, Any] = {"max_sequence_length": 256} if kind == "flux" else {}

    def theirs(weight: float) -> torch.Tensor:
        pipe.set_adapters("x", weight)
        found = pipe(
            "a red fox", height=size[1], width=size[0], num_inference_steps=4,
            guidance_scale=guidance, latents=model.seam.row(pipe, noise)[None],
            output_type="latent", **said,
        ).images  # fmt: skip
        if kind == "flux":
            found = pipe._unpack_latents(found, size[1], size[0], pipe.vae_scale_factor)
        return torch.as_tensor(found[0])

    assert state.latent is not None
    assert (state.latent - theirs(WEIGHT)).abs().max() <= 1e-4
    assert (state.latent - theirs(0.0)).abs().max() > 1e-2, "the LoRA decides something"


@pytest.mark.parametrize(
    ("kind", "method"),
    [
        ("flux", "style_aligned"),
        # On a UNet `attention/test_composition` holds it in every run.
        pytest.param("unet", "consistory", marks=pytest.mark.slow),
        pytest.param("unet", "consistyle", marks=pytest.mark.slow),
        pytest.param("unet", "story_diffusion", marks=pytest.mark.slow),
        pytest.param("flux", "consistory", marks=pytest.mark.slow),
    ],
)
def test_sharing_reads_what_the_layers_project_with_it(
    kind: str, method: str, tiny_folder: Path, flux_folder: Path, tmp_path: Path
) -> None:
    """As with a folder in whose own weights the LoRA stands."""
    folder, size = (tiny_folder, "128x128") if kind == "unet" else (flux_folder, "64x64")
    file = lora_for(folder, tmp_path)
    model = load_backbone(folder, device="cpu", loras=[LoraFile(path=file, weight=WEIGHT)])
    merged = Path(shutil.copytree(folder, tmp_path / folder.name))
    pipe = stock_pipeline(folder)
    pipe.load_lora_weights(str(file), adapter_name="x")
    pipe.set_adapters("x", WEIGHT)
    pipe.fuse_lora(components=[model.seam.part, "text_encoder"])
    pipe.unload_lora_weights()
    for part in (model.seam.part, "text_encoder"):
        shutil.rmtree(merged / part)
        getattr(pipe, part).save_pretrained(merged / part)
    found = pictures(model, method, size)
    expected = pictures(load_backbone(merged, device="cpu"), method, size)
    alone = pictures(model, "vanilla", size)
    worst = [np.abs(found[i].astype(int) - expected[i].astype(int)).max() for i in (0, 1)]
    assert max(worst) <= 2, worst  # of 255
    assert any(not np.array_equal(found[i], alone[i]) for i in (0, 1))


def test_a_story_is_drawn_with_its_own_files_alone(tiny_folder: Path, tmp_path: Path) -> None:
    file = lora_for(tiny_folder, tmp_path)
    story = parse_story(f"title: A\nloras:\n- file: {file.name}\n  weight: 0.5\nframes: [a cat]\n")
    plain = load_backbone(tiny_folder, device="cpu")
    whole, half = (
        load_backbone(tiny_folder, device="cpu", loras=[LoraFile(path=file, weight=weight)])
        for weight in (1.0, 0.5)
    )
    for model, has in ((plain, "none"), (whole, r"[0-9a-f]{10} \(weight 1\)")):
        with pytest.raises(InputError, match=f"was loaded with {has}; load it") as told:
            plan_story(story, model, folder=tmp_path)
        assert told.value.line == 2
    plan_story(story, half, folder=tmp_path)
    with pytest.raises(InputError, match="there is no LoRA file"):
        plan_story(story, half)


def test_replay_wants_the_same_files(tiny_folder: Path, tmp_path: Path) -> None:
    file = lora_for(tiny_folder, tmp_path)
    plain = load_backbone(tiny_folder, device="cpu")
    model = load_backbone(tiny_folder, device="cpu", loras=[file])
    engine = Engine(model)
    settings = DrawSettings(steps=2)
    engine.submit(FrameRequest(id="one", prompt="a red fox", seed=3, settings=settings))
    done = engine.drain()["one"]
    record = {"sha256": model.loras[0].sha256, "weight": 1.0}
    assert done.metadata["model"] == {
        "name": "tiny", "sha256": plain.sha256, "loras": [record],
    }  # fmt: skip
    assert replay(done.image, done.metadata, model).verdict == "identical"
    with pytest.raises(InputError, match=f"drawn with the LoRA {record['sha256'][:10]}"):
        replay(done.image, done.metadata, plain)
    without = {**done.metadata, "model": {"name": "tiny", "sha256": plain.sha256}}
    with pytest.raises(InputError, match="which the picture was not drawn with"):
        replay(done.image, without, model)
    for wrong in ("x", [1], [{"sha256": "ab"}], [{"sha256": "ab", "weight": True}]):
        with pytest.raises(InputError, match="a wrong LoRA"):
            replay(done.image, {**without, "model": {"loras": wrong}}, model)
