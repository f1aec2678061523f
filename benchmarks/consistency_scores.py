"""Scores of stories, from what a network reads in their pictures.

Shapes: a story has n frames; a set has s stories, each drawn with two story seeds. Similarities lie
in [0, 1]. A frame in which no subject is seen is left out of the pairs, never counted as 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from consistent_gen.encoders.factors import Reading
from consistent_gen.rewards import pairs

# What a figure does in a frame is no part of who it is.
NOT_IDENTITY = ("action", "expression")
BOOTSTRAP_SAMPLES = 10_000


@dataclass(frozen=True)
class Seen:
    """What one network sees of the first subject in n pictures.

    present: n. words: per discrete factor n class numbers. hues: n u angles in [0, 1).
    scalars: n s. mask: n s s, the subject's probability. scene: per factor n c log-probabilities.
    action: n c log-probabilities.
    """

    present: Tensor
    words: Mapping[str, Tensor]
    hues: Tensor
    scalars: Tensor
    mask: Tensor
    scene: Mapping[str, Tensor]
    action: Tensor


@torch.inference_mode()
def read(network: Any, pictures: np.ndarray) -> Reading:
    """What a network reads in pictures, uint8 [n h w 3]."""
    found: Reading = network(torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous())
    return found


def see(reading: Reading, slots: Sequence[int] | None = None) -> Seen:
    """One subject of each picture of a reading: the leftmost, or that of `slots`."""
    rows = torch.arange(len(reading.present))
    at = torch.zeros_like(rows) if slots is None else torch.tensor(slots)
    words = {name: logits[rows, at].argmax(-1) for name, logits in reading.subject.items()}
    return Seen(
        present=reading.present[rows, at] > 0.5,
        words={name: word for name, word in words.items() if name not in NOT_IDENTITY},
        hues=reading.hue_angles()[rows, at],
        scalars=reading.scalars[rows, at].clamp(0.0, 1.0),
        mask=reading.masks.softmax(1)[rows, 1 + at],
        scene={name: logits.log_softmax(-1) for name, logits in reading.scene.items()},
        action=reading.subject["action"][rows, at].log_softmax(-1),
    )


def identity_similarity(a: Seen, b: Seen, only: Sequence[str] | None = None) -> Tensor:
    """How alike the subjects of n and m pictures are, n m: the mean over all identity factors.

    Words agree or not; hues count (1 + cos) / 2; scalars 1 less their distance. Pairs with an
    unseen subject are NaN. only: these words and the hues, instead of everything.
    """
    names = [name for name in a.words if only is None or name in only]
    parts = [(a.words[name][:, None] == b.words[name][None]).float() for name in names]
    turn = 2.0 * torch.pi * (a.hues[:, None] - b.hues[None])
    parts += list(((1.0 + turn.cos()) / 2.0).unbind(-1))
    if only is None:
        parts += list((1.0 - (a.scalars[:, None] - b.scalars[None]).abs()).unbind(-1))
    similar = torch.stack(parts).mean(0)
    both = a.present[:, None] & b.present[None]
    return similar.where(both, torch.full_like(similar, torch.nan))


def excess_consistency(first: Seen, second: Seen) -> float:
    """C* = (within - between) / (1 - between) of one story drawn with two story seeds.

    Within: pairs of frames of one drawing. Between: frame i of one and j of the other, i != j:
    other characters under the same words, so what the words fix gives no credit, and neither do
    collapse or a shared background. NaN if too few frames show a subject.
    """
    off = ~torch.eye(len(first.present), dtype=torch.bool)
    within = torch.cat([identity_similarity(x, x)[off] for x in (first, second)]).nanmean()
    return _excess(within, identity_similarity(first, second)[off].nanmean())


def consistency_across(first: Sequence[Seen], second: Sequence[Seen]) -> float:
    """`excess_consistency` where a pair is a frame of one part of a story and one of the other.

    first, second: a story's two parts, with equal scenes, drawn under two story seeds. Frame i of
    one part and j of the other are compared for i != j.
    """
    off = ~torch.eye(len(first[0].present), dtype=torch.bool)

    def alike(a: Seen, b: Seen) -> Tensor:
        return identity_similarity(a, b)[off]

    within = torch.cat([alike(*first), alike(*second)]).nanmean()
    between = torch.cat([alike(first[0], second[1]), alike(second[0], first[1])])
    return _excess(within, between.nanmean())


def _excess(within: Tensor, between: Tensor) -> float:
    found = pairs.excess_consistency(float(within), float(between))
    assert found is not None, "both are numbers, if only NaN"
    return found


def prompt_log_likelihood(seen: Seen, named: Sequence[Mapping[str, int]]) -> Tensor:
    """Mean log-probability of what prompt j names (factor -> class) in picture i, n n."""
    columns = []
    for words in named:
        known = [
            (seen.action if name == "action" else seen.scene[name])[:, number]
            for name, number in words.items()
        ]
        columns.append(torch.stack(known).mean(0))
    return torch.stack(columns, dim=1)


def prompt_matching(seen: Seen, named: Sequence[Mapping[str, int]]) -> float:
    """Share of frames whose own prompt fits them better than every other of the story."""
    fit = prompt_log_likelihood(seen, named)
    others = fit.clone().fill_diagonal_(-torch.inf).max(1).values
    return float((fit.diagonal() > others).float().mean())


def layout_diversity(mask: Tensor) -> float:
    """1 - mean overlap (soft intersection over union) of the subjects' masks, n s s."""
    flat = mask.flatten(1)
    least = torch.minimum(flat[:, None], flat[None]).sum(-1)
    most = torch.maximum(flat[:, None], flat[None]).sum(-1).clamp_min(1e-6)
    off = ~torch.eye(len(mask), dtype=torch.bool)
    return float(1.0 - (least / most)[off].mean())


