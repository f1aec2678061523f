"""The six settings of attention sharing, as data.

Every training-free sharing method is one equation with other settings: a frame's queries attend to
its own keys and to exported keys of anchor frames, with edits of features before and a blend after.

- `Window`: in which layers, at which steps, in which guidance branch.
- `Topology`: how many anchors, and whether a frame keeps its own keys.
- `Select`: which anchor tokens are exported, which queries of a frame may read them.
- `Align` (`Edit`s): changes of queries, keys and values before attention.
- `Place`: positions of exported keys in models with rotary embeddings.
- `Mix`: how shared keys enter the softmax, and what is blended into the result.

A `Rule` is one value of each; a `Recipe` is a list of rules with what they need to know first, and
the names under which a method's settings can be changed.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from consistent_gen.attention.rows import BOTH, Branch

if TYPE_CHECKING:
    from consistent_gen.attention.layers import Site

Gate = Literal["none", "subject", "many", "nearest"]


@dataclass(frozen=True, kw_only=True)
class Window:
    """When and where a rule acts.

    blocks: kinds of blocks (`Site.block`). depth: range of `Site.depth`, from 0 (first layer) to 1.
    ranks: grids by fineness, 0 for the finest grid that has attention; None for all.
    skip: steps at the start that are always left alone.
    steps: (start, stop) as shares of all steps, stop exclusive.
    coin: (until, chance) pairs; before the share `until` of the steps, a layer takes part in a
        step with probability `chance`. Empty for always.
    least: how many steps there are at least in a window that is not empty, however few the schedule
        has; 0 as stories are drawn. Of no account for what a recipe is called.
    """

    blocks: tuple[str, ...] = ("up", "joint", "single")
    depth: tuple[float, float] = (0.3, 1.0)
    ranks: tuple[int, ...] | None = None
    skip: int = 1
    steps: tuple[float, float] = (0.0, 1.0)
    branches: tuple[Branch, ...] = BOTH
    coin: tuple[tuple[float, float], ...] = ()
    least: int = field(default=0, repr=False)

    def covers(self, site: Site) -> bool:
        """Whether the layer is one of the window's."""
        low, high = self.depth
        inside = site.block in self.blocks and low <= site.depth <= high
        return inside and (self.ranks is None or site.rank in self.ranks)

    def span(self, steps: int) -> range:
        """The steps (0-based) of `steps` that lie in the window."""
        start, stop = self.steps
        first = max(self.skip, math.floor(start * steps + 0.5))
        end = max(first, math.ceil(stop * steps - 1e-9))
        if self.least and stop > start:
            first = max(0, min(first, steps - self.least))
            end = min(steps, max(end, first + self.least))
        return range(first, end)

    def chance(self, step: int, steps: int) -> float:
        """The coin's probability at a step."""
        return next((p for until, p in self.coin if step < until * steps), 1.0)


@dataclass(frozen=True, kw_only=True)
class Topology:
    """Who reads whom: every frame reads the anchors, and anchors read each other.

    anchors: frames of a subject that export. self_keys: whether a frame's own image keys stay.
    lead: how far ahead anchors are drawn, as a share of all steps. A frame at step i reads what
    they exported that much later, at the latest at the end of the rule's window; by an even number
    of steps, since what rows hold may alternate (see `FrameRequest.contours`). 0 as published: what
    a frame reads is then as noisy as the frame is.
    together: whether the first frame of several subjects, which reads their anchors, is read beside
    these by later frames of the same subjects.
    portrait: whether the first anchor of a subject is a picture of it alone that is drawn for this
    end and not shown. Otherwise the story's own frames are the anchors where they can be, one with
    several subjects for all of them.
    """

    anchors: int = 2
    self_keys: bool = True
    lead: float = 0.0
    together: bool = False
    portrait: bool = True

    def lead_steps(self, steps: int) -> int:
        """`lead` in steps."""
        return 2 * round(self.lead * steps / 2)


