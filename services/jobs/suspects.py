"""Frames that may have killed their worker: they are drawn alone, one after the other.

Of the frames that a worker was drawing when it died nobody knows which one was at fault. Drawn
alone they show it: who dies again was killed by the frame that it had.
"""

from __future__ import annotations

from enum import Enum

from services.jobs.silence import WorkerId
from services.store import Database
from services.store.database import Row

OF_FRAME = "SELECT 1 FROM suspects s WHERE s.job = f.job AND s.frame = f.frame"


class NextUp(Enum):
    """What a worker that asks for frames may be given."""

    others = "what is not suspected"
    suspect = "one suspect, and nothing beside it"
    nothing = "nothing, until it has drawn what it has"


def suspect(db: Database, frame: Row) -> None:
    """A frame shall be drawn alone from now on."""
    db.change(
        "INSERT INTO suspects (job, frame) VALUES (?, ?) ON CONFLICT (job, frame) DO NOTHING",
        (frame["job"], frame["frame"]),
    )


def acquit(db: Database, frame: Row) -> None:
    """A frame was drawn, so it kills nobody."""
    db.change("DELETE FROM suspects WHERE job = ? AND frame = ?", (frame["job"], frame["frame"]))


def turn_of(db: Database, worker: WorkerId, may_run: set[str]) -> NextUp:
    """What may be given to a worker now. may_run: owners who may have one more frame drawn.

    Only one suspect is drawn at a time, and workers that draw go on with the rest meanwhile. While
    none is, whoever asks first when it has nothing left draws the next one.
    """
    found = db.rows(
        """SELECT f.state, j.owner, j.bulk, a.worker, a.instance
           FROM suspects s JOIN job_frames f ON f.job = s.job AND f.frame = s.frame
           JOIN jobs j ON j.id = s.job LEFT JOIN attempts a ON a.lease = f.lease
           WHERE f.state IN ('queued', 'running')"""
    )
    if not found:
        return NextUp.others
    drawing = [WorkerId(r["worker"], r["instance"]) for r in found if r["state"] == "running"]
    if worker in drawing:
        return NextUp.nothing
    waiting = [r for r in found if r["state"] == "queued" and r["owner"] in may_run]
    if drawing or not waiting:
        return NextUp.others
    if all(row["bulk"] for row in waiting) and _urgent_others(db):
        return NextUp.others
    return NextUp.nothing if _is_busy(db, worker) else NextUp.suspect


def _urgent_others(db: Database) -> bool:
    return bool(
        db.rows(
            f"""SELECT 1 FROM job_frames f JOIN jobs j ON j.id = f.job
                WHERE f.state = 'queued' AND j.bulk = 0 AND NOT EXISTS ({OF_FRAME}) LIMIT 1"""
        )
    )


def _is_busy(db: Database, worker: WorkerId) -> bool:
    return bool(
        db.rows(
            """SELECT 1 FROM attempts WHERE outcome IS NULL AND worker = ? AND instance = ?
               LIMIT 1""",
            (worker.name, worker.instance),
        )
    )
