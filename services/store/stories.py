"""Stories as they stand: what was asked, every drawing of every frame, captions and layout."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence

from consistent_gen.client.types import (
    Bubble,
    FramePatch,
    FrameVersion,
    StoryFrame,
    StoryIn,
    StoryList,
    StoryOut,
    StoryPatch,
    StorySummary,
)
from consistent_gen.draw_settings import GONE
from consistent_gen.errors import InputError
from consistent_gen.sqlite import moment
from services.errors import Conflict, NotFound
from services.store.artifacts import forget
from services.store.database import Database, Query, Row
from services.store.identifiers import check_limit, cursor, micros, new_id, read_cursor


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


DEFAULT_LAYOUT = "grid"


class StoryStore:
    """Stories by owner. Drawings are appended by :meth:`services.jobs.store.JobStore.finish`."""

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        self._db = database
        self._clock = clock

    def create(self, owner: str, request: StoryIn, *, layout: str = DEFAULT_LAYOUT) -> str:
        """Keep a new story; returns its id ("sto_...")."""
        story, now = new_id("sto"), micros(self._clock())
        with self._db.transaction():
            self._db.change(
                """INSERT INTO stories
                       (id, owner, title, layout, revision, request, created_at, updated_at)
                   VALUES (?, ?, ?, ?, 1, ?, ?, ?)""",
                (story, owner, request.title, layout, request.model_dump_json(), now, now),
            )
            self._db.many(
                """INSERT INTO story_frames (story, frame, caption, bubbles, last_version)
                   VALUES (?, ?, ?, '[]', 0)""",
                [(story, i, frame.caption or "") for i, frame in enumerate(request.frames)],
            )
        return story

    def get(self, owner: str, story: str) -> StoryOut:
        """A story with all versions of its frames. Raises NotFound.

        A frame's ``prompt`` is that of the drawing that counts, before there is one the request's.
        """
        with self._db.snapshot() as rows:
            row = _find(rows, owner, story)
            # Settings of earlier versions say how drawings came about that are there already.
            said = json.loads(row["request"])
            request = StoryIn.model_validate({k: v for k, v in said.items() if k not in GONE})
            return StoryOut(
                id=row["id"],
                title=row["title"],
                revision=row["revision"],
                layout=row["layout"],
                created_at=moment(row["created_at"]),
                updated_at=moment(row["updated_at"]),
                request=request,
                frames=frames(rows, story, request),
            )

    def list(self, owner: str, *, after: str | None = None, limit: int = 50) -> StoryList:
        """Stories of an owner, newest first. Raises InputError for a bad ``after``."""
        at, last = read_cursor(after)
        rows = self._db.rows(
            """SELECT s.*, COUNT(*) AS frames, COUNT(f.current_version) AS drawn,
                   (SELECT v.artifact FROM story_frames c JOIN frame_versions v
                        ON v.story = c.story AND v.frame = c.frame
                        AND v.version = c.current_version
                    WHERE c.story = s.id ORDER BY c.frame LIMIT 1) AS cover
               FROM stories s JOIN story_frames f ON f.story = s.id
               WHERE s.owner = ? AND (s.created_at < ? OR (s.created_at = ? AND s.id < ?))
               GROUP BY s.id ORDER BY s.created_at DESC, s.id DESC LIMIT ?""",
            (owner, at, at, last, check_limit(limit) + 1),
        )
        more = cursor(rows[limit - 1]) if len(rows) > limit else None
        return StoryList(stories=[summary(row) for row in rows[:limit]], next=more)

    def patch(self, owner: str, story: str, patch: StoryPatch) -> StoryOut:
        """Change title, layout, captions, bubbles, or which version counts.

        The revision grows with every patch, and not with drawings that arrive, so that a story can
        be edited while it is drawn.

        Raises:
            NotFound: no such story.
            Conflict: ``patch.revision`` is not the story's.
            InputError: a frame or a version that the story does not have.
        """
        with self._db.transaction():
            row = _find(self._db.rows, owner, story)
            _check_revision(row, patch.revision)
            for frame in patch.frames:
                self._patch_frame(story, frame)
            self._db.change(
                """UPDATE stories SET revision = revision + 1, updated_at = ?,
                       title = ?, layout = ? WHERE id = ?""",
                (
                    micros(self._clock()),
                    row["title"] if patch.title is None else patch.title,
                    row["layout"] if patch.layout is None else patch.layout,
                    story,
                ),
            )
        return self.get(owner, story)

    def change(
        self,
        owner: str,
        story: str,
        revision: int,
        request: StoryIn,
        origins: Sequence[int | None],
    ) -> None:
        """Let the story be what `request` asks for. A frame keeps the drawings, the speech and the
        versions of the frame that it was (`origins`); frames that are none any more are deleted.

        Raises:
            NotFound: no such story.
            Conflict: `revision` is not the story's, or it is being drawn.
            InputError: `origins` fit neither.
        """
        with self._db.transaction():
            row = _find(self._db.rows, owner, story)
            _check_revision(row, revision)
            if self._db.rows(
                "SELECT 1 FROM jobs WHERE story = ? AND state IN ('queued', 'running')", (story,)
            ):
                raise Conflict("the story is being drawn; wait until it is done, or cancel the job")
            frames = self._db.rows("SELECT * FROM story_frames WHERE story = ?", (story,))
            versions = self._db.rows("SELECT * FROM frame_versions WHERE story = ?", (story,))
            _check_origins(origins, len(request.frames), len(frames))
            places = {old: new for new, old in enumerate(origins) if old is not None}
            self._db.change("DELETE FROM story_frames WHERE story = ?", (story,))
            self._put_frames(story, request, {places.get(f["frame"], -1): f for f in frames})
            self._put_versions([(places[v["frame"]], v) for v in versions if v["frame"] in places])
            forget(self._db, [v["artifact"] for v in versions if v["frame"] not in places])
            now = micros(self._clock())
            self._db.change(
                """UPDATE stories SET revision = revision + 1, updated_at = ?, asked_at = ?,
                       title = ?, request = ? WHERE id = ?""",
                (now, now, request.title, request.model_dump_json(), story),
            )

    def _put_frames(self, story: str, request: StoryIn, were: Mapping[int, Row]) -> None:
        """Frames of a story; `were`: what they were so far, by where they are now."""
        # Numbers of versions that another frame had in this place must not be used again.
        used = self._db.rows(
            "SELECT frame, MAX(version) AS version FROM job_frames WHERE story = ? GROUP BY frame",
            (story,),
        )
        last = {row["frame"]: int(row["version"]) for row in used}
        rows = []
        for index, frame in enumerate(request.frames):
            was = were.get(index)
            kept = ("[]", None, 0) if was is None else (was["bubbles"], was["current_version"],
                                                         was["last_version"])  # fmt: skip
            newest = max(kept[2], last.get(index, 0))
            rows.append((story, index, frame.caption or "", *kept[:2], newest))
        self._db.many(
            """INSERT INTO story_frames
                   (story, frame, caption, bubbles, current_version, last_version)
               VALUES (?, ?, ?, ?, ?, ?)""",
            rows,
        )

    def _put_versions(self, placed: Sequence[tuple[int, Row]]) -> None:
        self._db.many(
            """INSERT INTO frame_versions
                   (story, frame, version, artifact, seed, prompt, job, scores, created_at)
               VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)""",
            [
                (
                    v["story"], frame, v["version"], v["artifact"], v["seed"], v["prompt"],
                    v["job"], v["scores"], v["created_at"],
                )
                for frame, v in placed
            ],
        )  # fmt: skip

    def delete(self, owner: str, story: str) -> None:
        """Delete a story with its jobs, drawings and events; a worker drawing it is told to stop.

        Drawings that a library character shows stay. Raises NotFound.
        """
        with self._db.transaction():
            _find(self._db.rows, owner, story)
            drop(self._db, story)

    def next_version(
        self, owner: str, story: str, index: int, *, caption: str | None = None
    ) -> int:
        """Reserve the next version of a frame, for a re-roll; ``caption`` replaces the frame's.

        Raises:
            NotFound: no such story or frame.
        """
        with self._db.transaction():
            _find(self._db.rows, owner, story)
            changed = self._db.change(
                """UPDATE story_frames SET last_version = last_version + 1,
                       caption = COALESCE(?, caption) WHERE story = ? AND frame = ?""",
                (caption, story, index),
            )
            if not changed:
                raise NotFound(f"the story has no frame {index}; frames count from 0")
            if caption is not None:
                self._db.change(
                    "UPDATE stories SET revision = revision + 1, updated_at = ? WHERE id = ?",
                    (micros(self._clock()), story),
                )
            row = self._db.one(
                "SELECT last_version FROM story_frames WHERE story = ? AND frame = ?",
                (story, index),
            )
            assert row is not None
            return int(row["last_version"])

    def _patch_frame(self, story: str, patch: FramePatch) -> None:
        where = (story, patch.index)
        found = self._db.one("SELECT * FROM story_frames WHERE story = ? AND frame = ?", where)
        if found is None:
            raise InputError(f"the story has no frame {patch.index}; frames count from 0")
        if patch.current is not None and not self._db.rows(
            "SELECT 1 FROM frame_versions WHERE story = ? AND frame = ? AND version = ?",
            (*where, patch.current),
        ):
            raise InputError(f"frame {patch.index} has no version {patch.current} that was drawn")
        bubbles = found["bubbles"]
        if patch.bubbles is not None:
            bubbles = json.dumps([bubble.model_dump() for bubble in patch.bubbles])
        self._db.change(
            """UPDATE story_frames SET caption = ?, bubbles = ?, current_version = ?
               WHERE story = ? AND frame = ?""",
            (
                found["caption"] if patch.caption is None else patch.caption,
                bubbles,
                found["current_version"] if patch.current is None else patch.current,
                *where,
            ),
        )


def _find(rows: Query, owner: str, story: str) -> Row:
    found = rows("SELECT * FROM stories WHERE id = ? AND owner = ?", (story, owner))
    if not found:
        raise NotFound("no such story; see GET /v1/stories for yours")
    return found[0]


def _check_revision(row: Row, revision: int) -> None:
    if row["revision"] != revision:
        raise Conflict(
            f"the story is at revision {row['revision']}, the change is for "
            f"{revision}; get the story again and repeat the change"
        )


def _check_origins(origins: Sequence[int | None], frames: int, before: int) -> None:
    if len(origins) != frames:
        raise InputError(f"origins has {len(origins)} entries for {frames} frames; give one each")
    kept = [origin for origin in origins if origin is not None]
    if unknown := [origin for origin in kept if not 0 <= origin < before]:
        raise InputError(f"origins names frame {unknown[0]}; the story has {before} frames from 0")
    if len(set(kept)) < len(kept):
        raise InputError("origins names a frame twice; a frame becomes one frame at most")