@dataclass(frozen=True, kw_only=True)
class Select:
    """Which tokens are exported and which queries read them.

    tokens: "all" or those of the subject's mask. dropout: share of them that is left out, drawn
    anew every step. gate: "none" lets every query read, "subject" only queries on the subject;
    in frames with several subjects alone, "many" does the same, and "nearest" lets each query read
    the subject that is clearest there, also where none is clear. open: share of the steps, the
    first ones, in which no query is turned away: attention does not tell yet who stands where.
    """

    tokens: Literal["all", "subject"] = "subject"
    dropout: float = 0.0
    gate: Gate = "none"
    open: float = 0.0


@dataclass(frozen=True, kw_only=True)
class AlignStatistics:
    """AdaIN (arXiv 1703.06868): give features the channel statistics of another frame.

    which: any of "q", "k", "v". toward: "source" edits the frame's own features toward its
    anchor's; "target" edits the anchor's exported features toward the frame's.
    """

    which: tuple[Literal["q", "k", "v"], ...]
    toward: Literal["source", "target"]


@dataclass(frozen=True, kw_only=True)
class BlendQueries:
    """q <- (1 - w) q + w q_vanilla; w runs evenly over `weights` in the window (see `weight`).

    q_vanilla are the frame's queries in a second, unshared row with the same latent (a look).
    """

    weights: tuple[float, float] = (0.9, 0.82)

    def weight(self, window: Window, step: int, steps: int, *, whole: bool) -> float:
        """w at a step of the window. whole: whether it falls over steps that the window skips, too,
        as in the released code of arXiv 2402.03286.
        """
        span = (replace(window, skip=0, least=0) if whole else window).span(steps)
        along = min((step - span.start) / max(len(span) - 1, 1), 1.0)
        return self.weights[0] + (self.weights[1] - self.weights[0]) * along


@dataclass(frozen=True, kw_only=True)
class TwinValues:
    """v <- v of the frame's unshared twin."""


@dataclass(frozen=True, kw_only=True)
class MatchedQueriesKeys:
    """q and k at subject tokens <- those of the corresponding anchor tokens."""


@dataclass(frozen=True, kw_only=True)
class ScaleShared:
    """Multiply the exported keys (`s` of arXiv 2312.02133)."""

    factor: float = 1.0


Edit = AlignStatistics | BlendQueries | TwinValues | MatchedQueriesKeys | ScaleShared


@dataclass(frozen=True, kw_only=True)
class Place:
    """Positions of exported keys under rotary embeddings; without meaning in other models.

    "own" keeps the anchor's, "shift" moves anchors side by side to the right of the frame, "frame"
    counts anchors on the first axis, "matched" takes the corresponding token's position.
    """

    kind: Literal["own", "shift", "frame", "matched"] = "shift"


@dataclass(frozen=True, kw_only=True)
class Mix:
    """How results combine.

    keys: "concat" puts exported keys behind the frame's own, "none" shares no keys; "pictures"
    shares no attention either, and gives the anchors' finished pictures to a network that was
    trained to look at pictures (an edit model).
    bias: added to the logits of shared keys; ln k counts each of them k times.
    inject: share of the attention output that is replaced by the corresponding anchor token's.
    """

    keys: Literal["concat", "none", "pictures"] = "concat"
    bias: float = 0.0
    inject: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One value of each setting. name: by which a method's settings find it in its recipe."""

    name: str = field(default="sharing", repr=False)
    window: Window = Window()
    topology: Topology = Topology()
    select: Select = Select()
    align: tuple[Edit, ...] = ()
    place: Place = Place()
    mix: Mix = Mix()

    def __post_init__(self) -> None:
        # A coin is thrown anew for every step; what is read must have been exported.
        assert not (self.topology.lead and self.window.coin)

    @property
    def idle(self) -> bool:
        """Whether it changes nothing at any step."""
        acts = self.mix.keys != "none" or self.align or self.mix.inject > 0.0
        return not acts or self.window.steps[1] <= 0.0

    @property
    def matches(self) -> bool:
        """Whether it needs correspondences between frames."""
        gathers = has_edit([self], MatchedQueriesKeys)
        return gathers or self.mix.inject > 0.0 or self.place.kind == "matched"

    @property
    def masks(self) -> bool:
        """Whether it always needs subject masks."""
        shares = self.mix.keys == "concat"
        return self.matches or (
            shares and (self.select.tokens == "subject" or self.select.gate == "subject")
        )


