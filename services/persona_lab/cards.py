"""Character cards by owner, each in a folder of its own.

A card stays the text that came, so that whatever other programs keep in it survives; what is
mended is changed in that text. A folder is found by the owner's id and nothing else. What is kept
of a card's picture are its pixels, drawn anew before they come here.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import re
import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from PIL import Image

from consistent_gen.checkpoints import atomic_dir, atomic_file, write_json
from consistent_gen.client.persona_lab import (
    CardBrief,
    CardFields,
    CardIssue,
    CardList,
    CardOut,
    CardStatement,
)
from consistent_gen.errors import InputError, LimitError, OutputError
from consistent_gen.persona.cards import Card, card_text_of, check_card, parse_card, persona_of
from consistent_gen.persona.cards.card import from_text, replaced
from consistent_gen.persona.cards.png import with_card
from consistent_gen.persona.persona import FORMAT, Persona
from services.errors import Conflict, NotFound, StorageError
from services.store.identifiers import new_id
from services.store.sizes import folder_bytes

MAX_CARDS = 200  # of one owner
MAX_TEXT = 1_000_000  # characters of a card; validating takes time, and others wait
SHOWN_STATEMENTS = 500
_ID = re.compile(r"crd_[0-9a-z]{16,40}")
_TEXT, _KEPT, _PICTURE = "card.json", "kept.json", "picture.png"
_FIELDS = tuple(CardFields.model_fields)


@dataclass(frozen=True)
class KeptCard:
    """A card as it lies in its folder. issues: what the validator said of this text."""

    folder: Path
    card: Card
    issues: tuple[CardIssue, ...]
    created_at: datetime
    updated_at: datetime

    @property
    def persona(self) -> Persona:
        """Who the card describes."""
        return persona_of(self.card)

    def sound(self) -> Persona:
        """The persona of a card without errors. Raises ``Conflict`` that names them."""
        wrong = [f"{i.place}: {i.message}" for i in self.issues if i.severity == "error"]
        if wrong:
            raise Conflict(f"mend the card first: {'; '.join(wrong[:5])}")
        return self.persona

    def shown(self) -> CardOut:
        """The card for the wire."""
        persona = self.persona
        texts = {name: self.card.texts.get(name, "") for name in _FIELDS}
        statements = persona.statements[:SHOWN_STATEMENTS]
        return CardOut(
            id=self.folder.name,
            spec=self.card.spec,
            fields=CardFields(**texts),
            issues=list(self.issues),
            statements=[CardStatement(text=s.text, source=s.source) for s in statements],
            statement_count=len(persona.statements),
            greetings=list(persona.fields.get("greetings", ())),
            appearance=persona.appearance,
            picture=(self.folder / _PICTURE).is_file(),
            created_at=self.created_at,
            updated_at=self.updated_at,
        )


class CardShelf:
    """All cards below `root`. Safe to share between threads."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._lock = threading.Lock()

    def create(
        self, owner: str, data: bytes, picture: bytes | None, notes: Sequence[CardIssue] = ()
    ) -> CardOut:
        """Keep the card in a file's bytes. picture: its pixels as a PNG, where they could be read;
        notes: what else is to be said of the file.

        Raises:
            InputError: no card, a damaged one; all that is wrong with its fields at once.
            LimitError: too large, or there are `MAX_CARDS`.
        """
        text = _card_text(data)
        issues = (*notes, *_issues(text))
        card, now = new_id("crd"), datetime.now(UTC).isoformat()
        with self._lock:
            if len(list(self._folders(owner))) >= MAX_CARDS:
                raise LimitError(f"there are {MAX_CARDS} cards already; delete one first")
            with atomic_dir(self._owner_folder(owner) / card) as folder:
                (folder / _TEXT).write_text(text, encoding="utf-8", newline="")
                if picture is not None:
                    (folder / _PICTURE).write_bytes(picture)
                write_json(folder / _KEPT, _kept(issues, now, now))
        return self.get(owner, card).shown()

    def get(self, owner: str, card: str) -> KeptCard:
        """One card. Raises ``NotFound``, for other owners' too."""
        folder = self.place(owner, card)
        with self._lock:
            try:
                text = (folder / _TEXT).read_text(encoding="utf-8")
                kept = json.loads((folder / _KEPT).read_text(encoding="utf-8"))
            except FileNotFoundError:
                raise NotFound("there is no such card") from None
            except (OSError, ValueError) as error:
                raise StorageError(f"card {card} cannot be read: {error}") from None
        return KeptCard(
            folder,
            from_text(text),
            tuple(CardIssue.model_validate(issue) for issue in kept["issues"]),
            datetime.fromisoformat(kept["created_at"]),
            datetime.fromisoformat(kept["updated_at"]),
        )

    def all(self, owner: str) -> CardList:
        """An owner's cards, oldest first."""
        found = []
        for folder in self._folders(owner):
            with contextlib.suppress(NotFound):  # deleted meanwhile
                kept = self.get(owner, folder.name)
                counts = [issue.severity for issue in kept.issues]
                found.append(
                    CardBrief(
                        id=folder.name, name=kept.card.name, created_at=kept.created_at,
                        errors=counts.count("error"), warnings=counts.count("warning"),
                    )
                )  # fmt: skip
        return CardList(cards=sorted(found, key=lambda one: (one.created_at, one.id)))

    def mend(self, owner: str, card: str, changes: Mapping[str, str]) -> CardOut:
        """Put new texts into the card and validate it again; on any mistake it stays as it was.

        Raises:
            NotFound: there is no such card. InputError: it would be none any more.
        """
        kept = self.get(owner, card)
        new = {k: v for k, v in changes.items() if v != kept.card.texts.get(k, "")}
        text = _mended(kept.card, new)
        issues = (*(i for i in kept.issues if i.place == "picture"), *_issues(text))
        told = _kept(issues, kept.created_at.isoformat(), datetime.now(UTC).isoformat())
        self.write(kept.folder, _TEXT, text.encode("utf-8"))
        self.write(kept.folder, _KEPT, json.dumps(told).encode("utf-8"))
        return self.get(owner, card).shown()

    def delete(self, owner: str, card: str) -> None:
        """Erase a card with its talk and its audit. Raises ``NotFound``."""
        folder = self.place(owner, card)
        doomed = folder.with_name(f".{folder.name}.erased")
        with self._lock:
            # From here on it is not found, whatever becomes of the files.
            try:
                folder.rename(doomed)
            except FileNotFoundError:
                raise NotFound("there is no such card") from None
        shutil.rmtree(doomed, ignore_errors=True)

    def as_json(self, owner: str, card: str) -> bytes:
        """The card as a JSON file."""
        return self.get(owner, card).card.text.encode("utf-8")

    def as_png(self, owner: str, card: str, picture: bytes | None = None) -> bytes:
        """The card in a picture: in `picture` (PNG, JPEG or WebP), or in the one that it came in.

        Raises:
            InputError: there is no picture to put it in.
        """
        kept = self.get(owner, card)
        if picture is None and not (kept.folder / _PICTURE).is_file():
            raise InputError(
                "the card came without a picture; export it as JSON, or name an artifact of yours "
                "as picture"
            )
        data = (kept.folder / _PICTURE).read_bytes() if picture is None else _as_png(picture)
        keywords = ("chara", "ccv3") if kept.card.spec == "v3" else ("chara",)
        return with_card(data, kept.card.text, keywords)

    def place(self, owner: str, card: str) -> Path:
        """The folder of a card. Raises ``NotFound``."""
        folder = self._owner_folder(owner) / card if _ID.fullmatch(card) else None
        if folder is None or not folder.is_dir():
            raise NotFound("there is no such card")
        return folder

    def write(self, folder: Path, name: str, data: bytes) -> None:
        """A file of a card, by rename. Raises ``NotFound`` where the card is gone meanwhile."""
        with self._lock:
            if not folder.is_dir():
                raise NotFound("there is no such card any more")
            with atomic_file(folder / name) as temporary:
                temporary.write_bytes(data)

    def used_bytes(self, owner: str) -> int:
        """Bytes of an owner's cards on the disk, with talks and audits."""
        return folder_bytes(self._owner_folder(owner))

    def _owner_folder(self, owner: str) -> Path:
        # Hashed: an id of a key may hold what a file name may not.
        return self._root / hashlib.sha256(owner.encode()).hexdigest()[:24]

    def _folders(self, owner: str) -> Iterator[Path]:
        mine = self._owner_folder(owner)
        if mine.is_dir():
            yield from (child for child in mine.iterdir() if _ID.fullmatch(child.name))


