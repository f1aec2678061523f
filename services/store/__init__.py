"""What lasts: one SQLite file and the pictures beside it.

`database` with the tables of `schema`; `artifacts` (bytes by their hash), `stories`, and the
`library` of characters, which travel as an `archive`. What other stores do with a table inside
their own transactions are plain functions beside its class.
"""

from __future__ import annotations

from services.store.artifacts import ArtifactStore
from services.store.database import Database
from services.store.library import Library
from services.store.stories import StoryStore

__all__ = ["ArtifactStore", "Database", "Library", "StoryStore"]