# Shares of the steps in which ConsiStory mixes queries: its released code counts to the step after
# a tenth of them, 1 to 5 of 50 and 1 of 10.
MIXED = (0.0, 0.11)
_MIXED_BEFORE = (0.0, 0.1)


@dataclass(frozen=True, kw_only=True)
class MaskProbe:
    """Subject masks from attention to the subject's words.

    source: "twin" takes the finished map of a first pass without sharing, "running" the frame's own
    map of earlier steps; so does "shared", with a first pass that shares as well, whose finished
    map and features settle which token is which (arXiv 2402.03286, its released code). In the very
    first step, which has none before it, the first pass's map counts.
    last: how many recent steps are averaged. tokens: smallest and largest grid, in image tokens,
    whose layers are watched. cut: what stands out more than this share of Otsu's threshold is the
    subject; below 1 where words are looked up in heads more than in clothes.
    """

    source: Literal["twin", "running", "shared"] = "twin"
    last: int = 20
    tokens: tuple[int, int] = (64, 1024)
    cut: float = 1.0


@dataclass(frozen=True, kw_only=True)
class FeatureProbe:
    """Diffusion features for correspondences (DIFT, arXiv 2306.03881).

    time: share of the noise schedule whose nearest step is taken (0.261 of 1000 in the paper).
    scale: sides of the latent over sides of the feature map, 2 as for DIFT on SD and SDXL.
    """

    time: float = 0.261
    scale: int = 2


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A method as data. Rules act in order; where several share keys, only the first does. Without
    rules every frame is drawn alone.

    settings: name -> the places of a value in the recipe (see `methods.tuning.recipe_of`).
    """

    name: str
    rules: tuple[Rule, ...] = ()
    masks: MaskProbe | None = None
    features: FeatureProbe | None = None
    settings: Mapping[str, tuple[str, ...]] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        assert self.masks or not any(rule.masks for rule in self.rules), "a rule needs masks"
        assert self.features or not any(rule.matches for rule in self.rules), "needs features"
        assert not (self.twins_share and has_edit(self.rules, TwinValues))  # values of its own

    @property
    def anchors(self) -> int:
        """Anchor frames per subject."""
        return max((rule.topology.anchors for rule in self.rules), default=0)

    @property
    def pictures(self) -> bool:
        """Whether frames are given the anchors' finished pictures (see `Mix.keys`)."""
        return any(rule.mix.keys == "pictures" for rule in self.rules)

    @property
    def shares(self) -> bool:
        """Whether frames read each other in layers of the model."""
        return any(rule.mix.keys != "pictures" for rule in self.rules)

    @property
    def together(self) -> bool:
        """Whether the first frame of several subjects is read by later ones."""
        return any(rule.topology.together for rule in self.rules)

    @property
    def portrait(self) -> bool:
        """Whether the first anchor of a subject is a portrait, drawn and not shown."""
        return any(rule.topology.portrait for rule in self.rules)

    @property
    def branches(self) -> frozenset[Branch]:
        """The guidance branches in which anything is shared."""
        return frozenset(branch for rule in self.rules for branch in rule.window.branches)

    def before_twins_shared(self) -> Recipe:
        """What was called so before 2026-11-30.3: first passes shared nothing, and queries were
        mixed in the first tenth of the steps.
        """
        masks = self.masks
        if masks is not None and self.twins_share:
            masks = replace(masks, source="twin")
        rules = tuple(
            replace(rule, window=replace(rule.window, steps=_MIXED_BEFORE))
            if rule.window.steps == MIXED and has_edit((rule,), BlendQueries)
            else rule
            for rule in self.rules
        )
        return replace(self, rules=rules, masks=masks)

    def at_few_steps(self) -> Recipe:
        """The same with a step at least in every window that has any."""
        rules = tuple(replace(rule, window=replace(rule.window, least=1)) for rule in self.rules)
        return replace(self, rules=rules)

    def lead(self, steps: int) -> int:
        """How many steps anchors stay ahead of their readers, at least one."""
        return 1 + max((rule.topology.lead_steps(steps) for rule in self.rules), default=0)

    def settled(self, steps: int) -> int | None:
        """The step from which on masks of the frames that others read stay as they are: none of
        their steps if a twin finished them before, and None if they change to the end.

        Where anchors lead, it is the first step that anybody reads, so that what is read does not
        depend on how far the anchor has got meanwhile.
        """
        if self.masks is None or self.masks.source == "twin":
            return 0
        return self.lead(steps) - 1 or None

    @property
    def twin(self) -> bool:
        """Whether every frame is drawn twice, the first time to learn masks and features."""
        learned = self.masks is not None and self.masks.source == "twin"
        return has_edit(self.rules, TwinValues) or learned or self.features is not None

    @property
    def twins_share(self) -> bool:
        """Whether frames share in their first pass too, all but what needs its result. Then all is
        as in the released code of arXiv 2402.03286: anchors are injected into in their order, and
        weights of queries fall over steps that share nothing.
        """
        return self.masks is not None and self.masks.source == "shared"

    def looks(self, step: int, steps: int) -> bool:
        """Whether frames take a second, unshared row at this step, for their queries."""
        return any(
            step in rule.window.span(steps) for rule in self.rules if has_edit([rule], BlendQueries)
        )

    def calls(self, steps: int) -> int:
        """Denoiser calls of an added frame of `steps` steps: itself, its twin, and looks."""
        looks = sum(self.looks(step, steps) for step in range(steps))
        return steps * (1 + self.twin) + looks * (1 + self.twins_share)

    def to_json(self) -> dict[str, Any]:
        """Plain values, edits with their class names."""
        plain: dict[str, Any] = _plain(self)
        return plain

    def digest(self) -> str:
        """A short name of the settings, equal for equal recipes."""
        text = json.dumps(self.to_json(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


# Names of the settings that every method shares which keeps characters by masks.
CHARACTER_SETTINGS: Mapping[str, tuple[str, ...]] = {
    "anchors": ("*.topology.anchors",),
    "lead": ("*.topology.lead",),
    "together": ("*.topology.together",),
    "portrait": ("*.topology.portrait",),
    "dropout": ("sharing.select.dropout",),
    "bias": ("sharing.mix.bias",),
    "gate": ("sharing.select.gate",),
    "open": ("sharing.select.open",),
    "window": ("sharing.window",),
    "watched": ("masks.tokens",),
    "cut": ("masks.cut",),
    "features": ("features",),
}


def has_edit(rules: Iterable[Rule], kind: type) -> bool:
    """Whether any of the rules makes edits of this kind."""
    return any(isinstance(edit, kind) for rule in rules for edit in rule.align)


def edited_parts(rules: Iterable[Rule]) -> frozenset[str]:
    """Which of "q", "k", "v" the rules replace in a row by what was recorded of another."""
    blended = {"q"} if has_edit(rules, BlendQueries) else set[str]()
    return frozenset(blended | ({"v"} if has_edit(rules, TwinValues) else set[str]()))


def wanted_statistics(rules: Iterable[Rule]) -> tuple[str, ...]:
    """Of which of "q", "k", "v" the rules need an anchor's statistics."""
    edits = [edit for rule in rules for edit in rule.align if isinstance(edit, AlignStatistics)]
    return tuple(sorted({which for edit in edits for which in edit.which}))


def in_first_pass(rules: Iterable[Rule]) -> tuple[Rule, ...]:
    """Of the rules, those by which a first pass shares: they need no result of one."""
    return tuple(rule for rule in rules if not rule.matches)


def sharing_rule(rules: Iterable[Rule]) -> Rule | None:
    """Of the rules that act at one layer and step, the one by which keys are shared."""
    return next((rule for rule in rules if rule.mix.keys == "concat"), None)


def source_step(rules: Sequence[Rule], step: int, steps: int) -> int:
    """The anchors' step, one of the window's, that a frame reads where `rules` act: everything
    comes from one step.
    """
    rule = sharing_rule(rules) or rules[0]
    last = rule.window.span(steps).stop - 1
    last -= (last - step) % 2
    return max(step, min(step + rule.topology.lead_steps(steps), last))


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if not is_dataclass(value):
        return value
    # What is not shown (names of rules and of settings) changes no picture.
    found = {f.name: _plain(getattr(value, f.name)) for f in fields(value) if f.repr}
    return {"is": type(value).__name__, **found}
