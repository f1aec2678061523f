"""Rows hold what the world says of their pictures, and batches keep it together."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from consistent_gen.checkpoints import load_tensors
from consistent_gen.errors import InputError
from consistent_gen.models.patch_autoencoder import PatchAutoencoder
from consistent_gen.models.words import word_tokenizer
from consistent_gen.training.probes import IGNORE, heads_cross_entropy
from consistent_gen.training.rows import RowPool, draw_rows, main, rows_inputs
from consistent_gen.training.semantic_code import semantic_code
from consistent_gen.training.shards import MADE_OF, draw_shard, shard_path
from consistent_gen.training.truth import schema
from consistent_gen.world.captions import vocabulary, words_of
from consistent_gen.world.dataset import StoryWorld

CPU = torch.device("cpu")


def test_rows_are_what_the_world_says(rows: Path, vae: Path) -> None:
    world, found = StoryWorld("train"), load_tensors(shard_path(rows, 1))
    assert {len(values) for values in found.values()} == {16}
    numbers = range(16, 32)
    x = world.tensor(numbers).float() / 127.5 - 1.0
    z = PatchAutoencoder.from_pretrained(vae).project(x).detach()
    assert torch.allclose(found["latents"][:, :32].float(), z, atol=0.02)
    data = draw_shard(world, 1, 16)
    assert torch.allclose(
        found["latents"][:, 32:].float(), semantic_code(world, numbers, data), atol=0.01
    )
    classes = list(schema().subject)
    for row, number in enumerate(numbers):
        for k, actor in enumerate(world.frame(number).subjects):
            kind = found["factors"][row, k, classes.index("kind")]
            assert schema().subject["kind"][int(kind)] == actor.identity.kind


def test_the_first_half_of_the_captions_names_all_that_can_be_named(rows: Path) -> None:
    found = load_tensors(shard_path(rows, 0))
    named = (found["phrase"] != IGNORE).sum((2, 3)) + (found["said"] != IGNORE).sum(2)  # n v
    assert (named[:, :2].sum(1) > named[:, 2:].sum(1)).float().mean() > 0.8
    tokenizer = word_tokenizer(vocabulary(), max_tokens=64)
    for row in range(16):
        for version in range(4):
            text = tokenizer.decode(found["tokens"][row, version].long(), skip_special_tokens=True)
            assert int(found["text_end"][row, version]) == 1 + len(words_of(text))


def test_batches_keep_groups_and_their_truth_together(paired_rows: Path) -> None:
    pool = RowPool(paired_rows, CPU, {"pairs": True}, group=2)
    assert pool.refresh() == pool.refresh() == 32
    known = torch.cat([load_tensors(shard_path(paired_rows, n))["latents"] for n in (0, 1)])
    tokens = torch.cat([load_tensors(shard_path(paired_rows, n))["tokens"] for n in (0, 1)])
    generator = torch.Generator().manual_seed(0)
    silent = full = 0
    seen: set[int] = set()
    for _ in range(40):
        batch = pool.batch(8, generator, drop=0.25, full=1.0)
        same = (batch["latents"][:, None] == known[None]).flatten(2).all(-1)
        index = same.float().argmax(1)
        assert same.any(1).all() and torch.equal(index[1::2], index[::2] + 1)
        assert not (index[::2] % 2).any()
        seen.update(index.tolist())
        quiet = batch["text_end"] == 0
        assert torch.equal(quiet[::2], quiet[1::2])
        assert (batch["said"][quiet] == IGNORE).all() and (batch["phrase"][quiet] == IGNORE).all()
        match = (tokens[index] == batch["tokens"][:, None]).all(-1)  # b v
        assert match[~quiet][:, :2].any(1).all(), "full captions only"
        assert not match[quiet].any()
        silent, full = silent + int(quiet.sum()), full + len(quiet)
    assert seen == set(range(32)) and 0.12 < silent / full < 0.4


def test_shards_that_appear_later_are_taken_in(rows: Path, vae: Path, tmp_path: Path) -> None:
    inputs = rows_inputs(PatchAutoencoder.from_pretrained(vae))
    with pytest.raises(InputError, match=r"training\.rows --folder"):
        RowPool(tmp_path, CPU, inputs).follow({})
    shutil.copyfile(rows / MADE_OF, tmp_path / MADE_OF)
    shard_path(tmp_path, 0).write_bytes(shard_path(rows, 0).read_bytes())
    pool = RowPool(tmp_path, CPU, inputs)
    facts: dict[str, Any] = {}
    pool.follow(facts)
    assert pool.size == 16
    shard_path(tmp_path, 1).write_bytes(shard_path(rows, 1).read_bytes())
    assert pool.refresh() == 32
    generator = torch.Generator().manual_seed(0)
    latents = pool.batch(64, generator, drop=0.0, full=0.0)["latents"]
    for number in (0, 1):
        kept = load_tensors(shard_path(rows, number))["latents"]
        assert (latents[:, None] == kept[None]).flatten(2).all(-1).any()
    assert facts == {"shards": [0, 1]}
    # A run that goes on takes what it had, not what has appeared since.
    pool = RowPool(tmp_path, CPU, inputs)
    pool.follow({"shards": [1]})
    assert pool.size == 16 and torch.equal(pool.rows["latents"][:16], kept)


def test_rows_of_another_autoencoder_are_refused(rows: Path, vae: Path, tmp_path: Path) -> None:
    """Of another map to components: another decoder reads the same latents."""
    model = PatchAutoencoder.from_pretrained(vae)
    model.decoder[0].weight.data.mul_(2.0)
    RowPool(rows, CPU, rows_inputs(model.half())).follow({})
    model.project[1].weight.data.mul_(2.0)
    with pytest.raises(InputError, match=r"made of latents=.*name another folder"):
        RowPool(rows, CPU, rows_inputs(model)).follow({})
    model.save_pretrained(tmp_path / "vae")
    before = sorted(rows.iterdir())
    options = ["--folder", str(rows), "--vae", str(tmp_path / "vae"), "--shards", "3"]
    with pytest.raises(InputError, match=r"made of count=16"):
        main(options)
    with pytest.raises(InputError, match=r"made of latents="):
        main([*options, "--count", "16"])
    assert sorted(rows.iterdir()) == before


def test_rows_are_the_same_each_time(vae: Path) -> None:
    world, model = StoryWorld("train", pairs=True), PatchAutoencoder.from_pretrained(vae)
    first, again = (draw_rows(world, model, 3, 4, versions=2) for _ in range(2))
    for name, values in first.items():
        assert torch.equal(values.nan_to_num(-1.0), again[name].nan_to_num(-1.0)), name


@pytest.mark.slow
def test_the_command_draws_what_is_missing(
    vae: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("consistent_gen.training.rows.COUNT", 4)
    options = ["--folder", str(tmp_path), "--vae", str(vae), "--shards", "2", "--processes", "1"]
    main(options)
    before = shard_path(tmp_path, 0).stat().st_mtime_ns
    assert len(load_tensors(shard_path(tmp_path, 1))["latents"]) == 4
    main(options)
    assert shard_path(tmp_path, 0).stat().st_mtime_ns == before


def test_heads_side_by_side_are_single_cross_entropies() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(5, 3, 9, generator=generator).requires_grad_()
    wanted = torch.stack([torch.randint(n, (5, 3), generator=generator) for n in (2, 4, 3)], -1).to(
        torch.int8
    )
    wanted[0, 1, 2] = IGNORE
    found = heads_cross_entropy(logits, [2, 4, 3], wanted)
    for head, part in enumerate(logits.split([2, 4, 3], dim=-1)):
        expected = torch.nn.functional.cross_entropy(
            part.flatten(0, 1), wanted[..., head].flatten().long(),
            ignore_index=IGNORE, reduction="none",
        )  # fmt: skip
        assert torch.allclose(found[..., head].flatten(), expected, atol=1e-6)
    assert found[0, 1, 2] == 0.0
    found.sum().backward()
    assert logits.grad is not None and bool(torch.isfinite(logits.grad).all())
    assert not logits.grad[0, 1, 6:].any()
