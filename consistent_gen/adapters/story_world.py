"""Adapters at the story world's size: the classes of the published systems, and one without a
published file, for a UNet whose text is 256 wide.

    adapter = build_arm("people", unet, StoryWorldFeatures(vector=128, patch=96, patches=64))
    policy = adapter.policy(capture=capture)
    with attached(unet, policy):
        for frame, people in batch:
            policy.show(frame, adapter.identities(people, masks=masks))
        policy.begin(training_call(frames, dropped, latent))
        loss = ...  # of unet(...), and of capture.branch
        policy.end()

A row whose references shall be dropped is a row without the prompt: `Row.branch` is "uncond".
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from consistent_gen.adapters.adapter import IdentitySystem
from consistent_gen.adapters.consistent_id import PARTS, ConsistentID
from consistent_gen.adapters.ip_adapter import IPAdapterPlus
from consistent_gen.adapters.reference_tokens import ReferenceTokens
from consistent_gen.adapters.storymaker import StoryMaker
from consistent_gen.adapters.weights import places_of
from consistent_gen.attention.layers import Grid
from consistent_gen.attention.rows import Call, Row
from consistent_gen.registry import unknown_name

INNER, RANK, DEPTH = 128, 16, 1  # width of resamplers, rank of LoRA, layers that read a face


@dataclass(frozen=True, kw_only=True)
class StoryWorldFeatures:
    """What the encoders of the story world give.

    vector: width of the identity vector. patch, patches: width and number of a picture's patches.
    parts: names of the parts that are read alone. encoder, picture_encoder: ids of what reads the
    vector and the patches.
    """

    vector: int
    patch: int
    patches: int
    parts: tuple[str, ...] = PARTS
    encoder: str = "storyworld/subject"
    picture_encoder: str = "storyworld/subject"

    def switches(self, arm: str) -> dict[str, Any]:
        """What a file of an arm does not say of it, for `codec.load_system`."""
        picture = {"patches": self.patches, "uncond": "features"}
        if arm == "picture":
            return {**picture, "encoder": self.picture_encoder}
        both = {"encoder": self.encoder, "picture_encoder": self.picture_encoder}
        if arm == "parts":
            return {**picture, **both, "shortcut": True, "parts": self.parts, "order": "semantic"}
        return {**picture, **both} if arm == "people" else {}


# The file whose hash names the denoiser that an adapter was trained on, in a model's folder.
DENOISER = Path("unet") / "diffusion_pytorch_model.safetensors"
# What the shipped reader gives (`encoders.subject_features`).
READER = "storyworld/reader"
FEATURES = StoryWorldFeatures(
    vector=384, patch=97, patches=64, encoder=READER, picture_encoder=READER
)


def _picture(unet: Any, given: StoryWorldFeatures) -> IdentitySystem:
    return IPAdapterPlus(
        places_of(unet), feature_width=given.patch, patches=given.patches, tokens=16, inner=INNER,
        depth=2, encoder=given.picture_encoder, uncond="features",
    )  # fmt: skip


def _parts(unet: Any, given: StoryWorldFeatures) -> IdentitySystem:
    return ConsistentID(
        places_of(unet), feature_width=given.vector, patch_width=given.patch, patches=given.patches,
        depth=DEPTH, part_width=INNER, part_depth=2, part_heads=2, rank=RANK, shortcut=True,
        parts=given.parts, order="semantic", encoder=given.encoder,
        picture_encoder=given.picture_encoder, uncond="features",
    )  # fmt: skip


def _people(unet: Any, given: StoryWorldFeatures) -> IdentitySystem:
    return StoryMaker(
        places_of(unet), feature_width=given.vector, patch_width=given.patch, patches=given.patches,
        depth=DEPTH, body_width=INNER, body_depth=2, rank=RANK, encoder=given.encoder,
        picture_encoder=given.picture_encoder, plan=None,
    )  # fmt: skip


def _reference(unet: Any, given: StoryWorldFeatures) -> IdentitySystem:
    return ReferenceTokens(places_of(unet), rank=RANK)


# The arms that are trained side by side: like IP-Adapter-Plus, ConsistentID and StoryMaker, and
# with references in the sequence.
ARMS: dict[str, Callable[[Any, StoryWorldFeatures], IdentitySystem]] = {
    "picture": _picture,
    "parts": _parts,
    "people": _people,
    "reference": _reference,
}


def build_arm(name: str, unet: Any, given: StoryWorldFeatures) -> Any:
    """An untrained arm for `unet`; every branch starts from the UNet's own keys and values, every
    LoRA at zero.

    Raises:
        UnknownNameError: no such arm.
    """
    if name not in ARMS:
        raise unknown_name("adapter of the story world", name, ARMS)
    adapter: Any = ARMS[name](unet, given)
    adapter.attention.start_from(unet)
    return adapter


def training_call(frames: Sequence[str], dropped: Collection[str], latent: Grid) -> Call:
    """The call of a training step: one row for each frame, in order.

    dropped: frames whose references do not count this time. latent: (height, width) in cells.
    """
    rows = tuple(
        Row(i, frame, "uncond" if frame in dropped else "cond", 0, 1, 1.0)
        for i, frame in enumerate(frames)
    )
    return Call(len(rows), latent, rows)
