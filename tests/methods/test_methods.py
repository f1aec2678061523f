"""The table of methods: what every entry answers, and what its settings turn into."""

from __future__ import annotations

import json
from typing import Any

import pytest

from consistent_gen.attention.layers import Site
from consistent_gen.attention.settings import Recipe, Select, Window
from consistent_gen.errors import InputError
from consistent_gen.methods import DEFAULT_METHOD, METHODS
from consistent_gen.methods.tuning import recipe_of, setting
from consistent_gen.registry import resolve


@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_a_recipe(name: str) -> None:
    recipe = recipe_of(name)
    assert isinstance(resolve(METHODS, name), Recipe)
    assert recipe.name == name
    assert bool(recipe.rules) == (recipe.anchors > 0)
    assert all(recipe_of(name, {key: setting(recipe, key)}) == recipe for key in recipe.settings
               if key != "s")  # fmt: skip
    assert json.loads(json.dumps(recipe.to_json())) == recipe.to_json()


def test_the_default_is_in_the_table() -> None:
    assert DEFAULT_METHOD in METHODS


def test_digests_tell_settings_apart() -> None:
    recipes = [recipe_of(name) for name in METHODS]
    recipes.append(recipe_of("consistory", {"dropout": 0.4}))
    recipes.append(recipe_of("consistyle", {"align_values": False}))
    assert len({recipe.digest() for recipe in recipes}) == len(recipes)
    assert recipe_of("consistory").digest() == recipe_of("consistory", {"dropout": 0.5}).digest()


def test_one_pass_is_enough_without_injection() -> None:
    assert recipe_of("consistory").twin
    cheap = recipe_of("consistory", {"injection": 0.0, "mixing_steps": 0.0})
    assert not cheap.twin
    assert cheap.masks is not None and cheap.masks.source == "running"


def test_first_passes_share_unless_anchors_lead() -> None:
    assert recipe_of("consistory").twins_share
    ahead = recipe_of("consistory", {"lead": 0.3})
    assert ahead.twin and not ahead.twins_share
    assert ahead == recipe_of("consistory", {"first_pass": "twin", "lead": 0.3})
    with pytest.raises(InputError, match="'running' has none"):
        recipe_of("consistory", {"first_pass": "running"})


@pytest.mark.parametrize(
    ("method", "calls"),
    [
        (recipe_of("consistory"), 110), (recipe_of("consistyle"), 104),
        (recipe_of("consistory", {"first_pass": "twin"}), 104),
        (recipe_of("consistory", {"injection": 0.0}), 55),
        (recipe_of("consistory", {"injection": 0.0, "mixing_steps": 0.0}), 50),
        (recipe_of("consistyle", {"mixing_steps": 1.0}), 149),
        (recipe_of("story_diffusion"), 50), (recipe_of("vanilla"), 50),
    ],
)  # fmt: skip
def test_calls_of_fifty_steps(method: Any, calls: int) -> None:
    """A first pass where it is needed, and a second row where queries are mixed."""
    assert method.calls(50) == calls
    assert [step for step in range(50) if recipe_of("consistyle").looks(step, 50)] == [1, 2, 3, 4]


def test_a_window_of_ones_own() -> None:
    """Which layers share is a setting, and queries are mixed in the same ones."""
    window = Window(blocks=("mid", "up"), depth=(0.0, 1.0), ranks=(0,))
    for name in ("consistory", "consistyle"):
        method = recipe_of(name, {"window": window})
        sharing, mixing = method.rules[:2]
        assert sharing.window == window
        assert (mixing.window.blocks, mixing.window.ranks) == (window.blocks, window.ranks)


@pytest.mark.parametrize(
    ("window", "steps", "expected"),
    [
        (Window(), 4, [1, 2, 3]),
        (Window(skip=0), 3, [0, 1, 2]),
        (Window(steps=(0.1, 0.32)), 50, list(range(5, 16))),
        (Window(steps=(0.06, 0.22)), 50, list(range(3, 11))),
        (Window(steps=(0.0, 0.1)), 50, [1, 2, 3, 4]),
        (Window(steps=(0.1, 0.32)), 4, [1]),
        (Window(), 1, []),
    ],
)
def test_windows_are_shares_of_any_number_of_steps(
    window: Window, steps: int, expected: list[int]
) -> None:
    assert list(window.span(steps)) == expected


def test_windows_choose_layers_by_name_and_grid() -> None:
    up = Site("a", "self", "up", rank=1, depth=0.8)
    assert Window().covers(up)
    assert not Window(ranks=(0,)).covers(up)
    assert not Window().covers(Site("b", "self", "down", depth=0.1))
    assert Window(coin=((0.4, 0.7), (1.0, 0.9))).chance(3, 10) == 0.7
    assert Window(coin=((0.4, 0.7), (1.0, 0.9))).chance(4, 10) == 0.9
    assert Window().chance(4, 10) == 1.0


def test_a_recipe_without_what_it_needs_is_our_mistake() -> None:
    from consistent_gen.attention.settings import Rule

    with pytest.raises(AssertionError, match="a rule needs masks"):
        Recipe(name="x", rules=(Rule(select=Select(tokens="subject")),))
