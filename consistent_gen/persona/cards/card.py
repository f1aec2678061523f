"""Character cards as files: versions 1, 2 and 3, as JSON, in PNG pictures and in archives.

A card is kept as its own JSON text. What is read out of it is checked; what is written back takes
every value that did not change from that text as it stood, so that extensions of other programs
survive byte for byte, whatever is in them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from consistent_gen.errors import InputError, LimitError, all_of
from consistent_gen.inputs import missing_file
from consistent_gen.persona.cards import charx, png

MAX_FILE = 64 << 20  # bytes; pictures are large
MAX_CARD = 8 << 20  # characters of JSON
MAX_NESTING = 64
SUFFIXES = (".json", ".png", ".charx", ".txt")

TEXTS = (
    "name", "description", "personality", "scenario", "first_mes", "mes_example", "creator_notes",
    "system_prompt", "post_history_instructions", "creator", "character_version", "nickname",
)  # fmt: skip
LISTS = ("alternate_greetings", "tags", "group_only_greetings", "source")
MAPPINGS = ("character_book", "extensions", "creator_notes_multilingual")
# What older programs (Pygmalion, the text generation web UI) called the same.
OLDER = {
    "char_name": "name", "char_persona": "description", "char_greeting": "first_mes",
    "world_scenario": "scenario", "example_dialogue": "mes_example",
}  # fmt: skip


@dataclass(frozen=True)
class Card:
    """A card as it was read. spec: "v1", "v2" or "v3"; text: its JSON, untouched.

    texts, lists, mappings: the known fields by their names of version 2, empty where there are
    none. notes: what was odd and was read all the same.
    """

    spec: str
    text: str
    texts: Mapping[str, str]
    lists: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    mappings: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What the character is called; version 3 has a nickname for `{{char}}`."""
        return self.texts.get("name", "").strip()

    @property
    def called(self) -> str:
        """What `{{char}}` stands for."""
        return self.texts.get("nickname", "").strip() or self.name

    @property
    def extensions(self) -> Mapping[str, Any]:
        """What other programs keep in the card."""
        found = self.mappings.get("extensions")
        return found if isinstance(found, Mapping) else {}


def read_card(path: str | Path) -> Card:
    """The card in a .json, .png or .charx file.

    Raises:
        InputError: no such file, no card, a damaged one; all that is wrong with its fields at once.
        LimitError: larger than a card may be.
    """
    source = Path(path)
    return parse_card(read_bytes(source), source=str(path))


def read_bytes(source: Path) -> bytes:
    """A file of bounded size."""
    try:
        if source.stat().st_size > MAX_FILE:
            raise LimitError(f"is larger than {MAX_FILE >> 20} MiB", source=source)
        return source.read_bytes()
    except FileNotFoundError:
        raise missing_file(source, SUFFIXES) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"cannot be read: {reason}", source=source) from None


def parse_card(data: bytes, *, source: str | None = None) -> Card:
    """The card in the bytes of a file."""
    try:
        if data.startswith(png.SIGNATURE):
            return from_text(png.card_text(data))
        if data[:4] == b"RIFF" or data[:3] == b"\xff\xd8\xff":
            raise InputError(
                "is a WebP or JPEG picture, which no version of the specification puts cards into; "
                "cards are read from PNG (and APNG), JSON and .charx files"
            )
        if data.startswith(charx.SIGNATURE):
            return _of_archive(data)
        try:
            return from_text(data.decode("utf-8-sig"))
        except UnicodeDecodeError:
            raise InputError("is neither a PNG picture nor UTF-8 text") from None
    except InputError as error:
        raise all_of([part.at(source) for part in error.all]) from None


def _of_archive(data: bytes) -> Card:
    text, others = charx.card_text(data)
    card = from_text(text)
    if not others:
        return card
    told = "1 file" if others == 1 else f"{others:,} files"
    note = f"the archive holds {told} beside the card; export with --picture ARCHIVE to keep that"
    return replace(card, notes=(*card.notes, note))


def from_text(text: str) -> Card:
    """The card in a JSON text."""
    told = _loaded(text)
    if not isinstance(told, dict):
        raise InputError(f"the card is a {type(told).__name__}; expected a JSON mapping")
    data, spec, notes = told, "v1", []
    stated = told.get("spec")
    if "data" in told and (stated is not None or not set(told) & {"name", "char_name"}):
        if not isinstance(told["data"], dict):
            raise InputError("'data' of the card is no mapping; expected the fields of version 2")
        data, spec = told["data"], "v3" if stated == "chara_card_v3" else "v2"
        if stated not in ("chara_card_v2", "chara_card_v3"):
            notes.append(f"spec is {str(stated)[:40]!r}; read as version 2")
    elif isinstance(told.get("data"), dict) and told["data"].get("name"):
        data, spec = told["data"], "v2"
        notes.append("it says no spec; read as version 2")
    named: dict[str, Any] = {}
    for key, value in data.items():
        named[OLDER.get(str(key), str(key))] = value
    if not set(named) & {"description", "personality", "first_mes", "mes_example", "scenario"}:
        listed = ", ".join(sorted(map(str, named))[:8])
        raise InputError(f"this JSON is no character card: it has {listed[:120] or 'nothing'}")
    return _checked(spec, text, named, notes)


def _loaded(text: str) -> Any:
    if len(text) > MAX_CARD:
        raise LimitError(f"the card has {len(text):,} characters of JSON; at most {MAX_CARD:,}")
    try:
        return json.loads(text, parse_constant=_no_constant)
    except RecursionError:
        raise LimitError(f"the card is nested deeper than {MAX_NESTING}") from None
    except ValueError as error:
        if isinstance(error, json.JSONDecodeError):
            where = f"line {error.lineno}, column {error.colno}"
            raise InputError(f"is not JSON: {error.msg} at {where}") from None
        raise InputError(f"is not JSON: {error}") from None


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")


