"""How well the subject encoder knows a subject again, beside simpler measures.

`python -m benchmarks.subject_encoder [--drawn 20] --out FILE.json` looks at held-out subjects in
held-out scenes, each in two views and with a twin that differs in three factors, and at pictures
that the story-world model draws of described characters. What such a picture shows is known from
the judge alone: two count as one subject where it reads the same kind, coat, top, colour of the top
and accessory in both.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.looks_features import PhotoFeatures
from benchmarks.model_card import ANCHORS
from consistent_gen.checkpoints import weights_folder, write_json
from consistent_gen.encoders.face_story import StoryFaces
from consistent_gen.encoders.judge import Judge
from consistent_gen.encoders.reader import Reader
from consistent_gen.encoders.subject import SubjectEncoder, subject_crop
from consistent_gen.engine import Engine, FrameDone, FrameRequest
from consistent_gen.models import load_backbone
from consistent_gen.rewards.attributes import read_words
from consistent_gen.rewards.sight import agreement, all_sights
from consistent_gen.runtime import frame_seed
from consistent_gen.training.subject_encoder import (
    HELD_OUT_SEED,
    area_under_curve,
    held_out_views,
    identity_scores,
    measure,
)
from consistent_gen.training.subject_views import GROUP, SubjectViews
from consistent_gen.world.captions import caption
from consistent_gen.world.painter import PARTS
from consistent_gen.world.spec import sample_frame, sample_identity

TELLING = ("kind", "coat", "top", "top_hue", "accessory")  # the judge reads these of a drawing
SCENES = 3  # drawings of each described character
BINS = 4  # of a colour channel


def nearness(vectors: Tensor) -> Tensor:
    """All against all, n n, of vectors n d: minus their distances."""
    return -torch.cdist(vectors.double(), vectors.double())


def simple_measures(crops: Tensor, masks: Tensor) -> dict[str, Tensor]:
    """Agreement n n of crops (n 3 s s in [0, 1]) under masks (n 1 s s), by what needs no training
    here.
    """
    shown = crops * masks + 0.5 * (1.0 - masks)
    codes = (crops * BINS).long().clamp(max=BINS - 1)
    code = ((codes[:, 0] * BINS + codes[:, 1]) * BINS + codes[:, 2]).flatten(1)
    counts = torch.zeros(len(crops), BINS**3).scatter_add_(1, code, masks.flatten(1))
    histogram = (counts / counts.sum(1, keepdim=True).clamp(min=1e-6)).sqrt()
    pictures = (shown * 255.0).round().byte().permute(0, 2, 3, 1).numpy()
    photo = F.normalize(PhotoFeatures()(pictures), dim=1)
    return {
        "colour histogram": nearness(histogram),
        "pixels, L2": nearness(shown.flatten(1)),
        "EfficientNet-lite0": nearness(photo),
    }


def of_reader(pictures: np.ndarray, masks: np.ndarray) -> dict[str, Tensor]:
    """Agreement n n by the shipped reader: of its features, and of the factors that it names.

    masks: n h w, of the subject that is meant in each of the pictures (n h w 3, uint8).
    """
    reader = Reader.load(weights_folder("reader"))
    vectors, sights = [], []
    for picture, mask in zip(pictures, masks, strict=True):
        with torch.inference_mode():
            reading = reader(torch.from_numpy(picture).permute(2, 0, 1)[None])
        shares = reading.masks.softmax(1)[0, 1:]
        where = F.adaptive_avg_pool2d(torch.from_numpy(mask).float()[None], shares.shape[-2:])
        # Who cannot be told from the others, or is not counted, is the nearest one that is.
        slot = int((shares * where).sum((1, 2))[: max(1, int(reading.count()[0]))].argmax())
        assert reading.vectors is not None, "readers give them"
        vectors.append(reading.vectors[0, slot])
        sights.append(all_sights(reading, reader.schema)[0][slot])
    named = torch.tensor([[agreement(a, b) or 0.0 for b in sights] for a in sights])
    features = F.normalize(torch.stack(vectors), dim=1)
    return {"reader's features": nearness(features), "agreement of the reader's factors": named}


def on_views(encoder: SubjectEncoder, groups: int) -> dict[str, Any]:
    """Scores on held-out views, by measure."""
    rows = held_out_views(groups)
    found = {"subject encoder": measure(encoder, rows)}
    masks = F.interpolate((rows["parts"] > 0).float().unsqueeze(1), scale_factor=2.0)
    others = simple_measures(rows["crops"].float() / 255.0, masks)
    views = SubjectViews(held_out=True, seed=HELD_OUT_SEED)
    seen = [views.view(group, row) for group in range(groups) for row in range(GROUP)]
    labels = np.stack([picture.labels for picture, _ in seen]).astype(int)
    slots = np.array([slot for _, slot in seen])[:, None, None]
    owned = (labels > 0) & ((labels - 1) // len(PARTS) == slots)
    others |= of_reader(np.stack([picture.rgb for picture, _ in seen]), owned)
    return found | {name: identity_scores(values) for name, values in others.items()}


def drawings(characters: int) -> np.ndarray:
    """The model's pictures of described characters, `SCENES` of each in a row: n h w 3, uint8."""
    requests = []
    for number in range(characters):
        rng = random.Random(f"subject encoder {number}")
        who = sample_identity(rng, held_out=True)
        for scene in range(SCENES):
            frame = sample_frame(rng, held_out=True, identities=(who,))
            requests.append(
                FrameRequest(
                    prompt=caption(frame, rng, share=1.0).text,
                    seed=frame_seed(number, scene),
                    id=str(len(requests)),
                )
            )
    done = {
        e.id: e.image for e in Engine(load_backbone()).run(requests) if isinstance(e, FrameDone)
    }
    return np.stack([done[str(i)] for i in range(len(requests))])


