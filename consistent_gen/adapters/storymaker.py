"""StoryMaker (Zhou et al., arXiv 2409.12576): whole characters, several in one picture.

The positional-aware perceiver resampler (PPR) makes 20 tokens of a character: 4 of its face, which
are those of FaceID-Plus V2, and 16 of a crop of all of it, which are those of IP-Adapter-Plus.
Learned embeddings tell the characters apart, and 20 learned tokens stand for the background. All
share one softmax, so characters and background compete for every place.

Published inference has no masks; with masks a character's tokens are read in its region only, and
the background everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

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
from consistent_gen.adapters.faceid import (
    LORA_RANK,
    FaceIDPlusProjector,
    identity_spec,
    plus_sizes,
)
from consistent_gen.adapters.layout import BACKGROUND, TokenLayout
from consistent_gen.adapters.projectors import HEAD_WIDTH, Perceiver
from consistent_gen.adapters.references import CharacterRef, FeatureSpec
from consistent_gen.adapters.scales import ScalePlan
from consistent_gen.adapters.weights import AdapterAttention, LayerPlace

MOST_PEOPLE = 3


class PositionalResampler(FaceIDPlusProjector):
    """Tokens of n characters [n 20 c] from identity vectors, face patches and crop patches.

    body_tokens, body_width, body_depth: of the resampler that reads the crop. people: how many
    positions are learned.
    """

    def __init__(
        self, *, patch_width: int = 1280, width: int, tokens: int = 4, body_tokens: int = 16,
        body_width: int = 1280, body_depth: int = 4, people: int = MOST_PEOPLE, **sizes: Any,
    ) -> None:  # fmt: skip
        super().__init__(
            patch_width=patch_width, width=width, tokens=tokens, shortcut=True, **sizes
        )
        self.parts = (("face", tokens), ("body", body_tokens))
        self.pos_embed = nn.Parameter(torch.zeros(people, tokens + body_tokens, width))
        self.bg_embed = nn.Parameter(torch.zeros(1, tokens + body_tokens, width))
        self.proj_out, self.norm_out = nn.Linear(width, width), nn.LayerNorm(width)
        nn.init.zeros_(self.proj_out.weight)
        nn.init.zeros_(self.proj_out.bias)
        self.resample = Perceiver(
            feature_width=patch_width, width=body_width, out_width=width, depth=body_depth,
            heads=max(body_width // HEAD_WIDTH, 1), head_width=min(body_width, HEAD_WIDTH),
            latents=body_tokens,
        )  # fmt: skip

    def forward(  # type: ignore[override]
        self, identity: Tensor, face: Tensor, crop: Tensor, kept: Tensor | None = None
    ) -> Tensor:
        """identity [n v], face and crop [n m f] to [n t c].

        kept: of each character, whether face and body count, [n 2] of 0 and 1: tokens of what does
        not are zeros before positions are added, as dropped ones were in training.
        """
        found = [super().forward(identity, face), self.resample(crop)]
        if kept is not None:
            found = [part * kept[:, i, None, None] for i, part in enumerate(found)]
        # Characters beyond those that positions were learned for share them from the front.
        numbers = torch.arange(len(identity), device=identity.device) % len(self.pos_embed)
        tokens = torch.cat(found, dim=1) + self.pos_embed[numbers]
        result: Tensor = self.norm_out(self.proj_out(tokens)) + tokens
        # At the start `proj_out` is zero, and so is the norm of zero but for its bias, which is
        # zero too: what comes out is what the two parts give.
        return result


class StoryMaker(Adapter):
    """Face, clothes, hair and body of one to three characters, and the background.

    uncond: what features are without the prompt: "features", zeros, as in published inference, or
        "pixels", those of a picture of zeros, as in published training.
    learned_background: whether rows without the prompt read the learned background too, as
        published (the code computes zeros for them and does not use these).
    """

    name, title = "storymaker", "StoryMaker"
    licence = NOT_COMMERCIAL
    prefixes = {  # noqa: RUF012
        "projector.": ("image_proj_model.",),
        "attention.": ("ip_adapter.",),
    }
    marks = ("image_proj_model.bg_embed", "image_proj_model.resample.latents",
             "ip_adapter.0.to_q_lora.down.weight")  # fmt: skip
    trained_people = MOST_PEOPLE
    projector: PositionalResampler

    def __init__(
        self, places: Sequence[LayerPlace], *, feature_width: int = 512, patch_width: int = 1280,
        patches: int = 257, tokens: int = 4, depth: int = 4, body_tokens: int = 16,
        body_width: int = 1280, body_depth: int = 4, people: int = MOST_PEOPLE,
        rank: int = LORA_RANK, width: int | None = None, encoder: str = BUFFALO_L,
        picture_encoder: str = CLIP_H, uncond: Uncond = "features",
        learned_background: bool = True, plan: ScalePlan | None = None,
    ) -> None:  # fmt: skip
        width = token_width(places, width)
        read: dict[str, Any] = {"encoder": picture_encoder, "reads": "hidden[-2]", "blank": True}
        face = FeatureSpec(
            name="face", shape=(patches, patch_width), of="the aligned face, 224 x 224", **read
        )
        crop = FeatureSpec(
            name="crop", shape=(patches, patch_width),
            of="the character's box on white, brought to 224 x 224 whatever its sides", **read,
        )  # fmt: skip
        super().__init__(
            places,
            features=(identity_spec(feature_width, encoder), face, crop),
            projector=PositionalResampler(
                feature_width=feature_width, patch_width=patch_width, width=width, tokens=tokens,
                depth=depth, body_tokens=body_tokens, body_width=body_width, body_depth=body_depth,
                people=people,
            ),
            attention=AdapterAttention(places, width=width, rank=rank),
            plan=plan or ScalePlan(image=0.8, lora=0.8),
            uncond=uncond,
        )  # fmt: skip
        self.learned_background = learned_background

    def project(self, people: Sequence[CharacterRef], features: dict[str, Tensor]) -> Tensor:
        """See `Adapter`; of who is shown in part, the other tokens are zeros."""
        if all(p.shown == "all" for p in people):
            return super().project(people, features)
        kept = torch.tensor(
            [[p.shown in ("all", "face"), p.shown in ("all", "body")] for p in people]
        )
        tokens: Tensor = self.projector(**features, kept=kept.to(features["identity"]))
        return tokens

    def _arranged(
        self, people: Sequence[CharacterRef], *, blank: bool
    ) -> tuple[TokenLayout, Tensor]:
        layout, tokens = super()._arranged(people, blank=blank)
        background = self.projector.bg_embed[0]  # t c
        if blank and not self.learned_background:
            background = torch.zeros_like(background)
        lead = TokenLayout(((BACKGROUND, len(background)),))
        return lead + layout, torch.cat([background.to(tokens), tokens])

    @classmethod
    def sizes(cls, shapes: Shapes) -> dict[str, Any] | None:
        """See `Adapter`."""
        own = inner_shapes(shapes, "image_proj_model.")
        if "bg_embed" not in own and "resample.latents" not in own:
            return None
        found: dict[str, Any] = {"rank": lora_rank(shapes)}
        if "perceiver_resampler.proj_in.weight" in own:
            found |= plus_sizes(own)
        if "pos_embed" in own:
            found["people"] = own["pos_embed"][0]
        if "resample.latents" in own:
            _, body_tokens, body_width = own["resample.latents"]
            found |= {
                "body_tokens": body_tokens, "body_width": body_width,
                "body_depth": depth_of(own, "resample."),
            }  # fmt: skip
        return found
