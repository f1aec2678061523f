"""Long-term memory of one user: inspectable, correctable, erasable, and able to draw.

`open_memory(folder, user)` gives a `Store`; `consistent_gen.memory.data.store` documents it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from consistent_gen.errors import InputError
from consistent_gen.memory.data.store import Store


def open_memory(place: str | Path, user: str, **options: Any) -> Store:
    """The memory of ``user``: in a folder (SQLite), or on a server if ``place`` is a
    ``postgresql://`` address. ``options`` are those of `SqliteStore` or `PostgresStore`
    (``tree_schema``, ``limits``, ``clock``, ``key``, ...).
    """
    if str(place).startswith(("postgresql://", "postgres://")):
        if options.pop("key", None) is not None:
            raise InputError(
                "a memory on PostgreSQL is not encrypted by this library; let the server's disks "
                "be encrypted, and leave the key out"
            )
        from consistent_gen.memory.storage.postgres_store import PostgresStore

        return PostgresStore(str(place), user, **options)
    from consistent_gen.memory.storage.sqlite_store import SqliteStore

    return SqliteStore(place, user, **options)
