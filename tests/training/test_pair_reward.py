"""The pair reward's recipe at toy size, its sets, and the network that it makes."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from consistent_gen.checkpoints import load_tensors, save_tensors, write_json
from consistent_gen.encoders.reader import Reader
from consistent_gen.errors import CheckpointError, InputError
from consistent_gen.rewards import pairing
from consistent_gen.rewards.base import ImageSet
from consistent_gen.rewards.pair_network import PairNetwork, PairNetworkReward
from consistent_gen.training import pair_reward
from consistent_gen.training.pair_sets import (
    CELLS,
    FAMILY,
    GRIDS,
    PairSets,
    identities,
    true_agreements,
)
from consistent_gen.training.shards import claim, shard_path
from consistent_gen.training.truth import schema
from consistent_gen.world.spec import identity_held_out

TRAIN, HELD_OUT = PairSets("train"), PairSets("held_out")


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("eye") / "reader"
    torch.manual_seed(0)
    Reader(schema()).save(folder)
    return folder


def toy(folder: Path, reader: Path, vae: Path, images: int = 72) -> pair_reward.PairRewardConfig:
    return pair_reward.PairRewardConfig(
        run=folder / "run", sets=folder / "sets", vae=vae, reader=reader, families=3, images=images,
        batch=24, warmup_images=24, width=16, every_s=0.0, threads=1, device="cpu",
    )  # fmt: skip


def test_the_recipe_at_toy_size(tmp_path: Path, reader: Path, vae: Path) -> None:
    config = toy(tmp_path, reader, vae)
    scores = pair_reward.main(config)
    network = PairNetwork.load(config.run / "weights")
    assert scores["parameters"] == sum(p.numel() for p in network.parameters())
    # The eye is the reader's, and nothing was learnt there.
    theirs = load_tensors(reader / "model.safetensors")
    own = network.state_dict()
    for name in ("stem.0.weight", "stage2.3.narrow.bias"):
        assert torch.equal(own[name], theirs[name].float())
    again = pair_reward.main(config)  # finished: nothing is learnt any more
    assert again["parameters"] == scores["parameters"]
    with pytest.raises(InputError, match="redrawn_share"):
        pair_reward.main(replace(config, redrawn_share=0.0, run=tmp_path / "other"))


def drawn_shards(folder: Path, count: int = 2) -> Path:
    """Families as `benchmarks.pair_families` writes them, with made-up pictures and labels."""
    claim(folder, {"format": pair_reward.DRAWN_FORMAT, "same": 0.9})
    numbers = torch.Generator().manual_seed(4)
    for number in range(count):
        agreement = torch.full((FAMILY, FAMILY), 0.5)
        agreement[:CELLS, :CELLS] = 0.95
        agreement[CELLS:, :CELLS] = agreement[:CELLS, CELLS:] = 0.85
        agreement[-1] = agreement[:, -1] = float("nan")  # nobody is to be seen
        pictures = torch.randint(0, 256, (FAMILY, 3, 128, 128), generator=numbers)
        tensors = {"pictures": pictures.to(torch.uint8), "agreement": agreement}
        save_tensors(shard_path(folder, number), tensors)
    return folder


@pytest.mark.slow
def test_drawn_families_take_part_and_count_as_the_reader_says(
    tmp_path: Path, reader: Path, vae: Path
) -> None:
    network = PairNetwork(schema().parts, 16)
    families = pair_reward.DrawnFamilies(drawn_shards(tmp_path / "drawn"), network)
    low, middle, agreement = families.batch(2, random.Random(1))
    n = 2 * FAMILY
    assert len(low) == len(middle) == n and agreement.shape == (n, n)
    assert (agreement[:FAMILY, FAMILY:] == 0.0).all()
    right = torch.full((n, n), -9.0)
    for first in (0, FAMILY):
        right[first : first + CELLS, first : first + CELLS] = 9.0
    good = families.loss(right, agreement)
    bad = families.loss(-right, agreement)
    assert good["drawn_answer"] < 0.01 < bad["drawn_answer"]
    assert good["drawn_order"] < bad["drawn_order"]
    # What lies between is nobody's label, and who is not to be seen takes no part.
    moved = right.clone()
    moved[CELLS : FAMILY - 1, :CELLS] = moved[:CELLS, CELLS : FAMILY - 1] = 5.0
    moved[FAMILY - 1, :FAMILY] = moved[:FAMILY, FAMILY - 1] = 7.0
    assert torch.equal(families.loss(moved, agreement)["drawn_answer"], good["drawn_answer"])
    config = toy(tmp_path, reader, vae)
    alone = pair_reward.main(config)
    again = replace(
        config, drawn=tmp_path / "drawn", init=config.run / "weights", run=tmp_path / "second"
    )
    assert pair_reward.main(again)["parameters"] == alone["parameters"]
    before, after = (load_tensors(c.run / "weights" / "model.safetensors") for c in (config, again))
    assert not torch.equal(before["compare.0.weight"], after["compare.0.weight"])
    with pytest.raises(InputError, match="no drawn families"):
        empty = tmp_path / "empty"
        claim(empty, {"format": pair_reward.DRAWN_FORMAT, "same": 0.9})
        pair_reward.DrawnFamilies(empty, network)


def test_the_shipped_form_is_small(tmp_path: Path) -> None:
    network = PairNetwork(schema().parts)
    assert sum(p.numel() for p in network.parameters()) < 2_000_000
    network.save(tmp_path)
    assert (tmp_path / "model.safetensors").stat().st_size <= 4_000_000
    write_json(tmp_path / "config.json", {"kind": "reader"})
    with pytest.raises(CheckpointError, match="holds a 'reader'"):
        PairNetwork.load(tmp_path)


def test_the_network_does_not_know_which_picture_comes_first(tmp_path: Path) -> None:
    torch.manual_seed(1)
    PairNetwork(schema().parts, 16).save(tmp_path)
    reward = PairNetworkReward(tmp_path)
    shown = tuple(TRAIN.picture(n).rgb for n in range(5))
    s = reward.similarities(shown)
    assert np.array_equal(s, s.T) and ((s > 0.0) & (s < 1.0)).all()
    values = {reward([ImageSet(pictures=order)]).values[0] for order in (shown, shown[::-1])}
    assert len(values) == 1
    a, b = shown[:2]
    one, other = (reward([ImageSet(pictures=p)]).values[0] for p in ((a, b), (b, a)))
    assert one == other
    assert not reward([ImageSet(pictures=shown[:1])]).valid[0]


@pytest.mark.parametrize("world", [TRAIN, HELD_OUT], ids=["train", "held_out"])
def test_families_share_words_and_drift(world: PairSets) -> None:
    for family in range(6):
        who = identities(world, family)
        assert len(who) == len(set(who)) == GRIDS and len({w.kind for w in who}) == 1
        assert all(identity_held_out(w) == (world.split == "held_out") for w in who)
        agree = true_agreements(world, family)
        assert np.array_equal(agree, agree.T) and (agree.diagonal() == 1.0).all()
        others = agree[~np.eye(GRIDS, dtype=bool)]
        assert others.max() < 1.0
        for place in range(FAMILY):
            (subject,) = world.frame(family * FAMILY + place).subjects
            assert subject.identity == who[place // CELLS]


def test_relations_of_cells() -> None:
    truth = torch.from_numpy(np.stack([true_agreements(TRAIN, n) for n in range(2)]))
    agree, same, family = pair_reward.relations(truth)
    assert agree.shape == (2 * FAMILY, 2 * FAMILY)
    assert int(same.sum()) == 2 * GRIDS * CELLS**2 and int(family.sum()) == 2 * FAMILY**2
    assert (agree[same] == 1.0).all() and (agree[~family] == 0.0).all()
    assert agree[0, CELLS] == truth[0, 0, 1]


def test_cells_are_cut_and_paired_anew() -> None:
    """As PaCo's data: 48 ranking instances of 4 grids of 4 cells."""
    grid = np.arange(8 * 6 * 3, dtype=np.uint8).reshape(8, 6, 3)
    cells = pairing.cut(grid)
    assert np.array_equal(np.vstack([np.hstack(cells[:2]), np.hstack(cells[2:])]), grid)
    with pytest.raises(InputError, match="3 x 2 equal cells"):
        pairing.cut(grid[:, :5], columns=3)
    assert len(pairing.ranking_instances(4, 4)) == 48
    for (grid_number, _), candidates in pairing.ranking_instances(3, 2):
        assert {other for other, _ in candidates} != {grid_number} and len(candidates) == 2
    assert len(pairing.pairs(2, 3)) == 15
