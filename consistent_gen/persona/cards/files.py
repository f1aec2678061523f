"""Files in which a persona lies: our own JSON, a character card, a PersonaChat list; and back."""

from __future__ import annotations

import json
from pathlib import Path

from consistent_gen.checkpoints import atomic_file, write_json
from consistent_gen.errors import InputError, all_of
from consistent_gen.persona.cards import charx, png
from consistent_gen.persona.cards.card import Card, parse_card, read_bytes
from consistent_gen.persona.cards.conversion import USER, card_text_of, persona_chat, persona_of
from consistent_gen.persona.persona import FORMAT, Persona


def read_persona(path: str | Path, *, user: str = USER) -> tuple[Persona, Card | None]:
    """The persona in a file, with its card where it is one.

    Raises:
        InputError: no such file, or nothing that is read; all mistakes at once.
    """
    source = Path(path)
    data = read_bytes(source)
    if source.suffix.lower() == ".txt" or data.lstrip()[:1] == b"[":
        return persona_chat(_lines(data, source), source.stem), None
    if FORMAT.encode() in data[:4_000_000] and data.lstrip()[:1] == b"{":
        try:
            told = json.loads(data)
        except (ValueError, RecursionError):
            told = None
        if isinstance(told, dict) and "format" in told:
            return Persona.from_json(told, source=str(path)), None
    card = parse_card(data, source=str(path))
    try:
        return persona_of(card, user=user), card
    except InputError as error:
        raise all_of([part.at(str(path)) for part in error.all]) from None


def _lines(data: bytes, source: Path) -> list[str]:
    try:
        text = data.decode("utf-8-sig")
        lines = json.loads(text) if text.lstrip().startswith("[") else text.split("\n")
    except (UnicodeDecodeError, ValueError, RecursionError):
        raise InputError("is no list of sentences", source=source) from None
    if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
        raise InputError("is a list of something else than sentences", source=source)
    return lines


def write_persona(persona: Persona, out: str | Path) -> None:
    """The persona as JSON, by rename."""
    write_json(out, persona.as_json())


def write_card(
    persona: Persona, out: str | Path, *, picture: str | Path | None = None, version: str = ""
) -> str:
    """The persona as a character card, .json, .png or .charx, by rename; the version that it got.

    picture: the file that the card is put into; of an archive the one whose files it takes along.

    Raises:
        InputError: a PNG without a picture to put it in, a picture that is none, another version
            than the card had, an archive for a card that is not of version 3.
    """
    target = Path(out)
    suffix = target.suffix.lower()
    fresh = "v3" if suffix == ".charx" and not persona.fields.get("card") else ""
    text, spec = card_text_of(persona, version or fresh)
    data = text.encode("utf-8")
    if suffix == ".charx":
        if spec != "v3":
            told = f"an archive holds cards of version 3, and this one is of {spec}"
            raise InputError(f"{told}; write it as .json or .png", source=str(out))
        try:
            data = charx.with_card(None if picture is None else read_bytes(Path(picture)), text)
        except InputError as error:
            raise error.at(str(picture)) from None
    elif suffix == ".png":
        if picture is None:
            raise InputError("a card in a picture needs --picture, a PNG file", source=str(out))
        keywords = ("chara", "ccv3") if spec == "v3" else ("chara",)
        try:
            data = png.with_card(read_bytes(Path(picture)), text, keywords)
        except InputError as error:
            raise error.at(str(picture)) from None
    elif suffix != ".json":
        raise InputError("a card is a .json, .png or .charx file", source=str(out))
    with atomic_file(target) as temporary:
        temporary.write_bytes(data)
    return spec
