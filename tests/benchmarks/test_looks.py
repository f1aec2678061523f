"""Measures of looks on pictures whose looks are known: true ones, and ones with a known fault."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.looks import (
    blurred,
    gridded,
    patch_steps,
    precision_recall,
    step_ratio,
    told_apart,
    true_pictures,
)
from benchmarks.model_card import prompt_set
from consistent_gen.errors import InputError
from consistent_gen.rewards.distribution import frechet_distance
from consistent_gen.rewards.photo_features import PhotoFeatures, read_tensors, said

COUNT = 40


@pytest.fixture(scope="module")
def network() -> PhotoFeatures:
    return PhotoFeatures()


@pytest.fixture(scope="module")
def true() -> np.ndarray:
    return true_pictures(prompt_set("looks", "held_out", COUNT, 1), 128)


@pytest.fixture(scope="module")
def other() -> np.ndarray:
    return true_pictures(prompt_set("others", "validation", COUNT, 1), 128)


@pytest.mark.slow
def test_faults_are_seen_and_truth_is_not_faulted(
    network: PhotoFeatures, true: np.ndarray, other: np.ndarray
) -> None:
    plain, soft, grid, elsewhere = (network(x) for x in (true, blurred(true), gridded(true), other))
    assert told_apart(elsewhere, plain).mean() < 0.7, "true pictures are like each other"
    for faulty in (soft, grid):
        assert told_apart(faulty, plain).mean() > 0.8
        assert frechet_distance(faulty, elsewhere) > 1.1 * frechet_distance(plain, elsewhere)


def test_the_grid_is_seen_by_its_borders(true: np.ndarray) -> None:
    ratio = step_ratio(patch_steps(true))
    assert step_ratio(patch_steps(gridded(true))) > 1.3 * ratio
    assert step_ratio(patch_steps(blurred(true))) < ratio, "a blur has no borders"
    # The same at twice the size, where cells are 16 pixels wide.
    fine = true_pictures(prompt_set("looks", "held_out", 8, 1), 256)
    assert step_ratio(patch_steps(gridded(fine))) > 1.3 * step_ratio(patch_steps(fine))


def test_precision_and_recall_tell_faults_from_gaps() -> None:
    generator = torch.Generator().manual_seed(0)
    true = torch.randn(200, 4, generator=generator)
    assert precision_recall(true, true) == (1.0, 1.0)
    few = true[:3] + 0.01 * torch.randn(3, 4, generator=generator)
    drawn = few.repeat(60, 1) + 0.01 * torch.randn(180, 4, generator=generator)
    precision, recall = precision_recall(drawn, true)
    assert precision > 0.9 and recall < 0.1, "good pictures, always the same"
    precision, _ = precision_recall(true + 10.0, true)
    assert precision == 0.0


class Trap:
    """What runs when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("sprung"),)  # type: ignore[return-value]


def test_nothing_in_a_file_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "weights.pth"
    path.write_bytes(pickle.dumps(Trap(), protocol=2))
    with path.open("rb") as file:
        assert "touch" in str(said(file))
    with pytest.raises(InputError, match="no file of tensors alone"):
        read_tensors(path)
    assert not Path("sprung").exists()


def test_an_old_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    wanted = {
        "a": torch.randn(3, 4, 2, generator=torch.Generator().manual_seed(0)).permute(2, 0, 1),
        "steps": torch.tensor(7),
    }
    path = tmp_path / "weights.pth"
    old = {"_use_new_zipfile_serialization": False}
    getattr(torch, "save")(dict(wanted), path, **old)  # noqa: B009
    found = read_tensors(path)
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
