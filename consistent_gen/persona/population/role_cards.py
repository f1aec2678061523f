"""Role cards with trait levels, as PsyPlay's first stage makes them (arXiv 2502.03821).

A role has a pole and a strength ("a bit", "very", "extremely") on each of the five traits, told by
adjectives of our own, and an experience to speak from. A judge must find the poles in what the role
says (`simulate`), so a reply that names an adjective of its own card proves nothing: `leaks`.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence

from consistent_gen.errors import InputError, UnknownNameError
from consistent_gen.language.words import word_set
from consistent_gen.persona.persona import BIG_FIVE, Persona, Statement

STRENGTHS = {"a bit": 1, "very": 2, "extremely": 3}
_LOW_HIGH: dict[str, tuple[str, str]] = {
    "openness": (
        "conventional down-to-earth habit-bound literal narrow cautious unadventurous plain "
        "traditional practical",
        "curious inventive imaginative exploring artistic unconventional broad-minded "
        "adventurous reflective dreamy",
    ),
    "conscientiousness": (
        "careless forgetful untidy unpunctual impulsive lax disorganised hasty unreliable "
        "negligent",
        "orderly thorough punctual reliable planning diligent tidy persistent dutiful exact",
    ),
    "extraversion": (
        "quiet reserved withdrawn shy solitary silent private timid passive distant",
        "outgoing talkative lively sociable energetic loud bold cheerful forward spirited",
    ),
    "agreeableness": (
        "quarrelsome blunt stubborn suspicious cold selfish harsh competitive mocking rude",
        "kind helpful trusting gentle forgiving generous patient warm modest considerate",
    ),
    "neuroticism": (
        "calm steady relaxed composed unworried even-tempered secure unshaken collected easy-going",
        "anxious tense moody touchy insecure worried irritable fretful unstable self-doubting",
    ),
}
ADJECTIVES = {t: (word_set(low), word_set(high)) for t, (low, high) in _LOW_HIGH.items()}


def role_card(
    id: str,
    name: str,
    experience: str,
    draw: random.Random,
    *,
    poles: Mapping[str, int] | None = None,
    per_trait: int = 2,
) -> Persona:
    """A role. poles: trait -> strength, negative for the low pole (-3..3, 0 is left out); drawn for
    all five where None. traits of the persona: 0.5 + strength / 6, so 0..1.

    Raises:
        UnknownNameError: a trait that is none of the five.
        InputError: a strength outside -3..3.
    """
    if poles is None:
        poles = {trait: draw.choice((-3, -2, -1, 1, 2, 3)) for trait in BIG_FIVE}
    strangers = sorted(set(poles) - set(BIG_FIVE))
    if strangers:
        raise UnknownNameError(f"no traits {', '.join(strangers)}; there are {', '.join(BIG_FIVE)}")
    wrong = {trait: s for trait, s in poles.items() if s not in range(-3, 4)}
    if wrong:
        raise InputError(f"strengths are whole numbers from -3 to 3; got {wrong}")
    words = {strength: word for word, strength in STRENGTHS.items()}
    statements, used = [Statement(experience, "role card")], list[str]()
    for trait, strength in poles.items():
        if strength:
            chosen = draw.sample(sorted(ADJECTIVES[trait][strength > 0]), per_trait)
            used += chosen
            told = " and ".join(chosen)
            statements.append(Statement(f"{name} is {words[abs(strength)]} {told}.", "role card"))
    return Persona(
        id,
        name,
        duties(name),
        tuple(statements),
        {trait: 0.5 + strength / 6.0 for trait, strength in poles.items()},
        {"adjectives": used, "poles": dict(poles)},
    )


def duties(name: str, *, words: int = 30) -> str:
    """What a role has to do while it speaks."""
    return (
        f"Speak as {name} would, and as strongly as the words below say. Draw on what {name} has "
        f"lived through. Show the character and never name it, never call yourself a program, and "
        f"use at most {words} words."
    )


def leaks(card: Persona, reply: str) -> tuple[str, ...]:
    """Adjectives of the card that a reply names: it must be rejected, and counted."""
    said = reply.casefold()
    named: Sequence[str] = card.fields.get("adjectives", ())
    return tuple(a for a in named if re.search(rf"(?<!\w){re.escape(a)}(?!\w)", said))
