"""The table of methods: what every entry answers, and what its settings turn into."""

from __future__ import annotations

import json
from typing import Any

import pytest

from consistent_gen.attention.layers import Site
from consistent_gen.attention.settings import Recipe, Select, Window
from consistent_gen.methods import DEFAULT_METHOD, METHODS
from consistent_gen.methods.consistory import ConsiStory
from consistent_gen.methods.consistyle import ConsiStyle
from consistent_gen.methods.story_diffusion import StoryDiffusion
from consistent_gen.methods.vanilla import Vanilla
from consistent_gen.registry import resolve


@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_a_recipe(name: str) -> None:
    method = resolve(METHODS, name)()
    recipe = method.recipe()
    assert isinstance(recipe, Recipe)
    assert recipe.name == name
    assert method.couples_frames == bool(recipe.rules)
    assert method.couples_frames == (recipe.anchors > 0)
    assert json.loads(json.dumps(recipe.to_json())) == recipe.to_json()


def test_the_default_is_in_the_table() -> None:
    assert DEFAULT_METHOD in METHODS


def test_digests_tell_settings_apart() -> None:
    recipes = [resolve(METHODS, name)().recipe() for name in METHODS]
    recipes += [ConsiStory(dropout=0.4).recipe(), ConsiStyle(align_values=False).recipe()]
    assert len({recipe.digest() for recipe in recipes}) == len(recipes)
    assert ConsiStory().recipe().digest() == ConsiStory(dropout=0.5).recipe().digest()


def test_one_pass_is_enough_without_injection() -> None:
    assert ConsiStory().recipe().twin
    cheap = ConsiStory(injection=0.0, mixing_steps=0.0).recipe()
    assert not cheap.twin
    assert cheap.masks is not None and cheap.masks.source == "running"


@pytest.mark.parametrize(
    ("method", "calls"),
    [
        (ConsiStory(), 104), (ConsiStyle(), 104),
        (ConsiStory(injection=0.0), 54), (ConsiStory(injection=0.0, mixing_steps=0.0), 50),
        (ConsiStyle(mixing_steps=1.0), 149), (StoryDiffusion(), 50), (Vanilla(), 50),
    ],
)  # fmt: skip
def test_calls_of_fifty_steps(method: Any, calls: int) -> None:
    """A pass without sharing where it is needed, and a second row where queries are mixed."""
    recipe = method.recipe()
    assert recipe.calls(50) == calls
    assert [step for step in range(50) if ConsiStyle().recipe().looks(step, 50)] == [1, 2, 3, 4]


def test_a_window_of_ones_own() -> None:
    """Which layers share is a setting, and queries are mixed in the same ones."""
    window = Window(blocks=("mid", "up"), depth=(0.0, 1.0), ranks=(0,))
    for method in (ConsiStory(window=window), ConsiStyle(window=window)):
        sharing, mixing = method.recipe().rules[:2]
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
