"""What the assistant says of its own memory, and of what a turn changed in it, without a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from consistent_gen.memory.data.operations import Delete
from consistent_gen.memory.data.records import Kind, Record
from consistent_gen.memory.data.store import Outcome, Store

SHOWN: tuple[Kind, ...] = ("core", "fact", "habit", "concept", "episode", "media")
_TOLD: tuple[Kind, ...] = ("core", "fact", "habit", "concept")
_MOST = 40


def written(store: Store, outcomes: Sequence[Outcome]) -> tuple[Record, ...]:
    """The newest version of each record that these operations made, changed or ended."""
    done = [o.record for o in outcomes if o.record and o.status in ("applied", "normalised")]
    versions = [store.history(id) for id in dict.fromkeys(done)]
    return tuple(history[-1] for history in versions if history)


def acknowledged(outcomes: Sequence[Outcome], records: Sequence[Record]) -> str:
    """The reply to a statement: what was understood of it, or that nothing was.

    records: those that the outcomes wrote, as `written` finds them.
    """
    gone = {outcome.record for outcome in outcomes if isinstance(outcome.op, Delete)}
    kept = [record.text for record in records if record.id not in gone]
    ended = [record.text for record in records if record.id in gone]
    parts = [f"Noted: {'; '.join(kept)}."] if kept else []
    parts += [f"No longer so: {'; '.join(ended)}."] if ended else []
    if parts:
        return " ".join(parts)
    if any(outcome.status == "quarantined" for outcome in outcomes):
        return "I keep your words; what they ask me to note waits for your consent."
    return "I keep your words, but my rules read no fact in them."


def all_remembered(store: Store) -> str:
    """Every state that is remembered, a line each."""
    found = [describe(record).partition(" ")[2] for kind in _TOLD for record in store.list(kind)]
    if not found:
        return "I remember nothing about you yet."
    lines = ["This is what I remember:", *(f"- {line}" for line in found[:_MOST])]
    if len(found) > _MOST:
        lines.append(f"and {len(found) - _MOST} more; `consistent-gen memory list` prints all")
    return "\n".join(lines)


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