def pose_diversity(mask: Tensor, side: int = 16) -> float:
    """`layout_diversity` of the masks cut to their boxes: place and size play no part."""
    boxes = []
    for plane in mask:
        rows = (plane > 0.5).any(1).nonzero()[:, 0]
        columns = (plane > 0.5).any(0).nonzero()[:, 0]
        if len(rows):
            plane = plane[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        boxes.append(F.interpolate(plane[None, None], size=(side, side), mode="bilinear")[0, 0])
    return layout_diversity(torch.stack(boxes))


def mask_overlap(masks: Mapping[int, np.ndarray], seen: Tensor) -> float:
    """Intersection over union of a method's subject masks with those seen; NaN without any.

    masks: frame number -> plane of 0 and 1. seen: n s s, the subject's probability.
    """
    found = []
    for number, plane in masks.items():
        own = torch.from_numpy(plane).bool()
        size = (int(own.shape[0]), int(own.shape[1]))
        there = F.interpolate(seen[number][None, None], size=size, mode="area")[0, 0] > 0.5
        found.append(float((own & there).sum()) / max(float((own | there).sum()), 1.0))
    return float(np.mean(found)) if found else float("nan")


def class_share(log_probabilities: Tensor, wanted: Sequence[int]) -> float:
    """Share of pictures whose most likely class is the wanted one."""
    return float((log_probabilities.argmax(-1) == torch.tensor(wanted)).float().mean())


def background_leak(places: Tensor, own: Sequence[int], anchor: int) -> float:
    """Mean probability of the anchor's place in frames of other places; NaN if there are none."""
    frames = [i for i, place in enumerate(own) if place != anchor]
    return float(places[frames, anchor].exp().mean()) if frames else float("nan")


def interval(values: Sequence[float], seed: int = 0) -> dict[str, float]:
    """Mean over stories with a 95 % percentile bootstrap interval; NaN stories are left out."""
    known = np.array([v for v in values if np.isfinite(v)])
    if not len(known):
        return {"mean": float("nan"), "lo": float("nan"), "hi": float("nan")}
    low, high = _resampled(known, seed)
    return {"mean": float(known.mean()), "lo": low, "hi": high}


def without_nan(value: Any) -> Any:
    """The same nested value with None, JSON's null, for what could not be measured."""
    if isinstance(value, Mapping):
        return {key: without_nan(item) for key, item in value.items()}
    return None if isinstance(value, float) and np.isnan(value) else value


def paired_interval(
    values: Sequence[float], baseline: Sequence[float], seed: int = 0
) -> dict[str, float]:
    """The same for the difference of two methods on the same stories."""
    pairs = zip(values, baseline, strict=True)
    return interval([a - b for a, b in pairs], seed)


def _resampled(known: np.ndarray, seed: int) -> tuple[float, float]:
    rng = np.random.default_rng(seed)
    picks = rng.integers(0, len(known), size=(BOOTSTRAP_SAMPLES, len(known)))
    low, high = np.percentile(known[picks].mean(1), (2.5, 97.5))
    return float(low), float(high)
