"""IP-Adapter-FaceID, its Plus variants and Portrait: an identity vector instead of a picture.

What makes a face is read by a network that was trained to tell people apart; the Plus variants let
the tokens that come of it read the patches of the aligned face as well. Versions 1 and 2 of Plus
have files of equal layout and differ in a shortcut, so a file does not say which it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from consistent_gen.adapters.adapter import (
    BUFFALO_L,
    CLIP_H,
    NOT_COMMERCIAL,
    Adapter,
    Shapes,
    Uncond,
    depth_of,
    inner_shapes,
    lora_rank,
    token_width,
)
from consistent_gen.adapters.ip_adapter import PicturePrompts
from consistent_gen.adapters.projectors import HEAD_WIDTH, IDMLP, Perceiver
from consistent_gen.adapters.references import FeatureSpec
from consistent_gen.adapters.weights import AdapterAttention, LayerPlace

LORA_RANK = 128


def identity_spec(
    width: int = 512, encoder: str = BUFFALO_L, reads: str = "normed embedding"
) -> FeatureSpec:
    """The identity vector of a face."""
    return FeatureSpec(name="identity", shape=(width,), encoder=encoder, reads=reads, of="a face")


class FaceIDPlusProjector(IDMLP):
    """Identity tokens that read the patches of a face: out = P(x), or x + s P(x) with a shortcut.

    feature_width: of the identity vector. patch_width: of a patch. width: c of a token, a multiple
    of 64. depth: layers of the reading.
    """

    def __init__(
        self, *, feature_width: int = 512, patch_width: int = 1280, width: int, tokens: int = 4,
        depth: int = 4, shortcut: bool = True, shortcut_scale: float = 1.0,
    ) -> None:  # fmt: skip
        super().__init__(feature_width=feature_width, width=width, tokens=tokens)
        self.perceiver_resampler = Perceiver(
            feature_width=patch_width, width=width, out_width=width, depth=depth,
            heads=max(width // HEAD_WIDTH, 1), head_width=min(width, HEAD_WIDTH),
        )  # fmt: skip
        self.shortcut, self.shortcut_scale = shortcut, shortcut_scale

    def forward(self, identity: Tensor, face: Tensor) -> Tensor:  # type: ignore[override]
        """identity [n v] and patches [n m f] to [n t c]."""
        x = self.from_identity(identity)
        read: Tensor = self.perceiver_resampler(face, x)
        return x + self.shortcut_scale * read if self.shortcut else read


class FaceID(Adapter):
    """An identity vector as `tokens` tokens, with a LoRA in all layers."""

    name, title = "faceid", "IP-Adapter-FaceID"
    licence = NOT_COMMERCIAL
    marks = ("image_proj.proj.0.weight", "image_proj.norm.weight", "to_q_lora.down.weight")

    def __init__(
        self, places: Sequence[LayerPlace], *, feature_width: int = 512, tokens: int = 4,
        hidden: int | None = None, rank: int = LORA_RANK, width: int | None = None,
        encoder: str = BUFFALO_L,
    ) -> None:  # fmt: skip
        width = token_width(places, width)
        super().__init__(
            places,
            features=(identity_spec(feature_width, encoder),),
            projector=IDMLP(feature_width=feature_width, width=width, tokens=tokens, hidden=hidden),
            attention=AdapterAttention(places, width=width, rank=rank),
        )

    @classmethod
    def sizes(cls, shapes: Shapes) -> dict[str, Any] | None:
        """See `Adapter`."""
        found = _mlp_sizes(shapes)
        rank = lora_rank(shapes)
        return None if found is None or not rank else {**found, "rank": rank}


class FaceIDPortrait(PicturePrompts):
    """Up to five pictures of one face, each as tokens of its own; no LoRA."""

    name, title = "faceid_portrait", "IP-Adapter-FaceID-Portrait"
    licence = NOT_COMMERCIAL
    marks = ("image_proj.proj.0.weight", "image_proj.norm.weight", "ip_adapter.1.to_k_ip.weight")

    def __init__(
        self, places: Sequence[LayerPlace], *, feature_width: int = 512, tokens: int = 16,
        hidden: int | None = None, width: int | None = None, encoder: str = BUFFALO_L,
    ) -> None:  # fmt: skip
        width = token_width(places, width)
        super().__init__(
            places,
            features=(identity_spec(feature_width, encoder),),
            projector=IDMLP(feature_width=feature_width, width=width, tokens=tokens, hidden=hidden),
            attention=AdapterAttention(places, width=width),
        )

    @classmethod
    def sizes(cls, shapes: Shapes) -> dict[str, Any] | None:
        """See `Adapter`."""
        return None if lora_rank(shapes) else _mlp_sizes(shapes)


class FaceIDPlus(Adapter):
    """Identity tokens that read the face's patches, with a LoRA in all layers.

    version: 1 without the shortcut, 2 with it; a file does not say which it is, and 2 is the newer.
    shortcut_scale: how strongly the face's structure counts, 1 as published.
    """

    name, title = "faceid_plus", "IP-Adapter-FaceID-Plus"
    licence = NOT_COMMERCIAL
    marks = ("image_proj.perceiver_resampler.proj_in.weight", "to_q_lora.down.weight")

    def __init__(
        self, places: Sequence[LayerPlace], *, feature_width: int = 512, patch_width: int = 1280,
        patches: int = 257, tokens: int = 4, depth: int = 4, rank: int = LORA_RANK,
        width: int | None = None, version: int = 2, shortcut_scale: float = 1.0,
        encoder: str = BUFFALO_L, picture_encoder: str = CLIP_H, uncond: Uncond = "pixels",
    ) -> None:  # fmt: skip
        width = token_width(places, width)
        face = FeatureSpec(
            name="face", shape=(patches, patch_width), encoder=picture_encoder, reads="hidden[-2]",
            of="the aligned face, 224 x 224", blank=True,
        )  # fmt: skip
        super().__init__(
            places,
            features=(identity_spec(feature_width, encoder), face),
            projector=FaceIDPlusProjector(
                feature_width=feature_width, patch_width=patch_width, width=width, tokens=tokens,
                depth=depth, shortcut=version >= 2, shortcut_scale=shortcut_scale,
            ),
            attention=AdapterAttention(places, width=width, rank=rank),
            uncond=uncond,
        )  # fmt: skip

    @classmethod
    def sizes(cls, shapes: Shapes) -> dict[str, Any] | None:
        """See `Adapter`."""
        own = inner_shapes(shapes, "image_proj.")
        rank = lora_rank(shapes)
        if "perceiver_resampler.proj_in.weight" not in own or "pos_embed" in own or not rank:
            return None
        return {**plus_sizes(own), "rank": rank}


def plus_sizes(own: Shapes) -> dict[str, Any]:
    """Sizes of a `FaceIDPlusProjector` from its tensors."""
    width, patch_width = own["perceiver_resampler.proj_in.weight"]
    depth = depth_of(own, "perceiver_resampler.")
    found: dict[str, Any] = {"width": width, "patch_width": patch_width, "depth": depth}
    if "proj.0.weight" in own and "proj.2.weight" in own:
        found["feature_width"] = own["proj.0.weight"][1]
        found["tokens"] = own["proj.2.weight"][0] // width
    return found


def _mlp_sizes(shapes: Shapes) -> dict[str, Any] | None:
    own = inner_shapes(shapes, "image_proj.")
    plain = {"proj.0.weight", "proj.2.weight", "norm.weight"} <= own.keys()
    if not plain or "perceiver_resampler.proj_in.weight" in own or "proj.3.weight" in own:
        return None
    hidden, feature_width = own["proj.0.weight"]
    width = own["norm.weight"][0]
    return {
        "feature_width": feature_width, "hidden": hidden, "width": width,
        "tokens": own["proj.2.weight"][0] // width,
    }  # fmt: skip
