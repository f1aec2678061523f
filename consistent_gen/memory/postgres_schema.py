"""The tables in PostgreSQL: those of `schema`, each with a tenant that the server fills and checks.

Every statement runs as the role ``consistent_gen_app``, which owns nothing and cannot bypass
row-level security. A row is seen and written only where ``tenant`` is the one that the connection
was bound to when it opened, whatever a statement says.
"""

from __future__ import annotations

SCHEMA = "consistent_gen_memory"
ROLE = "consistent_gen_app"
TENANT = "consistent_gen.tenant"
TABLES = (
    "meta", "batches", "records", "links", "outcomes", "outcome_links", "search", "spaces", "roles",
    "vectors", "blobs", "blob_data",
)  # fmt: skip
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

POSTGRES: tuple[tuple[str, tuple[str, ...]], ...] = (
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
