"""The reading half of the `Store` over a `Database`: records, search, vectors."""

from __future__ import annotations

import builtins
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from datetime import datetime

from consistent_gen.errors import InputError
from consistent_gen.memory import vectors
from consistent_gen.memory.changes import OUTCOME, live_count, logged_outcome, read_meta
from consistent_gen.memory.database import Database
from consistent_gen.memory.filters import Condition, at, equal, marks, of_kinds
from consistent_gen.memory.ledger import by_ids, chunks, load, outdated
from consistent_gen.memory.moments import FOREVER, micros
from consistent_gen.memory.records import KINDS, Kind, Record, check_choice, check_text
from consistent_gen.memory.store import AsOf, Hit, Limits, Outcome, Status, Vector, Window
from consistent_gen.memory.trunk import Trunk
from consistent_gen.memory.vectors import VectorTable
from consistent_gen.memory.words import STOP_WORDS

_LIVE = Condition(f"r.retired_at = {FOREVER}", ())
_QUERY_WORD = re.compile(r"[^\W_]+")
_QUERY_WORDS = 64


def query_words(query: str) -> list[str]:
    """The distinct words of a query, without stop words unless there are no others."""
    check_text(query, "a search query", 100_000)
    words = list(dict.fromkeys(_QUERY_WORD.findall(query.casefold())))
    return ([word for word in words if word not in STOP_WORDS] or words)[:_QUERY_WORDS]


