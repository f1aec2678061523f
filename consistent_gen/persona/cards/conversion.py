"""From a character card to a persona and back; PersonaChat's lists of sentences.

What a card says about its character becomes statements, one sentence each, with the field it stood
in as their source: these are what a model is told and what measures test one by one. What it says
to a program (system prompts, instructions behind the history) is kept as data, apart.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from consistent_gen.errors import InputError, LimitError
from consistent_gen.persona.cards.card import Card, from_text, replaced
from consistent_gen.persona.cards.prose import (
    Attributes,
    chopped,
    example_dialogues,
    p_list,
    sentences,
    spoken_apart,
    w_plus_plus,
    with_names,
)
from consistent_gen.persona.persona import MAX_STATEMENTS, Persona, Statement

USER = "User"
_LOOKS = re.compile(
    r"\b(?:appearance|looks?|body|build|hair|eyes?|skin|face|height|outfit|cloth(?:es|ing)|attire|"
    r"wears?)\b",
    re.I,
)


def persona_of(card: Card, *, user: str = USER) -> Persona:
    """The persona that a card describes. user: what `{{user}}` becomes.

    summary is the scenario; statements are the sentences of description and personality and the
    lorebook's entries, whose keys are in `fields["lorebook"]`; `fields["examples"]` are
    transcripts; `fields["card"]` keeps the card itself.

    Raises:
        LimitError: more statements than a persona may have.
    """
    name, fields = card.name[:200], dict[str, Any]()
    statements: list[Statement] = []

    def state(texts: Iterable[str], source: str) -> None:
        for piece in (piece for text in texts for piece in chopped(text)):
            if len(statements) == MAX_STATEMENTS:
                raise LimitError(
                    f"the card makes more than {MAX_STATEMENTS:,} statements, which is what a "
                    "persona may have: shorten the description, or take lorebook entries out"
                )
            statements.append(Statement(piece, source))

    formats: list[str] = []
    attributes: Attributes = {}
    examples = [card.texts.get("mes_example", "")]
    for key in ("description", "personality"):
        said, text = spoken_apart(card.texts.get(key, ""))
        if said.strip():
            formats.append("ali:chat")
            examples.append(said)
        listed, text = w_plus_plus(text)
        formats += ["W++"] if listed else []
        more, text = p_list(text)
        formats += ["PList"] if more else []
        for title, values in [*listed.items(), *more.items()]:
            attribute = re.sub(rf"^{re.escape(name)}(?:'s|\u2019s)(?:\s+|$)", "", title, flags=re.I)
            attributes.setdefault(attribute, []).extend(values)
            sentence = _of(name, attribute, values)
            state([with_names(sentence, card.called, user)], f"card:{key}")
        state(sentences(with_names(text, card.called, user)), f"card:{key}")
    for number, (entry, told) in enumerate(_lorebook(card, user), 1):
        state([told], f"card:lorebook:{number}")
        fields.setdefault("lorebook", {})[str(number)] = entry
    dialogues = [d for text in examples for d in example_dialogues(text, card.called, user)]
    greetings = [card.texts.get("first_mes", ""), *card.lists.get("alternate_greetings", ())]
    known: dict[str, Any] = {
        "greetings": [with_names(g, card.called, user) for g in greetings if g.strip()],
        "examples": [dialogue.as_json() for dialogue in dialogues],
        "instructions": {
            key: card.texts[key]
            for key in ("system_prompt", "post_history_instructions")
            if card.texts.get(key, "").strip()
        },
        "about": {
            key: card.texts[key]
            for key in ("creator", "creator_notes", "character_version", "nickname")
            if card.texts.get(key, "").strip()
        },
        "tags": list(card.lists.get("tags", ())),
        "attributes": attributes,
        "formats": list(dict.fromkeys(formats)),
        "appearance": _appearance(attributes, statements),
    }
    fields |= {key: value for key, value in known.items() if value}
    fields["card"] = {"spec": card.spec, "user": user, "text": card.text}
    summary = with_names(card.texts.get("scenario", ""), card.called, user).strip()
    sha = hashlib.sha256(card.text.encode("utf-8", "surrogatepass")).hexdigest()
    provenance = {"format": f"character card {card.spec}", "sha256": sha}
    return Persona(
        _id(name, sha), name, summary, tuple(statements), fields=fields, provenance=provenance
    )


def _id(name: str, sha: str) -> str:
    slug = re.sub(r"[^a-z0-9]+", "-", name.casefold()).strip("-")[:60]
    return slug or f"persona-{sha[:12]}"


def _of(name: str, attribute: str, values: Sequence[str]) -> str:
    told = ", ".join(values)
    if not attribute or attribute.casefold() == name.casefold():
        return f"{name}: {told}"
    return f"{name}'s {attribute[0].lower() + attribute[1:]}: {told}"


def _appearance(attributes: Attributes, statements: Sequence[Statement]) -> str:
    """What a picture can be drawn from: attributes about looks, else sentences that name them."""
    named = {k: v for k, v in attributes.items() if _LOOKS.search(k)}
    if named:
        return "; ".join(f"{k.lower()}: {', '.join(v)}" for k, v in named.items())[:2_000]
    seen = [
        s.text
        for s in statements
        if not s.source.startswith("card:lorebook") and _LOOKS.search(s.text)
    ]
    return " ".join(seen[:4])[:2_000]


def _lorebook(card: Card, user: str) -> Iterator[tuple[dict[str, Any], str]]:
    entries = card.mappings.get("character_book", {}).get("entries", [])
    for entry in entries.values() if isinstance(entries, dict) else entries:
        text = with_names(str(entry.get("content", "")).strip(), card.called, user)
        if not text:
            continue
        keys = entry.get("keys", entry.get("key", []))
        keys = keys.split(",") if isinstance(keys, str) else keys
        second = entry.get("secondary_keys") or entry.get("keysecondary") or []
        yield (
            {
                "keys": [with_names(str(k).strip(), card.called, user) for k in keys or []],
                "also": [str(k) for k in second] if entry.get("selective") else [],
                "always": entry.get("constant") is True,
                "enabled": entry.get("enabled") is not False and entry.get("disable") is not True,
                "regex": entry.get("use_regex") is True,
            },
            text,
        )


def in_play(persona: Persona, said: str) -> Persona:
    """The persona with those lorebook entries alone that what was `said` lately calls up.

    A key is looked for as words, whatever its case; keys that are regular expressions are compared
    as plain text, since a pattern out of a card could take for ever.
    """
    book: Mapping[str, Any] = persona.fields.get("lorebook", {})
    heard = said.casefold()

    def called(keys: Sequence[str]) -> bool:
        return any(
            re.search(rf"(?<!\w){re.escape(key.casefold())}(?!\w)", heard)
            for key in keys
            if key.strip()
        )

    def plays(number: str) -> bool:
        entry = book.get(number, {})
        if not entry.get("enabled", True):
            return False
        if entry.get("always"):
            return True
        return called(entry.get("keys", ())) and (
            not entry.get("also") or called(entry.get("also", ()))
        )

    kept = tuple(
        s
        for s in persona.statements
        if not s.source.startswith("card:lorebook:") or plays(s.source.rpartition(":")[2])
    )
    return replace(persona, statements=kept)


def card_text_of(persona: Persona, spec: str = "") -> tuple[str, str]:
    """(JSON text, version) of a card for a persona.

    A persona that came from a card keeps that card's text, and only what has changed since is
    written anew, in the version it had. Any other becomes a card of version 2, or of `spec`.

    Raises:
        InputError: another version is asked for than the card has, or one that is not written.
    """
    kept = persona.fields.get("card")
    if isinstance(kept, Mapping) and isinstance(kept.get("text"), str):
        card = from_text(kept["text"])
        if spec and spec != card.spec:
            raise InputError(f"the card is of version {card.spec}; it is written as it was")
        return _changed(persona, card, str(kept.get("user", USER))), card.spec
    version = spec or "v2"
    if version not in ("v2", "v3"):
        raise InputError(f"cards are written as v2 or v3, not as {version!r}")
    data: dict[str, Any] = {
        "name": persona.name,
        "description": _description(persona),
        "personality": "",
        "scenario": persona.summary,
        "first_mes": "",
        "mes_example": "",
        "creator_notes": "",
        "system_prompt": "",
        "post_history_instructions": "",
        "alternate_greetings": [],
        "tags": [],
        "creator": "",
        "character_version": "",
        "extensions": {},
    }
    data |= _greetings(persona)
    if version == "v3":
        data["group_only_greetings"] = []
    number = version[1]
    told = {"spec": f"chara_card_{version}", "spec_version": f"{number}.0", "data": data}
    return replaced("{}", told), version


def _description(persona: Persona) -> str:
    own = (s.text for s in persona.statements if not s.source.startswith("card:lorebook"))
    return "\n".join(own)


def _greetings(persona: Persona) -> dict[str, Any]:
    greetings = persona.fields.get("greetings")
    if not isinstance(greetings, list | tuple) or not greetings:
        return {}
    return {"first_mes": str(greetings[0]), "alternate_greetings": list(map(str, greetings[1:]))}


def _changed(persona: Persona, card: Card, user: str) -> str:
    """The card's text with what differs from the persona that it would make today."""
    was = persona_of(card, user=user)
    changes: dict[str, Any] = {}
    if persona.name != was.name:
        changes["name"] = persona.name
    if persona.summary != was.summary:
        changes["scenario"] = persona.summary
    if _description(persona) != _description(was):
        changes |= {"description": _description(persona), "personality": ""}
    if persona.fields.get("greetings") != was.fields.get("greetings"):
        changes |= _greetings(persona)
    if not changes:
        return card.text
    if card.spec == "v1":
        return replaced(card.text, changes)
    text = replaced(card.text, changes, within="data")
    top = json.loads(card.text)
    return replaced(text, {k: v for k, v in changes.items() if k in top})  # programs mirror them


def persona_chat(lines: Sequence[str], name: str) -> Persona:
    """A persona out of PersonaChat's sentences: "your persona: i like cats ." or without the head.

    Raises:
        InputError: no sentence in them.
    """
    told = [re.sub(r"^\s*(?:\d+\s+)?your persona:\s*", "", line, flags=re.I) for line in lines]
    kept = [re.sub(r"\s+([.,!?])", r"\1", line).strip() for line in told]
    statements = [Statement(line, "personachat") for line in kept if line]
    if not statements:
        raise InputError("the list holds no sentence")
    sha = hashlib.sha256("\n".join(kept).encode()).hexdigest()
    provenance = {"format": "PersonaChat list", "sha256": sha}
    return Persona(_id(name, sha), name, "", tuple(statements), provenance=provenance)
