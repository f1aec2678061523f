"""What the assistant says of its own memory, and of what a turn changed in it, without a model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from consistent_gen.memory.data.operations import Delete
from consistent_gen.memory.data.records import Kind, Record
from consistent_gen.memory.data.store import AsOf, ErasureReceipt, Outcome, Store
from consistent_gen.memory.recall.concepts import Checked

SHOWN: tuple[Kind, ...] = ("core", "fact", "habit", "concept", "episode", "media")
_TOLD: tuple[Kind, ...] = ("core", "fact", "habit", "concept")
_COUNTED: tuple[Kind, ...] = ("turn", "trait_obs", "style_obs")
_MOST = 40

UNCHANGED = "All right, nothing was changed."
NOTHING_KNOWN = "I do not remember anything about that."
UNKNOWN_NAME = "I know nobody of that name; teach me with a picture first."
NO_QUESTION = "I keep your words."
NO_ANSWER = "I could not work out an answer."


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


def shall_i_erase(lines: Sequence[str], sentences: bool) -> str:
    """The question before anything is erased. sentences: whether turns go, too."""
    listed = "\n".join(f"- {line}" for line in lines)
    also = "\nThe sentences that say it go too, yours and mine." * sentences
    return f"Shall I erase this for good (yes/no)?\n{listed}{also}"


def erased(receipts: Sequence[ErasureReceipt], left: Sequence[str] = ()) -> str:
    """What is gone, and whether every byte of it is. left: words that some file still spells."""
    rows = sum(sum(receipt.rows.values()) for receipt in receipts)
    blobs = sum(receipt.media for receipt in receipts)
    clean = all(receipt.scrubbed for receipt in receipts)
    state = "no byte is left" if clean else "`memory verify` tells what is still pending"
    if left:
        state = f"other sentences still have the words {', '.join(left)}"
    return f"Erased: {rows} rows and {blobs} picture files; {state}."


def is_it_there(
    name: str, box: tuple[int, int, int, int], similar: tuple[str, float] | None
) -> str:
    """The question before somebody is learnt from a picture."""
    left, top, right, bottom = box
    looks = f" It looks like {similar[0]}." if similar else ""
    place = f"({left}, {top}) to ({right}, {bottom})"
    return f"Is {name} inside the box from {place} (yes/no)?{looks}"


def taught(name: str, *, outlier: bool) -> str:
    """Somebody was learnt. outlier: the picture is unlike the earlier ones."""
    flag = " It looks unlike the earlier pictures, so I keep it aside." * outlier
    return f"I will recognise {name}.{flag}"


def would_draw(prompt: str) -> str:
    """What a drawing model would have been asked for."""
    return f"No drawing model is connected; I would draw: {prompt}"


def drawn(prompt: str, checked: Checked) -> str:
    """What was drawn, and how like its subject it is."""
    verdict = "matches" if checked.passed else "does not reach the likeness I aim for"
    return (
        f"Drawn: {prompt}. It {verdict}: {checked.score:.2f} against {checked.threshold:.2f}, "
        f"best of {len(checked.scores)}."
    )


def all_remembered(store: Store) -> str:
    """Every state that is remembered, a line each."""
    found = [describe(record).partition(" ")[2] for kind in _TOLD for record in store.list(kind)]
    if not found:
        return "I remember nothing about you yet."
    lines = ["This is what I remember:", *(f"- {line}" for line in found[:_MOST])]
    if len(found) > _MOST:
        lines.append(f"and {len(found) - _MOST} more; `consistent-gen memory list` prints all")
    return "\n".join(lines)


def changed(store: Store, since: datetime) -> tuple[str, ...]:
    """What writes later than ``since`` changed, as `difference` tells it, in the time that reading
    what they touched takes. Not for erasures, which leave nothing to read.
    """
    ids = store.changes(since).ids
    before = store.get(ids, as_of=AsOf(recorded=since))
    return difference(_sorted_out(before), _sorted_out(store.get(ids)))


def _sorted_out(records: Sequence[Record]) -> Snapshot:
    counts = Counter(r.kind for r in records if r.kind not in SHOWN)
    shown = [r for kind in SHOWN for r in records if r.kind == kind]
    return Snapshot({r.id: r for r in shown}, counts)


@dataclass(frozen=True)
class Snapshot:
    """The live records of the kinds that are shown, by id, and how many of the others."""

    records: Mapping[str, Record]
    counts: Mapping[Kind, int]


def snapshot(store: Store) -> Snapshot:
    """The memory as it is now."""
    records = {record.id: record for kind in SHOWN for record in store.list(kind)}
    return Snapshot(records, {kind: store.count(kind) for kind in _COUNTED})


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
    for kind in _COUNTED:
        change = after.counts.get(kind, 0) - before.counts.get(kind, 0)
        if change:
            lines.append(f"{change:+d} {kind}")
    return tuple(lines)


def describe(record: Record) -> str:
    """Kind, label and text of a record on one line."""
    label = f" {record.label}" if record.label else ""
    role = f" {record.role}" if hasattr(record, "role") and record.kind == "media" else ""
    return " ".join(f"{record.kind}{role}{label}: {record.text}".split())