class SqlReader(ABC):
    """The reads and searches of a `Store`; subclasses set the three parts when they open."""

    db: Database
    vector_table: VectorTable

    def __init__(self, *, trunk: Trunk, limits: Limits, clock: Callable[[], datetime]) -> None:
        self.trunk = trunk
        self._limits = limits
        self._clock = clock

    @abstractmethod
    def _matches(
        self, words: Sequence[str], where: Condition, limit: int, each_of: Sequence[Kind]
    ) -> builtins.list[Hit]:
        """Records that hold any of the words and meet the condition, best first: ``limit`` in all,
        or ``limit`` of each of the kinds in ``each_of``.
        """

    @property
    def version(self) -> int:
        return int(read_meta(self.db, "version", "0"))

    @property
    def limits(self) -> Limits:
        return self._limits

    # reading -------------------------------------------------------------------------------------

    def get(self, ids: Sequence[str], *, as_of: AsOf | None = None) -> tuple[Record, ...]:
        with self.db.snapshot():
            found = by_ids(self.db, ids, at(as_of, None, self._now()))
        return tuple(found[id] for id in ids if id in found)

    def list(
        self,
        kind: Kind,
        *,
        as_of: AsOf | None = None,
        window: Window | None = None,
        subject: str | None = None,
        label: str | None = None,
        persona: str | None = None,
        limit: int | None = None,
        newest_first: bool = False,
    ) -> tuple[Record, ...]:
        order = "r.valid_from DESC, r.id DESC" if newest_first else "r.valid_from, r.id"
        with self.db.snapshot():
            where = of_kinds((kind,)) & at(as_of, window, self._now()) & equal("subject", subject)
            where = where & equal("label", label) & equal("persona", persona)
            return load(self.db, where, order, limit)

    def history(self, id: str) -> tuple[Record, ...]:
        with self.db.snapshot():
            return load(self.db, Condition("r.id = ?", (id,)), order="r.version")

    def outcomes(self, *, status: Status | None = None, limit: int = 100) -> tuple[Outcome, ...]:
        where, values = ("", ()) if status is None else (" WHERE status = ?", (status,))
        rows = self.db.rows(f"{OUTCOME}{where} ORDER BY seq DESC LIMIT {int(limit)}", values)
        return tuple(map(logged_outcome, rows))

    def count(self, kind: Kind | None = None) -> int:
        if kind is not None:
            check_choice(kind, KINDS, "kind")
        return live_count(self.db, kind)

    def _now(self) -> int:
        return max(micros(self._clock()), int(read_meta(self.db, "last_recorded", "0")))

    # searching -----------------------------------------------------------------------------------

    def full_text(
        self,
        query: str,
        *,
        kinds: Sequence[Kind] | None = None,
        window: Window | None = None,
        as_of: AsOf | None = None,
        limit: int = 10,
        each_kind: bool = False,
    ) -> tuple[Hit, ...]:
        words = query_words(query)
        where = of_kinds(kinds) & at(as_of, window, self._now())
        if not words or limit < 1:
            return ()
        each_of = tuple(KINDS if kinds is None else kinds) if each_kind else ()
        return tuple(self._matches(words, where, limit, each_of))

    def nearest(
        self,
        space: str,
        vector: Vector,
        *,
        kinds: Sequence[Kind] | None = None,
        window: Window | None = None,
        as_of: AsOf | None = None,
        limit: int = 10,
        each_kind: bool = False,
    ) -> tuple[Hit, ...]:
        wanted = vectors.unit(vector, vectors.dimensions(self.db, space))
        where = of_kinds(kinds) & at(as_of, window, self._now())
        if limit < 1:
            return ()
        among = tuple(KINDS if kinds is None else kinds)
        return self.vector_table.nearest(space, wanted, among, where, limit, each_kind)

    def outdated(self, turns: Sequence[str]) -> frozenset[str]:
        with self.db.snapshot():
            return outdated(self.db, turns, at(None, None, self._now()))

    # vectors -------------------------------------------------------------------------------------

    def create_space(self, space: str, dimensions: int) -> None:
        vectors.create_space(self.db, space, dimensions)

    def put_vector(self, id: str, space: str, vector: Vector) -> None:
        size = vectors.dimensions(self.db, space)
        with self.db.transaction():
            rows = self._open_rows([id])
            if id not in rows:
                raise InputError(f"no live record {id!r} to attach a vector to")
            self.vector_table.put(space, [(rows[id], vectors.unit(vector, size))])

    def put_vectors(self, space: str, items: Sequence[tuple[str, Vector]]) -> None:
        size = vectors.dimensions(self.db, space)
        units = {id: vectors.unit(vector, size) for id, vector in items}
        with self.db.transaction():
            rows = self._open_rows(list(units))
            self.vector_table.put(space, [(rows[id], units[id]) for id in rows])

    def vectors(self, space: str, ids: Sequence[str]) -> dict[str, Vector]:
        with self.db.snapshot():
            vectors.dimensions(self.db, space)
            rows = self._open_rows(ids)
            found = self.vector_table.fetch(space, list(rows.values()))
        return {id: found[row] for id, row in rows.items() if row in found}

    def without_vector(
        self, space: str, kinds: Sequence[Kind], *, limit: int = 256
    ) -> tuple[Record, ...]:
        vectors.dimensions(self.db, space)
        missing = Condition(
            "NOT EXISTS (SELECT 1 FROM vectors v WHERE v.space = ? AND v.row_id = r.row_id)",
            (space,),
        )
        with self.db.snapshot():
            where = of_kinds(kinds) & _latest() & missing
            return load(self.db, where, order="r.row_id", limit=limit)

    def spaces(self) -> dict[str, int]:
        rows = self.db.rows("SELECT name, dimensions FROM spaces ORDER BY name")
        return {str(name): int(size) for name, size in rows}

    def active_space(self, role: str) -> str | None:
        rows = self.db.rows("SELECT space FROM roles WHERE role = ?", (role,))
        return str(rows[0][0]) if rows else None

    def switch_space(self, role: str, space: str) -> None:
        check_text(role, "role", 100)
        with self.db.transaction():
            vectors.dimensions(self.db, space)
            if not self.db.change("UPDATE roles SET space = ? WHERE role = ?", (space, role)):
                self.db.rows("INSERT INTO roles (role, space) VALUES (?, ?)", (role, space))

    def drop_space(self, space: str) -> int:
        with self.db.transaction():
            used = self.db.rows("SELECT role FROM roles WHERE space = ?", (space,))
            if used:
                raise InputError(f"space {space!r} answers for {used[0][0]!r}; switch that first")
            vectors.dimensions(self.db, space)
            removed = self.db.change("DELETE FROM vectors WHERE space = ?", (space,))
            self.db.rows("DELETE FROM spaces WHERE name = ?", (space,))
        return removed

    def _open_rows(self, ids: Sequence[str]) -> dict[str, int]:
        """The row of the latest believed version of each id."""
        found: dict[str, int] = {}
        for some in chunks(ids):
            where = Condition(f"r.id IN ({marks(len(some))})", tuple(some)) & _latest()
            for id, row in self.db.rows(
                f"SELECT r.id, r.row_id FROM records r WHERE {where.sql}", where.values
            ):
                found[str(id)] = int(row)
        return found


def _latest() -> Condition:
    """The one believed version of each id that ends last."""
    return _LIVE & Condition(
        "NOT EXISTS (SELECT 1 FROM records n WHERE n.id = r.id "
        f"AND n.retired_at = {FOREVER} AND n.valid_from > r.valid_from)",
        (),
    )
