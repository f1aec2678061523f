"""An adapter: what all systems have in common, from references to tokens.

A system says what it must be told of a character (`features`), how that becomes tokens
(`projector`), what it adds to attention (`attention`, `rules`), how strongly it acts (`plan`), and
how its files look (`sizes`, `prefixes`). Nothing here knows a system by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from consistent_gen.adapters.fusing import FuseModule, Fusing
from consistent_gen.adapters.layout import TokenLayout, person
from consistent_gen.adapters.policy import BranchRules, Capture, IdentityPolicy, IdentityTokens
from consistent_gen.adapters.projectors import TokenProjector
from consistent_gen.adapters.references import CharacterRef, FeatureSpec
from consistent_gen.adapters.scales import ScalePlan
from consistent_gen.adapters.weights import AdapterAttention, LayerPlace, context_width
from consistent_gen.encoders.faces import Licence
from consistent_gen.errors import InputError

Shapes = Mapping[str, tuple[int, ...]]
Uncond = Literal["pixels", "features"]

# The encoders that published files were trained with, by the ids that encoders of faces and
# pictures give themselves.
CLIP_H = "clip/ViT-H-14-laion2B"
BUFFALO_L = "insightface/buffalo_l"
ANTELOPE_V2 = "insightface/antelopev2"

_INSIGHTFACE = "weights made with insightface's models: not for commercial use"


NOT_COMMERCIAL = Licence(name="insightface", text=_INSIGHTFACE, commercial=False)


class IdentitySystem(nn.Module):
    """Weights that a file holds, built for one UNet: what `codec` must know of them.

    Args:
        places: the UNet's attention layers (`weights.places_of`).
    """

    name: ClassVar[str]
    title: ClassVar[str]
    licence: ClassVar[Licence]
    # Ours -> how files call it; the first is the one that is written.
    prefixes: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "projector.": ("image_proj.",),
        "attention.": ("ip_adapter.",),
    }
    # Ends of keys: ours -> that of files.
    leaves: ClassVar[Mapping[str, str]] = {}
    # What shows that a file is meant to be of this system, for mistakes.
    marks: ClassVar[tuple[str, ...]]

    def __init__(self, places: Sequence[LayerPlace]) -> None:
        super().__init__()
        self.places = tuple(places)
        self.spelling = {ours: files[0] for ours, files in self.prefixes.items()}

    @classmethod
    def sizes(cls, shapes: Shapes) -> dict[str, Any] | None:
        """What a file with tensors of these shapes says of the constructor's arguments; None if it
        is not of this system. Keys may be missing: that is told later, by name.
        """
        raise NotImplementedError


class Adapter(IdentitySystem):
    """A system that makes tokens of characters.

    Args:
        features: what it must be told of a character. projector: makes tokens of that.
        attention: what it adds to layers. rules: how its branch computes. plan: how strongly it
            acts unless a picture says otherwise. uncond: whether features without the prompt are
            those of a picture of zeros or zeros themselves, for features that are marked `blank`.
    """

    trained_people: ClassVar[int] = 1
    # Whether rows of a pipeline's ControlNet get the tokens in place of the text.
    feeds_control: ClassVar[bool] = False
    # Features that stay without the prompt.
    kept_blank: frozenset[str] = frozenset()

    def __init__(
        self,
        places: Sequence[LayerPlace],
        *,
        features: Sequence[FeatureSpec],
        projector: TokenProjector,
        attention: AdapterAttention,
        rules: BranchRules | None = None,
        plan: ScalePlan | None = None,
        uncond: Uncond = "pixels",
    ) -> None:
        super().__init__(places)
        self.features = tuple(replace(f, blank=f.blank and uncond == "pixels") for f in features)
        self.projector, self.attention = projector, attention
        self.rules, self.plan = rules or BranchRules(), plan or ScalePlan()

    @property
    def fuser(self) -> FuseModule | None:
        """What puts features into words, if the system does that."""
        return None

    def policy(self, *, capture: Capture | None = None) -> IdentityPolicy:
        """The policy that brings this adapter into a model; `attention.patch.attach` it."""
        return IdentityPolicy(
            self.attention, self.rules, self.plan, fuser=self.fuser, capture=capture
        )

    def identities(
        self,
        people: Sequence[CharacterRef],
        *,
        masks: Mapping[int, Tensor] | None = None,
        plan: ScalePlan | None = None,
        fusing: Fusing | None = None,
    ) -> IdentityTokens:
        """What the characters of one picture become.

        masks: number of a character -> where it belongs, 0..1 [h w]. plan: other weights than the
        adapter's own; a character's own weight counts in either.

        Raises:
            InputError: nobody is given, a feature is missing or another encoder's, or a mask is
                for nobody.
        """
        if not people:
            raise InputError(f"{self.title} is given no character; it draws one or more")
        strangers = set(masks or {}) - set(range(len(people)))
        if strangers:
            raise InputError(
                f"there is a mask for character {min(strangers)}; of {len(people)} characters "
                f"the numbers are 0 to {len(people) - 1}"
            )
        layout, cond = self._arranged(people, blank=False)
        _, uncond = self._arranged(people, blank=True)
        plan = self._weighted(people, plan or self.plan)
        return IdentityTokens(
            layout=layout, cond=cond, uncond=uncond, masks=dict(masks or {}), plan=plan,
            fusing=fusing, notes=self._notes(people),
        )  # fmt: skip

    def project(self, people: Sequence[CharacterRef], features: dict[str, Tensor]) -> Tensor:
        """Tokens [n t c] of one picture of every character; features: [n ...] by name."""
        tokens: Tensor = self.projector(**features)
        return tokens

    def _arranged(
        self, people: Sequence[CharacterRef], *, blank: bool
    ) -> tuple[TokenLayout, Tensor]:
        """All tokens [t c] of the characters, with their names. A character's tokens are the mean
        of those of its pictures.
        """
        rounds, counts = self._rounds(people, blank)
        means = [rounds[:count, i].mean(0) for i, count in enumerate(counts)]  # t c each
        parts = self.projector.parts
        groups = [(person(i, part), size) for i in range(len(people)) for part, size in parts]
        return TokenLayout(tuple(groups)), torch.cat(means)

    def _rounds(self, people: Sequence[CharacterRef], blank: bool) -> tuple[Tensor, list[int]]:
        """Tokens [r n t c] of the characters' pictures, and how many each has; those who have fewer
        than others begin again.
        """
        weight = next(self.projector.parameters())
        values = {s.name: [p.value(s, self.title) for p in people] for s in self.features}
        counts = [max(len(v[i]) for v in values.values()) for i in range(len(people))]
        if blank:
            for spec in (s for s in self.features if s.name not in self.kept_blank):
                empty = [p.blank(spec, self.title).expand(spec.shape) for p in people]
                values[spec.name] = [row[None] for row in empty]
        rounds = []
        for number in range(max(counts)):
            features = {
                name: torch.stack([v[number % len(v)] for v in of_all]).to(weight)
                for name, of_all in values.items()
            }
            rounds.append(self.project(people, features))
        return torch.stack(rounds), counts

    def _weighted(self, people: Sequence[CharacterRef], plan: ScalePlan) -> ScalePlan:
        weights = {person(i): p.weight for i, p in enumerate(people) if p.weight != 1.0}
        return replace(plan, groups={**weights, **plan.groups}) if weights else plan

    def _notes(self, people: Sequence[CharacterRef]) -> tuple[str, ...]:
        if len(people) <= self.trained_people:
            return ()
        most = f"{self.trained_people} character" + "s" * (self.trained_people > 1)
        return (f"{self.title} was trained with up to {most}; this picture has {len(people)}",)


def inner_shapes(shapes: Shapes, *prefixes: str) -> Shapes:
    """The tensors of a file below the first of these prefixes that it has, without the prefix."""
    for prefix in prefixes:
        found = {k[len(prefix) :]: s for k, s in shapes.items() if k.startswith(prefix)}
        if found:
            return found
    return {}


def lora_rank(shapes: Shapes) -> int:
    """The rank of a file's LoRA, 0 without."""
    return next((s[0] for k, s in shapes.items() if k.endswith("to_q_lora.down.weight")), 0)


def depth_of(shapes: Shapes, prefix: str = "") -> int:
    """How many layers a perceiver of a file has."""
    start = f"{prefix}layers."
    return len({k[len(start) :].partition(".")[0] for k in shapes if k.startswith(start)})


def token_width(places: Sequence[LayerPlace], width: int | None) -> int:
    """The width of an adapter's tokens: that of the UNet's text unless a file says otherwise."""
    return context_width(places) if width is None else width
