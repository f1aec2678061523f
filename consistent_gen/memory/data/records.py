"""What a memory is made of: one frozen dataclass per kind of record.

Every record carries two times. *World time* ``[valid_from, valid_to)`` says when the content holds
in the user's life; *record time* ``[recorded_at, retired_at)`` says when the store believed it.
Rows are never edited: a change retires the old row and inserts a new version under the same ``id``
(the bitemporal model of Snodgrass, "Developing Time-Oriented Database Applications in SQL", 1999).

Kinds are *events* (turn, episode, media, trait_obs, style_obs: they happened once) or *states*
(core, fact, habit, concept: they hold for a while). Event kinds are found by the moment they
happened, state kinds by the interval over which they hold.

A caller fills the content fields; the store fills ``id``, ``version``, ``recorded_at``,
``retired_at``, ``created_by`` and ``retired_by``.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any, ClassVar, Literal, TypeAlias

from consistent_gen.errors import InputError, LimitError
from consistent_gen.inputs import check_choice, check_text, check_time

Kind: TypeAlias = Literal[
    "turn", "core", "fact", "episode", "habit", "concept", "trait_obs", "style_obs", "media"
]
Origin: TypeAlias = Literal["user", "assistant", "document", "system", "import"]
Trust: TypeAlias = Literal["high", "normal", "low"]

SCHEMA = 1
BIG_FIVE = ("openness", "conscientiousness", "extraversion", "agreeableness", "neuroticism")
STYLE_DIMENSIONS = 8
ORIGINS: tuple[Origin, ...] = ("user", "assistant", "document", "system", "import")
MAX_CHARACTERS = 200_000
MAX_KEYWORDS = 64
MAX_LINKS = 1_000


@dataclass(frozen=True, kw_only=True)
class Record:
    """Fields that every kind shares. Times are timezone-aware; ``None`` at an end means open.

    ``evidence`` are ids of turns, ``derived_from`` ids of any other records this one was made
    from (erasure follows both), ``media`` the SHA-256 names of blobs it refers to.

    Raises ``InputError`` or ``LimitError`` on a field outside the stated ranges.
    """

    kind: ClassVar[Kind]
    event: ClassVar[bool] = False

    text: str = ""
    keywords: tuple[str, ...] = ()
    persona: str = "default"
    origin: Origin = "user"
    trust: Trust = "normal"
    valid_from: datetime | None = None
    valid_to: datetime | None = None
    evidence: tuple[str, ...] = ()
    derived_from: tuple[str, ...] = ()
    media: tuple[str, ...] = ()
    schema: int = SCHEMA
    id: str = ""
    version: int = 0
    recorded_at: datetime | None = None
    retired_at: datetime | None = None
    created_by: str = ""
    retired_by: str = ""

    def __post_init__(self) -> None:
        check_text(self.text, f"text of a {self.kind}", MAX_CHARACTERS)
        check_text(self.persona, "persona", 100)
        for name, limit in (("keywords", MAX_KEYWORDS), ("evidence", MAX_LINKS)):
            _check_strings(getattr(self, name), name, limit)
        _check_strings(self.derived_from, "derived_from", MAX_LINKS)
        _check_strings(self.media, "media", MAX_LINKS)
        check_choice(self.origin, ORIGINS, "origin")
        check_choice(self.trust, ("high", "normal", "low"), "trust")
        for name in ("valid_from", "valid_to", "recorded_at", "retired_at"):
            check_time(getattr(self, name), name)
        if self.valid_from and self.valid_to and self.valid_to < self.valid_from:
            raise InputError(
                f"valid_to {self.valid_to.isoformat()} lies before valid_from "
                f"{self.valid_from.isoformat()}; swap them or leave valid_to out"
            )

    @property
    def live(self) -> bool:
        """Whether the store still believes this version (it may yet have ended in world time)."""
        return self.retired_at is None

    @property
    def subject_id(self) -> str:
        """The id of the concept this record is about, or the empty string."""
        return ""

    @property
    def label(self) -> str:
        """The key by which its kind is looked up: tree path, habit or concept name, session."""
        return ""

    def body(self) -> dict[str, Any]:
        """The fields of this kind alone, as JSON values."""
        return {name: getattr(self, name) for name in _OWN_FIELDS[self.kind]}

    def content_hash(self) -> str:
        """SHA-256 over kind, normalised text and body: equal for equal content."""
        text = " ".join(unicodedata.normalize("NFC", self.text).split())
        canonical = json.dumps([self.kind, text, self.body()], sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(canonical.encode()).hexdigest()


_SHARED = frozenset(f.name for f in fields(Record))


@dataclass(frozen=True, kw_only=True)
class Turn(Record):
    """One utterance. ``role`` names the speaker's side; its ``origin`` must agree with it.

    Text that came out of a file or a web page is a turn of role ``document``, never part of a
    user turn: what a document says is not evidence for what the user says.
    """

    kind: ClassVar[Kind] = "turn"
    event: ClassVar[bool] = True
    role: Literal["user", "assistant", "document", "system"] = "user"
    session: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self.role, ("user", "assistant", "document", "system"), "role")
        check_text(self.session, "session", 200)
        if self.origin not in (self.role, "import"):
            object.__setattr__(self, "origin", self.role)

    @property
    def label(self) -> str:
        return self.session


@dataclass(frozen=True, kw_only=True)
class CoreLeaf(Record):
    """The value (``text``) of one leaf of the persona tree; ``path`` is dotted, root first."""

    kind: ClassVar[Kind] = "core"
    path: str

    def __post_init__(self) -> None:
        super().__post_init__()
        check_text(self.path, "path", 400)

    @property
    def label(self) -> str:
        return self.path


@dataclass(frozen=True, kw_only=True)
class Fact(Record):
    """One statement about the user or, when ``subject`` is a concept id, about that concept.

    ``topic`` is a free word that groups facts ("preference", "relation", "goal").
    """

    kind: ClassVar[Kind] = "fact"
    subject: str = ""
    topic: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_text(self.subject, "subject", 100)
        check_text(self.topic, "topic", 100)

    @property
    def subject_id(self) -> str:
        return self.subject

    @property
    def label(self) -> str:
        return self.topic


@dataclass(frozen=True, kw_only=True)
class Episode(Record):
    """A summary (``text``) of one topic of a conversation; ``evidence`` are its source turns."""

    kind: ClassVar[Kind] = "episode"
    event: ClassVar[bool] = True
    topic: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_text(self.topic, "topic", 200)

    @property
    def label(self) -> str:
        return self.topic


@dataclass(frozen=True, kw_only=True)
class Habit(Record):
    """A habit or goal: a unique ``name`` and one sentence in the third person."""

    kind: ClassVar[Kind] = "habit"
    name: str

    def __post_init__(self) -> None:
        super().__post_init__()
        check_text(self.name, "name", 100)

    @property
    def label(self) -> str:
        return self.name


@dataclass(frozen=True, kw_only=True)
class Concept(Record):
    """A named thing one can see: a person, a pet, an object. ``text`` describes it.

    Its pictures are ``Media`` records with ``subject`` = this id, and its prototype is folded
    from the vectors of the confirmed ones, so forgetting one picture leaves no stale average.
    ``threshold`` is a cosine in [-1, 1] by space; ``assets`` are opaque JSON objects (adapter
    file hash, base model, strength, trigger); ``consent`` says who agreed, to what, until when.
    """

    kind: ClassVar[Kind] = "concept"
    name: str
    aliases: tuple[str, ...] = ()
    class_name: str = ""
    threshold: Mapping[str, float] = field(default_factory=dict)
    assets: tuple[Mapping[str, Any], ...] = ()
    consent: Mapping[str, str] = field(default_factory=dict)
    avoid: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        check_text(self.name, "name", 100)
        check_text(self.class_name, "class_name", 100)
        _check_strings(self.aliases, "aliases", 32)
        _check_strings(self.avoid, "avoid", 32)

    @property
    def label(self) -> str:
        return self.name


@dataclass(frozen=True, kw_only=True)
class TraitObservation(Record):
    """Big Five scores read from one turn: integers 1..5 by trait name; 3 means no evidence."""

    kind: ClassVar[Kind] = "trait_obs"
    event: ClassVar[bool] = True
    scores: Mapping[str, int]

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, score in self.scores.items():
            check_choice(name, BIG_FIVE, "trait")
            if isinstance(score, bool) or not isinstance(score, int) or not 1 <= score <= 5:
                raise InputError(f"score of {name} is {score!r}; expected an integer from 1 to 5")


@dataclass(frozen=True, kw_only=True)
class StyleObservation(Record):
    """The style of one user turn: eight values in [0, 1], in the order of the style policy."""

    kind: ClassVar[Kind] = "style_obs"
    event: ClassVar[bool] = True
    values: tuple[float, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.values) != STYLE_DIMENSIONS or not all(0 <= v <= 1 for v in self.values):
            raise InputError(
                f"style values are {self.values!r}; expected {STYLE_DIMENSIONS} numbers in [0, 1]"
            )


@dataclass(frozen=True, kw_only=True)
class Media(Record):
    """A stored picture. ``media`` must hold exactly the blob's name; ``text`` is its caption.

    ``subject`` is the concept shown (or empty), ``source`` the id of the media record it was
    cropped from (or empty), ``box`` = (left, top, right, bottom) in pixels of the source, and
    ``confirmed`` whether the user said that the box shows the subject. ``role`` tells a photo
    from a crop and from a picture that we generated. ``details`` is a JSON object (prompt, seed).
    """

    kind: ClassVar[Kind] = "media"
    event: ClassVar[bool] = True
    role: Literal["photo", "crop", "generated"] = "photo"
    media_type: str = "image/png"
    width: int = 0
    height: int = 0
    subject: str = ""
    source: str = ""
    box: tuple[int, ...] = ()
    confirmed: bool = False
    quality: float = 0.0
    details: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self.role, ("photo", "crop", "generated"), "role")
        check_text(self.subject, "subject", 100)
        check_text(self.source, "source", 100)
        if len(self.media) != 1:
            raise InputError(f"a media record names one blob; got {len(self.media)}")
        if len(self.box) not in (0, 4):
            raise InputError(f"box is {self.box!r}; expected (left, top, right, bottom)")

    @property
    def subject_id(self) -> str:
        return self.subject


_CLASSES: tuple[type[Record], ...] = (
    *(Turn, CoreLeaf, Fact, Episode, Habit, Concept),
    *(TraitObservation, StyleObservation, Media),
)
RECORDS: dict[Kind, type[Record]] = {cls.kind: cls for cls in _CLASSES}
_OWN_FIELDS: dict[Kind, tuple[str, ...]] = {
    kind: tuple(sorted({f.name for f in fields(cls)} - _SHARED)) for kind, cls in RECORDS.items()
}
KINDS: tuple[Kind, ...] = tuple(RECORDS)


def build(kind: str, shared: Mapping[str, Any], body: Mapping[str, Any]) -> Record:
    """A record of ``kind`` from shared fields and the JSON body that ``Record.body`` gave.

    Raises ``UnknownNameError`` for an unknown kind or field, ``InputError`` for a bad value.
    """
    check_choice(kind, KINDS, "kind")
    cls = RECORDS[kind]  # type: ignore[index]
    for name in body:
        check_choice(name, _OWN_FIELDS[cls.kind], f"field of a {kind}")
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in body.items()}
    try:
        return cls(**shared, **values)
    except TypeError as error:
        raise InputError(f"a {kind} cannot be made: {error}") from None


def utc_now() -> datetime:
    """The present moment in UTC; the default clock of a store."""
    return datetime.now(UTC)


def _check_strings(values: object, what: str, limit: int) -> None:
    if not isinstance(values, tuple):
        raise InputError(f"{what} is a {type(values).__name__}; expected a tuple of strings")
    if len(values) > limit:
        raise LimitError(f"{what} has {len(values):,} entries; the limit is {limit:,}")
    for value in values:
        check_text(value, what, 1_000)
