"""What keeps an artifact, and what other stores do with it in transactions of their own."""

from __future__ import annotations

from collections.abc import Iterable

from services.errors import NotFound
from services.store.database import Database

# A drawing of a story, or a reference of a character.
SHOWN = """(EXISTS (SELECT 1 FROM frame_versions v WHERE v.artifact = artifacts.id)
    OR EXISTS (SELECT 1 FROM character_references r WHERE r.artifact = artifacts.id))"""
# The plan of a job that is not finished: a picture to draw from.
NEEDED = """EXISTS (SELECT 1 FROM jobs j WHERE j.state IN ('queued', 'running')
    AND j.plan LIKE '%' || artifacts.id || '%')"""
# An event of a job.
TOLD = "EXISTS (SELECT 1 FROM events e WHERE e.artifact = artifacts.id)"


def adopt(db: Database, owner: str, artifact: str) -> None:
    """Keep a temporary artifact for good, as part of the caller's transaction. Raises NotFound."""
    if not db.change(
        "UPDATE artifacts SET temporary = 0 WHERE id = ? AND owner = ?", (artifact, owner)
    ):
        raise NotFound("no such artifact; store the picture first")


def forget(db: Database, artifacts: Iterable[str]) -> None:
    """Delete those of ``artifacts`` that nothing shows any more, in the caller's transaction.

    Their bytes go with the next :meth:`ArtifactStore.sweep`.
    """
    db.many(
        f"DELETE FROM artifacts WHERE id = ? AND NOT {SHOWN}",
        [(artifact,) for artifact in artifacts],
    )


def forget_older(db: Database, before: int) -> int:
    """Delete lasting artifacts from before a moment that nothing shows; returns how many.

    Their bytes go with the next :meth:`ArtifactStore.sweep`.
    """
    return db.change(
        f"DELETE FROM artifacts WHERE temporary = 0 AND created_at < ? AND NOT {SHOWN}", (before,)
    )
