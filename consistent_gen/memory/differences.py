"""What a step changed in a memory, as lines a person can read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from consistent_gen.memory.records import Kind, Record
from consistent_gen.memory.store import Store

SHOWN: tuple[Kind, ...] = ("core", "fact", "habit", "concept", "episode", "media")


@dataclass(frozen=True)
class Snapshot:
    """The live records of the kinds that are shown, by id, and how many of the others."""

    records: Mapping[str, Record]
    counts: Mapping[str, int]


def snapshot(store: Store) -> Snapshot:
    """The memory as it is now."""
    records = {record.id: record for kind in SHOWN for record in store.list(kind)}
    others: tuple[Kind, ...] = ("turn", "trait_obs", "style_obs")
    return Snapshot(records, {kind: store.count(kind) for kind in others})


def difference(before: Snapshot, after: Snapshot) -> tuple[str, ...]:
    """``+`` new, ``~`` changed (old => new), ``-`` gone; other kinds as counts."""
    lines = []
    for id, record in after.records.items():
        old = before.records.get(id)
        if old is None:
            lines.append(f"+ {describe(record)}")
        elif old.version != record.version:
            lines.append(f"~ {describe(old)} => {record.text}")
    lines += [f"- {describe(r)}" for id, r in before.records.items() if id not in after.records]
    for kind, count in after.counts.items():
        change = count - before.counts.get(kind, 0)
        if change:
            lines.append(f"{change:+d} {kind}")
    return tuple(lines)


def describe(record: Record) -> str:
    """Kind, label and text of a record on one line."""
    label = f" {record.label}" if record.label else ""
    role = f" {record.role}" if hasattr(record, "role") and record.kind == "media" else ""
    return " ".join(f"{record.kind}{role}{label}: {record.text}".split())
