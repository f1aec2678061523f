"""Which token of an anchor corresponds to which token of a frame, by diffusion features (DIFT).

Tang et al., arXiv 2306.03881: the output of an up block at one noise level, compared by cosine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from consistent_gen.attention.layers import Grid
from consistent_gen.attention.ops import nearest_tokens, otsu_threshold, resize_grid, smooth_grid
from consistent_gen.attention.settings import FeatureProbe
from consistent_gen.errors import ConsistentGenError

# So near is a match whatever the others are; among perfect matches Otsu would cut rounding noise.
SURE_DISTANCE = 1e-3


@dataclass(frozen=True)
class Match:
    """Correspondence of a frame's subject tokens with those of the subject's anchors.

    tokens: numbers of the frame's tokens that found a good match, [p].
    source: for each of them, the number in the list of all anchors' subject tokens.
    places: for each anchor, the frame's token [n] that each of its tokens corresponds to; tokens
        beside the subject stay where they are.
    """

    tokens: Tensor
    source: Tensor
    places: tuple[Tensor, ...]


class Features:
    """Features of one run's frames, taken at the step whose noise is nearest to the probe's."""

    def __init__(self, probe: FeatureProbe, *, released: bool = False) -> None:
        """released: whether they are filtered and shrunk as the released code of arXiv 2402.03286
        does it, with zeros around and without averages.
        """
        self.probe = probe
        self._released = released
        self._found: dict[str, tuple[float, Tensor, Grid]] = {}

    def wanted(self, frame: str, time: float) -> bool:
        """Whether a step at noise level `time` is nearer than what is there."""
        found = self._found.get(frame)
        return found is None or abs(time - self.probe.time) < found[0]

    def put(self, frame: str, time: float, features: Tensor, grid: Grid) -> None:
        """Keep features [n c] on `grid`, smoothed."""
        around: Literal["constant", "replicate"] = "constant" if self._released else "replicate"
        smooth = smooth_grid(features.float(), grid, around)
        self._found[frame] = abs(time - self.probe.time), smooth, grid

    def at(self, frame: str, grid: Grid) -> Tensor:
        """The features of a frame [n c], resampled to `grid`.

        Raises:
            ConsistentGenError: the frame's first pass was not drawn.
        """
        if frame not in self._found:
            raise ConsistentGenError(f"frame {frame!r} has no features; draw its first pass before")
        _, features, own = self._found[frame]
        return resize_grid(features, own, grid, average=not self._released)

    def move(self, frame: str, share: float) -> None:
        """What a frame shows was moved to the right by a share of its width, around the edge."""
        if frame in self._found:
            away, features, (height, width) = self._found[frame]
            plane = features.reshape(height, width, -1)  # h w c
            features = torch.roll(plane, round(share * width), 1).flatten(0, 1)
            self._found[frame] = away, features, (height, width)

    def forget(self, frame: str) -> None:
        """Drop a frame's features."""
        self._found.pop(frame, None)


def match_tokens(
    target: Tensor,
    target_tokens: Tensor,
    sources: Sequence[Tensor],
    source_tokens: Sequence[Tensor],
) -> Match:
    """Match a frame's subject tokens to the nearest subject tokens of any anchor.

    target: features [n c] and subject token numbers [p] of the frame; sources the same per anchor.
    Matches farther than Otsu's threshold over the distances of all the frame's tokens are dropped
    (arXiv 2402.03286, its released code): most of what is far lies beside the subject.
    """
    gathered = [features[tokens] for features, tokens in zip(sources, source_tokens, strict=True)]
    pool = torch.cat(gathered)
    places = [torch.arange(len(features), device=target.device) for features in sources]
    if not len(pool) or not len(target_tokens):
        return Match(target_tokens[:0], target_tokens[:0], tuple(places))
    own = target[target_tokens]
    index, distance = nearest_tokens(target, pool)
    good = distance[target_tokens] <= max(otsu_threshold(distance), SURE_DISTANCE)
    for place, tokens, features in zip(places, source_tokens, gathered, strict=True):
        if len(tokens):
            place[tokens] = target_tokens[nearest_tokens(features, own)[0]]
    return Match(target_tokens[good], index[target_tokens[good]], tuple(places))
