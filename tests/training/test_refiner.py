"""The second stage's rows, its crops, the score that it learns by, and the recipe at toy size."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from consistent_gen.checkpoints import load_tensors
from consistent_gen.engine.schedulers import RETOUCH_AT
from consistent_gen.errors import InputError
from consistent_gen.models.refiner import load_refiner
from consistent_gen.training import refiner
from consistent_gen.training.loop import load_run
from consistent_gen.training.refiner import (
    CropPool,
    RefinerConfig,
    denoiser_inputs,
    energy_score,
    patch_distance,
    row_maker,
    rows_inputs,
)
from consistent_gen.training.shards import MADE_OF, shard_path
from consistent_gen.world.dataset import StoryWorld
from tests.every_run import or_slow

CPU = torch.device("cpu")
WORLD = StoryWorld("train", seed=7)


ROWS = 8  # of a shard: half of what the recipe makes at once


@pytest.fixture(scope="module", autouse=True)
def small_shards() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(refiner, "ROWS", ROWS)
        yield


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory, story_model: Path) -> Path:
    """A folder with a shard of rows."""
    folder = tmp_path_factory.mktemp("crops")
    row_maker(folder, story_model, WORLD)(0)
    return folder


def _pool(folder: Path, model: Path) -> CropPool:
    pool = CropPool(folder, CPU, rows_inputs(model, WORLD))
    pool.follow({})
    return pool


def test_rows_are_pictures_and_what_was_predicted_of_them(crops: Path) -> None:
    rows = load_tensors(shard_path(crops, 0))
    fine = StoryWorld("train", seed=7, size=256)
    assert torch.equal(rows["pictures"], fine.tensor(range(ROWS)))
    assert rows["latents"].shape == (ROWS, 3, 50, 16, 16)
    assert rows["decodes"].shape == (ROWS, 3, 3, 128, 128)
    assert ((rows["levels"] > 0.0) & (rows["levels"] < 1.0)).all()
    assert rows["levels"][:, 0].max() < 0.25
    # Sampled ones end where retouching ends.
    assert (rows["levels"][:, 1:] == RETOUCH_AT[-1]).all()
    there = ~rows["heads"].isnan().any(-1)
    assert there.sum(1).tolist() == [len(WORLD.frame(n).subjects) for n in range(ROWS)]


def _place(rows: dict[str, Tensor], batch: dict[str, Tensor], n: int) -> tuple[int, int, int, int]:
    """Row, prediction, y and x of crop `n` of a batch, found by its latents."""
    side = batch["latents"].shape[-1]
    for i, v in (rows["levels"] == batch["levels"][n]).nonzero().tolist():
        latents = rows["latents"][i, v].float()
        windows = latents.unfold(1, side, 1).unfold(2, side, 1).permute(1, 2, 0, 3, 4)
        for y, x in (windows == batch["latents"][n]).flatten(2).all(-1).nonzero().tolist():
            return i, v, y, x
    raise AssertionError("a crop of no row")


def test_crops_are_windows_of_one_row_that_fit_each_other(crops: Path, story_model: Path) -> None:
    pool, rows = _pool(crops, story_model), load_tensors(shard_path(crops, 0))
    batch = pool.batch(12, 6, 0.5, torch.Generator().manual_seed(0))
    corners = 0
    for n in range(12):
        i, v, y, x = _place(rows, batch, n)
        decode = rows["decodes"][i, v, :, 8 * y : 8 * (y + 6), 8 * x : 8 * (x + 6)]
        assert torch.equal(batch["decodes"][n], decode.float())
        picture = rows["pictures"][i, :, 16 * y : 16 * (y + 6), 16 * x : 16 * (x + 6)]
        assert torch.equal(batch["pictures"][n], picture.float() / 127.5 - 1.0)
        weight = batch["weight"][n, 0]
        assert weight[16:-16, 16:-16].all()
        assert bool(weight[0, 48]) == (y == 0) and bool(weight[-1, 48]) == (y == 10)
        assert bool(weight[48, 0]) == (x == 0) and bool(weight[48, -1]) == (x == 10)
        corners += (y, x) == (0, 0)
    assert corners < 12
    whole = pool.batch(3, 16, 0.5, torch.Generator().manual_seed(0))
    assert whole["pictures"].shape == (3, 3, 256, 256) and whole["weight"].all()


def test_crops_at_heads_hold_a_head(crops: Path, story_model: Path) -> None:
    """More of the pictures' heads lie in such crops than in crops anywhere."""
    pool, rows = _pool(crops, story_model), load_tensors(shard_path(crops, 0))
    middles = (rows["heads"][..., :2] + rows["heads"][..., 2:]) / 2
    held = {}
    for share in (0.0, 1.0):
        batch = pool.batch(32, 6, share, torch.Generator().manual_seed(0))
        hits = 0
        for n in range(32):
            i, _, y, x = _place(rows, batch, n)
            at = middles[i] * 16 - torch.tensor([x, y])
            hits += bool(((at >= 0) & (at <= 6)).all(-1).any())
        held[share] = hits
    # Crops lie around heads: two cells off on average, of three that they reach.
    assert held[1.0] > 21 and held[0.0] < held[1.0] - 5


def test_rows_of_another_denoiser_are_refused(
    crops: Path, story_model: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="made of seed=7"):
        row_maker(crops, story_model, StoryWorld("train"))
    with pytest.raises(InputError, match="made of denoiser="):
        CropPool(crops, CPU, {"denoiser": "0" * 64}).follow({})
    shard_path(tmp_path, 0).write_bytes(shard_path(crops, 0).read_bytes())
    with pytest.raises(InputError, match="nobody knows"):
        row_maker(tmp_path, story_model, WORLD)
    row_maker(tmp_path, story_model, WORLD, made_before=True)
    assert (tmp_path / MADE_OF).read_bytes() == (crops / MADE_OF).read_bytes()


