"""Similarities that need no training of ours: what a trained reward has to beat, and what pictures
from elsewhere can be scored with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from consistent_gen.rewards.base import Floats, ImageSet, MetricCard, Picture
from consistent_gen.rewards.colors import color_similarities, oklab
from consistent_gen.rewards.foreground import EmbeddingConsistency, Embeds, whole
from consistent_gen.rewards.pairs import MatrixReward
from consistent_gen.rewards.photo_features import WEIGHTS_SHA256, PhotoFeatures

if TYPE_CHECKING:
    from consistent_gen.rewards.looking import Looker

PIXEL_SIDE = 64
_ANY: Mapping[str, Any] = {
    "range": (0.0, 1.0),
    "symmetric": True,
    "version": 1,
    "direction": "higher is better",
    "mask": "none",
    "trained_on": False,
}


class ColorHistogram(MatrixReward):
    """Overlap of colours, wherever they are."""

    card = MetricCard(
        name="color_histogram",
        says="overlap of the colour histograms of whole pictures",
        features="OKLab histograms of 216 cells",
        resolution="as given",
        known_failure="two strangers in one room are alike; one person in two rooms is not",
        **_ANY,
    )

    def matrix(self, item: ImageSet) -> Floats:
        """See `MatrixReward`."""
        return color_similarities([*item.pictures, *item.references])


class PixelDistance(MatrixReward):
    """1 - the root mean square difference of pixels."""

    card = MetricCard(
        name="pixel_l2",
        says="1 less the root mean square difference in OKLab",
        features=f"pixels at {PIXEL_SIDE} x {PIXEL_SIDE}",
        resolution=f"{PIXEL_SIDE} x {PIXEL_SIDE}",
        known_failure="layout is all that counts: a step aside is another picture",
        **_ANY,
    )

    def matrix(self, item: ImageSet) -> Floats:
        """See `MatrixReward`."""
        return pixel_similarities([*item.pictures, *item.references])


def pixel_similarities(pictures: Sequence[Picture]) -> Floats:
    """1 - RMS difference of all pairs, n n, at least 0."""
    flat = [oklab(whole(p, PIXEL_SIDE)) for p in pictures]
    found: Floats = np.array(
        [[max(0.0, 1.0 - np.sqrt(((x - y) ** 2).sum(-1).mean())) for y in flat] for x in flat]
    ).reshape(len(flat), len(flat))
    return found


class ReaderFeatures:
    """The reader's features of whole pictures, as they are (see `foreground.Embeds`)."""

    name = "story-world reader"
    sha256 = ""

    def __init__(self, looker: Looker) -> None:
        self._looker = looker

    def __call__(self, pictures: NDArray[np.uint8]) -> Floats:
        """n d."""
        from consistent_gen.rewards.looking import stacked

        found: Floats = self._looker.features(stacked(list(pictures)))
        return found


READER_COSINE_CARD = MetricCard(
    name="reader_cosine",
    says="cosine of the reader's features of whole pictures, mapped to [0, 1]",
    features="story-world reader, penultimate features",
    resolution="128 x 128",
    known_failure="scene and style are in these features as much as who is there",
    **_ANY,
)


def reader_cosine(looker: Looker) -> EmbeddingConsistency:
    """Cosine of the reader's features, which nobody tuned for likeness."""
    return EmbeddingConsistency(ReaderFeatures(looker), READER_COSINE_CARD)


PHOTO_CARD = MetricCard(
    name="photo_consistency",
    says="cosine of features of whole pictures (subjects where masks are given), in [0, 1]",
    features="EfficientNet-lite0, pooled, 1,280 of them, trained on ImageNet",
    sha256=WEIGHTS_SHA256,
    resolution="224 x 224, on a square of gray",
    known_failure="knows kinds of things, not who is who: two red foxes are one to it",
    **{**_ANY, "mask": "the set's own masks, none without them"},
)


def photo_consistency(features: PhotoFeatures) -> EmbeddingConsistency:
    """Cosine of EfficientNet-lite0's features; for pictures of any kind."""
    return EmbeddingConsistency(features, PHOTO_CARD)


class PhotoStyle(MatrixReward):
    """Are the pictures drawn in one style? exp(-distance) of `PhotoFeatures.texture`."""

    card = MetricCard(
        name="photo_style",
        says="how alike the textures of two pictures are, mean over pairs",
        features="EfficientNet-lite0, variation of 24 channels of an early layer",
        sha256=WEIGHTS_SHA256,
        resolution="224 x 224, on a square of gray",
        known_failure="scenes have textures, too: two scenes in one style are called alike before "
        "one scene in two styles in 62 of 100 cases only, before two scenes in two styles in 80",
        **_ANY,
    )

    def __init__(self, features: PhotoFeatures) -> None:
        self._features = features

    def matrix(self, item: ImageSet) -> Floats:
        """See `MatrixReward`."""
        shown = [whole(p) for p in (*item.pictures, *item.references)]
        if not shown:
            return np.zeros((0, 0))
        x = self._features.texture(np.stack(shown)).double().numpy()
        apart = np.sqrt(((x[:, None] - x[None]) ** 2).sum(-1))
        found: Floats = np.exp(-apart)
        return found


FOLDER_CARD = MetricCard(
    name="model_consistency",
    says="cosine of a vision model's features of whole pictures, mapped to [0, 1]",
    features="a vision model in a folder (CLIP, SigLIP, DINOv2, ...)",
    resolution="the model's own, from 224 x 224 on a square of gray",
    known_failure="what the model was not trained to tell apart; CLIP knows words, not people",
    **_ANY,
)


def folder_consistency(features: Embeds) -> EmbeddingConsistency:
    """Cosine of the features of a vision model that lies in a folder."""
    return EmbeddingConsistency(
        features, replace(FOLDER_CARD, features=features.name, sha256=features.sha256)
    )
