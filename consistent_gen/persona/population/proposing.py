"""Who writes the fields of a persona: owners, each of a part of the board, who may be asked again.

`ScriptedProposer` draws from lists with a seed and slips with a declared probability, so that what
checks and mends it can be held to a known truth; `model_proposer.ModelProposer` asks a language
model.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from consistent_gen.errors import InputError
from consistent_gen.persona.persona import Json
from consistent_gen.persona.population.quotas import Slot
from consistent_gen.persona.rules import Issue, PersonaRule, Values, broken

Patch = dict[str, Json]
_HOLE = re.compile(r"\{([\w.]+)\}")
_REDRAWS = 40


class Proposer(Protocol):
    """Writes the fields of one owner. Fields that the slot fixes are not its to change."""

    @property
    def owners(self) -> tuple[str, ...]: ...

    def propose(self, slot: Slot, owner: str, board: Values, draw: random.Random) -> Patch:
        """The owner's fields, given what stands on the board."""

    def revise(
        self, slot: Slot, owner: str, board: Values, issues: Sequence[Issue], draw: random.Random
    ) -> Patch:
        """The owner's fields anew, with what was wrong with them."""


@dataclass(frozen=True)
class Pick:
    """One of `values`, or `count` = (fewest, most) different ones as a list.

    unlike: a field whose entries are left out.
    """

    values: tuple[Json, ...]
    count: tuple[int, int] | None = None
    unlike: str = ""

    def __call__(self, board: Values, draw: random.Random) -> Json:
        taken = board.get(self.unlike) if self.unlike else None
        shut = taken if isinstance(taken, list | tuple) else [taken]
        open_ = [value for value in self.values if value not in shut] or list(self.values)
        if self.count is None:
            return draw.choice(open_)
        return draw.sample(open_, min(len(open_), draw.randint(*self.count)))


@dataclass(frozen=True)
class Number:
    """A whole number from `low` to `high`; with `of`, so much above that field times `times`."""

    low: int
    high: int
    of: str = ""
    times: int = 1

    def __call__(self, board: Values, draw: random.Random) -> Json:
        base = board.get(self.of, 0) if self.of else 0
        start = int(base) * self.times if isinstance(base, int | float) else 0
        return start + draw.randint(self.low, self.high)


@dataclass(frozen=True)
class Levels:
    """A mapping from each of `names` to one of `values`."""

    names: tuple[str, ...]
    values: tuple[Json, ...]

    def __call__(self, board: Values, draw: random.Random) -> Json:
        return {name: draw.choice(self.values) for name in self.names}


@dataclass(frozen=True)
class Phrase:
    """A text out of `patterns`: `{field}` is what the board says, `{list}` an entry of `lists`."""

    patterns: tuple[str, ...]
    lists: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __call__(self, board: Values, draw: random.Random) -> Json:
        def fill(hole: re.Match[str]) -> str:
            name = hole[1]
            if name in self.lists:
                return draw.choice(self.lists[name])
            value = board.get(name, "")
            return " and ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)

        text = draw.choice(self.patterns)
        for _ in range(3):  # an entry of a list may have holes of its own
            if "{" not in text:
                break
            text = _HOLE.sub(fill, text)
        return text


@dataclass(frozen=True)
class Mapped:
    """A mapping, each of whose keys is drawn in its own way; a later one sees those before it."""

    draws: Mapping[str, Draw]

    def __call__(self, board: Values, draw: random.Random) -> Json:
        told: Patch = {}
        for name, how in self.draws.items():
            told[name] = how({**board, **told}, draw)
        return told


@dataclass(frozen=True)
class By:
    """Drawn in the way that belongs to the value of another field."""

    field: str
    draws: Mapping[str, Draw]

    def __call__(self, board: Values, draw: random.Random) -> Json:
        how = self.draws.get(str(board.get(self.field)))
        return None if how is None else how(board, draw)


class Draw(Protocol):
    """One field, drawn with what stands on the board."""

    def __call__(self, board: Values, draw: random.Random) -> Json: ...


class ScriptedProposer:
    """Draws fields from lists. With probability `slip` an owner takes its first draw, whatever the
    rules say of it; else it draws until no rule of its own complains (`_REDRAWS` times at most).

    fields: owner -> field -> how it is drawn, in order: a later field may refer to an earlier one.
    """

    def __init__(
        self,
        fields: Mapping[str, Mapping[str, Draw]],
        rules: Sequence[PersonaRule] = (),
        *,
        slip: float = 0.0,
    ) -> None:
        if not 0.0 <= slip <= 1.0:
            raise InputError(f"slip is {slip}; expected a probability")
        self.owners = tuple(fields)
        self.fields, self.slip = fields, slip
        self._rules = {owner: [r for r in rules if r.owner == owner] for owner in fields}

    def propose(self, slot: Slot, owner: str, board: Values, draw: random.Random) -> Patch:
        """One draw, or the first that the owner's rules let pass."""
        slips = draw.random() < self.slip
        patch = self._drawn(slot, owner, board, draw)
        for _ in range(0 if slips else _REDRAWS):
            if not broken({**board, **patch}, self._rules[owner]):
                break
            patch = self._drawn(slot, owner, board, draw)
        return patch

    def revise(
        self, slot: Slot, owner: str, board: Values, issues: Sequence[Issue], draw: random.Random
    ) -> Patch:
        """As `propose`: who slipped once may slip again."""
        return self.propose(slot, owner, board, draw)

    def _drawn(self, slot: Slot, owner: str, board: Values, draw: random.Random) -> Patch:
        told, patch = dict(board), Patch()
        for name, how in self.fields[owner].items():
            if name not in slot.fixed:
                told[name] = patch[name] = how(told, draw)
        return patch
