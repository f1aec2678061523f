"""The memory store as a protocol, and the small values that go in and out of it.

The user is bound when a store is opened (`consistent_gen.memory.open_memory`); no call takes a
user id, so no forgotten filter can show one user to another. SQLite and PostgreSQL implement the
same protocol and pass the same conformance suite.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from consistent_gen.errors import ConsistentGenError, InputError
from consistent_gen.memory.data.operations import Batch, Op
from consistent_gen.memory.data.records import Kind, Origin, Record

Vector: TypeAlias = NDArray[np.float32]
Status: TypeAlias = Literal["applied", "normalised", "duplicate", "noop", "refused", "quarantined"]


class StaleVersionError(InputError):
    """``expect_version`` was given and somebody wrote in between: read again, then retry."""


class MemoryStoreError(ConsistentGenError):
    """The store cannot be opened or trusted: damaged, newer schema, another user's, in use."""


@dataclass(frozen=True, kw_only=True)
class AsOf:
    """A point in both times; ``None`` means now (world) or everything known so far (recorded)."""

    world: datetime | None = None
    recorded: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class TimeWindow:
    """World time ``[start, end)``; ``None`` leaves a side open.

    An event is inside when it happened in the window, a state when it held at some moment of it.
    """

    start: datetime | None = None
    end: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Hit:
    """A search result: record id, its kind, and a score of which larger is better.

    Scores of ``full_text`` and ``nearest`` are on different scales: fuse them by rank. ``origin``
    is whose word it is, ``at`` when it happened or began to hold, ``text`` what the record says.
    """

    id: str
    kind: Kind
    score: float
    origin: Origin
    at: datetime
    text: str = ""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one operation, kept in the log of the store.

    ``rule`` names the rule of the executor that decided ("path_unknown", "evidence_missing",
    ...; the table is `executor.RULES`), ``reason`` says it in a sentence. ``record`` is the id it
    created or changed, or the empty string. ``id`` is the id of this log entry.
    """

    id: str
    op: Op
    status: Status
    rule: str = ""
    reason: str = ""
    record: str = ""


@dataclass(frozen=True)
class Receipt:
    """What one write did. ``batch`` undoes it; ``version`` is the store's version after it.

    ``ids`` are the ids of the records written, in order; ``duplicate`` tells that this key had
    been applied before and nothing was written now.
    """

    batch: str
    version: int
    recorded_at: datetime
    ids: tuple[str, ...] = ()
    outcomes: tuple[Outcome, ...] = ()
    duplicate: bool = False


@dataclass(frozen=True, kw_only=True)
class TouchedRecords:
    """What writes have touched since a moment.

    ``ids`` are records that were made, changed or ended, and are still there; ``erased`` tells that
    something was erased, which leaves no id behind.
    """

    ids: tuple[str, ...]
    erased: bool


@dataclass(frozen=True, kw_only=True)
class Scope:
    """What to erase. The parts are added up; an empty scope is refused.

    ``ids`` are records of any kind; ``paths`` tree paths (a branch means everything below it);
    ``kinds`` whole kinds; ``window`` the turns said in it; ``everything`` all content.
    Erasure follows the dependencies: what was derived from an erased record goes with it, as do
    the pictures and facts of an erased concept; episodes that mention an erased turn go too.
    With ``sources`` (the default) the turns that are evidence of an erased record go as well, so
    that the words which taught us are not left behind; other records that rest on those turns
    stay, without the evidence. ``generated`` decides on pictures that were drawn of an erased
    concept: ``"erase"`` or ``"keep"`` (kept ones lose every link and their prompt).
    """

    ids: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    kinds: tuple[Kind, ...] = ()
    window: TimeWindow | None = None
    everything: bool = False
    sources: bool = True
    generated: Literal["erase", "keep"] = "erase"


@dataclass(frozen=True, kw_only=True)
class ErasureReceipt:
    """Counts, time and hash of an erasure; holds no content and no ids of what is gone.

    ``rows`` counts erased record versions by kind; ``vectors``, ``media`` (blobs) and ``log``
    (log entries) count what went with them. ``recheck`` is the number of rows of the scope found
    by a second count after the commit (always 0, or `purge` raises). ``scrubbed`` is True when no
    byte is left in the files; otherwise ``pending`` says what still holds some (a reader in
    another process, a server's write-ahead log) and `compact` finishes the work.
    """

    at: datetime
    rows: dict[str, int]
    vectors: int
    media: int
    log: int
    recheck: int
    scrubbed: bool
    pending: tuple[str, ...]
    digest: str


@dataclass(frozen=True, kw_only=True)
class Verification:
    """The result of `verify`: problems in words (none when sound) and what was counted."""

    problems: tuple[str, ...]
    records: int
    vectors: int
    media: int

    @property
    def ok(self) -> bool:
        return not self.problems


@dataclass(frozen=True, kw_only=True)
class MemoryLimits:
    """Quotas of one user; reaching one is refused with a message, nothing is dropped silently.

    ``value_characters`` bounds a tree leaf, ``text_characters`` any other operation's text. The
    log alone is a ring: the oldest entries leave it once it holds ``log_entries``.
    """

    live_records: int = 200_000
    facts: int = 50_000
    habits: int = 5
    concepts: int = 500
    media_bytes: int = 2 * 1024**3
    blob_bytes: int = 32 * 1024**2
    turn_characters: int = 20_000
    value_characters: int = 280
    text_characters: int = 2_000
    ops_per_batch: int = 64
    children_per_branch: int = 24
    log_entries: int = 20_000


@dataclass(frozen=True)
class ReadStatement:
    """What a listener once read from a turn: its words, whom it is about, whether it holds."""

    text: str
    about: str
    holds: bool


@runtime_checkable
class Store(Protocol):
    """One user's memory. Every write is durable when the call returns."""

    @property
    def version(self) -> int:
        """Number of writes so far; changes with every receipt that is not a duplicate."""

    @property
    def limits(self) -> MemoryLimits:
        """The quotas in force."""

    # writing ---------------------------------------------------------------------------------
    def together(self) -> AbstractContextManager[None]:
        """Several writes of which all are kept or none, and which reach the disk at once.

        Nobody else writes meanwhile, so it is for writes that are made in one go.
        """

    def record(self, records: Sequence[Record], *, key: str | None = None) -> Receipt:
        """Append events: turns, media, trait and style observations (not tree, facts, ...).

        One transaction. With ``key`` a repeated call returns the first receipt.
        Media records must name blobs already given to `put_media`.
        """

    def apply(
        self, batch: Batch, *, expect_version: int | None = None, key: str | None = None
    ) -> Receipt:
        """Judge and apply a batch in one transaction; refusals are outcomes, not errors.

        Raises ``StaleVersionError`` when ``expect_version`` is given and is not the version.
        """

    def undo(self, batch: str) -> Receipt:
        """Take back one earlier write of states. Raises ``InputError`` if a later one built on it.

        Both writes stay in history.
        """

    # reading ---------------------------------------------------------------------------------
    def get(self, ids: Sequence[str], *, as_of: AsOf | None = None) -> tuple[Record, ...]:
        """The records with these ids that hold at ``as_of``, in the order asked; others absent.

        With ``as_of=None``: what is believed now and holds in the world now.
        """

    def list(
        self,
        kind: Kind,
        *,
        as_of: AsOf | None = None,
        window: TimeWindow | None = None,
        subject: str | None = None,
        label: str | None = None,
        persona: str | None = None,
        limit: int | None = None,
        newest_first: bool = False,
    ) -> tuple[Record, ...]:
        """Records of a kind ordered by world time, then id.

        ``subject`` keeps what is about one concept id; ``label`` matches `Record.label` exactly
        (tree path, habit or concept name, session, topic).
        """

    def history(self, id: str) -> tuple[Record, ...]:
        """Every version of a record ever written, oldest first; empty when unknown or erased."""

    @property
    def last_write(self) -> datetime:
        """The record time of the newest write, for `changes` and `AsOf.recorded`."""

    def changes(self, since: datetime) -> TouchedRecords:
        """What writes later than ``since`` touched. Costs what they touched, not what is there."""

    def outcomes(self, *, status: Status | None = None, limit: int = 100) -> tuple[Outcome, ...]:
        """The newest log entries: what was applied, refused or quarantined, and why."""

    def release(self, outcome: str) -> Receipt:
        """Apply a quarantined operation because the user said so (as an edit by the user)."""

    def discard(self, outcome: str) -> None:
        """Erase a refused or quarantined operation from the log."""

    def count(self, kind: Kind | None = None) -> int:
        """Number of live records (of one kind)."""

    # searching -------------------------------------------------------------------------------
    def full_text(
        self,
        query: str,
        *,
        kinds: Sequence[Kind] | None = None,
        window: TimeWindow | None = None,
        as_of: AsOf | None = None,
        limit: int = 10,
        each_kind: bool = False,
    ) -> tuple[Hit, ...]:
        """Records whose text or keywords share words with ``query`` (any word), best first.

        Any text is a legal query; nothing in it is read as an operator. ``kinds`` of ``None``
        means all. The window filters before the limit is applied. With ``each_kind`` the limit
        counts for each kind by itself, so that many turns cannot push a few habits out; of kinds
        with thousands of records what lies behind thousands of better matches may then be missing,
        unless a window or a time is asked for.
        """

    def nearest(
        self,
        space: str,
        vector: Vector,
        *,
        kinds: Sequence[Kind] | None = None,
        window: TimeWindow | None = None,
        as_of: AsOf | None = None,
        limit: int = 10,
        each_kind: bool = False,
    ) -> tuple[Hit, ...]:
        """Records by cosine to ``vector`` in ``space``: an exact search, score in [-1, 1].

        Arguments as of `full_text`.
        """

    def read_from(self, turns: Sequence[str]) -> dict[str, tuple[ReadStatement, ...]]:
        """What states were ever read from each of these turns, and whether it holds."""

    def outdated(self, turns: Sequence[str]) -> frozenset[str]:
        """Those of the turns that were read, and from which nothing holds any more.

        A turn from which nothing was ever read is not among them.
        """

    # vectors (derived data) --------------------------------------------------------------------
    def create_space(self, space: str, dimensions: int) -> None:
        """Make a vector space known; the same call again does nothing.

        Raises ``InputError`` if it exists with another number of dimensions.
        """

    def put_vector(self, id: str, space: str, vector: Vector) -> None:
        """Attach a vector (any length but zero; stored at unit length) to the live version."""

    def put_vectors(self, space: str, items: Sequence[tuple[str, Vector]]) -> None:
        """As `put_vector` for many ids in one transaction; ids that are gone are passed over."""

    def vectors(self, space: str, ids: Sequence[str]) -> dict[str, Vector]:
        """Stored unit vectors of the live versions of these ids; absent when there is none."""

    def without_vector(
        self, space: str, kinds: Sequence[Kind], *, limit: int = 256
    ) -> tuple[Record, ...]:
        """Live records of these kinds that have no vector in ``space`` yet, oldest first."""

    def spaces(self) -> dict[str, int]:
        """Known spaces and their dimensions."""

    def active_space(self, role: str) -> str | None:
        """The space that answers for a role ("text", "image"), or ``None``."""

    def switch_space(self, role: str, space: str) -> None:
        """Let ``space`` answer for ``role`` from now on (one row: all readers switch at once)."""

    def drop_space(self, space: str) -> int:
        """Delete a space that no role uses, with its vectors; returns how many there were."""

    # media -------------------------------------------------------------------------------------
    def put_media(self, data: bytes) -> str:
        """Store a blob under its SHA-256 (hex) and return that name; equal bytes are kept once.

        A blob that no record refers to is removed by `compact` once it is an hour old.
        """

    def get_media(self, name: str) -> bytes:
        """The blob's bytes, checked against its name. Raises ``InputError`` when unknown."""

    # whole memory --------------------------------------------------------------------------------
    def purge(self, scope: Scope) -> ErasureReceipt:
        """Erase for good, with everything derived; see `Scope`. Cannot be undone."""

    def still_holds(self, words: Sequence[str]) -> tuple[str, ...]:
        """Which of the words some row of any version, or any byte of the files, still spells.

        Upper and lower case are one. After an erasure this is what "no byte is left" rests on.
        """

    def verify(self) -> Verification:
        """Check the whole store: integrity, links, index, vectors, blobs on both sides."""

    def compact(self) -> Verification:
        """Finish pending erasures, sweep unreferenced blobs, shrink the files, then verify."""

    def export(self, path: str | Path) -> Path:
        """Write everything to one zip file (JSON lines, vectors, media); never overwrites."""

    def restore(self, path: str | Path) -> int:
        """Read an export into this empty store; returns the number of record versions."""

    def close(self) -> None:
        """Release the file or connection; a store is also a context manager."""

    def __enter__(self) -> Store: ...

    def __exit__(self, *error: object) -> None: ...


ORIGIN_TRUST: dict[Origin, Literal["normal", "low"]] = {
    "user": "normal",
    "import": "normal",
    "system": "normal",
    "assistant": "low",
    "document": "low",
}
