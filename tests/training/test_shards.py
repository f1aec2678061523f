"""Shards hold the world's pictures and their truth, and batches keep numbers and pictures
together.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from consistent_gen.checkpoints import load_tensors, read_json, write_json
from consistent_gen.errors import InputError
from consistent_gen.training.shards import (
    MADE_OF,
    available,
    batches,
    claim,
    main,
    pictures_folder,
    shard_path,
)
from consistent_gen.world.dataset import StoryWorld

WORLD = StoryWorld("train")


def load_shard(pictures: Path, world: StoryWorld, number: int) -> dict[str, Tensor]:
    return load_tensors(shard_path(pictures_folder(pictures, world), number))


def test_a_shard_is_the_world_from_its_number(pictures: Path) -> None:
    assert available(pictures_folder(pictures, WORLD)) == [0, 1]
    data = load_shard(pictures, WORLD, 1)
    truth = WORLD.picture(24 + 5)
    assert torch.equal(data["pictures"][5], torch.from_numpy(truth.rgb).permute(2, 0, 1))
    assert torch.equal(data["labels"][5], torch.from_numpy(truth.labels[2::4, 2::4].copy()))


def test_absent_subjects_are_nan(pictures: Path) -> None:
    data = load_shard(pictures, WORLD, 0)
    for i in range(24):
        count = len(WORLD.frame(i).subjects)
        there = ~data["heads"][i].isnan().any(1)
        assert there.tolist() == [k < count for k in range(3)]
        assert not data["keypoints"][i, :count].isnan().any()


def test_batches_keep_pictures_and_their_truth_together(pictures: Path) -> None:
    drawn = [load_shard(pictures, WORLD, n) for n in (0, 1)]
    batch = next(batches(pictures, WORLD, 8, 0, numbers=[0, 1]))
    assert set(batch) == set(drawn[0])
    for i, picture in enumerate(batch["pictures"]):
        (shard, row) = next(
            (data, k)
            for data in drawn
            for k in range(24)
            if torch.equal(data["pictures"][k], picture)
        )
        for name, values in batch.items():
            assert values[i].numpy().tobytes() == shard[name][row].numpy().tobytes(), name


def test_a_batch_is_a_function_of_seed_and_step(pictures: Path) -> None:
    """Also past the end of a round, of which one has five batches of nine of two shards."""
    stream = batches(pictures, WORLD, 9, 3, numbers=[0, 1])
    first = [next(stream)["pictures"] for _ in range(12)]
    for step in (0, 4, 5, 11):
        again = next(batches(pictures, WORLD, 9, 3, numbers=[0, 1], step=step))
        assert torch.equal(again["pictures"], first[step]), step
    other = next(batches(pictures, WORLD, 9, 4, numbers=[0, 1]))
    assert not torch.equal(other["pictures"], first[0])
    with pytest.raises(InputError, match="fewer than a batch of 64"):
        next(batches(pictures, WORLD, 64, 3, numbers=[0, 1]))


def test_shards_of_another_kind_are_refused(pictures: Path, tmp_path: Path) -> None:
    home = pictures_folder(tmp_path, WORLD)
    claim(home, {"size": 128, "format": "a 1"})
    claim(home, {"size": 128, "format": "a 1"})
    with pytest.raises(InputError, match=r"made of size=128, and size=256"):
        claim(home, {"size": 256, "format": "a 1"})
    (home / MADE_OF).unlink()
    shard_path(home, 0).write_bytes(shard_path(pictures_folder(pictures, WORLD), 0).read_bytes())
    for action in (
        lambda: next(batches(tmp_path, WORLD, 8, 0, numbers=[0])),
        lambda: main(["--folder", str(tmp_path), "--shards", "1"]),
    ):
        with pytest.raises(InputError, match="nobody knows what they were made of"):
            action()
    told = read_json(pictures_folder(pictures, WORLD) / MADE_OF)
    write_json(home / MADE_OF, told)
    next(batches(tmp_path, WORLD, 8, 0, numbers=[0]))
    write_json(home / MADE_OF, told | {"words": "others"})
    with pytest.raises(InputError, match="words='others'"):
        next(batches(tmp_path, WORLD, 8, 0, numbers=[0]))
