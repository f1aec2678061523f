"""What the assistant says of its own memory, in words that need no model."""

from __future__ import annotations

from collections.abc import Sequence

from consistent_gen.memory.differences import describe
from consistent_gen.memory.operations import Delete
from consistent_gen.memory.records import Kind, Record
from consistent_gen.memory.store import Outcome, Store

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
