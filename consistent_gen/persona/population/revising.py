"""Propose, validate, revise: the loop of HACHIMI (arXiv 2603.04855) over one persona.

Every owner proposes once. A fast pass looks for plain mistakes and lets their owners revise once;
up to `max_rounds` deep rounds follow, in each of which an owner revises at most once. Then all
rules are asked again, and nothing that breaks one gets through; last comes the gate against
near-duplicates. A slot has `attempts` tries.

In the paper a model judges the deep rounds, which are left out where the fast pass found nothing.
Ours leaves out that critic alone: deep rules cost nothing, and what they would have found costs a
whole attempt in the end.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from consistent_gen.persona.persona import Json, Persona, Statement
from consistent_gen.persona.population.near_duplicates import SimHash, SimHashGate
from consistent_gen.persona.population.proposing import Proposer
from consistent_gen.persona.population.quotas import Slot
from consistent_gen.persona.rules import Issue, PersonaRule, Values, broken

MAX_ROUNDS = 3
ATTEMPTS = 4

Critic = Callable[[Values], Sequence[Issue]]
Make = Callable[[Slot, Values], Persona]


@dataclass
class LoopTally:
    """What happened, counted. proposed: calls of owners; duplicates: texts that the gate refused;
    broken: attempts that the last check refused.
    """

    slots: int = 0
    attempts: int = 0
    proposed: int = 0
    revised: int = 0
    deep_rounds: int = 0
    broken: int = 0
    duplicates: int = 0
    failed: int = 0


@dataclass(frozen=True)
class Failure:
    """A slot that stayed empty, and what was wrong with its last attempt."""

    slot: Slot
    reasons: tuple[str, ...]


@dataclass
class ProposeValidateRevise:
    """proposer: whose fields; rules: all of them, fast and deep; critic: somebody who reads a whole
    board in a deep round, as a language model does. make: from a finished board to a persona.
    text: what of a persona the gate compares.
    """

    proposer: Proposer
    rules: Sequence[PersonaRule]
    make: Make
    text: Callable[[Values], str]
    gate: SimHashGate = field(default_factory=SimHashGate)
    critic: Critic | None = None
    max_rounds: int = MAX_ROUNDS
    attempts: int = ATTEMPTS
    tally: LoopTally = field(default_factory=LoopTally)
    hash: SimHash = field(default_factory=SimHash)

    def fill(self, slot: Slot, seed: int) -> Persona | Failure:
        """The persona of a slot. It depends on the seed, the slot and what the gate has let in."""
        self.tally.slots += 1
        reasons: list[str] = []
        for attempt in range(self.attempts):
            draw = random.Random(f"{seed}/{slot.number}/{attempt}")
            board = self._settled(slot, draw)
            self.tally.attempts += 1
            wrong = [i for i in broken(board, self.rules) if i.severity == "error"]
            if wrong:
                self.tally.broken += 1
                reasons = [str(issue) for issue in wrong]
                continue
            if not self.gate.admit(self.hash(self.text(board))):
                self.tally.duplicates += 1
                reasons = ["is nearly the same as a persona that is there already"]
                continue
            return self.make(slot, board)
        self.tally.failed += 1
        return Failure(slot, tuple(reasons))

    def _settled(self, slot: Slot, draw: random.Random) -> dict[str, Json]:
        board: dict[str, Json] = dict(slot.fixed)
        for owner in self.proposer.owners:
            board |= self._kept(slot, self.proposer.propose(slot, owner, board, draw))
            self.tally.proposed += 1
        plain = broken(board, [r for r in self.rules if r.tier == "fast"])
        if plain:
            board |= self._revised(slot, board, plain, draw)
        for _ in range(self.max_rounds):
            issues = broken(board, self.rules)
            if self.critic is not None and plain:
                issues += self.critic(board)
            if not issues:
                break
            self.tally.deep_rounds += 1
            board |= self._revised(slot, board, issues, draw)
        return board

    def _revised(
        self, slot: Slot, board: dict[str, Json], issues: Iterable[Issue], draw: random.Random
    ) -> dict[str, Json]:
        """What the owners who are named in the issues write anew, one after the other."""
        found = list(issues)
        after = dict(board)
        for owner in self.proposer.owners:
            mine = [issue for issue in found if issue.owner == owner]
            if mine:
                patch = self.proposer.revise(slot, owner, after, mine, draw)
                after |= self._kept(slot, patch)
                self.tally.revised += 1
        return after

    @staticmethod
    def _kept(slot: Slot, patch: dict[str, Json]) -> dict[str, Json]:
        """A patch without what the quotas fixed: an anchor is nobody's to change."""
        return {name: value for name, value in patch.items() if name not in slot.fixed}


def persona_from(slot: Slot, board: Values) -> Persona:
    """A board as a persona: `name`, `summary`, `traits` and `statements` have places of their own,
    all else is a field; what the quotas fixed is anchored.
    """
    own = ("name", "summary", "traits", "statements")
    told = board.get("statements") or []
    return Persona(
        slot.id,
        str(board.get("name") or slot.id),
        str(board.get("summary") or ""),
        tuple(Statement(str(text), "proposer") for text in told),
        dict(board.get("traits") or {}),
        {name: value for name, value in board.items() if name not in own},
        frozenset(f"fields.{name}" for name in slot.fixed),
    )
