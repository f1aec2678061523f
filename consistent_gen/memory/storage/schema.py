"""The tables, as named migrations that are only ever appended to.

Both backends have the same tables and columns. PostgreSQL adds a ``tenant`` column to each, filled
and filtered by the server (row-level security), so that every other statement of this package is
the same text for both: a row is seen and written only where ``tenant`` is the one that the
connection was bound to when it opened, whatever a statement says. Its statements run as the role
``consistent_gen_app``, which owns nothing and cannot bypass row-level security.

A memory written by a newer version (an unknown migration name) is refused.
"""

from __future__ import annotations

from consistent_gen import sqlite
from consistent_gen.memory.data.records import utc_now
from consistent_gen.memory.data.store import MemoryStoreError
from consistent_gen.memory.storage.database import UserDatabase
from consistent_gen.sqlite import Migrations, micros

SQLITE: Migrations = (
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

SCHEMA = "consistent_gen_memory"
ROLE = "consistent_gen_app"
TENANT = "consistent_gen.tenant"
TABLES = (
    *("meta", "batches", "records", "links", "outcomes", "outcome_links"),
    *("search", "spaces", "roles", "vectors", "blobs", "blob_data"),
)
_TENANT = f"tenant TEXT NOT NULL DEFAULT current_setting('{TENANT}')"

_RECORDS = (
    f"CREATE TABLE meta ({_TENANT}, name TEXT, value TEXT NOT NULL, PRIMARY KEY (tenant, name))",
    f"""CREATE TABLE batches (
        {_TENANT}, id TEXT, key_hash TEXT, version BIGINT NOT NULL, recorded_at BIGINT NOT NULL,
        action TEXT NOT NULL, ids TEXT NOT NULL, purged INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (tenant, id), UNIQUE (tenant, key_hash))""",
    f"""CREATE TABLE records (
        row_id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        {_TENANT}, id TEXT NOT NULL, version INTEGER NOT NULL, kind TEXT NOT NULL,
        event INTEGER NOT NULL, persona TEXT NOT NULL, origin TEXT NOT NULL, trust TEXT NOT NULL,
        schema_version INTEGER NOT NULL, text TEXT NOT NULL, keywords TEXT NOT NULL,
        terms TEXT NOT NULL, label TEXT NOT NULL, subject TEXT NOT NULL, body TEXT NOT NULL,
        valid_from BIGINT NOT NULL, valid_to BIGINT NOT NULL, recorded_at BIGINT NOT NULL,
        retired_at BIGINT NOT NULL, created_by TEXT NOT NULL, retired_by TEXT NOT NULL,
        content_hash TEXT NOT NULL, UNIQUE (tenant, id, version))""",
    "CREATE INDEX records_by_time ON records (tenant, kind, retired_at, valid_from)",
    "CREATE INDEX records_by_label ON records (tenant, kind, label)",
    "CREATE INDEX records_by_subject ON records (tenant, subject, kind)",
    "CREATE INDEX records_by_content ON records (tenant, content_hash)",
    "CREATE INDEX records_by_creator ON records (tenant, created_by)",
    "CREATE INDEX records_by_retirer ON records (tenant, retired_by)",
    f"""CREATE TABLE links (
        {_TENANT}, row_id BIGINT NOT NULL REFERENCES records ON DELETE CASCADE,
        relation TEXT NOT NULL CHECK (relation IN ('evidence', 'derived', 'media')),
        position INTEGER NOT NULL, target TEXT NOT NULL,
        PRIMARY KEY (row_id, relation, position))""",
    "CREATE INDEX links_by_target ON links (tenant, target, relation)",
)
_LOG = (
    f"""CREATE TABLE outcomes (
        seq BIGINT GENERATED ALWAYS AS IDENTITY, {_TENANT}, id TEXT, batch TEXT NOT NULL,
        op_key TEXT NOT NULL, op TEXT NOT NULL, persona TEXT NOT NULL, status TEXT NOT NULL,
        rule TEXT NOT NULL, reason TEXT NOT NULL, record TEXT NOT NULL,
        PRIMARY KEY (tenant, id))""",
    "CREATE INDEX outcomes_by_key ON outcomes (tenant, op_key)",
    "CREATE INDEX outcomes_by_seq ON outcomes (tenant, seq)",
    f"""CREATE TABLE outcome_links (
        {_TENANT}, outcome TEXT, target TEXT, PRIMARY KEY (tenant, outcome, target),
        FOREIGN KEY (tenant, outcome) REFERENCES outcomes ON DELETE CASCADE)""",
    "CREATE INDEX outcome_links_by_target ON outcome_links (tenant, target)",
)
_SEARCH = (
    f"""CREATE TABLE search (
        row_id BIGINT PRIMARY KEY REFERENCES records ON DELETE CASCADE,
        {_TENANT}, document tsvector NOT NULL)""",
    "CREATE INDEX search_by_word ON search USING gin (document)",
    """CREATE FUNCTION index_record() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO search (row_id, document)
        VALUES (new.row_id, to_tsvector('english', left(new.text, 200000) || ' ' || new.terms))
        ON CONFLICT (row_id) DO UPDATE SET document = excluded.document;
        RETURN new; END $$""",
    """CREATE TRIGGER search_write AFTER INSERT OR UPDATE OF text, terms ON records
        FOR EACH ROW EXECUTE FUNCTION index_record()""",
)
_VECTORS = (
    f"""CREATE TABLE spaces (
        {_TENANT}, name TEXT, dimensions INTEGER NOT NULL, generation BIGINT NOT NULL DEFAULT 0,
        PRIMARY KEY (tenant, name))""",
    f"CREATE TABLE roles ({_TENANT}, role TEXT, space TEXT NOT NULL, PRIMARY KEY (tenant, role))",
    f"""CREATE TABLE vectors (
        seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, {_TENANT},
        row_id BIGINT NOT NULL REFERENCES records ON DELETE CASCADE, space TEXT NOT NULL,
        data vector NOT NULL, UNIQUE (tenant, space, row_id),
        FOREIGN KEY (tenant, space) REFERENCES spaces ON DELETE CASCADE)""",
    "CREATE INDEX vectors_by_row ON vectors (row_id)",
    f"""CREATE TABLE blobs (
        {_TENANT}, name TEXT, bytes BIGINT NOT NULL, added_at BIGINT NOT NULL,
        PRIMARY KEY (tenant, name))""",
    f"""CREATE TABLE blob_data (
        {_TENANT}, name TEXT, data BYTEA NOT NULL, PRIMARY KEY (tenant, name))""",
    "ALTER TABLE blob_data ALTER COLUMN data SET STORAGE EXTERNAL",
)
_SECURITY = tuple(
    statement
    for table in TABLES
    for statement in (
        f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY",
        f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY",
        f"CREATE POLICY own_rows ON {table} USING (tenant = current_setting('{TENANT}')) "
        f"WITH CHECK (tenant = current_setting('{TENANT}'))",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO {ROLE}",
    )
)
# The planner's statistics would keep samples of what users said, out of reach of an erasure.
_NO_SAMPLES = tuple(
    f"ALTER TABLE {table} ALTER COLUMN {column} SET STATISTICS 0"
    for table, columns in {
        "records": ("text", "keywords", "terms", "label", "body"),
        "outcomes": ("op", "reason"),
        "outcome_links": ("target",),
        "links": ("target",),
        "search": ("document",),
        "vectors": ("data",),
        "blob_data": ("data",),
    }.items()
    for column in columns
)

POSTGRES: Migrations = (
    ("0001_records", _RECORDS),
    ("0002_log", _LOG),
    ("0003_search", _SEARCH),
    ("0004_vectors_and_media", _VECTORS),
    ("0005_row_level_security", _SECURITY),
    ("0006_no_samples", (*_NO_SAMPLES, f"GRANT SELECT ON migrations TO {ROLE}")),
    (
        "0007_open_pieces",
        (
            "DROP INDEX records_by_label",
            "CREATE INDEX records_by_label ON records (tenant, kind, label, retired_at, valid_to)",
        ),
    ),
)


def migrate(db: UserDatabase, migrations: Migrations) -> None:
    """Bring ``db`` to the newest migration, all in one transaction.

    Raises ``MemoryStoreError`` when the memory knows a migration that we do not.
    """
    with db.transaction():
        db.rows("CREATE TABLE IF NOT EXISTS migrations (name TEXT PRIMARY KEY, applied_at BIGINT)")
        sqlite.migrate(
            migrations,
            [str(name) for (name,) in db.rows("SELECT name FROM migrations")],
            db.rows,
            lambda name: db.rows("INSERT INTO migrations VALUES (?, ?)", (name, micros(utc_now()))),
            lambda words: MemoryStoreError(f"this memory {words}"),
        )
