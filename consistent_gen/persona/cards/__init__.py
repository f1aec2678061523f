"""Character cards (versions 1 to 3; JSON, PNG, .charx) and PersonaChat lists: in, checked, out."""

from consistent_gen.persona.cards.card import Card, parse_card, read_card, replaced
from consistent_gen.persona.cards.checking import check_card, secrets_of
from consistent_gen.persona.cards.conversion import (
    card_text_of,
    in_play,
    persona_chat,
    persona_of,
)
from consistent_gen.persona.cards.png import with_card

__all__ = [
    "Card", "card_text_of", "check_card", "in_play", "parse_card", "persona_chat", "persona_of",
    "read_card", "replaced", "secrets_of", "with_card",
]  # fmt: skip
