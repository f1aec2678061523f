"""Judging proposed operations: deterministic rules, each with a name and a recorded reason.

The executor reads through a `StoreView` and returns verdicts; a `Write` carries them out inside the
same transaction. It is the only way in which tree leaves, facts, episodes, habits and concepts
come to be, so what it refuses cannot be remembered.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from typing import Any, Protocol

from consistent_gen.errors import InputError
from consistent_gen.inputs import check_text
from consistent_gen.memory.data.operations import Add, Batch, Delete, NoOp, Op, Update
from consistent_gen.memory.data.records import Kind, Origin, Record, Turn, build
from consistent_gen.memory.data.store import ORIGIN_TRUST, MemoryLimits, Status
from consistent_gen.memory.data.tree_schema import TreeSchema
from consistent_gen.memory.judging.grounding import Grounding
from consistent_gen.memory.judging.screening import screen

RULES: dict[str, str] = {
    "batch_cap": "at most MemoryLimits.ops_per_batch operations are read from one batch",
    "noop": "nothing was proposed",
    "repeated_op": "the same operation from the same chunk was applied before",
    "kind_not_writable": "only core, fact, episode, habit and concept are written by operations",
    "target_missing": "core leaves, habits and concepts are addressed by a path or name",
    "target_unknown": "what it refers to does not exist (any more)",
    "target_repeated": "one operation per target and batch",
    "path_unknown": "the path is neither in the schema nor a well-formed leaf of an open branch",
    "branch_full": "an open branch holds at most MemoryLimits.children_per_branch leaves",
    "value_empty": "a value is text with something in it",
    "value_broken": "a value is one line of valid Unicode without control characters",
    "value_too_long": "a leaf has MemoryLimits.value_characters at most, others text_characters",
    "fields_invalid": "the fields do not fit the kind",
    "evidence_missing": "a listener names the turns it read this in",
    "evidence_foreign": "evidence comes from the chunk that was read",
    "evidence_unknown": "evidence names stored turns",
    "evidence_retrieved": "what was retrieved in this exchange is not evidence",
    "echo": "the words are those of the assistant or of a retrieved memory, not of the user",
    "unsupported": "the user's own words do not say it, or do not speak of what would end",
    "forged_source": "what rests on a turn that forges instructions waits in quarantine",
    "core_needs_user": "only what the user said becomes a tree leaf, habit or concept",
    "delete_needs_user": "only what the user said ends a memory",
    "low_trust_over_user": "assistant and document text does not change what the user said",
    "instruction_like": "text that commands the reader waits in quarantine",
    "secret_like": "passwords, keys and card numbers wait in quarantine",
    "quota": "the number of live records of this kind has reached its limit",
    "add_filled": "ADD on a filled leaf, habit or concept is an UPDATE",
    "update_empty": "UPDATE of an empty leaf is an ADD",
    "delete_empty": "there is nothing to delete",
    "same_content": "this is already remembered",
    "at_before_start": "it cannot end before it began",
}
WRITABLE: tuple[Kind, ...] = ("core", "fact", "episode", "habit", "concept")
_NAMED: dict[Kind, str] = {"core": "path", "habit": "name", "concept": "name"}
_SHARED_FIELDS = ("keywords", "derived_from", "media")
_LINKED = ("derived_from", "media")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class StoreView(Protocol):
    """What the executor may look at; answered inside the writing transaction."""

    tree_schema: TreeSchema
    limits: MemoryLimits

    def now(self) -> datetime:
        """The record time of this write."""

    def current(self, kind: Kind, target: str, persona: str) -> Record | None:
        """The open-ended live record with this label (core, habit, concept) or this id."""

    def turns(self, ids: Sequence[str]) -> Mapping[str, Turn]:
        """The stored turns among ``ids``."""

    def known(self, ids: Sequence[str]) -> frozenset[str]:
        """Which of ``ids`` are records."""

    def blobs(self, names: Sequence[str]) -> frozenset[str]:
        """Which of ``names`` are stored blobs."""

    def texts(self, ids: Sequence[str]) -> tuple[str, ...]:
        """The texts of these records."""

    def said_before(self, ids: Sequence[str]) -> tuple[str, ...]:
        """The user's last few turns shortly before the first of these turns, oldest first."""

    def applied_before(self, key: str) -> bool:
        """Whether an operation with this idempotency key was applied."""

    def same_content(self, record: Record) -> bool:
        """Whether a live record of this persona has this content."""

    def children(self, branch: str, persona: str) -> int:
        """Live leaves below a branch."""

    def full(self, kind: Kind | None, cap: int) -> bool:
        """Whether there are ``cap`` live records (of a kind) already."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """What to do: ``new`` alone adds, ``old`` alone ends, both replace ``old`` from ``at`` on.

    ``ended_by`` are the turns that told of an end: who forgets the record forgets them too.
    """

    at: datetime
    new: Record | None = None
    old: Record | None = None
    correction: bool = False
    ended_by: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The judgement of one operation; ``change`` is there when the status says it is applied."""

    status: Status
    rule: str = ""
    reason: str = ""
    change: Change | None = None


