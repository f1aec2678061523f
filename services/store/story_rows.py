"""Rows of the story tables as the types that clients see, and what jobs do to stories."""

from __future__ import annotations

import json
from collections.abc import Mapping

from consistent_gen.client.types import Bubble, FrameVersion, StoryFrame, StoryIn, StorySummary
from services.store.artifact_rows import forget
from services.store.database import Database, Query, Row
from services.store.identifiers import moment


def drop(db: Database, story: str) -> None:
    """Delete a story with everything that belongs to it alone, in the caller's transaction."""
    drawn = db.rows("SELECT artifact FROM frame_versions WHERE story = ?", (story,))
    db.change("DELETE FROM stories WHERE id = ?", (story,))
    forget(db, [row["artifact"] for row in drawn])


def append_version(
    db: Database, frame: Row, artifact: str, scores: Mapping[str, float], now: int
) -> None:
    """Add an accepted drawing of a job's frame to its story, in the caller's transaction.

    It becomes the one that counts, unless a later version was drawn already.
    """
    place = (frame["story"], frame["frame"])
    prompt = frame["prompt"]
    if prompt is None:
        story = db.one("SELECT request FROM stories WHERE id = ?", (frame["story"],))
        assert story is not None, "a job without a story"
        prompt = json.loads(story["request"])["frames"][frame["frame"]]["prompt"]
    db.change(
        """INSERT INTO frame_versions
               (story, frame, version, artifact, seed, prompt, job, scores, created_at)
           VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)""",
        (
            *place, frame["version"], artifact, frame["seed"], prompt, frame["job"],
            json.dumps(scores), now,
        ),
    )  # fmt: skip
    newest = db.one(
        "SELECT MAX(version) AS version FROM frame_versions WHERE story = ? AND frame = ?", place
    )
    assert newest is not None
    if newest["version"] == frame["version"]:
        db.change(
            "UPDATE story_frames SET current_version = ? WHERE story = ? AND frame = ?",
            (frame["version"], *place),
        )
    db.change("UPDATE stories SET updated_at = ? WHERE id = ?", (now, frame["story"]))


def frames(rows: Query, story: str, request: StoryIn) -> list[StoryFrame]:
    versions: dict[int, list[FrameVersion]] = {}
    for row in rows("SELECT * FROM frame_versions WHERE story = ? ORDER BY version", (story,)):
        versions.setdefault(row["frame"], []).append(_version(row))
    frames = []
    for row in rows("SELECT * FROM story_frames WHERE story = ? ORDER BY frame", (story,)):
        drawn = versions.get(row["frame"], [])
        current = next((v for v in drawn if v.version == row["current_version"]), None)
        frames.append(
            StoryFrame(
                index=row["frame"],
                prompt=current.prompt if current else request.frames[row["frame"]].prompt,
                caption=row["caption"],
                bubbles=[Bubble(**bubble) for bubble in json.loads(row["bubbles"])],
                current=row["current_version"],
                versions=drawn,
            )
        )
    return frames


def _version(row: Row) -> FrameVersion:
    return FrameVersion(
        version=row["version"],
        artifact=row["artifact"],
        seed=row["seed"],
        prompt=row["prompt"],
        job=row["job"],
        created_at=moment(row["created_at"]),
        scores=json.loads(row["scores"]),
    )


def summary(row: Row) -> StorySummary:
    return StorySummary(
        id=row["id"],
        title=row["title"],
        updated_at=moment(row["updated_at"]),
        frames=row["frames"],
        drawn=row["drawn"],
        cover=row["cover"],
    )
