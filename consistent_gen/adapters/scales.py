"""How strongly an adapter acts, as a pure function of step, layer and group of tokens.

Nothing is set on a model: two pictures of one call can have two plans, and a second run with the
same plan is the same run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from consistent_gen.adapters.layout import TokenLayout
from consistent_gen.attention.layers import Site
from consistent_gen.errors import InputError

MAX_SCALE = 100.0


@dataclass(frozen=True, kw_only=True)
class ScalePlan:
    """Weights of an adapter's branch and of its LoRA.

    image: of the branch (at 0 words stay as they are, too), lora: of the LoRA; 1 is as trained, 0
        is off to the byte.
    start, stop: shares of the steps between which the adapter acts; stop is exclusive.
    layers: weight by the start of a layer's path ("up_blocks.0.attentions.1") or by its kind of
        block ("up"); what is not named has 0. None is 1 everywhere.
    groups: weight by path of tokens ("char:1", "char:0/face"); what is not named has 1.
    fuse_after: share of the steps up to which prompts stay without the character's features, for
        systems that fuse these into words.
    """

    image: float = 1.0
    lora: float = 1.0
    start: float = 0.0
    stop: float = 1.0
    layers: Mapping[str, float] | None = None
    groups: Mapping[str, float] = field(default_factory=dict)
    fuse_after: float = 0.0

    def __post_init__(self) -> None:
        weights = [self.image, self.lora, *(self.layers or {}).values(), *self.groups.values()]
        if not all(0.0 <= weight <= MAX_SCALE for weight in weights):
            raise InputError(
                f"a weight of an adapter is outside 0 (off) to {MAX_SCALE:g}: "
                f"{', '.join(f'{w:g}' for w in weights)}; 1 is as trained"
            )
        if not 0.0 <= self.start <= self.stop <= 1.0 or not 0.0 <= self.fuse_after <= 1.0:
            raise InputError(
                f"an adapter acts from {self.start:g} to {self.stop:g} of the steps and fuses "
                f"after {self.fuse_after:g}; expected shares from 0 to 1, start not after stop"
            )

    def acts(self, step: int, steps: int) -> bool:
        """Whether the adapter acts at a step, counted from 0."""
        return round(self.start * steps) <= step < round(self.stop * steps)

    def fuses(self, step: int, steps: int) -> bool:
        """Whether words carry features at a step."""
        late = self.fuse_after == 0.0 or step > round(self.fuse_after * steps)
        return self.image > 0.0 and self.acts(step, steps) and late

    def lora_at(self, step: int, steps: int, site: Site) -> float:
        """The LoRA's weight at a layer and step."""
        return self.lora * self._layer(site) if self.acts(step, steps) else 0.0

    def image_at(self, step: int, steps: int, site: Site) -> float:
        """The branch's weight at a layer and step, for a group that has none of its own."""
        return self.image * self._layer(site) if self.acts(step, steps) else 0.0

    def branch_at(
        self, step: int, steps: int, site: Site, layout: TokenLayout
    ) -> tuple[float, ...]:
        """The branch's weight at a layer and step, for every group of a layout."""
        scale = self.image_at(step, steps, site)
        return tuple(scale * self._group(name) for name, _ in layout.groups)

    def _layer(self, site: Site) -> float:
        if self.layers is None:
            return 1.0
        fits = [k for k in self.layers if k == site.block or f"{site.name}.".startswith(f"{k}.")]
        return self.layers[max(fits, key=len)] if fits else 0.0

    def _group(self, name: str) -> float:
        fits = [k for k in self.groups if k == name or name.startswith(f"{k}/")]
        return self.groups[max(fits, key=len)] if fits else 1.0
