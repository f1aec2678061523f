"""All rows of a database as JSON lines, a file per table: the same whatever database they are in.

Tables and the columns that order them are read from the migrations, so a new table needs no line
here. What only running processes have is left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from consistent_gen.errors import InputError
from services.errors import StorageError
from services.store import schema
from services.store.database import ConstraintError, Database, Query, Row

PASSING = ("store", "workers", "gateways")  # belong to this folder and to running processes
PAGE = 1000
_CREATED = re.compile(r"CREATE TABLE (\w+) \((.*)\)$", re.DOTALL)
_KEY = re.compile(r"PRIMARY KEY \(([^)]*)\)|(\w+) \w+ PRIMARY KEY")
_COLUMN = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True)
class Table:
    """A table, and the columns that name a row of it."""

    name: str
    key: tuple[str, ...]


def tables(applied: Sequence[str]) -> list[Table]:
    """The tables of a database with these migrations; those that others refer to come first.

    Raises:
        StorageError: a newer version made some of them.
    """
    known = dict(schema.MIGRATIONS)
    if unknown := sorted(set(applied) - known.keys()):
        raise StorageError(
            f"the store was written by a newer version (it has {', '.join(unknown)}); use that one"
        )
    statements = [s for name, made in schema.MIGRATIONS if name in applied for s in made]
    return [_table(match) for s in statements if (match := _CREATED.match(s))]


def dump(rows: Query, table: Table, file: Path) -> int:
    """Write all rows of a table, inside of one snapshot; returns how many."""
    number = 0
    with file.open("w", encoding="utf-8") as stream:
        for row in _read(rows, table):
            stream.write(json.dumps(dict(row), ensure_ascii=False) + "\n")
            number += 1
    return number


def load(database: Database, table: Table, file: Path) -> int:
    """Insert all rows of a file into an empty table, in the caller's transaction.

    Raises:
        InputError: the file does not hold rows of this table.
    """
    number = 0
    with file.open(encoding="utf-8") as stream:
        lines = (row_of(line, file) for line in stream)
        while page := list(islice(lines, PAGE)):
            columns = list(page[0])
            if any(list(row) != columns for row in page) or not all(map(_is_column, columns)):
                raise _no_rows(file)
            sql = f"INSERT INTO {table.name} ({', '.join(columns)}) VALUES ({_marks(columns)})"
            try:
                database.many(sql, [tuple(row.values()) for row in page])
            except (ConstraintError, StorageError):
                raise _no_rows(file) from None
            number += len(page)
    return number


def is_empty(database: Database) -> bool:
    """Whether no table has a row; those that are not made yet have none."""
    known = tables(database.applied())
    lasting = [table.name for table in known if table.name not in PASSING]
    return not any(database.rows(f"SELECT 1 FROM {name} LIMIT 1") for name in lasting)


def drop_all(database: Database) -> None:
    """Remove all tables, in the caller's transaction."""
    applied = database.applied()
    for table in reversed(tables(applied)):
        database.change(f"DROP TABLE {table.name}")
    if applied:
        database.change("DROP TABLE migrations")


def _table(match: re.Match[str]) -> Table:
    key = _KEY.search(match[2])
    assert key is not None, f"{match[1]} has no primary key"
    return Table(match[1], tuple(name.strip() for name in (key[1] or key[2]).split(",")))


def _read(rows: Query, table: Table) -> Iterator[Row]:
    key = ", ".join(table.key)
    after: tuple[Any, ...] = ()
    while True:
        where = f"WHERE ({key}) > ({_marks(after)})" if after else ""
        page = rows(f"SELECT * FROM {table.name} {where} ORDER BY {key} LIMIT ?", (*after, PAGE))
        yield from page
        if len(page) < PAGE:
            return
        after = tuple(page[-1][name] for name in table.key)


def row_of(line: str, file: Path) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError:
        raise _no_rows(file) from None
    if not isinstance(row, dict) or any(isinstance(v, (dict, list)) for v in row.values()):
        raise _no_rows(file)
    return row


def _no_rows(file: Path) -> InputError:
    return InputError("does not hold rows of its table; take another backup", source=file)


def _is_column(name: str) -> bool:
    return _COLUMN.fullmatch(name) is not None


def _marks(values: Sequence[Any]) -> str:
    return ", ".join("?" for _ in values)
