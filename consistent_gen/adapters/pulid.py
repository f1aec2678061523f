"""PuLID for SDXL (Guo et al., arXiv 2404.16022): identity beside the prompt, not over it.

The IDFormer lets 32 learned queries read an identity vector and five depths of a vision model; they
become 32 tokens. Two things keep them from changing what the prompt says: tokens of zeros dilute
the softmax, and only that part of the result is added that is orthogonal to the result over the
text. "Fidelity" is 8 zeros and the weighted residual, "style" 16 zeros and the plain one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from consistent_gen.adapters.adapter import (
    NOT_COMMERCIAL,
    Adapter,
    Shapes,
    depth_of,
    inner_shapes,
    token_width,
)
from consistent_gen.adapters.policy import BranchRules
from consistent_gen.adapters.projectors import (
    HEAD_WIDTH,
    TokenProjector,
    perceive,
    perceiver_layers,
)
from consistent_gen.adapters.references import FeatureSpec
from consistent_gen.adapters.weights import AdapterAttention, LayerPlace

Mode = Literal["fidelity", "style", "plain"]
LEVELS = 5
MODES: dict[str, BranchRules] = {
    "fidelity": BranchRules(residual="orthogonal_weighted", zeros=8),
    "style": BranchRules(residual="orthogonal", zeros=16),
    "plain": BranchRules(),
}
ENCODERS = "insightface/antelopev2 + eva02-clip/L-14-336"


def _mapping(width: int, inner: int, out: int) -> nn.Sequential:
    steps: list[nn.Module] = []
    for i in range(2):
        steps += [nn.Linear(inner if i else width, inner), nn.LayerNorm(inner), nn.LeakyReLU()]
    return nn.Sequential(*steps, nn.Linear(inner, out))


class IDFormer(TokenProjector):
    """Learned queries read the identity and five levels of patches, two layers a level.

    feature_width: of the identity vector. level_width: of a patch. inner: of the queries.
    identity_tokens: how many tokens the identity vector becomes inside.
    """

    def __init__(
        self, *, feature_width: int = 1280, level_width: int = 1024, width: int, inner: int = 1024,
        depth: int = 10, identity_tokens: int = 5, tokens: int = 32,
    ) -> None:  # fmt: skip
        super().__init__()
        self.parts, self.identity_tokens = (("face", tokens),), identity_tokens
        self.latents = nn.Parameter(torch.randn(1, tokens, inner) / inner**0.5)
        self.proj_out = nn.Parameter(torch.randn(inner, width) / inner**0.5)
        self.layers = perceiver_layers(inner, depth, inner // HEAD_WIDTH)
        for level in range(LEVELS):
            setattr(self, f"mapping_{level}", _mapping(level_width, inner, inner))
        self.id_embedding_mapping = _mapping(feature_width, inner, inner * identity_tokens)

    def forward(self, identity: Tensor, levels: Tensor) -> Tensor:
        """identity [n v] and levels [n 5 m f] to [n t c]."""
        x = self.id_embedding_mapping(identity).unflatten(-1, (self.identity_tokens, -1))
        latents = torch.cat([self.latents.expand(len(x), -1, -1), x], dim=1)
        per_level = len(self.layers) // LEVELS
        for level in range(LEVELS):
            patches = getattr(self, f"mapping_{level}")(levels[:, level])
            layers = self.layers[level * per_level : (level + 1) * per_level]
            latents = perceive(layers, torch.cat([x, patches], dim=1), latents)
        found: Tensor = latents[:, : self.latents.shape[1]] @ self.proj_out
        return found


class PuLID(Adapter):
    """32 tokens whose effect is kept orthogonal to the prompt's.

    mode: "fidelity" or "style" as published, or "plain" without either device.
    """

    name, title = "pulid", "PuLID"
    licence = NOT_COMMERCIAL
    prefixes = {  # noqa: RUF012
        "projector.": ("id_adapter.",),
        "attention.": ("id_adapter_attn_layers.",),
    }
    leaves = {"to_k_ip.weight": "id_to_k.weight", "to_v_ip.weight": "id_to_v.weight"}  # noqa: RUF012
    marks = ("id_adapter.latents", "id_adapter.mapping_0.0.weight",
             "id_adapter_attn_layers.1.id_to_k.weight")  # fmt: skip

    def __init__(
        self, places: Sequence[LayerPlace], *, feature_width: int = 1280, level_width: int = 1024,
        patches: int = 577, inner: int = 1024, depth: int = 10, identity_tokens: int = 5,
        tokens: int = 32, width: int | None = None, mode: Mode = "fidelity",
        encoder: str = ENCODERS,
    ) -> None:  # fmt: skip
        width = token_width(places, width)
        identity = FeatureSpec(
            name="identity", shape=(feature_width,), encoder=encoder,
            reads="raw face vector and the normed pooled vector", of="a grey face on white",
        )  # fmt: skip
        levels = FeatureSpec(
            name="levels", shape=(LEVELS, patches, level_width), encoder=encoder,
            reads="five depths", of="a grey face on white",
        )  # fmt: skip
        super().__init__(
            places,
            features=(identity, levels),
            projector=IDFormer(
                feature_width=feature_width, level_width=level_width, width=width, inner=inner,
                depth=depth, identity_tokens=identity_tokens, tokens=tokens,
            ),
            attention=AdapterAttention(places, width=width),
            rules=MODES[mode],
        )  # fmt: skip

    @classmethod
    def sizes(cls, shapes: Shapes) -> dict[str, Any] | None:
        """See `Adapter`."""
        own = inner_shapes(shapes, "id_adapter.")
        if "latents" not in own or "mapping_0.0.weight" not in own:
            return None
        _, tokens, inner = own["latents"]
        found: dict[str, Any] = {"tokens": tokens, "inner": inner, "depth": depth_of(own)}
        if "id_embedding_mapping.0.weight" in own:
            found["feature_width"] = own["id_embedding_mapping.0.weight"][1]
        found["level_width"] = own["mapping_0.0.weight"][1]
        if "proj_out" in own:
            found["width"] = own["proj_out"][1]
        return found
