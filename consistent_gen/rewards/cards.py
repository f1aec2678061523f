"""The cards of all rewards as a table: `python -m consistent_gen.rewards.cards` writes the part of
docs/scores.md that a test compares. No network is loaded for it.
"""

from __future__ import annotations

from consistent_gen.rewards.base import MetricCard
from consistent_gen.rewards.baselines import (
    FOLDER_CARD,
    PHOTO_CARD,
    READER_COSINE_CARD,
    ColorHistogram,
    PhotoStyle,
    PixelDistance,
)
from consistent_gen.rewards.faces import FaceLikeness, FaceLikenessIntended, FacesFound
from consistent_gen.rewards.pair_network import PairNetworkReward
from consistent_gen.rewards.pairwise import JUDGE_CARD
from consistent_gen.rewards.story_world import STORY_WORLD

CARDS: tuple[MetricCard, ...] = (
    *(kind.card for kind in STORY_WORLD),
    PairNetworkReward.card,
    READER_COSINE_CARD,
    PHOTO_CARD,
    PhotoStyle.card,
    FOLDER_CARD,
    FacesFound.card,
    FaceLikeness.card,
    FaceLikenessIntended.card,
    JUDGE_CARD,
    ColorHistogram.card,
    PixelDistance.card,
)
COLUMNS = ("score", "says", "features", "sees", "not to be believed when", "trained on")


def table() -> str:
    """The cards as Markdown."""
    rows = [
        (
            f"`{card.name}`",
            f"{card.says}, {card.range[0]:g} to {card.range[1]:g}; {card.direction}",
            card.features + (f" (sha256 {card.sha256[:12]})" if card.sha256 else ""),
            f"{card.resolution}; mask: {card.mask}",
            card.known_failure,
            "yes" if card.trained_on else "no",
        )
        for card in CARDS
    ]
    lines = [COLUMNS, tuple("---" for _ in COLUMNS), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


if __name__ == "__main__":
    print(table(), end="")
