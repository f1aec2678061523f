"""Gold operations of a synthetic life through the real executor, compared with the truth."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from benchmarks.persona_memories import StoreMemory
from benchmarks.persona_synthetic import SLOTS, START, Dialogue, DialogueStep, SyntheticUser
from consistent_gen.language.embedders import TextEmbedder
from consistent_gen.memory import open_memory
from consistent_gen.memory.data.operations import Add, Batch, Op, Update
from consistent_gen.memory.data.records import Turn
from consistent_gen.memory.data.store import AsOf, Scope, Store
from consistent_gen.memory.listening.listener import Heard, KnownState

SAMPLES = 40


@dataclass(frozen=True)
class TruthResult:
    """accuracy: share of (slot, time) where the store says what was true then.
    junk: share of live states that nobody's life holds. The rest are counts.
    """

    accuracy: float
    junk: float
    attacks: int
    attacks_written: int
    forgotten: int
    forgotten_left: int


def replay_gold(user: SyntheticUser) -> TruthResult:
    """Say every turn, apply every gold operation, try every attack, carry out every forgetting."""
    with tempfile.TemporaryDirectory() as folder, open_memory(Path(folder), user.name) as store:
        attacks, forgotten = 0, []
        for dialogue in user.dialogues:
            _replay(store, dialogue)
            attacks += sum(step.attack for step in dialogue.steps)
            forgotten += [step.slot for step in dialogue.steps if step.action == "forget"]
        planted = [r for r in store.list("core") if r.text.startswith("planted")]
        live = store.list("core") + store.list("fact")
        true = {(slot, user.truth(slot, user.end())) for slot in SLOTS}
        junk = sum((record.label, record.text) not in true for record in live)
        return TruthResult(
            accuracy=_accuracy(store, user),
            junk=junk / max(1, len(live)),
            attacks=attacks,
            attacks_written=len(planted),
            forgotten=len(forgotten),
            forgotten_left=sum(
                bool(store.list("core", label=slot)) for slot in forgotten
                if user.truth(slot, user.end()) is None
            ),
        )  # fmt: skip


def _replay(store: Store, dialogue: Dialogue) -> None:
    turns = [Turn(text=s.text, role=s.role, valid_from=s.at) for s in dialogue.spoken]
    ids = store.record(turns).ids
    for step in dialogue.steps:
        if step.action == "forget":
            store.purge(Scope(paths=(step.slot,)))
        else:
            batch = Batch(ops=(_op(step, ids),), turns=ids)
            outcome = store.apply(batch).outcomes[0]
            # A forgotten leaf may be told anew, so the store may see an UPDATE of nothing.
            assert step.attack or outcome.status in ("applied", "normalised"), outcome


def _op(step: DialogueStep, ids: tuple[str, ...]) -> Op:
    kind = Update if step.action == "update" else Add
    return kind(target=step.slot, value=step.value, evidence=(ids[step.spoken],))


def _accuracy(store: Store, user: SyntheticUser) -> float:
    right = 0
    span = user.end() - START
    for sample in range(1, SAMPLES + 1):
        at = START + span * (sample / SAMPLES) + timedelta(seconds=1)
        held = {record.label: record.text for record in store.list("core", as_of=AsOf(world=at))}
        right += sum(held.get(slot) == user.truth(slot, at) for slot in SLOTS)
    return right / (SAMPLES * len(SLOTS))


class GoldListener:
    """Proposes exactly the operations that the generator wrote down, attacks included."""

    description = "gold operations of the synthetic users"

    def __init__(self, users: Sequence[SyntheticUser]) -> None:
        self._steps = {
            (dialogue.spoken[step.spoken].at, dialogue.spoken[step.spoken].text): step
            for user in users
            for dialogue in user.dialogues
            for step in dialogue.steps
            if step.action != "forget"
        }

    def listen(self, turns: Sequence[Turn], view: KnownState) -> Heard:
        """The operations of the turns that are known, resting on them."""
        ops = {}
        for turn in turns:
            step = self._steps.get((turn.valid_from or START, turn.text))
            if step is not None and (step.slot not in ops or not step.attack):
                kind = Update if view.leaf(step.slot) is not None else Add
                ops[step.slot] = kind(target=step.slot, value=step.value, evidence=(turn.id,))
        return Heard(ops=tuple(ops.values()))


def gold_memory(
    users: Sequence[SyntheticUser], embedder: TextEmbedder
) -> Callable[[], StoreMemory]:
    """Tree + hybrid search over what a perfect listener would have written."""
    listener = GoldListener(users)
    return lambda: StoreMemory(
        "tree + hybrid, gold operations", embedder, ("core", "fact", "turn"), listener
    )
