"""The pair reward's recipe at toy size, its sets, and the network that it makes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from consistent_gen.checkpoints import load_tensors, read_json, write_json
from consistent_gen.encoders.factors import Reading
from consistent_gen.encoders.reader import Reader
from consistent_gen.errors import CheckpointError, InputError
from consistent_gen.rewards import pairing
from consistent_gen.rewards.base import ImageSet
from consistent_gen.rewards.pair_network import KIND, PairNetwork, PairNetworkReward, cost
from consistent_gen.rewards.sight import agreement, main_sights
from consistent_gen.training import pair_reward
from consistent_gen.training.pair_sets import (
    CELLS,
    FAMILY,
    GRIDS,
    PairSets,
    identities,
    true_agreements,
)
from consistent_gen.training.reader import ReaderConfig
from consistent_gen.training.shards import MADE_OF, shard_path
from consistent_gen.training.truth import schema
from consistent_gen.world.spec import identity_held_out

TRAIN, HELD_OUT = PairSets("train"), PairSets("held_out")


@pytest.fixture(scope="module")
def eye(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pairs") / "eye"
    torch.manual_seed(0)
    Reader(schema(), 32, (24, 24)).save(folder)
    return folder


def toy() -> PairNetwork:
    return PairNetwork(Reader(schema(), 32, (24, 24)))


def test_the_recipe_at_toy_size(tmp_path: Path, eye: Path, story_model: Path) -> None:
    config = pair_reward.PairRewardConfig(
        run=tmp_path / "run", sets=tmp_path / "sets", model=story_model, eye=eye, families=2,
        threads=1,
    )  # fmt: skip
    scores = pair_reward.main(config)
    network = PairNetwork.load(config.run / "weights")
    assert scores["learnt"] == 1.0 + len(network.names)
    assert (network.prices >= 0.0).all()
    shard = load_tensors(shard_path(config.sets, 1))
    assert shard["pictures"].shape == (2, FAMILY, 3, 128, 128)
    assert shard["agreement"].shape == (FAMILY, FAMILY)
    written = (config.run / "weights" / "model.safetensors").read_bytes()
    pair_reward.main(config)  # what is drawn is kept, and the same network is found again
    assert (config.run / "weights" / "model.safetensors").read_bytes() == written
    write_json(config.sets / MADE_OF, {"format": pair_reward.FORMAT, "model": "another"})
    with pytest.raises(InputError, match="model"):
        pair_reward.main(config)


def reading(rng: torch.Generator, words: dict[str, str]) -> Reading:
    """Of two pictures, with one figure that fills half of each and has all parts."""
    names = schema()
    subject = {n: torch.randn(2, 3, len(c), generator=rng) for n, c in names.subject.items()}
    for factor, word in words.items():
        subject[factor][..., names.subject[factor].index(word)] = 30.0
    masks, parts = torch.zeros(2, 4, 32, 32), torch.zeros(2, 1 + len(names.parts), 32, 32)
    masks[:, 1, :, :16], masks[:, 0, :, 16:] = 9.0, 9.0
    for k in range(len(names.parts)):
        parts[:, 1 + k, 4 * k : 4 * k + 4] = 9.0
    return Reading(
        present=torch.tensor([[0.9, 0.1, 0.1]] * 2), subject=subject,
        hues=torch.randn(2, 3, len(names.hues), 2, generator=rng),
        scalars=torch.rand(2, 3, len(names.scalars), generator=rng),
        scene={}, masks=masks, parts=parts, features=torch.zeros(2, 1),
    )  # fmt: skip


def test_disagreements_are_those_of_sights(tmp_path: Path) -> None:
    """At equal prices the network's sum is the agreement of factors, and what a picture cannot
    show costs nothing.
    """
    rng = torch.Generator().manual_seed(3)
    network = toy()
    network.save(tmp_path)
    # The order of a schema on disk is another one.
    for one in (network, PairNetwork.load(tmp_path)):
        shown = reading(rng, {"top": "shirt", "pattern": "dots", "accessory": "hat"})
        a, b = one.views(shown)
        apart, seen = (part[0] for part in one.compared(a[None], b[None]))
        first, second = main_sights(shown, schema())
        whole = float(cost(apart, seen, torch.ones(len(seen)))) / len(seen)
        assert 1.0 - whole == pytest.approx(agreement(first, second), abs=0.02)
        covered = reading(rng, {"top": "dress", "pattern": "plain", "accessory": "none"})
        a, b = one.views(covered)
        costs = dict(zip(one.names, one.compared(a[None], b[None])[0][0], strict=True))
        hidden = ("bottom", "bottom_hue", "pattern_hue", "pattern_scale", "accessory_hue")
        assert all(float(costs[name]) < 1e-3 for name in hidden)
        assert float(costs["shoe_hue"]) > 1e-3


def test_prices_are_high_where_factors_tell_who_it_is() -> None:
    """Views in which the first factor names the grid and all others are noise."""
    rng = torch.Generator().manual_seed(5)
    network = toy()
    width = network.views(reading(rng, {})).shape[1]
    views = torch.rand(6, 2, FAMILY, width, generator=rng)
    views[..., -len(network.names) :] = 1.0
    count = len(schema().subject[network.classes[0]])
    for cell in range(FAMILY):
        views[:, :, cell, :count] = torch.eye(count)[cell // CELLS % count]
    grid = torch.arange(FAMILY) // CELLS
    truth = (grid[:, None] == grid[None]).float().expand(6, -1, -1)
    right = pair_reward.learn_prices(network, views, truth, 0, prior=0.003)
    assert right > 0.95
    prices = network.prices.detach()
    assert float(prices[0]) > 5.0 * float(prices[1:].mean())
    # A wrong order costs more than a right one.
    ranks = truth * 3.0
    good, bad = (pair_reward.order_loss(s, truth, 0.02) for s in (ranks, -ranks))
    assert float(good) < 0.1 < float(bad)


def test_the_shipped_form_is_small(tmp_path: Path) -> None:
    network = PairNetwork(Reader(schema(), hidden=ReaderConfig().hidden))
    assert sum(p.numel() for p in network.parameters()) < 2_000_000
    network.save(tmp_path)
    assert sum(p.stat().st_size for p in tmp_path.rglob("*.safetensors")) < 4_000_000
    again = PairNetwork.load(tmp_path)
    assert torch.equal(again.eye.masks.weight, network.eye.masks.weight.half().float())
    told = read_json(tmp_path / "config.json")
    assert told["kind"] == KIND and told["hidden"] == [*ReaderConfig().hidden]
    write_json(tmp_path / "config.json", told | {"factors": ["height"]})
    with pytest.raises(CheckpointError, match="other factors"):
        PairNetwork.load(tmp_path)
    write_json(tmp_path / "config.json", {"kind": "reader"})
    with pytest.raises(CheckpointError, match="holds a 'reader'"):
        PairNetwork.load(tmp_path)


def test_the_network_does_not_know_which_picture_comes_first(tmp_path: Path) -> None:
    toy().save(tmp_path)
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
