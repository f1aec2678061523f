"""Scores of pictures. The same function serves as metric and as reward."""

from __future__ import annotations

REWARDS: dict[str, str] = {
    "agreement": "consistent_gen.rewards.sight:agreement",
    "alignment": "consistent_gen.rewards.sight:alignment",
    "attributes": "consistent_gen.rewards.attributes:attribute_hits",
    "consistency": "consistent_gen.rewards.consistency:character_consistency",
    "frechet": "consistent_gen.rewards.distribution:frechet_distance",
}
