"""Is a memory sound? Checks that hold for both backends; each problem is one sentence."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from consistent_gen.memory.database import Database
from consistent_gen.memory.media import BlobStore
from consistent_gen.memory.moments import FOREVER

_EMPTY_RESULTS = (
    ("evidence names a turn that is not there",
     "SELECT l.target FROM links l WHERE l.relation = 'evidence' "
     "AND NOT EXISTS (SELECT 1 FROM records r WHERE r.id = l.target)"),
    ("a record derives from one that is not there",
     "SELECT l.target FROM links l WHERE l.relation = 'derived' "
     "AND NOT EXISTS (SELECT 1 FROM records r WHERE r.id = l.target)"),
    ("a record refers to media that is not there",
     "SELECT l.target FROM links l WHERE l.relation = 'media' "
     "AND NOT EXISTS (SELECT 1 FROM blobs b WHERE b.name = l.target)"),
    ("a record is about a concept that is not there",
     "SELECT r.id FROM records r WHERE r.subject <> '' "
     "AND NOT EXISTS (SELECT 1 FROM records c WHERE c.id = r.subject)"),
    ("a version was retired before it was recorded",
     "SELECT r.id FROM records r WHERE r.retired_at < r.recorded_at OR r.valid_to < r.valid_from"),
    ("two believed versions hold at the same time",
     "SELECT a.id FROM records a JOIN records b ON a.id = b.id AND a.version < b.version "
     f"WHERE a.retired_at = {FOREVER} AND b.retired_at = {FOREVER} "
     "AND a.valid_from < b.valid_to AND b.valid_from < a.valid_to"),
    ("a tree path or habit holds two values at once",
     "SELECT a.id FROM records a JOIN records b ON a.kind = b.kind AND a.label = b.label "
     "AND a.persona = b.persona AND a.id < b.id WHERE a.kind IN ('core', 'habit') "
     f"AND a.retired_at = {FOREVER} AND b.retired_at = {FOREVER} "
     "AND a.valid_from < b.valid_to AND b.valid_from < a.valid_to"),
)  # fmt: skip


def broken_rules(db: Database) -> Iterator[str]:
    """Rules between rows that are broken, with one example each."""
    for what, sql in _EMPTY_RESULTS:
        broken = db.rows(sql)
        if broken:
            yield f"{what} ({len(broken)} times, first: {broken[0][0]})"


def problems(db: Database, blobs: BlobStore) -> Iterator[str]:
    """Everything that is wrong. Reads all media bytes."""
    with db.snapshot():
        yield from list(broken_rules(db))
        sizes = {str(n): int(b) for n, b in db.rows("SELECT name, bytes FROM blobs")}
    # Each name is asked for by itself: a put or a purge may be under way in another process.
    for name, size in sizes.items():
        data = blobs.read(name)
        if data is None:
            if db.rows("SELECT 1 FROM blobs WHERE name = ?", (name,)):
                yield f"media {name[:12]}... has a row but no bytes"
        elif len(data) != size or hashlib.sha256(data).hexdigest() != name:
            yield f"media {name[:12]}... is damaged"
    for name in list(blobs.names()):
        if name not in sizes and not db.rows("SELECT 1 FROM blobs WHERE name = ?", (name,)):
            yield f"media {name[:12]}... has bytes but no row (compact sweeps it)"


def counts(db: Database) -> tuple[int, int, int]:
    """Record versions, vectors, blobs."""
    tables = ("records", "vectors", "blobs")
    first, second, third = (int(db.rows(f"SELECT COUNT(*) FROM {t}")[0][0]) for t in tables)
    return first, second, third
