"""Writing by hand and reading back, in one line each."""

from __future__ import annotations

from collections.abc import Sequence

from consistent_gen.memory.data.operations import Batch
from consistent_gen.memory.data.records import Record
from consistent_gen.memory.data.store import Store


def by_hand(store: Store, *ops: object) -> list[str]:
    """Apply operations as the user's own edits, all of which must pass; the records' ids."""
    receipt = store.apply(Batch(ops=ops, author="user"))  # type: ignore[arg-type]
    assert all(o.status in ("applied", "normalised") for o in receipt.outcomes), receipt.outcomes
    return [o.record for o in receipt.outcomes]


def texts(records: Sequence[Record]) -> list[str]:
    """What the records say."""
    return [record.text for record in records]