def _card_text(data: bytes) -> str:
    """The JSON of the card in a file; a persona of ours becomes one."""
    if FORMAT.encode() in data[:4_000_000] and data.lstrip()[:1] == b"{":
        try:
            told = json.loads(data)
        except (ValueError, RecursionError):
            told = None
        if isinstance(told, dict) and told.get("format") == FORMAT:
            return card_text_of(Persona.from_json(told))[0]
    text = parse_card(data).text
    if len(text) > MAX_TEXT:  # before anything that takes longer the longer a card is
        raise LimitError(
            f"the card has {len(text):,} characters; this server keeps cards of at most "
            f"{MAX_TEXT:,}: take lorebook entries out"
        )
    return text


def _issues(text: str) -> Iterator[CardIssue]:
    for issue in check_card(from_text(text)):
        yield CardIssue(
            place=issue.field, message=issue.message, severity=issue.severity, mend=issue.mend
        )


def _mended(card: Card, changes: Mapping[str, str]) -> str:
    """The card's text with new texts in it. Programs mirror fields at the top: both are changed."""
    if not changes:
        return card.text
    if card.spec == "v1":
        return replaced(card.text, _as_named(json.loads(card.text), changes))
    text = replaced(card.text, changes, within="data")
    top = json.loads(card.text)
    return replaced(text, {k: v for k, v in changes.items() if k in top})


def _as_named(told: Mapping[str, Any], changes: Mapping[str, str]) -> dict[str, str]:
    """Changes under the names that an older card has for its fields."""
    from consistent_gen.persona.cards.card import OLDER

    older = {new: old for old, new in OLDER.items() if old in told and new not in told}
    return {older.get(key, key): value for key, value in changes.items()}


def _kept(issues: Sequence[CardIssue], created_at: str, updated_at: str) -> dict[str, Any]:
    told = [issue.model_dump() for issue in issues]
    order = ("error", "warning", "note")
    told.sort(key=lambda issue: order.index(issue["severity"]))
    return {"issues": told, "created_at": created_at, "updated_at": updated_at}


def _as_png(data: bytes) -> bytes:
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "WEBP")) as picture:
            buffer = io.BytesIO()
            picture.convert("RGB").save(buffer, "PNG")
    except (OSError, ValueError) as error:
        raise OutputError(f"the picture cannot be written as PNG: {error}") from None
    return buffer.getvalue()
