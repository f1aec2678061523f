"""Scores of pictures. The same function serves as metric and as reward."""

from __future__ import annotations

REWARDS: dict[str, str] = {
    "attributes": "consistent_gen.rewards.attributes:attribute_hits",
    "frechet": "consistent_gen.rewards.distribution:frechet_distance",
}