class _No(Exception):
    def __init__(self, rule: str, reason: str, status: Status = "refused") -> None:
        super().__init__(rule)
        assert rule in RULES
        self.verdict = Verdict(status=status, rule=rule, reason=reason)


class Executor:
    """Judges the operations of one batch in order; each verdict is applied before the next."""

    def __init__(self, view: StoreView, batch: Batch) -> None:
        self._view = view
        self._batch = batch
        self._targets: set[tuple[str, str]] = set()
        self._count = 0
        self._free = batch.author != "listener"

    def judge(self, op: Op, key: str) -> Verdict:
        """The verdict on the next operation of the batch, of which ``key`` is the `op_key`."""
        self._count += 1
        try:
            return self._judge(op, key)
        except _No as refusal:
            return refusal.verdict

    def _judge(self, op: Op, key: str) -> Verdict:
        limit = self._view.limits.ops_per_batch
        if self._count > limit:
            raise _No("batch_cap", f"the batch has more than {limit} operations; split it")
        if isinstance(op, NoOp):
            return Verdict(status="noop", rule="noop", reason=op.reason)
        if op.kind not in WRITABLE:
            raise _No("kind_not_writable", f"{op.kind} records are appended with Store.record")
        # A person may well say the same thing again after having deleted it.
        if self._batch.turns and self._view.applied_before(key):
            raise _No("repeated_op", "it was applied before; nothing changes", "duplicate")
        self._check_address(op)
        evidence = self._evidence(op)
        if isinstance(op, Delete):
            return self._delete(op, evidence)
        self._check_value(op)
        self._screen(op)
        self._check_support(op.value, evidence)
        return self._write(op, evidence)

    def _check_address(self, op: Add | Update | Delete) -> None:
        named = op.kind in _NAMED
        if not op.target and (named or not isinstance(op, Add)):
            raise _No("target_missing", f"{op.name} of a {op.kind} needs a target")
        if op.kind == "core" and not self._view.tree_schema.knows(op.target):
            close = self._view.tree_schema.nearest(op.target)
            hint = f"; did you mean {close!r}?" if close else ""
            raise _No("path_unknown", f"{op.target[:120]!r} is not a path of the tree{hint}")
        if op.target and (named or not isinstance(op, Add)):
            address = (op.kind, op.target)
            if address in self._targets:
                raise _No("target_repeated", f"{op.target[:120]!r} was written by this batch")
            self._targets.add(address)

    def _evidence(self, op: Add | Update | Delete) -> tuple[Turn, ...]:
        if not op.evidence:
            if self._free:
                return ()
            raise _No("evidence_missing", f"{op.name} names no turn as evidence")
        foreign = [e for e in op.evidence if e not in self._batch.turns]
        if foreign and not self._free:
            raise _No("evidence_foreign", f"{foreign[0][:60]!r} is not a turn of this chunk")
        again = [e for e in op.evidence if e in self._batch.retrieved]
        if again and not self._free:
            raise _No("evidence_retrieved", f"{again[0]!r} was retrieved in this exchange")
        turns = self._view.turns(op.evidence)
        unknown = [e for e in op.evidence if e not in turns]
        if unknown:
            raise _No("evidence_unknown", f"no stored turn has the id {unknown[0][:60]!r}")
        found = tuple(turns[e] for e in op.evidence)
        if not self._free and not any(t.role == "user" for t in found):
            self._check_weak(op)
        return found

    def _check_weak(self, op: Add | Update | Delete) -> None:
        """Evidence without the user's own words may add facts and episodes and nothing else."""
        if isinstance(op, Delete):
            raise _No("delete_needs_user", "the evidence holds no words of the user")
        if op.kind in _NAMED:
            raise _No("core_needs_user", f"a {op.kind} needs words of the user as evidence")
        if isinstance(op, Update):
            old = self._view.current(op.kind, op.target, self._batch.persona)
            if old is not None and old.trust != "low":
                raise _No("low_trust_over_user", "the stored value came from the user")

    def _check_value(self, op: Add | Update) -> None:
        if op.value is None:
            return
        limits = self._view.limits
        limit = limits.value_characters if op.kind == "core" else limits.text_characters
        if not isinstance(op.value, str) or not op.value.strip():
            raise _No("value_empty", "the value is empty; DELETE is what ends a memory")
        if len(op.value) > limit:
            raise _No("value_too_long", f"{len(op.value):,} characters; the limit is {limit}")
        try:
            check_text(op.value, "the value", limit)
        except InputError as error:
            raise _No("value_broken", error.message) from None
        if _CONTROL.search(op.value):
            raise _No("value_broken", "the value has a line break or another control character")

    def _screen(self, op: Add | Update) -> None:
        if self._free:
            return
        for text in (op.value or "", *_strings(op.fields), op.target if op.kind != "core" else ""):
            suspicion = screen(text)
            if suspicion is not None:
                raise _No(suspicion.rule, suspicion.reason, "quarantined")

    @cached_property
    def _support(self) -> Grounding:
        chunk = self._view.turns(self._batch.turns)
        before = self._view.said_before(self._batch.turns)
        return Grounding(tuple(chunk.values()), self._view.texts(self._batch.retrieved), before)

    def _check_support(
        self, value: str | None, evidence: tuple[Turn, ...], *, ending: bool = False
    ) -> None:
        """What rests on the user's word must be what the user said. Low-trust facts that rest on
        documents or replies alone make no such claim.
        """
        said = tuple(turn for turn in evidence if turn.role == "user")
        if self._free or value is None or not said:
            return
        weigh = self._support.against_ending if ending else self._support.against
        found = weigh(value, said)
        if found is not None:
            raise _No(found.rule, found.reason, found.status)

    def _write(self, op: Add | Update, evidence: tuple[Turn, ...]) -> Verdict:
        old = None
        if op.kind in _NAMED or isinstance(op, Update):
            old = self._view.current(op.kind, op.target, self._batch.persona)
        if old is None and isinstance(op, Update) and (op.kind != "core" or op.value is None):
            raise _No("target_unknown", f"no live {op.kind} {op.target[:120]!r} to update")
        if old is not None:
            self._claim(old)
        new = self._built(op, evidence, old)
        self._check_links(new)
        if old is not None and new.content_hash() == old.content_hash():
            same = all(getattr(new, f) == getattr(old, f) for f in ("keywords", "media"))
            if same:
                raise _No("same_content", "the stored value is the same", "duplicate")
        elif self._view.same_content(new) and op.kind != "episode":
            raise _No("same_content", "this is already remembered", "duplicate")
        if old is None:
            self._check_room(op.kind, op.target)
        at = self._at(op, evidence)
        correction = isinstance(op, Update) and op.correction
        change = Change(at=at, new=new, old=old, correction=correction)
        if isinstance(op, Add) and old is not None:
            return Verdict(
                status="normalised", rule="add_filled", reason="ADD became UPDATE", change=change
            )
        if isinstance(op, Update) and old is None:
            return Verdict(
                status="normalised", rule="update_empty", reason="UPDATE became ADD", change=change
            )
        return Verdict(status="applied", change=change)

    def _delete(self, op: Delete, evidence: tuple[Turn, ...]) -> Verdict:
        old = self._view.current(op.kind, op.target, self._batch.persona)
        if old is None:
            raise _No("delete_empty", f"nothing lives at {op.target[:120]!r}", "noop")
        self._claim(old)
        self._check_support(f"{old.label} {old.text}".replace(".", " "), evidence, ending=True)
        at = self._at(op, evidence)
        if not op.correction and old.valid_from is not None and at < old.valid_from:
            raise _No("at_before_start", "it began later; use correction if it was never true")
        told = tuple(turn.id for turn in evidence)
        change = Change(at=at, old=old, correction=op.correction, ended_by=told)
        return Verdict(status="applied", change=change)

    def _claim(self, old: Record) -> None:
        """A record reached once by name and once by id is still one target."""
        address = ("id", old.id)
        if address in self._targets:
            raise _No("target_repeated", "this record was written by this batch")
        self._targets.add(address)

    def _built(self, op: Add | Update, evidence: tuple[Turn, ...], old: Record | None) -> Record:
        fields = {k: tuple(v) if isinstance(v, list) else v for k, v in op.fields.items()}
        shared = {k: fields.pop(k) for k in _SHARED_FIELDS if k in fields}
        origin, trust = self._standing(evidence)
        shared |= {"origin": origin, "trust": trust, "persona": self._batch.persona}
        if op.evidence or old is None:
            shared["evidence"] = op.evidence
        at, until = self._at(op, evidence), op.until if isinstance(op, Add) else None
        if until is not None and until <= at:
            raise _No("fields_invalid", "it would end before it begins; check at and until")
        key = _NAMED.get(op.kind, "")
        renames = op.kind == "concept" and isinstance(op, Update)
        if key in fields and not renames:
            raise _No("fields_invalid", f"the {key} of a {op.kind} is the target of the operation")
        shared["valid_to"] = until
        try:
            if old is not None:
                text = old.text if op.value is None else op.value
                names = ("keywords", "derived_from", "media", "evidence")
                kept = {name: getattr(old, name) for name in names}
                body = {**old.body(), **fields}
                return build(op.kind, {**kept, **shared, "text": text, "id": old.id}, body)
            if key:
                fields[key] = op.target
            return build(op.kind, {**shared, "text": op.value, "valid_from": at}, fields)
        except (InputError, TypeError, AttributeError) as error:
            message = error.message if isinstance(error, InputError) else "wrong type of a field"
            raise _No("fields_invalid", message) from None

    def _standing(self, evidence: tuple[Turn, ...]) -> tuple[Origin, str]:
        if self._batch.author == "user":
            return "user", "high"
        if self._batch.author == "system" and not evidence:
            return "system", "normal"
        # The role decides, not the origin: an imported user turn is still the user's word.
        roles = [turn.role for turn in evidence]
        origin: Origin = "user" if "user" in roles else roles[0]
        return origin, ORIGIN_TRUST[origin]

    def _check_links(self, new: Record) -> None:
        for name in _LINKED:
            targets = getattr(new, name)
            found = self._view.blobs(targets) if name == "media" else self._view.known(targets)
            missing = [t for t in targets if t not in found]
            if missing:
                raise _No(
                    "target_unknown", f"{name} names {missing[0][:80]!r}, which is not stored"
                )
        if new.subject_id and self._view.current("concept", new.subject_id, "") is None:
            raise _No("target_unknown", f"subject {new.subject_id[:60]!r} is not a live concept id")

    def _check_room(self, kind: Kind, target: str) -> None:
        limits = self._view.limits
        caps = {"habit": limits.habits, "concept": limits.concepts, "fact": limits.facts}
        quotas: list[tuple[Kind | None, int]] = [(None, limits.live_records)]
        if kind in caps:
            quotas.append((kind, caps[kind]))
        for counted, cap in quotas:
            if self._view.full(counted, cap):
                what = "records" if counted is None else f"{counted} records"
                raise _No("quota", f"{cap:,} live {what} is the limit; end or erase some first")
        branch = self._view.tree_schema.open_branch(target) if kind == "core" else None
        if branch is not None:
            children = self._view.children(branch, self._batch.persona)
            if children >= limits.children_per_branch:
                raise _No("branch_full", f"{branch!r} has {children} leaves already")

    def _at(self, op: Add | Update | Delete, evidence: tuple[Turn, ...]) -> datetime:
        said = [turn.valid_from for turn in evidence if turn.valid_from is not None]
        return op.at or max(said, default=self._view.now())


def as_user(batch: Batch, op: Op) -> Batch:
    """The batch that applies one quarantined operation on the user's word."""
    return replace(batch, ops=(op,), author="user")


def _strings(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    if isinstance(value, Mapping):
        return tuple(s for k, v in value.items() for s in (str(k), *_strings(v)))
    if isinstance(value, list | tuple):
        return tuple(s for v in value for s in _strings(v))
    return ()