def on_drawings(encoder: SubjectEncoder, characters: int) -> dict[str, Any]:
    """How well each measure agrees with the judge on pictures that the model drew."""
    pictures = drawings(characters)
    judge, backend = Judge.load(weights_folder("judge")), StoryFaces()
    kept, words, vectors, crops, masks = [], [], [], [], []
    for number, picture in enumerate(pictures):
        subjects = backend.subjects(picture)
        with torch.inference_mode():
            reading = judge(torch.from_numpy(picture).permute(2, 0, 1)[None])
        if len(subjects) != 1 or int(reading.count()[0]) != 1:
            continue  # whom the two speak of would be a guess
        one = subjects[0]
        read = read_words(reading, ANCHORS, 0, 0, judge.schema.subject, judge.schema.hues)
        kept.append(number)
        words.append(tuple(read[name] for name in TELLING))
        vectors.append(encoder.read(picture, [one.box], [one.mask])[0].embeddings[0])
        crop, _ = subject_crop(picture, one.box, one.mask)
        crops.append(torch.from_numpy(crop[:3].astype(np.float32) / 255.0))
        masks.append(torch.from_numpy((crop[3:] > 127).astype(np.float32)))
    found = simple_measures(torch.stack(crops), torch.stack(masks))
    found["subject encoder"] = nearness(torch.stack(vectors))
    whole = np.ones((len(kept), 8, 8), np.float32)  # one subject each: no mask is needed
    found |= of_reader(pictures[kept], whole)
    same = _pairs(torch.tensor([[a == b for b in words] for a in words]))
    scores = {
        name: round(area_under_curve(_pairs(v)[same], _pairs(v)[~same]), 4)
        for name, v in found.items()
    }
    return {
        "pictures": len(kept),
        "same": int(same.sum()),
        "different": int((~same).sum()),
        "auc": scores,
    }


def _pairs(square: Tensor) -> Tensor:
    """What stands above the diagonal."""
    return square[tuple(torch.triu_indices(*square.shape, offset=1))]


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--weights", type=Path, default=Path("runs/subject_encoder/weights"))
    parser.add_argument("--groups", type=int, default=100, help="held-out subjects")
    parser.add_argument("--drawn", type=int, default=20, help="described characters to draw")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(argv)
    encoder = SubjectEncoder.load(options.weights)
    result: dict[str, Any] = {
        "groups": options.groups,
        "encoder": encoder.encoder_id,
        "parameters": sum(p.numel() for p in encoder.parameters()),
        "views": on_views(encoder, options.groups),
    }
    if options.drawn:
        result["drawings"] = on_drawings(encoder, options.drawn)
    write_json(options.out, result)
    print(result)


if __name__ == "__main__":
    main()
