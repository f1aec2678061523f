"""What lasts: a database and the pictures beside it.

`database` is the seam to SQLite (one gateway) and PostgreSQL (several), with the tables of
`schema`; `artifacts` (bytes by their hash), `stories`, and the `library` of characters, which
travel as an `archive`. What other stores do with a table inside their own transactions are plain
functions beside its class. `python -m services.store` backs up, restores, upgrades and rolls back.
"""

from __future__ import annotations

from services.store.artifacts import ArtifactStore
from services.store.database import Database
from services.store.library import Library
from services.store.opening import open_database
from services.store.stories import StoryStore

__all__ = ["ArtifactStore", "Database", "Library", "StoryStore", "open_database"]
