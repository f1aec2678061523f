"""Recipes that made the shipped weights. Each is one readable `main(config)`."""

from __future__ import annotations

RECIPES: dict[str, str] = {
    "autoencoder": "consistent_gen.training.autoencoder:main",
    "refiner": "consistent_gen.training.refiner:main",
    "semantics": "consistent_gen.training.semantics:main",
    "story_model": "consistent_gen.training.story_model:main",
    "reader": "consistent_gen.training.reader:main",
    "subject_encoder": "consistent_gen.training.subject_encoder:main",
    "adapter": "consistent_gen.training.adapter:main",
    "pair_reward": "consistent_gen.training.pair_reward:main",
    "pair_scorer": "consistent_gen.training.pair_scorer:main",
}