def _distance(a: Tensor, b: Tensor) -> Tensor:
    """Of values, one by one."""
    return (a - b).abs().mean()


def test_the_score_is_best_for_the_true_distribution() -> None:
    """What is there is -1 or 1, as often: whoever says so scores better than who says the mean,
    only one of them, or both with wrong shares; regression likes the mean as much.
    """
    g = torch.Generator().manual_seed(0)

    def two_points(share: float) -> Tensor:
        return (torch.rand(40_000, generator=g) < share).float() * 2.0 - 1.0

    x = two_points(0.5)
    answers = {
        "true": (two_points(0.5), two_points(0.5)),
        "mean": (torch.zeros(40_000), torch.zeros(40_000)),
        "one": (torch.ones(40_000), torch.ones(40_000)),
        "wrong shares": (two_points(0.8), two_points(0.8)),
        "fog around the mean": (0.5 * two_points(0.5), 0.5 * two_points(0.5)),
    }
    scores = {name: float(energy_score(_distance, two, x)[0]) for name, two in answers.items()}
    best = scores.pop("true")
    assert best == pytest.approx(0.5, abs=0.02)
    assert min(scores.values()) > best + 0.05
    plain = {n: float(energy_score(_distance, two[:1], x)[0]) for n, two in answers.items()}
    assert plain["mean"] <= plain["true"] + 0.02


def test_the_score_leads_from_the_mean_to_both_points() -> None:
    """By its gradient: a generator of two numbers that starts near the mean finds -1 and 1."""
    at = torch.tensor([-0.1, 0.1], requires_grad=True)
    optimizer = torch.optim.Adam([at], lr=0.05)
    g = torch.Generator().manual_seed(0)
    for _ in range(200):
        first, second, true = (torch.randint(2, (256,), generator=g) for _ in range(3))
        loss, _ = energy_score(_distance, (at[first], at[second]), true.float() * 2.0 - 1.0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert at.detach().tolist() == pytest.approx([-1.0, 1.0], abs=0.15)


def test_distances_of_patches() -> None:
    g = torch.Generator().manual_seed(0)
    a, b = (torch.rand(2, 3, 64, 64, generator=g) for _ in range(2))
    weight = torch.ones(2, 1, 64, 64)
    distance = partial(patch_distance, weight=weight)
    assert float(distance(a, a)) == pytest.approx(1e-5**0.5)
    assert float(distance(a, b)) == pytest.approx(float(distance(b, a)))
    assert distance(a, b) > distance(a, torch.lerp(a, b, 0.5)) > distance(a, a)
    # What lies where nothing weighs does not count; what differs together counts less than apart.
    changed = a.clone()
    changed[..., :32] = b[..., :32]
    seen = weight.clone()
    seen[..., :44] = 0.0
    assert float(patch_distance(a, changed, seen)) == pytest.approx(1e-5**0.5, abs=1e-5)
    square, scattered = torch.zeros(1, 3, 64, 64), torch.zeros(1, 3, 64, 64)
    square[..., 24:32, 24:32] = 1.0
    scattered[..., ::8, ::8] = 1.0
    nothing, whole = torch.zeros_like(square), torch.ones(1, 1, 64, 64)
    fine = [patch_distance(x, nothing, whole) for x in (square, scattered)]
    assert fine[0] < fine[1]


@pytest.mark.parametrize("spread", or_slow([0.0, 1.0], [0.0]))
def test_the_recipe_learns_and_leaves_a_refiner(
    crops: Path, story_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spread: float
) -> None:
    monkeypatch.setattr(refiner, "ROWS", 2)
    config = RefinerConfig(
        run=tmp_path, model=story_model, out=tmp_path / "refiner", widths=(16, 8, 8, 8),
        blocks=(1, 1, 1, 1), images=8, batch=4, crop=4, first_rows=2, held_out=2, threads=1,
        spread=spread, device="cpu",
    )  # fmt: skip
    score = refiner.main(config)
    model = load_refiner(config.out)
    assert {p.dtype for p in model.parameters()} == {torch.float32} and model.leave.weight.any()
    stored = load_tensors(config.out / "diffusion_pytorch_model.safetensors")
    assert {t.dtype for t in stored.values()} == {torch.float16}
    saved = load_run(tmp_path / "checkpoint")
    assert saved is not None and torch.isfinite(torch.tensor(score))
    average = saved[0]["average.refiner.leave.weight"]
    assert torch.allclose(model.leave.weight, average, atol=1e-3)
    told = denoiser_inputs(story_model)["denoiser"]
    assert told in (config.out / MADE_OF).read_text()


@pytest.mark.slow
def test_workers_make_the_rows_beside(
    story_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refiner, "ROWS", 2)
    config = RefinerConfig(
        run=tmp_path, model=story_model, out=tmp_path / "refiner", widths=(16, 8, 8, 8),
        blocks=(1, 1, 1, 1), images=16, batch=4, crop=16, first_rows=4, rows=6, held_out=2,
        threads=1, workers=1, grow_images=4, device="cpu",
    )  # fmt: skip
    refiner.main(config)
    saved = load_run(tmp_path / "checkpoint")
    assert saved is not None and set(saved[1]["facts"]["shards"]) >= {0, 1}
    rows = load_tensors(shard_path(tmp_path / "rows", 1))
    assert torch.equal(rows["pictures"], StoryWorld("train", seed=7, size=256).tensor(range(2, 4)))
