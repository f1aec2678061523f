"""The tables, as named migrations that are only ever appended to.

Times are whole microseconds since 1970, JSON is text. Only types and clauses that PostgreSQL has
too are used. Long texts come last in a row, so that reading the columns
before them is quick. Columns named ``frame`` are places in a story from 0.
"""

from __future__ import annotations

from consistent_gen.sqlite import Migrations

MIGRATIONS: Migrations = (
    (
        "0001_artifacts",
        (
            """CREATE TABLE blobs (
                sha256 TEXT PRIMARY KEY,
                bytes BIGINT NOT NULL,
                created_at BIGINT NOT NULL)""",
            """CREATE TABLE artifacts (
                id TEXT PRIMARY KEY,
                owner TEXT NOT NULL,
                sha256 TEXT NOT NULL REFERENCES blobs (sha256),
                media_type TEXT NOT NULL,
                bytes BIGINT NOT NULL,
                temporary INTEGER NOT NULL,
                created_at BIGINT NOT NULL)""",
            "CREATE INDEX artifacts_by_owner ON artifacts (owner, temporary, bytes)",
            "CREATE INDEX artifacts_by_content ON artifacts (sha256)",
            "CREATE INDEX artifacts_temporary ON artifacts (created_at) WHERE temporary = 1",
        ),
    ),
    (
        "0002_stories",
        (
            """CREATE TABLE stories (
                id TEXT PRIMARY KEY,
                owner TEXT NOT NULL,
                title TEXT NOT NULL,
                layout TEXT NOT NULL,
                revision BIGINT NOT NULL,
                created_at BIGINT NOT NULL,
                updated_at BIGINT NOT NULL,
                request TEXT NOT NULL)""",
            "CREATE INDEX stories_by_owner ON stories (owner, created_at, id)",
            """CREATE TABLE story_frames (
                story TEXT NOT NULL REFERENCES stories (id) ON DELETE CASCADE,
                frame INTEGER NOT NULL,
                caption TEXT NOT NULL,
                bubbles TEXT NOT NULL,
                current_version INTEGER,
                last_version INTEGER NOT NULL,
                PRIMARY KEY (story, frame))""",
            """CREATE TABLE frame_versions (
                story TEXT NOT NULL,
                frame INTEGER NOT NULL,
                version INTEGER NOT NULL,
                artifact TEXT NOT NULL REFERENCES artifacts (id),
                seed BIGINT NOT NULL,
                prompt TEXT NOT NULL,
                job TEXT NOT NULL,
                scores TEXT NOT NULL,
                created_at BIGINT NOT NULL,
                PRIMARY KEY (story, frame, version),
                FOREIGN KEY (story, frame) REFERENCES story_frames (story, frame)
                    ON DELETE CASCADE)""",
            "CREATE INDEX frame_versions_by_artifact ON frame_versions (artifact)",
        ),
    ),
    (
        "0003_jobs",
        (
            """CREATE TABLE jobs (
                id TEXT PRIMARY KEY,
                owner TEXT NOT NULL,
                end_user TEXT NOT NULL,
                kind TEXT NOT NULL,
                story TEXT NOT NULL REFERENCES stories (id) ON DELETE CASCADE,
                bulk INTEGER NOT NULL,
                state TEXT NOT NULL,
                created_at BIGINT NOT NULL,
                updated_at BIGINT NOT NULL,
                deadline_s DOUBLE PRECISION,
                deadline_at BIGINT,
                next_event BIGINT NOT NULL,
                plan TEXT NOT NULL)""",
            "CREATE INDEX jobs_by_owner ON jobs (owner, created_at, id)",
            "CREATE INDEX jobs_by_story ON jobs (story)",
            "CREATE INDEX jobs_unfinished ON jobs (owner) WHERE state IN ('queued', 'running')",
            """CREATE INDEX jobs_by_deadline ON jobs (deadline_at)
                WHERE state IN ('queued', 'running')""",
            """CREATE TABLE job_frames (
                job TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
                frame INTEGER NOT NULL,
                story TEXT NOT NULL,
                version INTEGER NOT NULL,
                seed BIGINT NOT NULL,
                steps INTEGER NOT NULL,
                step INTEGER NOT NULL,
                state TEXT NOT NULL,
                attempt INTEGER NOT NULL,
                cancelling INTEGER NOT NULL,
                queued_at BIGINT NOT NULL,
                lease TEXT UNIQUE,
                lease_expires_at BIGINT,
                artifact TEXT,
                scores TEXT NOT NULL,
                problem TEXT,
                prompt TEXT,
                plan TEXT NOT NULL,
                PRIMARY KEY (job, frame),
                UNIQUE (story, frame, version))""",
            # Wide enough that counting who waits reads nothing but the index.
            "CREATE INDEX job_frames_by_state ON job_frames (state, job, steps, queued_at)",
            """CREATE INDEX job_frames_by_expiry ON job_frames (lease_expires_at)
                WHERE lease_expires_at IS NOT NULL""",
            """CREATE TABLE attempts (
                lease TEXT PRIMARY KEY,
                job TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
                frame INTEGER NOT NULL,
                attempt INTEGER NOT NULL,
                worker TEXT NOT NULL,
                steps INTEGER NOT NULL,
                started_at BIGINT NOT NULL,
                ended_at BIGINT,
                outcome TEXT)""",
            "CREATE INDEX attempts_by_job ON attempts (job)",
            "CREATE INDEX attempts_by_end ON attempts (outcome, ended_at)",
            """CREATE TABLE events (
                job TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
                id BIGINT NOT NULL,
                type TEXT NOT NULL,
                frame INTEGER,
                at BIGINT NOT NULL,
                data TEXT NOT NULL,
                artifact TEXT,
                PRIMARY KEY (job, id))""",
            "CREATE INDEX events_by_artifact ON events (artifact) WHERE artifact IS NOT NULL",
            """CREATE TABLE idempotency (
                owner TEXT NOT NULL,
                end_user TEXT NOT NULL,
                key TEXT NOT NULL,
                request_hash TEXT NOT NULL,
                job TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
                PRIMARY KEY (owner, end_user, key))""",
            "CREATE INDEX idempotency_by_job ON idempotency (job)",
            "CREATE TABLE turns (name TEXT PRIMARY KEY, state TEXT NOT NULL)",
        ),
    ),
    (
        "0004_library",
        (
            """CREATE TABLE characters (
                id TEXT PRIMARY KEY,
                owner TEXT NOT NULL,
                name TEXT NOT NULL,
                name_key TEXT NOT NULL,
                description TEXT NOT NULL,
                strength DOUBLE PRECISION,
                created_at BIGINT NOT NULL,
                updated_at BIGINT NOT NULL,
                UNIQUE (owner, name_key))""",
            """CREATE TABLE character_references (
                id TEXT PRIMARY KEY,
                character TEXT NOT NULL REFERENCES characters (id) ON DELETE CASCADE,
                position INTEGER NOT NULL,
                artifact TEXT NOT NULL REFERENCES artifacts (id),
                quality TEXT NOT NULL,
                created_at BIGINT NOT NULL,
                UNIQUE (character, artifact))""",
            "CREATE INDEX character_references_by_artifact ON character_references (artifact)",
        ),
    ),
    (
        "0005_changed_stories",
        # When what is asked for was changed last; 0 for never.
        ("ALTER TABLE stories ADD COLUMN asked_at BIGINT NOT NULL DEFAULT 0",),
    ),
    (
        "0006_silence",
        # Whether a lease has lapsed is not read off a clock: see services.jobs.silence.
        (
            "DROP INDEX job_frames_by_expiry",
            "ALTER TABLE job_frames DROP COLUMN lease_expires_at",
            "ALTER TABLE attempts ADD COLUMN instance TEXT NOT NULL DEFAULT ''",
            "ALTER TABLE attempts ADD COLUMN renewals BIGINT NOT NULL DEFAULT 0",
            """CREATE TABLE suspects (
                job TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
                frame INTEGER NOT NULL,
                PRIMARY KEY (job, frame))""",
        ),
    ),
    (
        "0007_several_gateways",
        (
            # Which folder of pictures belongs to the tables: see services.store.opening.
            "CREATE TABLE store (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
            # Whom any gateway heard of, which one did last, and how often (`beats`).
            """CREATE TABLE workers (
                name TEXT PRIMARY KEY,
                instance TEXT NOT NULL,
                gateway TEXT NOT NULL,
                ready INTEGER NOT NULL,
                beats BIGINT NOT NULL,
                info TEXT NOT NULL)""",
            # Gateways that listen, where there may be several.
            "CREATE TABLE gateways (name TEXT PRIMARY KEY, beats BIGINT NOT NULL)",
        ),
    ),
)
