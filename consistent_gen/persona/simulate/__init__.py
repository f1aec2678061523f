"""Personas that talk and play: dialogues, their stability, simulated users, trait cards, games."""

from consistent_gen.persona.simulate.dialogue import (
    Agent,
    ClosingPhrase,
    Detector,
    Dialogue,
    MaxTurns,
    Repetition,
    in_turns,
    model_detector,
)

__all__ = [
    "Agent", "ClosingPhrase", "Detector", "Dialogue", "MaxTurns", "Repetition", "in_turns",
    "model_detector",
]  # fmt: skip
