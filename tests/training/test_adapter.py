"""Rows for adapters say who is who; the recipe learns an arm and leaves the denoiser alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from consistent_gen.adapters.story_world import DENOISER
from consistent_gen.checkpoints import file_sha256, load_tensors, read_json, weights_folder
from consistent_gen.errors import InputError, UnknownNameError
from consistent_gen.models import load_backbone
from consistent_gen.models.story_world import MAX_TOKENS
from consistent_gen.models.words import word_tokenizer
from consistent_gen.story.identity import story_adapter
from consistent_gen.training import adapter
from consistent_gen.training.adapter_rows import adapter_row_maker
from consistent_gen.training.shards import shard_path
from consistent_gen.world.captions import vocabulary
from consistent_gen.world.dataset import StoryWorld
from consistent_gen.world.phrases import KIND_NOUNS

WORLD = StoryWorld("train", pairs=True)


def config(folder: Path, model: Path, rows: Path) -> adapter.AdapterConfig:
    return adapter.AdapterConfig(
        run=folder / "run", out=folder / "adapter", model=model, rows=rows, images=8, batch=4,
        reader=weights_folder("reader"), warmup_images=4, every_s=1e9, device="cpu",
    )  # fmt: skip


def test_rows_say_who_is_who_and_leave_the_characters_open(adapter_rows: Path) -> None:
    rows = load_tensors(shard_path(adapter_rows, 0))
    tokenizer = word_tokenizer(vocabulary(), max_tokens=MAX_TOKENS)
    for n in range(8):
        own, other = (WORLD.frame(k).subjects for k in (n, n ^ 1))
        for slot, theirs in enumerate(rows["partner"][n].tolist()):
            if theirs >= 0:
                assert own[slot].identity == other[theirs].identity
        told = [
            tokenizer.decode(rows[name][n, 0].long(), skip_special_tokens=True)
            for name in ("open", "full")
        ]
        assert len(told[0].split()) < len(told[1].split())
        for actor in own:
            assert any(noun in told[0] for noun in KIND_NOUNS[actor.identity.kind])
    assert set(rows["seen"].unique().tolist()) <= {0, 1} and rows["seen"].sum() >= 8


def test_the_arm_is_learnt_for_this_denoiser(
    tmp_path: Path, story_model: Path, adapter_rows: Path
) -> None:
    settings = config(tmp_path, story_model, adapter_rows)
    before = file_sha256(story_model / DENOISER)
    adapter.main(settings)
    assert file_sha256(story_model / DENOISER) == before
    made = read_json(settings.out / "config.json")
    assert made["arm"] == "people" and made["denoiser"] == before
    found = story_adapter(load_backbone(story_model, device="cpu"), settings.out)
    assert found is not None
    learnt = found.adapter.projector.pos_embed  # zero at the start
    assert bool(torch.any(learnt != 0.0))
    more = replace(settings, init=settings.out, run=tmp_path / "more", out=tmp_path / "again")
    adapter.main(more)
    assert read_json(more.out / "config.json") == made


def test_what_is_asked_for_has_to_be_there(
    tmp_path: Path, story_model: Path, adapter_rows: Path, vae: Path
) -> None:
    settings = config(tmp_path, story_model, adapter_rows)
    with pytest.raises(UnknownNameError, match="adapter of the story world"):
        adapter.main(replace(settings, arm="peple"))
    with pytest.raises(InputError, match="no rows"):
        adapter.main(replace(settings, rows=tmp_path / "nowhere"))
    with pytest.raises(InputError, match="made of count"):
        adapter_row_maker(adapter_rows, vae, weights_folder("reader"), count=16)
