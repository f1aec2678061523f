"""The page about the storage format says what the schema says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from consistent_gen.memory.storage import archive
from consistent_gen.memory.storage.sqlite_store import SqliteStore

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "memory_format.md").read_text()


def told() -> dict[str, list[str]]:
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| ([^|]+) \|$", PAGE, re.MULTILINE)
    return {table: re.findall(r"`(\w+)`", columns) for table, columns in rows}


def test_every_table_and_column_is_on_the_page(tmp_path: Path) -> None:
    with SqliteStore(tmp_path, "ann") as store:
        tables = [
            name for (name,) in store.db.rows("SELECT name FROM sqlite_master WHERE type = 'table'")
            if not re.match(r"sqlite_|search_", name)
        ]  # fmt: skip
        real = {
            table: [row[1] for row in store.db.rows(f"PRAGMA table_info({table})")]
            for table in tables
        }
    assert told() == real


def test_every_member_of_an_export_is_on_the_page(tmp_path: Path) -> None:
    for member in ("manifest.json", "records.jsonl", "batches.jsonl", "log.jsonl", "vectors.json"):
        assert f"`{member}`" in PAGE and archive._MEMBER.fullmatch(member)
    assert f"`version` {archive.FORMAT_VERSION}" in PAGE and archive.FORMAT in PAGE


IN_FORCE = {
    "journal_mode": ("WAL", "wal"), "synchronous": ("FULL", 2), "secure_delete": ("ON", 1),
    "foreign_keys": ("ON", 1), "temp_store": ("MEMORY", 2), "cell_size_check": ("ON", 1),
}  # fmt: skip


@pytest.mark.parametrize("pragma", IN_FORCE)
def test_pragmas_are_those_in_force(tmp_path: Path, pragma: str) -> None:
    word, value = IN_FORCE[pragma]
    assert f"`{pragma}={word}`" in PAGE
    with SqliteStore(tmp_path, "ann") as store:
        assert store.db.rows(f"PRAGMA {pragma}") == [(value,)]
