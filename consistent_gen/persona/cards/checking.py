"""What is to be said about a card before anybody talks with it: gaps, oddities, secrets, orders.

A card is somebody else's text. It is shown and never obeyed; what looks like a key is named by its
place, with no more than its first letters.
"""

from __future__ import annotations

from collections.abc import Iterator

from consistent_gen.memory.judging.screening import forged, secrets_in
from consistent_gen.persona.cards.card import Card, inside
from consistent_gen.persona.cards.conversion import USER, persona_of
from consistent_gen.persona.cards.prose import unknown_macros
from consistent_gen.persona.rules import Issue

LONG = 6_000  # characters of statements that every turn of a chat carries
_SHOWN = 4  # characters of a secret
_SEARCHED = 20_000  # characters of one text that are searched for orders in disguise


def check_card(card: Card) -> list[Issue]:
    """All that is worth saying about a card, errors first."""
    found = [
        *_secrets(card), *_gaps(card), *_book(card), *_macros(card), *_orders(card), *_length(card),
        *(Issue("card", note, "note") for note in card.notes),
    ]  # fmt: skip
    order = {"error": 0, "warning": 1, "note": 2}
    return sorted(found, key=lambda issue: order[issue.severity])


def secrets_of(card: Card) -> tuple[Issue, ...]:
    """Keys and passwords in the card, by place."""
    return tuple(_secrets(card))


def _secrets(card: Card) -> Iterator[Issue]:
    for place, text in inside({**card.texts, **card.lists, **card.mappings}):
        for found in dict.fromkeys(secrets_in(text)):
            # A story may well say that a password is "swordfish"; a long token is never prose.
            token = max(found.split(), key=len)
            certain = len(token) >= 16 and any(c.isdigit() for c in token)
            shown = f"{token[:_SHOWN]}..., {len(token)} characters" if certain else "its words"
            yield Issue(
                place,
                f"holds what looks like a key, password or card number ({shown})",
                "error" if certain else "warning",
                "take it out, and withdraw it where it was valid" if certain else "have a look",
            )


def _gaps(card: Card) -> Iterator[Issue]:
    said = [k for k in ("description", "personality") if card.texts.get(k, "").strip()]
    book = card.mappings.get("character_book")
    if not said:
        yield Issue(
            "description",
            "description and personality are empty",
            "warning" if book or card.texts.get("mes_example", "").strip() else "error",
            "say who the character is, one sentence for each thing that holds",
        )
    if not card.texts.get("first_mes", "").strip():
        yield Issue("first_mes", "is empty", "warning", "write the first message of the character")
    if len(card.name) > 200:
        yield Issue("name", f"has {len(card.name)} characters", "warning", "use at most 200")
    for key in ("system_prompt", "post_history_instructions"):
        if card.texts.get(key, "").strip():
            yield Issue(
                key,
                "is an instruction to a program",
                "note",
                "it is kept as data; `persona chat --card-instructions` uses it",
            )


def _book(card: Card) -> Iterator[Issue]:
    entries = card.mappings.get("character_book", {}).get("entries", [])
    for number, entry in enumerate(entries.values() if isinstance(entries, dict) else entries, 1):
        place = f"character_book.entries[{number}]"
        keys = entry.get("keys", entry.get("key"))
        if not str(entry.get("content", "")).strip():
            yield Issue(place, "has no content", "note", "fill it in or take it out")
        elif not keys and entry.get("constant") is not True:
            yield Issue(
                place, "has no keys and is not constant, so it is never used", "warning",
                "give it a key",
            )  # fmt: skip
        if entry.get("use_regex") is True:
            yield Issue(place, "has patterns as keys; they are compared as plain text", "note")


def _macros(card: Card) -> Iterator[Issue]:
    for place in ("description", "personality", "scenario", "first_mes", "mes_example"):
        names = unknown_macros(card.texts.get(place, ""))
        if names:
            listed = ", ".join(f"{{{{{name[:30]}}}}}" for name in names[:5])
            yield Issue(
                place, f"has macros that are left as they are: {listed}", "warning",
                "write out what they stand for",
            )  # fmt: skip


def _orders(card: Card) -> Iterator[Issue]:
    for place in ("description", "personality", "scenario", "first_mes", "mes_example"):
        if forged(card.texts.get(place, "")[:_SEARCHED]):
            yield Issue(
                place,
                "speaks to a program rather than of the character",
                "warning",
                "describe the character; instructions have fields of their own",
            )


def _length(card: Card) -> Iterator[Issue]:
    persona = persona_of(card, user=USER)
    own = [s for s in persona.statements if not s.source.startswith("card:lorebook")]
    size = sum(len(s.text) for s in own) + len(persona.summary)
    if size > LONG:
        yield Issue(
            "description",
            f"every turn carries {size:,} characters of it (about {size // 4:,} tokens)",
            "warning",
            "move details into lorebook entries, which are told when they come up",
        )
    for style in persona.fields.get("formats", ()):
        yield Issue("description", f"is written as {style}, which was taken apart", "note")
    if persona.appearance is None:
        yield Issue(
            "description",
            "does not say how the character looks",
            "note",
            "a picture needs words about hair, clothes or build",
        )
