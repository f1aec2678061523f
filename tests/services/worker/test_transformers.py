"""A FLUX.1 folder behind the server: planned from its configs, drawn by processes, resumed."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import yaml
from PIL import Image

from consistent_gen.cli import main
from consistent_gen.client import ApiError
from consistent_gen.client.types import JobState, StoryIn
from consistent_gen.engine.metadata import read_png
from consistent_gen.models import load_backbone
from consistent_gen.models.tiny_transformers import build_tiny_transformer
from tests.models.lora_toys import diffusers_file, trained
from tests.services.worker.servers import WorkerProcess, gateway, settings_for, until

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "two_friends.yaml"

# Each process loads torch and a model of its own.
pytestmark = pytest.mark.slow


def example(**fields: object) -> StoryIn:
    said = yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))
    return StoryIn.model_validate(said | {"steps": 6, "size": "64x64", **fields})


def test_the_example_is_drawn_by_whoever_is_left_and_replays(tmp_path: Path) -> None:
    model = build_tiny_transformer(tmp_path / "model", "flux-dev")
    layers = trained({"transformer": load_backbone(model, device="cpu").denoiser})
    lora = diffusers_file(tmp_path / "brush.safetensors", layers)
    said = {"loras": [{"file": f"loras/{lora.name}", "weight": 0.5}]}
    settings = settings_for(
        tmp_path / "data", "engine.lease_s=3", "storage.max_attempts=1000",
        f"engine.loras=[{lora}=0.5]", "engine.offload=model", model=model,
    )  # fmt: skip
    with gateway(settings) as server, server.client() as client:
        info = client.model()
        assert (info.width, info.steps, info.guidance, info.words) == (1024, 28, 3.5, None)
        assert [(one.file, one.weight) for one in info.loras] == [(lora.name, 0.5)]
        with pytest.raises(ApiError, match="retouch does nothing"):
            client.create_story(example(retouch=0.5))
        with pytest.raises(ApiError, match=r"draws with the LoRAs brush.safetensors \(weight 0.5"):
            client.create_story(example(loras=[lora.name]))
        first = WorkerProcess(server.address, settings, "first")
        workers = [first]
        try:
            job = client.create_story(example(**said)).job
            until(lambda: any(f.step for f in client.job(job).frames), "it is being drawn")
            workers.pop().kill()
            workers.append(WorkerProcess(server.address, settings, "second"))
            done = client.wait(job)
            shown = client.create_story(
                example(preview_every=2, frames=[{"prompt": "a red fox"}], characters={})
            ).job
            assert "preview" in [event.type.value for event in client.events(shown)]
        finally:
            for worker in workers:
                worker.kill()
        assert done.state is JobState.succeeded and len(done.frames) == 4
        out = tmp_path / "out"
        assert main(["story", str(EXAMPLE), "--model", str(model), "--out", str(out),
                     "--steps", "6", "--size", "64x64", "--bucket", "4",
                     "--lora", f"{lora}=0.5"]) == 0  # fmt: skip
        for frame in done.frames:
            assert frame.artifact is not None
            data = client.artifact(frame.artifact)
            (tmp_path / "frame.png").write_bytes(data)
            assert main(["replay", str(tmp_path / "frame.png"), "--model", str(model),
                         "--lora", str(lora)]) == 0  # fmt: skip
            drawn, _ = read_png(out / "frames" / f"{frame.index:02}.png")
            with Image.open(io.BytesIO(data)) as picture:
                assert picture.tobytes() == drawn.tobytes()
