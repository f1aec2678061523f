"""What one row of a denoiser call has to do at one layer."""

from __future__ import annotations

from dataclasses import dataclass

from consistent_gen.attention.bank import Key
from consistent_gen.attention.calls import Row
from consistent_gen.attention.layers import Site
from consistent_gen.attention.roles import FrameRole, Subject
from consistent_gen.attention.settings import (
    BlendQueries,
    Rule,
    TwinValues,
    sharing_rule,
    source_step,
)


@dataclass(frozen=True)
class Work:
    """What one row does at one layer."""

    row: Row
    role: FrameRole
    rules: tuple[Rule, ...]  # by which it reads
    exports: tuple[Rule, ...] = ()  # by which it is read, if others read it

    @property
    def concerned(self) -> tuple[Rule, ...]:
        """All rules that the row has to do with here."""
        return (*self.exports, *(rule for rule in self.rules if rule not in self.exports))

    @property
    def any(self) -> bool:
        """Whether there is anything to do."""
        if self.row.look:
            return self.has(BlendQueries)
        if self.role.twin_of is not None:
            return self.has(TwinValues)
        return bool(self.exports) or bool(self.rules and self.uses)

    @property
    def uses(self) -> tuple[Subject, ...]:
        """The subjects that the row reads."""
        return self.role.reading

    @property
    def aside(self) -> bool:
        """Whether the row shares nothing and is only recorded."""
        return self.row.look or self.role.twin_of is not None

    @property
    def frame(self) -> str:
        """The frame that is drawn; of a twin, the one it is for."""
        return self.role.twin_of or self.role.frame

    @property
    def sharing(self) -> Rule | None:
        """The rule by which keys are shared here."""
        return sharing_rule(self.rules)

    @property
    def source_step(self) -> int:
        """The anchors' step that the row reads, if it is not an anchor's."""
        return source_step(self.rules, self.row.step, self.row.steps)

    @property
    def inject(self) -> float:
        """Share of the result that matched anchor tokens replace; of an anchor, in its readers."""
        return max((rule.mix.inject for rule in self.concerned), default=0.0)

    def has(self, kind: type) -> bool:
        """Whether a rule makes edits of this kind here, or in who reads it."""
        return any(isinstance(edit, kind) for rule in self.concerned for edit in rule.align)

    def key(self, name: str, site: Site) -> Key:
        """Where exports of that name go."""
        return name, site.name, self.row.step, self.row.branch
