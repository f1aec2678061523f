"""Controls of the looks benchmark score as they must, on true pictures of the world."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.looks import (
    Features,
    blurred,
    gridded,
    interval,
    patch_steps,
    precision_recall,
    step_ratio,
    told_apart,
)
from benchmarks.looks_faces import FaceFinder, face_finder, faces, found, targets
from consistent_gen.rewards.distribution import frechet_distance
from consistent_gen.world.dataset import StoryWorld

COUNT = 40


@pytest.fixture(scope="module")
def true() -> np.ndarray:
    world = StoryWorld("validation", seed=5)
    return np.stack([world.picture(i).rgb for i in range(COUNT)])


@pytest.fixture(scope="module")
def other() -> np.ndarray:
    world = StoryWorld("validation", seed=6)
    return np.stack([world.picture(i).rgb for i in range(COUNT)])


def test_a_grid_raises_steps_across_cells_and_a_blur_does_not(true: np.ndarray) -> None:
    plain = step_ratio(patch_steps(true))
    assert step_ratio(patch_steps(gridded(true))) > 1.2 * plain
    assert step_ratio(patch_steps(blurred(true))) < 1.05 * plain


def test_cells_grow_with_the_picture(true: np.ndarray) -> None:
    """A grid is found where the latent's cells end, at any size."""
    large = true.repeat(2, 1).repeat(2, 2)
    assert step_ratio(patch_steps(gridded(large))) > 1.2 * step_ratio(patch_steps(large))


def test_features_tell_spoilt_pictures_from_true_ones(true: np.ndarray, other: np.ndarray) -> None:
    network = Features()
    a, b, c = network(true), network(other), network(blurred(other))
    assert a.shape == (COUNT, 1280)
    assert told_apart(a, b).mean() < 0.75 < 0.9 < told_apart(a, c).mean(), "chance, and nearly all"
    assert frechet_distance(a, b) < frechet_distance(a, c)
    same = precision_recall(a, a)
    assert same == (1.0, 1.0)
    assert precision_recall(a, b)[0] > precision_recall(a, c + 10.0)[0] == 0.0


def test_an_interval_holds_its_mean() -> None:
    values = np.linspace(0.0, 1.0, 50)
    found_ = interval(50, lambda i: float(values[i].mean()))
    assert found_["mean"] == pytest.approx(0.5)
    assert found_["low"] < found_["mean"] < found_["high"]


def test_heat_maps_have_their_peaks_at_the_points() -> None:
    points = torch.full((1, 2, 5, 2), float("nan"))
    points[0, 0] = torch.tensor([[0.25, 0.5]] * 5)
    heat = targets(points)
    assert heat.shape == (1, 5, 64, 64)
    assert heat[0, 0].flatten().argmax() in (31 * 64 + 15, 32 * 64 + 16, 31 * 64 + 16, 32 * 64 + 15)


def test_faces_of_true_pictures_are_found_and_noise_has_none(
    true: np.ndarray, tmp_path: Path
) -> None:
    model = face_finder(tmp_path / "faces.safetensors", pictures=8, steps=2)
    again = face_finder(tmp_path / "faces.safetensors")
    places, peaks = found(model, true)
    assert torch.equal(found(again, true)[1], peaks), "learnt once, then read"
    assert places.shape == (COUNT, 5, 2) and 0.0 <= float(places.min()) <= float(places.max()) <= 1
    scores = faces(model, true, true)
    assert scores["drawn_found"].mean() == scores["true_found"].mean() > 0.6
    assert isinstance(model, FaceFinder)
