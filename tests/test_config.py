from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consistent_gen import config
from consistent_gen.errors import InputError, UnknownNameError


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.99)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    out: Path
    steps: int = 10
    name: str = "run"
    ema: bool = True
    kind: Literal["muon", "adamw"] = "adamw"
    limit: int | None = None
    ratio: int | float = 1
    widths: tuple[int, ...] = (64, 128)
    weights: dict[str, float] = field(default_factory=dict)
    optimizer: Optimizer = Optimizer()
    second: Optimizer | None = None

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps is {self.steps}; expected at least 1")


FULL = {
    "out": "runs/a",
    "steps": 5,
    "kind": "muon",
    "limit": 3,
    "ratio": 0.5,
    "widths": [1, 2, 3],
    "weights": {"a": 1},
    "optimizer": {"lr": 1, "betas": [0.5, 0.6]},
    "second": {"lr": 2.0},
}


def test_values_become_the_declared_types() -> None:
    made = config.from_mapping(Recipe, FULL)
    assert made.out == Path("runs/a")
    assert made.widths == (1, 2, 3)
    assert made.weights == {"a": 1.0}
    assert isinstance(made.optimizer.lr, float)
    assert made.optimizer.betas == (0.5, 0.6)
    assert made.second == Optimizer(lr=2.0)


def test_round_trip_through_json_text() -> None:
    made = config.from_mapping(Recipe, FULL)
    text = json.dumps(config.to_json(made))
    assert config.from_mapping(Recipe, json.loads(text)) == made


def test_overrides_win_in_order_and_leave_the_mapping_alone() -> None:
    before = json.dumps(FULL)
    overrides = ["steps=6", "optimizer.lr=1e-1", "steps=7", "widths=[4]", "second=null", "name=5x"]
    made = config.from_mapping(Recipe, FULL, overrides)
    assert (made.steps, made.optimizer.lr, made.widths) == (7, 0.1, (4,))
    assert made.second is None
    assert made.name == "5x"
    assert json.dumps(FULL) == before


def test_an_override_reaches_into_a_part_that_the_mapping_left_out() -> None:
    made = config.from_mapping(Recipe, {"out": "a"}, ["second.lr=3"])
    assert made.second == Optimizer(lr=3.0)


@pytest.mark.parametrize("value", ["1e-3", "3e4", "1E5"])
def test_scientific_notation_without_a_point_is_a_number(value: str) -> None:
    made = config.from_mapping(Recipe, {"out": "a"}, [f"optimizer.lr={value}"])
    assert made.optimizer.lr == float(value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"stepz": 1}, ["unknown key 'stepz'", "did you mean 'steps'?"]),
        ({"optimizer": {"lrr": 1}}, ["key of optimizer", "did you mean 'lr'?"]),
        ({"second": {"lrr": 1}}, ["key of second", "did you mean 'lr'?"]),
        ({"steps": True}, ["steps is True", "a whole number"]),
        ({"steps": 1.5}, ["steps is 1.5", "a whole number"]),
        ({"steps": float("inf")}, ["steps is inf", "a whole number"]),
        ({"steps": "many"}, ["steps is 'many'", "a whole number"]),
        ({"steps": None}, ["steps is None", "a whole number"]),
        ({"steps": 0}, ["expected at least 1"]),
        ({"ema": 1}, ["ema is 1", "true or false"]),
        ({"name": 5}, ["name is 5", "text"]),
        ({"kind": "muonn"}, ["value of kind", "did you mean 'muon'?"]),
        ({"kind": 1}, ["kind is 1", "'muon' or 'adamw'"]),
        ({"limit": "x"}, ["limit is 'x'", "a whole number or nothing"]),
        ({"widths": 5}, ["widths is 5", "a list"]),
        ({"widths": [1, "x"]}, ["widths[1] is 'x'"]),
        ({"optimizer": {"betas": [1]}}, ["optimizer.betas", "a list of 2 values"]),
        ({"optimizer": 3}, ["optimizer is 3", "a map"]),
        ({"weights": [1]}, ["weights is [1]", "a map"]),
        ({"weights": {"a": "x"}}, ["weights.a is 'x'"]),
    ],
)
def test_a_mistake_is_named_with_its_place(changes: dict[str, object], words: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        config.from_mapping(Recipe, {"out": "a", **changes}, source="r.yaml")
    text = str(caught.value)
    assert text.startswith("r.yaml: ")
    assert all(word in text for word in words), text


def test_missing_keys_are_listed() -> None:
    with pytest.raises(InputError, match="missing out"):
        config.from_mapping(Recipe, {})


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("steps", "has no '='"),
        ("=3", "has no '='"),
        ("steps=[1", "not a YAML value"),
        ("steps.deeper=3", "steps has no keys"),
        ("stepz=1", "did you mean 'steps'"),
    ],
)
def test_a_wrong_override_is_named(override: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        config.from_mapping(Recipe, {"out": "a", "steps": 1}, [override])


def test_numbers_keep_their_kind_in_a_union() -> None:
    def ratio(value: float) -> int | float:
        return config.from_mapping(Recipe, {"out": "a", "ratio": value}).ratio

    assert type(ratio(3)) is int
    assert type(ratio(3.0)) is float


def test_load_reads_yaml_and_names_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("out: here\nsteps: 4\n")
    assert config.load(Recipe, path, ["steps=5"]) == Recipe(out=Path("here"), steps=5)
    path.write_text("out: here\nsteps: [4\n")
    with pytest.raises(InputError, match="is not YAML") as caught:
        config.load(Recipe, path)
    assert caught.value.line == 3
    with pytest.raises(InputError, match="cannot be read"):
        config.load(Recipe, tmp_path / "none.yaml")
    path.write_bytes(b"\xff\xfe\xff")
    with pytest.raises(InputError):
        config.load(Recipe, path)
    path.write_text("- a list\n")
    with pytest.raises(InputError, match="a map of keys"):
        config.load(Recipe, path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
KEYS = st.sampled_from(list(Recipe.__dataclass_fields__)) | st.text(max_size=5)


@given(st.dictionaries(KEYS, JSON, max_size=5))
def test_any_mapping_is_filled_in_or_refused_in_words(mapping: dict[str, object]) -> None:
    try:
        made = config.from_mapping(Recipe, mapping)
    except (InputError, UnknownNameError) as error:
        assert str(error)
    else:
        assert repr(config.from_mapping(Recipe, config.to_json(made))) == repr(made)
