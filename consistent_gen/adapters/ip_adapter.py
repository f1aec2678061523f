"""IP-Adapter and IP-Adapter-Plus (Ye et al., arXiv 2308.06721): pictures as prompts.

Every picture is a few tokens of its own; those of several pictures share one softmax. The first
reads the embedding of a picture, the second lets learned queries read all of its patches, and
Full-Face keeps one token per patch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from consistent_gen.adapters.adapter import (
    CLIP_H,
    Adapter,
    Shapes,
    Uncond,
    depth_of,
    inner_shapes,
    token_width,
)
from consistent_gen.adapters.layout import TokenLayout, person
from consistent_gen.adapters.projectors import HEAD_WIDTH, Perceiver, TokenProjector
from consistent_gen.adapters.references import CharacterRef, FeatureSpec
from consistent_gen.adapters.weights import AdapterAttention, LayerPlace
from consistent_gen.encoders.faces import Licence

LICENCE = Licence(name="Apache-2.0", text="Apache-2.0 (h94/IP-Adapter)", commercial=True)


class EmbeddingProjector(TokenProjector):
    """An embedding [n f] to tokens [n t c]: one linear map and a norm."""

    def __init__(self, *, feature_width: int, width: int, tokens: int) -> None:
        super().__init__()
        self.width, self.parts = width, (("picture", tokens),)
        self.proj, self.norm = nn.Linear(feature_width, tokens * width), nn.LayerNorm(width)

    def forward(self, picture: Tensor) -> Tensor:
        """[n f] to [n t c]."""
        found: Tensor = self.norm(self.proj(picture).unflatten(-1, (-1, self.width)))
        return found


class ResamplerProjector(Perceiver, TokenProjector):
    """Patches [n m f] to the tokens [n t c] of as many learned latents."""

    def __init__(self, *, tokens: int, **sizes: Any) -> None:
        super().__init__(latents=tokens, **sizes)
        self.parts = (("picture", tokens),)

    def forward(self, picture: Tensor) -> Tensor:  # type: ignore[override]
        """[n m f] to [n t c]."""
        return super().forward(picture)


class PatchProjector(TokenProjector):
    """Patches [n m f] to as many tokens [n m c] (Full-Face)."""

    def __init__(self, *, feature_width: int, width: int, tokens: int) -> None:
        super().__init__()
        self.parts = (("picture", tokens),)
        wide, narrow = nn.Linear(feature_width, feature_width), nn.Linear(feature_width, width)
        self.proj = nn.Sequential(wide, nn.GELU(), narrow, nn.LayerNorm(width))

    def forward(self, picture: Tensor) -> Tensor:
        """[n m f] to [n m c]."""
        found: Tensor = self.proj(picture)
        return found


class PicturePrompts(Adapter):
    """Every picture of a character keeps its own tokens."""

    licence = LICENCE

    def _arranged(
        self, people: Sequence[CharacterRef], *, blank: bool
    ) -> tuple[TokenLayout, Tensor]:
        rounds, counts = self._rounds(people, blank)
        groups, tokens = [], []
        for i, count in enumerate(counts):
            for number in range(count):
                groups.append((person(i, f"picture:{number}"), rounds.shape[2]))
                tokens.append(rounds[number, i])
        return TokenLayout(tuple(groups)), torch.cat(tokens)


class IPAdapter(PicturePrompts):
    """Reads the embedding of a picture as `tokens` tokens."""

    name, title = "ip_adapter", "IP-Adapter"
    marks = ("image_proj.proj.weight", "image_proj.norm.weight", "ip_adapter.1.to_k_ip.weight")

    def __init__(
        self, places: Sequence[LayerPlace], *, feature_width: int = 1024, tokens: int = 4,
        width: int | None = None, encoder: str = CLIP_H,
    ) -> None:  # fmt: skip
        width = token_width(places, width)
        spec = FeatureSpec(
            name="picture", shape=(feature_width,), encoder=encoder, reads="embedding",
            of="the picture, 224 x 224",
        )  # fmt: skip
        super().__init__(
            places,
            features=(spec,),
            projector=EmbeddingProjector(feature_width=feature_width, width=width, tokens=tokens),
            attention=AdapterAttention(places, width=width),
        )

    @classmethod
    def sizes(cls, shapes: Shapes) -> dict[str, Any] | None:
        """See `Adapter`."""
        own = inner_shapes(shapes, "image_proj.")
        if "proj.weight" not in own or "norm.weight" not in own:
            return None
        (out, feature_width), width = own["proj.weight"], own["norm.weight"][0]
        return {"feature_width": feature_width, "tokens": out // width, "width": width}


class IPAdapterPlus(PicturePrompts):
    """Learned queries read the patches of a picture.

    depth, inner: layers and width of the resampler; published ones have 4 and 768 or 1280.
    """

    name, title = "ip_adapter_plus", "IP-Adapter-Plus"
    marks = ("image_proj.latents", "image_proj.proj_in.weight", "ip_adapter.1.to_k_ip.weight")

    def __init__(
        self, places: Sequence[LayerPlace], *, feature_width: int = 1280, patches: int = 257,
        tokens: int = 16, inner: int = 1280, depth: int = 4, width: int | None = None,
        encoder: str = CLIP_H, uncond: Uncond = "pixels",
    ) -> None:  # fmt: skip
        width = token_width(places, width)
        spec = FeatureSpec(
            name="picture", shape=(patches, feature_width), encoder=encoder, reads="hidden[-2]",
            of="the picture, 224 x 224", blank=True,
        )  # fmt: skip
        super().__init__(
            places,
            features=(spec,),
            projector=ResamplerProjector(
                feature_width=feature_width, width=inner, out_width=width, depth=depth,
                heads=inner // HEAD_WIDTH, tokens=tokens,
            ),
            attention=AdapterAttention(places, width=width),
            uncond=uncond,
        )  # fmt: skip

    @classmethod
    def sizes(cls, shapes: Shapes) -> dict[str, Any] | None:
        """See `Adapter`; the resampler of InstantID has the same keys and reads one vector."""
        own = inner_shapes(shapes, "image_proj.")
        if not {"latents", "proj_in.weight", "proj_out.weight"} <= own.keys():
            return None
        (_, tokens, inner), feature_width = own["latents"], own["proj_in.weight"][1]
        if feature_width == 512:
            return None
        return {
            "feature_width": feature_width, "tokens": tokens, "inner": inner,
            "depth": depth_of(own), "width": own["proj_out.weight"][0],
        }  # fmt: skip


class IPAdapterFullFace(PicturePrompts):
    """Keeps one token per patch of a face."""

    name, title = "ip_adapter_full_face", "IP-Adapter-Full-Face"
    marks = ("image_proj.proj.0.weight", "image_proj.proj.3.weight", "ip_adapter.1.to_k_ip.weight")

    def __init__(
        self, places: Sequence[LayerPlace], *, feature_width: int = 1280, patches: int = 257,
        width: int | None = None, encoder: str = CLIP_H, uncond: Uncond = "pixels",
    ) -> None:  # fmt: skip
        width = token_width(places, width)
        spec = FeatureSpec(
            name="picture", shape=(patches, feature_width), encoder=encoder, reads="hidden[-2]",
            of="a face, 224 x 224", blank=True,
        )  # fmt: skip
        super().__init__(
            places,
            features=(spec,),
            projector=PatchProjector(feature_width=feature_width, width=width, tokens=patches),
            attention=AdapterAttention(places, width=width),
            uncond=uncond,
        )

    @classmethod
    def sizes(cls, shapes: Shapes) -> dict[str, Any] | None:
        """See `Adapter`."""
        own = inner_shapes(shapes, "image_proj.")
        if not {"proj.0.weight", "proj.2.weight", "proj.3.weight"} <= own.keys():
            return None
        return {"feature_width": own["proj.0.weight"][1], "width": own["proj.3.weight"][0]}
