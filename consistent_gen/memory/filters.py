"""Conditions on record rows: which kinds, at which point of both times, within which window."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from consistent_gen.errors import InputError
from consistent_gen.memory.moments import FOREVER, micros
from consistent_gen.memory.records import KINDS, Kind, check_choice, check_time
from consistent_gen.memory.store import AsOf, Window


@dataclass(frozen=True)
class Condition:
    """A SQL condition over the table ``records`` aliased ``r``, and the values it needs."""

    sql: str
    values: tuple[Any, ...]

    def __and__(self, other: Condition) -> Condition:
        return Condition(f"{self.sql} AND {other.sql}", self.values + other.values)


def of_kinds(kinds: Sequence[Kind] | None) -> Condition:
    """Rows of any of these kinds; ``None`` means every kind."""
    if kinds is None:
        return Condition("1 = 1", ())
    for kind in kinds:
        check_choice(kind, KINDS, "kind")
    if not kinds:
        return Condition("1 = 0", ())
    return Condition(f"r.kind IN ({marks(len(kinds))})", tuple(kinds))


def at(as_of: AsOf | None, window: Window | None, now: int) -> Condition:
    """Rows believed at ``as_of.recorded`` that hold at ``as_of.world`` or in ``window``.

    Without a window and a world time, states must hold now while events count whenever they were.
    """
    as_of = as_of or AsOf()
    check_time(as_of.world, "as_of.world")
    check_time(as_of.recorded, "as_of.recorded")
    if as_of.recorded is None:
        believed = Condition(f"r.retired_at = {FOREVER}", ())
    else:
        r = micros(as_of.recorded)
        believed = Condition("r.recorded_at <= ? AND ? < r.retired_at", (r, r))
    if as_of.world is not None:
        w = micros(as_of.world)
        believed &= Condition("r.valid_from <= ? AND (r.event = 1 OR ? < r.valid_to)", (w, w))
    elif window is None:
        believed &= Condition("(r.event = 1 OR (r.valid_from <= ? AND ? < r.valid_to))", (now, now))
    return believed if window is None else believed & _within(window)


def _within(window: Window) -> Condition:
    check_time(window.start, "window.start")
    check_time(window.end, "window.end")
    if window.start and window.end and window.end < window.start:
        raise InputError("the window ends before it starts; swap start and end")
    start = -FOREVER if window.start is None else micros(window.start)
    end = FOREVER if window.end is None else micros(window.end)
    # An event without an end is the instant at which it happened; with one (an episode) and for
    # states, touching the window is enough.
    return Condition(
        f"r.valid_from < ? AND (CASE WHEN r.event = 1 AND r.valid_to = {FOREVER} "
        "THEN r.valid_from + 1 ELSE r.valid_to END) > ?",
        (end, start),
    )


def equal(column: str, value: str | None) -> Condition:
    """Rows whose ``column`` (a name of ours) is ``value``; ``None`` asks for nothing."""
    return Condition("1 = 1", ()) if value is None else Condition(f"r.{column} = ?", (value,))


def marks(count: int) -> str:
    """``count`` placeholders with commas between."""
    return ", ".join("?" * count)
