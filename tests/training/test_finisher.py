"""The finisher: latents drawn anew of known pictures, and what is learnt from them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from consistent_gen.checkpoints import save_tensors
from consistent_gen.errors import InputError
from consistent_gen.models import load_backbone
from consistent_gen.models.patch_autoencoder import PatchAutoencoder, load_autoencoder
from consistent_gen.training.drawn import SETTINGS, draw_rows, redraw
from consistent_gen.training.finisher import FinisherConfig, main, seams, with_finisher
from consistent_gen.training.loop import load_run
from consistent_gen.training.rows import shard_path
from consistent_gen.world.dataset import StoryWorld

WIDTHS = (16, 16, 8)


@pytest.mark.slow
def test_a_latent_drawn_from_later_on_is_nearer_to_the_picture() -> None:
    backbone = load_backbone(None, device="cpu")
    world = StoryWorld("train")
    x = world.tensor(range(2)).float() / 127.5 - 1.0
    scale = float(backbone.vae.config.scaling_factor)
    clean = backbone.vae.latents(x).detach() * scale
    captions = [world.caption(number, 0, share=1.0).text for number in range(2)]
    drawn = {
        start: redraw(backbone, clean, captions, start, 3)
        for start in (SETTINGS.steps - 6, SETTINGS.steps - 1)
    }
    errors = [float((z - clean)[:, :32].square().mean()) for z in drawn.values()]
    assert errors[0] > 1.5 * errors[1] > 0.0
    again = redraw(backbone, clean, captions, SETTINGS.steps - 1, 3)
    assert torch.equal(again, drawn[SETTINGS.steps - 1])
    other = redraw(backbone, clean, captions, SETTINGS.steps - 1, 4)
    assert not torch.equal(other, again)


@pytest.mark.slow
def test_rows_hold_pictures_and_their_drawn_latents() -> None:
    backbone = load_backbone(None, device="cpu")
    rows = draw_rows(backbone, StoryWorld("train"), 1, 2, (SETTINGS.steps - 1, SETTINGS.steps - 1))
    assert torch.equal(rows["pictures"], StoryWorld("train").tensor([2, 3]))
    assert rows["latents"].shape == (2, 50, 16, 16) and rows["numbers"].tolist() == [2, 3]
    x = rows["pictures"].float() / 127.5 - 1.0
    with torch.inference_mode():
        near = (rows["latents"].float()[:, :32] - backbone.vae.project(x)).square().mean()
        far = (rows["latents"].float()[:, :32] - backbone.vae.project(x.flip(0))).square().mean()
    assert near < 0.2 * far


def test_a_fresh_finisher_adds_nothing(vae: Path) -> None:
    plain = load_autoencoder(vae)
    model = with_finisher(plain, WIDTHS).eval()
    x = StoryWorld("held_out").tensor(range(2)).float() / 127.5 - 1.0
    with torch.inference_mode():
        assert torch.equal(model.latents(x), plain.latents(x))
        assert torch.equal(model(x), plain(x))


def test_seams_are_steps_at_the_borders_of_patches() -> None:
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(8, 3, 64, 64, generator=generator)
    assert seams(noise) == pytest.approx(1.0, abs=0.05)
    patches = torch.rand(8, 3, 8, 8, generator=generator).repeat_interleave(8, 2)
    assert seams(noise + 3.0 * patches.repeat_interleave(8, 3)) > 2.0


def disturbed(folder: Path, vae: Path) -> Path:
    """Rows whose latents have an error that agrees within a patch and stops at its border."""
    model = load_autoencoder(vae)
    for number in (0, 1):
        pictures = StoryWorld("train").tensor(range(number * 8, number * 8 + 8))
        with torch.inference_mode():
            z: Tensor = model.latents(pictures.float() / 127.5 - 1.0)
        noise = torch.randn(z.shape, generator=torch.Generator().manual_seed(number))
        save_tensors(
            shard_path(folder, number),
            {"latents": (z + 0.5 * noise).half(), "pictures": pictures, "numbers": torch.zeros(8)},
        )
    return folder


@pytest.mark.slow
def test_it_learns_resumes_and_leaves_everything_else_as_it_was(vae: Path, tmp_path: Path) -> None:
    rows = disturbed(tmp_path / "rows", vae)
    config = FinisherConfig(
        run=tmp_path, rows=rows, vae=vae, out=tmp_path / "vae", widths=WIDTHS, train_s=6.0,
        warmup_s=0.5, halflife_images=20.0, true_share=0.0, threads=1, every_s=2.0,
    )  # fmt: skip
    plain = load_autoencoder(vae)
    data = StoryWorld("train").tensor(range(8))
    x = data.float() / 127.5 - 1.0
    noise = torch.randn(8, 50, 16, 16, generator=torch.Generator().manual_seed(0))
    main(config)
    first = load_run(tmp_path / "checkpoint")
    assert first is not None and first[1]["seen_images"] > 0
    main(replace(config, train_s=6.5))
    model = PatchAutoencoder.from_pretrained(tmp_path / "vae")
    with torch.inference_mode():
        z = plain.latents(x)
        assert torch.equal(model.latents(x), z)
        assert torch.equal(model.decoded(z), plain.pictures(z))
        errors = [(m.pictures(z + 0.5 * noise) - x).square().mean() for m in (plain, model)]
    assert errors[1] < 0.97 * errors[0], "rows it was trained on"
    second = load_run(tmp_path / "checkpoint")
    assert second is not None and second[1]["seen_images"] > first[1]["seen_images"]


def test_too_few_rows_are_refused(vae: Path, tmp_path: Path) -> None:
    (tmp_path / "rows").mkdir()
    config = FinisherConfig(run=tmp_path, rows=tmp_path / "rows", vae=vae)
    with pytest.raises(InputError, match="no rows in"):
        main(config)
    save_tensors(shard_path(tmp_path / "rows", 0), {"latents": torch.zeros(1)})
    with pytest.raises(InputError, match="holds 1 shards, of which 1 are held out"):
        main(config)
