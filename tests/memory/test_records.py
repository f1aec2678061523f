"""Records refuse what no store could keep, and say what is wrong."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from consistent_gen.errors import InputError, LimitError
from consistent_gen.memory.data.operations import Add, Batch
from consistent_gen.memory.data.records import (
    KINDS,
    RECORDS,
    CoreLeaf,
    Fact,
    Media,
    Record,
    StyleObservation,
    TraitObservation,
    Turn,
    build,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(("make", "says"), [
    (lambda: Turn(text=7), "expected a string"),
    (lambda: Turn(text="x", role="wizard"), "unknown role"),
    (lambda: Fact(text="x", origin="usr"), "did you mean 'user'"),
    (lambda: Fact(text="x", trust="total"), "unknown trust"),
    (lambda: Turn(text="x", valid_from=datetime(2026, 1, 1)), "time zone"),
    (lambda: Turn(text="x", valid_from=NOW, valid_to=NOW - timedelta(1)), "before valid_from"),
    (lambda: Turn(text="x", keywords=["a"]), "tuple of strings"),
    (lambda: Turn(text="x", keywords=("a",) * 65), "limit"),
    (lambda: TraitObservation(scores={"openess": 3}), "did you mean 'openness'"),
    (lambda: TraitObservation(scores={"openness": 6}), "1 to 5"),
    (lambda: TraitObservation(scores={"openness": True}), "1 to 5"),
    (lambda: StyleObservation(values=(0.5,) * 7), "8 numbers"),
    (lambda: StyleObservation(values=(float("nan"),) * 8), "8 numbers"),
    (lambda: Media(), "one blob"),
    (lambda: Media(media=("a",), box=(1, 2)), "left, top"),
    (lambda: build("dream", {}, {}), "unknown kind"),
    (lambda: build("fact", {}, {"subjekt": "x"}), "did you mean 'subject'"),
    (lambda: build("core", {"text": "x"}, {}), "cannot be made"),
])  # fmt: skip
def test_bad_fields_are_named(make: Callable[[], Record], says: str) -> None:
    with pytest.raises(InputError, match=says):
        make()


def test_the_role_of_a_turn_decides_its_origin() -> None:
    for role in ("user", "assistant", "document", "system"):
        assert Turn(text="x", role=role, origin="user").origin == role  # type: ignore[arg-type]
    assert Turn(text="x", role="user", origin="import").origin == "import"


def test_content_hash_is_of_content() -> None:
    one = Fact(text="likes  tea ", valid_from=NOW, evidence=("t1",))
    assert one.content_hash() == Fact(text="likes tea").content_hash()
    others = [Fact(text="likes Tea"), Fact(text="likes tea", subject="k1"),
              CoreLeaf(path="Likes.Food", text="likes tea")]  # fmt: skip
    assert len({r.content_hash() for r in (one, *others)}) == 4


def test_kinds_are_events_or_states() -> None:
    states = {kind for kind, made in RECORDS.items() if not made.event}
    assert set(RECORDS) == set(KINDS) and len(KINDS) == 9
    assert states == {"core", "fact", "habit", "concept"}


def test_a_batch_key_ignores_reasons_and_sees_the_rest() -> None:
    batch = Batch(ops=(Add(value="x", reason="a"),), turns=("t1",))
    assert batch.key() == Batch(ops=(Add(value="x", reason="b"),), turns=("t1",)).key()
    for other in (Batch(ops=(Add(value="y"),), turns=("t1",)), Batch(ops=(Add(value="x"),)),
                  Batch(ops=(Add(value="x", at=NOW),), turns=("t1",))):  # fmt: skip
        assert other.key() != batch.key()


def test_limits_are_errors_of_their_own() -> None:
    with pytest.raises(LimitError):
        Turn(text="x" * 200_001)


def test_the_core_loads_no_torch() -> None:
    code = (
        "import sys, consistent_gen.memory.storage.sqlite_store, "
        "consistent_gen.memory.recall.tree, consistent_gen.memory.storage.postgres_store; "
        "assert not {'torch', 'transformers', 'diffusers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
