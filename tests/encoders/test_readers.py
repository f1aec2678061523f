"""Readers: what they return, that they survive a round trip to disk, and what they refuse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from consistent_gen.encoders.factors import Schema
from consistent_gen.encoders.judge import Judge
from consistent_gen.encoders.reader import Reader, _pool
from consistent_gen.errors import CheckpointError
from consistent_gen.training.truth import schema

READERS: list[Any] = [Reader, Judge]


def _tiny(network: Any) -> Any:
    torch.manual_seed(0)
    return network(schema(), 32).eval()


@pytest.mark.parametrize("network", READERS)
def test_a_reading_covers_the_schema(network: Any) -> None:
    pictures = torch.randint(0, 255, (2, 3, 128, 128), dtype=torch.uint8)
    with torch.inference_mode():
        reading = _tiny(network)(pictures)
    names = schema()
    for name, classes in names.subject.items():
        assert reading.subject[name].shape == (2, 3, len(classes))
    for name, classes in names.scene.items():
        assert reading.scene[name].shape == (2, len(classes))
    assert reading.hues.shape == (2, 3, len(names.hues), 2)
    assert reading.scalars.shape == (2, 3, len(names.scalars))
    assert reading.masks.shape[:2] == (2, 4)
    assert ((reading.hue_angles() >= 0) & (reading.hue_angles() < 1)).all()


@pytest.mark.parametrize("network", READERS)
def test_bytes_and_floats_are_read_alike(network: Any) -> None:
    pictures = torch.randint(0, 255, (1, 3, 128, 128), dtype=torch.uint8)
    model = _tiny(network)
    with torch.inference_mode():
        a, b = model(pictures), model(pictures.float() / 255.0)
    assert torch.allclose(a.subject["kind"], b.subject["kind"], atol=1e-4)


@pytest.mark.parametrize("network", READERS)
def test_a_picture_of_twice_the_size_is_read_as_the_small_one(network: Any) -> None:
    small = torch.randint(0, 255, (2, 3, 128, 128), dtype=torch.uint8)
    large = small.repeat_interleave(2, -1).repeat_interleave(2, -2)
    model = _tiny(network)
    with torch.inference_mode():
        torch.testing.assert_close(model(large).scalars, model(small).scalars)


@pytest.mark.parametrize("network", READERS)
def test_round_trip(network: Any, tmp_path: Path) -> None:
    model = _tiny(network)
    model.save(tmp_path, torch.float32)
    again = network.load(tmp_path)
    assert again.schema == model.schema
    x = torch.rand(1, 3, 128, 128)
    with torch.inference_mode():
        assert torch.equal(model(x).subject["action"], again(x).subject["action"])


def test_another_network_is_refused(tmp_path: Path) -> None:
    _tiny(Reader).save(tmp_path)
    with pytest.raises(CheckpointError, match="expected a 'judge'"):
        Judge.load(tmp_path)


@pytest.mark.parametrize("change", [{"width": None}, {"schema": {}}, {"schema": [1]}])
def test_a_config_that_does_not_fit_is_refused(change: dict[str, Any], tmp_path: Path) -> None:
    _tiny(Reader).save(tmp_path)
    told = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(told | change))
    with pytest.raises(CheckpointError, match=r"does not fit its config\.json"):
        Reader.load(tmp_path)


def test_schema_round_trip() -> None:
    assert Schema.from_json(schema().to_json()) == schema()


def test_subjects_are_counted_from_the_left() -> None:
    with torch.inference_mode():
        reading = _tiny(Reader)(torch.rand(3, 3, 128, 128))
    reading.present = torch.tensor([[0.9, 0.8, 0.1], [0.9, 0.1, 0.9], [0.1, 0.9, 0.9]])
    assert reading.count().tolist() == [2, 1, 0]


def test_pooling_takes_only_what_is_under_the_weights() -> None:
    features = torch.zeros(1, 1, 4)
    features[0, 0] = torch.tensor([1.0, 3.0, 100.0, 100.0])
    weights = torch.tensor([[[1000.0, 1000.0, 0.0, 0.0]]])
    assert _pool(features, weights)[0, 0, 0].item() == pytest.approx(2.0, abs=1e-3)
