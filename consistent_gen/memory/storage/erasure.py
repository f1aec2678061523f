"""Erasure: what must go with what, removing it in one transaction, and counting again.

Rows go first, together with their index entries, vectors, links and log entries, under a flag
that says the files still have to be scrubbed. Then the bytes of orphaned blobs go, then the
backend rewrites its files. A crash in between leaves the flag set, and the next open finishes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field

from consistent_gen.errors import InputError
from consistent_gen.memory.data.store import AsOf, ErasureReceipt, MemoryStoreError, Scope
from consistent_gen.memory.storage import media
from consistent_gen.memory.storage.database import UserDatabase
from consistent_gen.memory.storage.rows import at, chunks, marks, of_kinds
from consistent_gen.memory.storage.writes import Write, present, recount_versions, write_meta
from consistent_gen.sqlite import moment

PENDING = "erasure_pending"
# Summaries and observations are made of a turn's words or drawn from them as a whole.
_WHOLLY_FROM_TURNS = ("episode", "trait_obs", "style_obs")
_RESTING_ON_TURNS = ("core", "fact", "habit", "media")


@dataclass
class Plan:
    """What goes and what stays bare.

    ``gone`` maps each id to whether it goes on its own account (it was asked for, or was made
    from or is about such a record) or merely because a turn goes. ``kept_pictures`` are generated
    pictures that stay without a word.
    """

    gone: dict[str, bool] = field(default_factory=dict)
    kept_pictures: set[str] = field(default_factory=set)


@dataclass
class Erased:
    """What an erasing transaction removed."""

    rows: dict[str, int]
    vectors: int
    media: int
    log: int
    gone: frozenset[str]


def plan(db: UserDatabase, scope: Scope) -> Plan:
    """Everything that ``scope`` means, by following the dependencies to their end."""
    named = scope.ids or scope.paths or scope.kinds or scope.window or scope.everything
    if not named:
        raise InputError("the scope is empty; name ids, paths, kinds, a window or everything")
    made = Plan()
    if scope.everything:
        return made
    frontier = dict.fromkeys(_seeds(db, scope), True)
    while frontier:
        made.gone |= frontier
        found = dict.fromkeys(_from_turns(db, frontier, made.gone), False)
        if scope.sources:
            owned = [id for id, own in frontier.items() if own]
            found |= dict.fromkeys(_evidence(db, owned), False)
        found |= dict.fromkeys(_made_from(db, frontier, scope, made), True)
        frontier = {
            id: own
            for id, own in found.items()
            if id not in made.kept_pictures and (id not in made.gone or own > made.gone[id])
        }
    return made


def erase(db: UserDatabase, made: Plan, write: Write, *, everything: bool) -> Erased:
    """Remove what was planned; inside a transaction."""
    if everything:
        return _erase_everything(db, write)
    ids = sorted(made.gone)
    rows: dict[str, int] = {}
    vectors = 0
    batches: set[str] = set()
    blobs: set[str] = set()
    targets = set(ids)
    for some in chunks(ids):
        where = f"r.id IN ({marks(len(some))})"
        for kind, label, created, retired in db.rows(
            f"SELECT r.kind, r.label, r.created_by, r.retired_by FROM records r WHERE {where}", some
        ):
            rows[kind] = rows.get(kind, 0) + 1
            batches |= {created, retired} - {""}
            if label and kind in ("core", "habit", "concept"):
                targets.add(label)
        blobs |= {str(name) for (name,) in db.rows(
            f"SELECT l.target FROM links l JOIN records r ON r.row_id = l.row_id "
            f"WHERE l.relation = 'media' AND {where}", some)}  # fmt: skip
        ((count,),) = db.rows(
            f"SELECT COUNT(*) FROM vectors v JOIN records r ON r.row_id = v.row_id WHERE {where}",
            some,
        )
        vectors += int(count)
    removed_log = _forget_log(db, targets)
    for some in chunks(ids):
        db.rows(f"DELETE FROM records WHERE id IN ({marks(len(some))})", some)
        # What stays loses its mention of what went: evidence that no longer exists.
        db.rows(f"DELETE FROM links WHERE target IN ({marks(len(some))})", some)
    _strip_pictures(db, made.kept_pictures)
    _close_batches(db, batches)
    removed_media = 0
    for some in chunks(sorted(blobs)):
        removed_media += db.change(
            f"DELETE FROM blobs WHERE name IN ({marks(len(some))}) AND {media.UNUSED}", some
        )
    _finish(db, write)
    return Erased(rows, vectors, removed_media, removed_log, frozenset(ids))


def receipt(write: Write, erased: Erased, recheck: int, pending: tuple[str, ...]) -> ErasureReceipt:
    """The receipt; its digest covers time and counts, never content."""
    counts = [write.now, erased.rows, erased.vectors, erased.media, erased.log]
    digest = hashlib.sha256(json.dumps(counts, sort_keys=True).encode()).hexdigest()
    return ErasureReceipt(
        at=moment(write.now), rows=erased.rows, vectors=erased.vectors, media=erased.media,
        log=erased.log, recheck=recheck, scrubbed=not pending, pending=pending, digest=digest,
    )  # fmt: skip


def recount(db: UserDatabase, erased: Erased) -> int:
    """Rows of the erased ids that are still there. Raises ``MemoryStoreError`` unless none."""
    left = 0
    for some in chunks(sorted(erased.gone)):
        ((count,),) = db.rows(
            f"SELECT COUNT(*) FROM records WHERE id IN ({marks(len(some))})", some
        )
        left += int(count)
    if left:
        raise MemoryStoreError(f"{left} rows outlived their erasure; run verify")
    return left


def _seeds(db: UserDatabase, scope: Scope) -> set[str]:
    seeds = set(present(db, "records", "id", scope.ids))
    unknown = set(scope.ids) - seeds
    if unknown:
        raise InputError(f"nothing has the id {sorted(unknown)[0]!r}; nothing was erased")
    for path in scope.paths:
        below = f"{path}."
        seeds |= {str(i) for (i,) in db.rows(
            "SELECT DISTINCT id FROM records WHERE kind = 'core' "
            "AND (label = ? OR substr(label, 1, ?) = ?)", (path, len(below), below))}  # fmt: skip
    if scope.kinds:
        where = of_kinds(scope.kinds)
        seeds |= {str(i) for (i,) in db.rows(
            f"SELECT DISTINCT r.id FROM records r WHERE {where.sql}", where.values)}  # fmt: skip
    if scope.window:
        where = of_kinds(("turn",)) & at(AsOf(), scope.window, 0)
        seeds |= {str(i) for (i,) in db.rows(
            f"SELECT DISTINCT r.id FROM records r WHERE {where.sql}", where.values)}  # fmt: skip
    return seeds


def _made_from(db: UserDatabase, gone: Iterable[str], scope: Scope, made: Plan) -> set[str]:
    """What was derived from ``gone``, and the facts and pictures about a concept among them."""
    found: set[str] = set()
    for some in chunks(sorted(gone)):
        listed = marks(len(some))
        found |= {str(i) for (i,) in db.rows(
            "SELECT DISTINCT r.id FROM links l JOIN records r ON r.row_id = l.row_id "
            f"WHERE l.relation = 'derived' AND l.target IN ({listed})", some)}  # fmt: skip
        found |= {str(i) for (i,) in db.rows(
            f"SELECT DISTINCT id FROM records WHERE subject <> '' AND subject IN ({listed})",
            some)}  # fmt: skip
    if scope.generated == "keep":
        made.kept_pictures |= {
            str(id)
            for some in chunks(sorted(found))
            for id, body in db.rows(
                f"SELECT id, body FROM records WHERE kind = 'media' AND id IN ({marks(len(some))})",
                some,
            )
            if json.loads(body)["role"] == "generated" and id not in made.gone
        }
    return found


def _from_turns(db: UserDatabase, frontier: dict[str, bool], gone: dict[str, bool]) -> set[str]:
    """What rests on the turns among ``frontier``.

    A turn that goes on its own account takes all that was read from it; one that goes only as
    somebody's evidence takes its summaries and observations, not the other facts it taught.
    """
    found: set[str] = set()
    for some in chunks(sorted(frontier)):
        for id, kind, turn in db.rows(
            "SELECT DISTINCT r.id, r.kind, l.target FROM links l "
            "JOIN records r ON r.row_id = l.row_id "
            f"WHERE l.relation = 'evidence' AND l.target IN ({marks(len(some))})",
            some,
        ):
            own = frontier[turn]
            taught = own and (kind in _RESTING_ON_TURNS or _evidence(db, [id]) <= set(gone))
            if kind in _WHOLLY_FROM_TURNS or taught:
                found.add(str(id))
    return found


def _evidence(db: UserDatabase, ids: Iterable[str]) -> set[str]:
    """All turns that any version of ``ids`` ever had as evidence."""
    found: set[str] = set()
    for some in chunks(sorted(ids)):
        found |= {str(t) for (t,) in db.rows(
            "SELECT DISTINCT l.target FROM links l JOIN records r ON r.row_id = l.row_id "
            f"WHERE l.relation = 'evidence' AND r.id IN ({marks(len(some))})", some)}  # fmt: skip
    return found


def _forget_log(db: UserDatabase, targets: Iterable[str]) -> int:
    removed = 0
    for some in chunks(sorted(targets)):
        removed += db.change(
            "DELETE FROM outcomes WHERE id IN (SELECT outcome FROM outcome_links "
            f"WHERE target IN ({marks(len(some))}))",
            some,
        )
    return removed


def _strip_pictures(db: UserDatabase, ids: set[str]) -> None:
    """Cut every word and link from generated pictures that the user wants to keep."""
    for id in sorted(ids):
        for row_id, body in db.rows("SELECT row_id, body FROM records WHERE id = ?", (id,)):
            bare = {**json.loads(body), "subject": "", "source": "", "details": {}}
            db.rows(
                "UPDATE records SET text = '', terms = '', keywords = '[]', subject = '', "
                "body = ?, content_hash = '' WHERE row_id = ?",
                (json.dumps(bare, sort_keys=True), row_id),
            )
            db.rows("DELETE FROM links WHERE row_id = ? AND relation <> 'media'", (row_id,))


def _close_batches(db: UserDatabase, batches: set[str]) -> None:
    """Writes that touched erased rows can no longer be undone, nor recognised by their key."""
    for some in chunks(sorted(batches)):
        db.rows(
            "UPDATE batches SET key_hash = NULL, ids = '[]', purged = 1 "
            f"WHERE id IN ({marks(len(some))})",
            some,
        )


def _erase_everything(db: UserDatabase, write: Write) -> Erased:
    rows = {
        str(kind): int(count)
        for kind, count in db.rows("SELECT kind, COUNT(*) FROM records GROUP BY kind")
    }
    counts = [int(db.rows(f"SELECT COUNT(*) FROM {t}")[0][0]) for t in ("vectors", "outcomes")]
    for table in ("vectors", "links", "records", "outcomes", "batches"):
        db.rows(f"DELETE FROM {table}")
    removed = db.change("DELETE FROM blobs")
    _finish(db, write)
    return Erased(rows, counts[0], removed, counts[1], frozenset())


def _finish(db: UserDatabase, write: Write) -> None:
    db.rows("UPDATE spaces SET generation = generation + 1")
    recount_versions(db)
    write_meta(db, PENDING, "1")
    write.finish("purge", None)
    db.trace("purge_deleted")