def _checked(spec: str, text: str, data: dict[str, Any], notes: list[str]) -> Card:
    wrong: list[InputError] = []
    texts: dict[str, str] = {}
    lists: dict[str, tuple[str, ...]] = {}
    mappings: dict[str, Any] = {}
    for key in TEXTS:
        value = data.get(key)
        if isinstance(value, str):
            texts[key] = value.replace("\x00", "").replace("\r\n", "\n").replace("\r", "\n")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            texts[key] = str(value)
            notes.append(f"{key} is a number; read as text")
        elif isinstance(value, list) and all(isinstance(entry, str) for entry in value):
            texts[key] = "\n".join(value)
            notes.append(f"{key} is a list; its lines are read")
        elif value is not None:
            wrong.append(InputError(f"{key} is a {type(value).__name__}; expected a text"))
    for key in LISTS:
        value = data.get(key)
        if isinstance(value, str):
            lists[key] = tuple(part.strip() for part in value.split(",") if part.strip())
            notes.append(f"{key} is a text; its parts between commas are read")
        elif isinstance(value, list) and all(isinstance(entry, str) for entry in value):
            lists[key] = tuple(value)
        elif value is not None:
            wrong.append(InputError(f"{key} is {_kind(value)}; expected a list of texts"))
    for key in MAPPINGS:
        value = data.get(key)
        if isinstance(value, dict):
            mappings[key] = value
        elif value not in (None, "", []):
            wrong.append(InputError(f"{key} is {_kind(value)}; expected a mapping"))
    if not texts.get("name", "").strip() and "name" not in [str(e).split()[0] for e in wrong]:
        wrong.append(InputError("name is missing; say what the character is called"))
    wrong += _book_mistakes(mappings.get("character_book"))
    read = {**texts, **lists, "character_book": mappings.get("character_book")}
    for place, value in inside(read):
        if re.search("[\ud800-\udfff]", value):
            wrong.append(InputError(f"{place} holds half of a character (a lone surrogate)"))
        if "\x00" in value:
            wrong.append(InputError(f"{place} holds a NUL character; remove it"))
    if wrong:
        raise all_of(wrong)
    return Card(spec, text, texts, lists, mappings, tuple(notes))


def inside(value: Any, place: str = "", depth: int = 0) -> Iterator[tuple[str, str]]:
    """Every text in a JSON value with its place ("extensions.bot[1].token")."""
    if isinstance(value, str):
        yield place, value
    elif depth < MAX_NESTING and isinstance(value, Mapping):
        for key, inner in value.items():
            shown = f"{place}.{str(key)[:60]}" if place else str(key)[:60]
            yield from inside(inner, shown, depth + 1)
    elif depth < MAX_NESTING and isinstance(value, list | tuple):
        for number, inner in enumerate(value, 1):
            yield from inside(inner, f"{place}[{number}]", depth + 1)


def _kind(value: object) -> str:
    if isinstance(value, list):
        return "a list with something else in it"
    return f"a {type(value).__name__}"


def _book_mistakes(book: Any) -> list[InputError]:
    if book is None:
        return []
    entries = book.get("entries", [])
    if isinstance(entries, dict):  # a world-info file keeps them by number
        entries = list(entries.values())
    if not isinstance(entries, list):
        return [InputError(f"character_book.entries is {_kind(entries)}; expected a list")]
    found = []
    for number, entry in enumerate(entries, 1):
        if not isinstance(entry, dict) or not isinstance(entry.get("content", ""), str):
            place = f"character_book.entries[{number}]"
            found.append(InputError(f"{place} needs 'content', a text, and 'keys', a list"))
    return found


def replaced(text: str, changes: Mapping[str, Any], *, within: str | None = None) -> str:
    """The JSON object in `text` with these keys changed and every other byte as it was.

    within: a key whose object is meant, as "data" of version 2. A key that is not there is added
    at the end.
    """
    if within is not None:
        spans = _spans(text)
        if within not in spans:
            return text
        start, end = spans[within]
        return text[:start] + replaced(text[start:end], changes) + text[end:]
    spans = _spans(text)
    for key in sorted(set(changes) & set(spans), key=lambda k: -spans[k][0]):
        start, end = spans[key]
        text = text[:start] + json.dumps(changes[key], ensure_ascii=False) + text[end:]
    added = [key for key in changes if key not in spans]
    if added:
        end = text.rindex("}")
        told = ", ".join(
            f"{json.dumps(k)}: {json.dumps(changes[k], ensure_ascii=False)}" for k in added
        )
        text = text[:end].rstrip() + (", " if spans else "") + told + text[end:]
    return text


def _spans(text: str) -> dict[str, tuple[int, int]]:
    """Where the value of each key of a JSON object stands in its text; the last of equal keys."""
    decoder, blank = json.JSONDecoder(), re.compile(r"[ \t\r\n]*")

    def skip(place: int) -> int:
        found = blank.match(text, place)
        assert found is not None  # it matches nothing, too
        return found.end()

    spans: dict[str, tuple[int, int]] = {}
    place = skip(text.index("{") + 1)
    while text[place] != "}":
        key, place = decoder.raw_decode(text, place)
        start = skip(skip(place) + 1)  # behind the colon
        _, end = decoder.raw_decode(text, start)
        spans[key] = start, end
        place = skip(end)
        if text[place] == ",":
            place = skip(place + 1)
    return spans
