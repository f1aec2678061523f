"""The tables, as named migrations that are only ever appended to.

Both backends have the same tables and columns. PostgreSQL adds a ``tenant`` column to each, filled
and filtered by the server (row-level security), so that every other statement of this package is
the same text for both. A memory written by a newer version (an unknown migration name) is refused.
"""

from __future__ import annotations

from consistent_gen.memory.database import Database
from consistent_gen.memory.moments import micros
from consistent_gen.memory.records import utc_now
from consistent_gen.memory.store import MemoryStoreError

SQLITE: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "0001_records",
        (
            "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
            """CREATE TABLE batches (
                id TEXT PRIMARY KEY,
                key_hash TEXT UNIQUE,
                version INTEGER NOT NULL,
                recorded_at INTEGER NOT NULL,
                action TEXT NOT NULL,
                ids TEXT NOT NULL,
                purged INTEGER NOT NULL DEFAULT 0)""",
            """CREATE TABLE records (
                row_id INTEGER PRIMARY KEY,
                id TEXT NOT NULL,
                version INTEGER NOT NULL,
                kind TEXT NOT NULL,
                event INTEGER NOT NULL,
                persona TEXT NOT NULL,
                origin TEXT NOT NULL,
                trust TEXT NOT NULL,
                schema_version INTEGER NOT NULL,
                text TEXT NOT NULL,
                keywords TEXT NOT NULL,
                terms TEXT NOT NULL,
                label TEXT NOT NULL,
                subject TEXT NOT NULL,
                body TEXT NOT NULL,
                valid_from INTEGER NOT NULL,
                valid_to INTEGER NOT NULL,
                recorded_at INTEGER NOT NULL,
                retired_at INTEGER NOT NULL,
                created_by TEXT NOT NULL,
                retired_by TEXT NOT NULL,
                content_hash TEXT NOT NULL,
                UNIQUE (id, version))""",
            "CREATE INDEX records_by_time ON records (kind, retired_at, valid_from)",
            "CREATE INDEX records_by_label ON records (kind, label, retired_at)",
            "CREATE INDEX records_by_subject ON records (subject, kind, retired_at)",
            "CREATE INDEX records_by_content ON records (content_hash)",
            "CREATE INDEX records_by_creator ON records (created_by)",
            "CREATE INDEX records_by_retirer ON records (retired_by)",
            """CREATE TABLE links (
                row_id INTEGER NOT NULL REFERENCES records (row_id) ON DELETE CASCADE,
                relation TEXT NOT NULL CHECK (relation IN ('evidence', 'derived', 'media')),
                position INTEGER NOT NULL,
                target TEXT NOT NULL,
                PRIMARY KEY (row_id, relation, position)) WITHOUT ROWID""",
            "CREATE INDEX links_by_target ON links (target, relation)",
        ),
    ),
    (
        "0002_log",
        (
            """CREATE TABLE outcomes (
                seq INTEGER PRIMARY KEY AUTOINCREMENT,
                id TEXT NOT NULL UNIQUE,
                batch TEXT NOT NULL,
                op_key TEXT NOT NULL,
                op TEXT NOT NULL,
                persona TEXT NOT NULL,
                status TEXT NOT NULL,
                rule TEXT NOT NULL,
                reason TEXT NOT NULL,
                record TEXT NOT NULL)""",
            "CREATE INDEX outcomes_by_key ON outcomes (op_key)",
            """CREATE TABLE outcome_links (
                outcome TEXT NOT NULL REFERENCES outcomes (id) ON DELETE CASCADE,
                target TEXT NOT NULL,
                PRIMARY KEY (outcome, target)) WITHOUT ROWID""",
            "CREATE INDEX outcome_links_by_target ON outcome_links (target)",
        ),
    ),
    (
        "0003_search",
        (
            """CREATE VIRTUAL TABLE search USING fts5 (
                text, terms, content='records', content_rowid='row_id',
                tokenize='porter unicode61 remove_diacritics 2')""",
            """CREATE TRIGGER search_insert AFTER INSERT ON records BEGIN
                INSERT INTO search (rowid, text, terms) VALUES (new.row_id, new.text, new.terms);
               END""",
            """CREATE TRIGGER search_delete AFTER DELETE ON records BEGIN
                INSERT INTO search (search, rowid, text, terms)
                VALUES ('delete', old.row_id, old.text, old.terms);
               END""",
            """CREATE TRIGGER search_update AFTER UPDATE OF text, terms ON records BEGIN
                INSERT INTO search (search, rowid, text, terms)
                VALUES ('delete', old.row_id, old.text, old.terms);
                INSERT INTO search (rowid, text, terms) VALUES (new.row_id, new.text, new.terms);
               END""",
        ),
    ),
    (
        "0004_vectors_and_media",
        (
            """CREATE TABLE spaces (
                name TEXT PRIMARY KEY,
                dimensions INTEGER NOT NULL,
                generation INTEGER NOT NULL DEFAULT 0)""",
            "CREATE TABLE roles (role TEXT PRIMARY KEY, space TEXT NOT NULL)",
            """CREATE TABLE vectors (
                seq INTEGER PRIMARY KEY AUTOINCREMENT,
                row_id INTEGER NOT NULL REFERENCES records (row_id) ON DELETE CASCADE,
                space TEXT NOT NULL REFERENCES spaces (name) ON DELETE CASCADE,
                data BLOB NOT NULL,
                UNIQUE (space, row_id))""",
            "CREATE INDEX vectors_by_row ON vectors (row_id)",
            """CREATE TABLE blobs (
                name TEXT PRIMARY KEY,
                bytes INTEGER NOT NULL,
                added_at INTEGER NOT NULL)""",
        ),
    ),
    (
        # What holds now is found at once, however often a leaf has changed.
        "0005_open_pieces",
        (
            "DROP INDEX records_by_label",
            "CREATE INDEX records_by_label ON records (kind, label, retired_at, valid_to)",
        ),
    ),
)


def migrate(db: Database, migrations: tuple[tuple[str, tuple[str, ...]], ...]) -> None:
    """Bring ``db`` to the newest migration, each in one transaction with its own name.

    Raises ``MemoryStoreError`` when the memory knows a migration that we do not.
    """
    with db.transaction():
        db.rows("CREATE TABLE IF NOT EXISTS migrations (name TEXT PRIMARY KEY, applied_at BIGINT)")
        done = {str(name) for (name,) in db.rows("SELECT name FROM migrations")}
        unknown = sorted(done - {name for name, _ in migrations})
        if unknown:
            raise MemoryStoreError(
                f"this memory was written by a newer version (it has {', '.join(unknown)}); "
                "upgrade consistent-gen to open it; nothing was changed"
            )
        for name, statements in migrations:
            if name in done:
                continue
            for statement in statements:
                db.rows(statement)
            db.rows("INSERT INTO migrations VALUES (?, ?)", (name, micros(utc_now())))
