"""Every recipe runs at toy size and leaves weights that load."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from consistent_gen.encoders.judge import Judge
from consistent_gen.encoders.reader import Reader
from consistent_gen.errors import InputError
from consistent_gen.models.patch_autoencoder import PatchAutoencoder
from consistent_gen.models.story_world import StoryWorldConfig
from consistent_gen.training import (
    autoencoder,
    denoising,
    reader,
    semantics,
    story_model,
)
from consistent_gen.training.loop import load_run
from consistent_gen.training.probes import IGNORE
from consistent_gen.training.truth import schema, truth
from consistent_gen.world.dataset import StoryWorld
from consistent_gen.world.painter import label

TOY = StoryWorldConfig(
    widths=(16, 16, 32), heads=(1, 1, 1), text_width=32, text_layers=1, text_heads=1
)


@pytest.mark.slow
def test_autoencoder(pictures: Path, tmp_path: Path) -> None:
    config = autoencoder.AutoencoderConfig(
        run=tmp_path,
        out=tmp_path / "vae",
        pictures=pictures,
        images=32,
        batch=4,
        threads=1,
        measured=8,
    )
    quality = autoencoder.main(config)
    assert quality > 20.0  # the linear maps alone give more than that
    model = PatchAutoencoder.from_pretrained(tmp_path / "vae")
    # A second decoder over the same maps leaves every latent as it was.
    again = replace(config, run=tmp_path / "b", out=tmp_path / "b" / "vae", maps=tmp_path / "vae")
    autoencoder.main(replace(again, seed=5, images=8))
    x = StoryWorld("held_out").tensor(range(1)).float() / 127.5 - 1.0
    with torch.inference_mode():
        second = PatchAutoencoder.from_pretrained(tmp_path / "b" / "vae")
        assert torch.equal(model.latents(x), second.latents(x))
    assert autoencoder.psnr(model, StoryWorld("held_out").tensor(range(8))) == pytest.approx(
        quality
    )


# Two processes import everything anew each time they start.
@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.filterwarnings("ignore:.*should be kept in float32.*")
def test_story_model_trains_resumes_and_loads(
    rows: Path, vae: Path, tmp_path: Path, processes: int
) -> None:
    config = story_model.StoryModelConfig(
        run=tmp_path, out=tmp_path / "storyworld", rows=rows, vae=vae, model=TOY, images=8,
        batch=4, processes=processes,
    )  # fmt: skip
    story_model.main(config)
    first = load_run(tmp_path / "checkpoint")
    assert first is not None and first[1]["seen_images"] >= 4 * processes
    story_model.main(replace(config, images=16))
    second = load_run(tmp_path / "checkpoint")
    assert second is not None and second[1]["seen_images"] > first[1]["seen_images"]

    from diffusers import StableDiffusionPipeline

    folder = tmp_path / "storyworld"
    pipe = StableDiffusionPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(0)
    picture = pipe("a fox in the forest", num_inference_steps=2, generator=generator).images[0]
    assert picture.size == (128, 128)


@pytest.mark.slow
def test_semantics_leave_everything_else_as_it_was(rows: Path, vae: Path, tmp_path: Path) -> None:
    old = PatchAutoencoder(decoder_widths=(16, 8), decoder_blocks=(1, 1))
    old.load_state_dict(PatchAutoencoder.from_pretrained(vae).state_dict(), strict=False)
    old.save_pretrained(tmp_path / "vae")
    x = StoryWorld("held_out").tensor(range(2)).float() / 127.5 - 1.0
    untrained = semantics.unexplained(semantics.grown(old), 8)
    share = semantics.main(
        semantics.SemanticsConfig(
            run=tmp_path,
            vae=tmp_path / "vae",
            rows=rows,
            out=tmp_path / "grown",
            images=320,
            warmup_images=16,
            batch=8,
            halflife_images=20.0,
            measured=8,
        )
    )
    assert share < untrained
    model = PatchAutoencoder.from_pretrained(tmp_path / "grown")
    with torch.inference_mode():
        z = model.latents(x)
        assert torch.equal(z[:, :32], old.latents(x)) and z[:, 32:].any()
        assert torch.equal(model.pictures(z), old.pictures(old.latents(x)))


def test_an_autoencoder_without_semantics_is_refused(vae: Path, tmp_path: Path) -> None:
    plain = PatchAutoencoder(decoder_widths=(16, 8), decoder_blocks=(1, 1))
    plain.save_pretrained(tmp_path / "vae")
    config = story_model.StoryModelConfig(run=tmp_path, vae=tmp_path / "vae", processes=1)
    with pytest.raises(InputError, match="train semantics"):
        story_model.main(config)
    with pytest.raises(InputError, match=r"no autoencoder in .*vae=weights"):
        story_model.main(replace(config, vae=tmp_path))
    with pytest.raises(InputError, match=r"no autoencoder in"):
        reader.main(reader.ReaderConfig(run=tmp_path, vae=tmp_path))


def test_heads_weigh_most() -> None:
    labels = torch.zeros(1, 32, 32, dtype=torch.uint8)
    labels[0, :8, :8] = label(0, "face")
    labels[0, 8:16, :8] = label(1, "top")
    weight = denoising.loss_weights(labels, 1.5, 3.0)[0, 0]
    assert weight.mean() == pytest.approx(1.0)
    assert weight[0, 0] / weight[15, 15] == pytest.approx(3.0)
    assert weight[5, 0] / weight[15, 15] == pytest.approx(1.5)


@pytest.mark.slow
@pytest.mark.parametrize("judge", [False, True])
@pytest.mark.filterwarnings("ignore:.*should be kept in float32.*")
def test_reader(pictures: Path, vae: Path, tmp_path: Path, judge: bool) -> None:
    config = reader.ReaderConfig(
        judge=judge, run=tmp_path, vae=vae, pictures=pictures, images=16, batch=8,
        width=32, threads=1, measured=16,
    )  # fmt: skip
    scores = reader.main(config)
    assert {"kind", "place", "style", "count", "top_hue_error", "height_error"} <= set(scores)
    network = (Judge if judge else Reader).load(tmp_path / "weights")
    x = StoryWorld("held_out").tensor(range(2))
    with torch.inference_mode():
        reading = network(x)
    assert reading.subject["kind"].shape == (2, 3, 10)
    assert torch.isfinite(reading.hues).all()


def test_what_cannot_be_seen_is_left_out() -> None:
    world = StoryWorld("train")
    numbers = list(range(40))
    labels = torch.zeros(40, 32, 32, dtype=torch.uint8)  # nothing is seen
    target = dict(truth(world, numbers, labels))
    factors = dict(zip(schema().subject, target["factors"].unbind(-1), strict=True))
    assert (factors["shoes"] == IGNORE).all()
    assert target["hues"].isnan().all()
    assert (factors["kind"][:, 0] != IGNORE).all()
    assert torch.equal(target["present"].bool(), factors["kind"] != IGNORE)
