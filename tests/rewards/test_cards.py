"""Every reward has a card, and the page of scores holds them."""

from __future__ import annotations

from pathlib import Path

from consistent_gen.registry import resolve
from consistent_gen.rewards import REWARDS
from consistent_gen.rewards.base import Reward
from consistent_gen.rewards.cards import CARDS, table
from consistent_gen.rewards.folder import BACKENDS

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "scores.md").read_text(encoding="utf-8")


def test_the_page_holds_the_cards() -> None:
    assert PAGE.endswith(table()), "run: python -m consistent_gen.rewards.cards"
    assert all(f"| `{backend}` |" in PAGE for backend in BACKENDS)


def test_every_reward_has_a_card_of_its_name() -> None:
    assert {card.name for card in CARDS} == REWARDS.keys()
    for name in REWARDS:
        kind = resolve(REWARDS, name)
        if isinstance(kind, type) and issubclass(kind, Reward) and hasattr(kind, "card"):
            assert kind.card.name == name
    for card in CARDS:
        low, high = card.range
        assert low < high and card.version >= 1 and card.known_failure and card.features
        assert "|" not in f"{card.says}{card.known_failure}{card.features}", "it stands in a table"
