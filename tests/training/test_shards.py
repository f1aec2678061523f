"""Shards hold the world's pictures and their truth, and batches keep numbers and pictures
together.
"""

from __future__ import annotations

import random
from pathlib import Path

import torch

from consistent_gen.training.shards import available, batches, load_shard
from consistent_gen.world.dataset import StoryWorld

WORLD = StoryWorld("train")


def test_a_shard_is_the_world_from_its_number(pictures: Path) -> None:
    assert available(pictures, WORLD) == [0, 1]
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
    batch = next(batches(pictures, WORLD, 8, random.Random(0)))
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
