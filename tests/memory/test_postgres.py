"""What only PostgreSQL has: row-level security, an unprepared server, erasure on the server."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psycopg
import pytest

from consistent_gen.memory.data.operations import Add, Batch
from consistent_gen.memory.data.records import Media, Turn
from consistent_gen.memory.data.store import MemoryStoreError, Scope, Store
from consistent_gen.memory.storage.postgres_store import PostgresStore, prepare_server, scrub_server
from consistent_gen.memory.storage.schema import POSTGRES, ROLE, SCHEMA, SQLITE, TABLES, TENANT


def fill(store: Store, word: str) -> str:
    (turn,) = store.record([Turn(text=f"about {word}", keywords=(word,))], key=word).ids
    store.apply(Batch(turns=(turn,), ops=(
        Add(kind="fact", value=f"likes {word}", evidence=(turn,)),
        Add(target=f"No.{word}", value=word, evidence=(turn,)),
    )))  # fmt: skip
    store.create_space("s", 4)
    store.put_vector(turn, "s", np.arange(1, 5, dtype=np.float32))
    store.switch_space("text", "s")
    name = store.put_media(word.encode() * 400)
    store.record([Media(media=(name,), evidence=(turn,), text=word)])
    return turn


def as_app(address: str, tenant: str | None) -> psycopg.Connection:
    connection = psycopg.connect(address, autocommit=True)
    connection.execute(f"SET ROLE {ROLE}")
    connection.execute(f"SET search_path = {SCHEMA}, public")
    if tenant is not None:
        connection.execute("SELECT set_config(%s, %s, false)", (TENANT, tenant))
    return connection


def test_the_role_sees_and_writes_its_tenant_only(
    postgres: str, opened: Callable[..., Store]
) -> None:
    fill(opened(postgres, "ann"), "apples")
    fill(opened(postgres, "bob"), "pears")
    with psycopg.connect(postgres) as admin:
        tenants = [t for (t,) in admin.execute(
            f"SELECT DISTINCT tenant FROM {SCHEMA}.records WHERE text LIKE 'about %'")]  # fmt: skip
    assert len(tenants) >= 2
    with as_app(postgres, tenants[0]) as mine:
        for table in TABLES:
            seen = mine.execute(f"SELECT DISTINCT tenant FROM {table}").fetchall()
            assert seen == [(tenants[0],)], table
            touched = mine.execute(
                f"UPDATE {table} SET tenant = tenant WHERE tenant <> %s", (tenants[0],)
            ).rowcount
            assert touched == 0
            removed = mine.execute(f"DELETE FROM {table} WHERE tenant <> %s", (tenants[0],))
            assert removed.rowcount == 0
        for statement in (
            "INSERT INTO meta (tenant, name, value) VALUES (%s, 'x', 'y')",
            "UPDATE meta SET tenant = %s",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                mine.execute(statement, (tenants[1],))
    with as_app(postgres, None) as nobody:
        for table in TABLES:
            with pytest.raises(psycopg.Error):
                nobody.execute(f"SELECT * FROM {table}")


@pytest.mark.parametrize("statement", [
    "ALTER TABLE records DISABLE ROW LEVEL SECURITY", "DROP POLICY own_rows ON records",
    "DROP TABLE records", "TRUNCATE records", "CREATE TABLE mine (x int)",
    "SET row_security = off; SELECT * FROM records",
    "DELETE FROM migrations", "COPY records TO PROGRAM 'cat'",
])  # fmt: skip
def test_the_role_cannot_lift_the_fence(postgres: str, statement: str) -> None:
    with as_app(postgres, "nobody") as connection, pytest.raises(psycopg.Error):
        connection.execute(statement)


def test_erased_words_leave_the_server(postgres: str, opened: Callable[..., Store]) -> None:
    ann, bob = opened(postgres, "erased"), opened(postgres, "kept")
    words = ["zq" + secrets.token_hex(10) for _ in range(5)]
    turns = [fill(ann, word) for word in words]
    kept = "zk" + secrets.token_hex(10)
    fill(bob, kept)
    with psycopg.connect(postgres, autocommit=True) as admin:
        admin.execute("ANALYZE")
        folder = Path(admin.execute("SHOW data_directory").fetchone()[0])  # type: ignore[index]

    def left(words: list[str]) -> list[tuple[str, str]]:
        return [
            (word, path.name)
            for path in sorted(folder.rglob("*")) if path.is_file()
            for data in [path.read_bytes()]
            for word in words if word.encode() in data
        ]  # fmt: skip

    assert {word for word, _ in left(words)} == set(words)
    receipt = ann.purge(Scope(ids=tuple(turns[:3])))
    assert receipt.rows == {"turn": 3, "fact": 3, "media": 3} and not receipt.scrubbed
    ann.purge(Scope(everything=True))
    scrub_server(postgres)
    assert left(words) == []
    assert left([kept]) != []
    assert bob.verify().ok and len(bob.full_text(kept)) == 4 - 1
    assert ann.verify().ok and ann.count() == 0


def test_a_server_that_was_not_prepared_is_refused(postgres: str) -> None:
    with psycopg.connect(postgres, autocommit=True) as admin:
        admin.execute("CREATE DATABASE bare")
    bare = postgres.replace("/postgres?", "/bare?")
    assert bare != postgres
    with pytest.raises(MemoryStoreError, match="prepare_server"):
        PostgresStore(bare, "ann")
    prepare_server(bare)
    prepare_server(bare)
    with PostgresStore(bare, "ann") as store:
        assert store.count() == 0
    with psycopg.connect(bare, autocommit=True) as admin:
        admin.execute(f"ALTER TABLE {SCHEMA}.records NO FORCE ROW LEVEL SECURITY")
    with pytest.raises(MemoryStoreError, match="not in force"):
        PostgresStore(bare, "ann")
    with psycopg.connect(bare, autocommit=True) as admin:
        admin.execute(f"INSERT INTO {SCHEMA}.migrations VALUES ('9999_later', 0)")
    with pytest.raises(MemoryStoreError, match="another version"):
        PostgresStore(bare, "ann")
    with pytest.raises(MemoryStoreError, match="newer version"):
        prepare_server(bare)


def test_scrubbing_a_recycling_server_is_refused(postgres: str) -> None:
    with psycopg.connect(postgres, autocommit=True) as admin:
        admin.execute("ALTER DATABASE postgres SET wal_init_zero = on")
        admin.execute("ALTER ROLE CURRENT_USER SET wal_recycle = on")
    try:
        with pytest.raises(MemoryStoreError, match="wal_recycle"):
            scrub_server(postgres)
    finally:
        with psycopg.connect(postgres, autocommit=True) as admin:
            admin.execute("ALTER ROLE CURRENT_USER RESET wal_recycle")
            admin.execute("ALTER DATABASE postgres RESET wal_init_zero")


def test_no_server_is_a_clear_error() -> None:
    with pytest.raises(MemoryStoreError, match="no connection"):
        PostgresStore("postgresql://nobody@127.0.0.1:1/none", "ann")


def test_a_killed_connection_rolls_back(postgres: str, opened: Callable[..., Store]) -> None:
    class Stop(BaseException):
        pass

    def trace(step: str) -> None:
        if step == "before_commit":
            raise Stop

    with pytest.raises(Stop):
        opened(postgres, "crash", trace=trace).record([Turn(text="never")])
    assert opened(postgres, "crash").count() == 0


def test_both_backends_have_the_same_migrations() -> None:
    """SQLite's steps are among the server's, in their order; the numbers before them differ."""
    ours, theirs = ([n.partition("_")[2] for n, _ in steps] for steps in (SQLITE, POSTGRES))
    assert [name for name in theirs if name in ours] == ours
