"""Views of story-world subjects on disk: what `subject_encoder` learns from.

A group is two identities in two views each: somebody, and a twin of the same kind that differs in
`DIFFER` factors only. Views differ in place, style, action, expression, camera and company. A shard
is one safetensors file of consecutive groups, four rows a group:
    crops     n 3 64 64 uint8, around the subject, as `encoders.subject` cuts them
    parts     n 32 32 uint8, the subject's parts in the crop: 0 is whatever is not the subject
    boxes     n 4 float16, the subject's box (x0 y0 x1 y1) as shares of the crop
    keypoints n 5 2 float16, shares of the crop; nan outside of it
    factors, hues, scalars: what can be seen of the identity, as in `truth`
`python -m consistent_gen.training.subject_views` draws them.
"""

from __future__ import annotations

import argparse
import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from consistent_gen.checkpoints import folder_sha256, save_tensors
from consistent_gen.encoders.subject import CROP, GRID, CropWindow, subject_crop
from consistent_gen.models.patch_autoencoder import load_autoencoder
from consistent_gen.runtime import generator
from consistent_gen.training.reader import redrawn
from consistent_gen.training.shards import claim, draw_shards, shard_path
from consistent_gen.training.truth import hidden_factors, schema, subject_truth
from consistent_gen.world.painter import PARTS
from consistent_gen.world.scene import ScenePicture, render
from consistent_gen.world.spec import (
    KINDS,
    FrameSpec,
    Identity,
    identity_held_out,
    sample_frame,
    sample_identity,
)

FORMAT = "subject views 1"
GROUP = 4  # rows: one, one again, its twin, the twin again
COUNT = 128  # groups of a shard
COMPANY_SHARE = 0.3  # of views that show somebody else as well
REDRAWN_SHARE = 0.25  # of views that an autoencoder has drawn, as a model's pictures are
LEAST_SEEN = 0.01  # of the picture: views that show less of the subject are drawn anew
DIFFER = 3
# What can differ between twins: what most views show.
TELLING = (
    "height", "build", "skin", "coat", "hair_style", "cheeks", "eye_color", "top", "top_hue",
    "pattern", "bottom_hue", "accessory", "accessory_hue",
)  # fmt: skip


@dataclass(frozen=True)
class SubjectViews:
    """All views of one split: group i is the same on every machine. `kind` keeps to one kind."""

    held_out: bool = False
    seed: int = 0
    kind: str | None = None
    size: int = 128

    def identities(self, group: int) -> tuple[Identity, Identity]:
        """Somebody and the twin."""
        rng = self._random("who", group)
        one = sample_identity(rng, held_out=self.held_out, kind=self.kind)
        while True:
            other = sample_identity(rng, held_out=self.held_out, kind=one.kind)
            taken: dict[str, Any] = {n: getattr(other, n) for n in rng.sample(TELLING, DIFFER)}
            twin = replace(one, **taken)
            # Two of one kind may share a factor by chance: twins must differ somewhere.
            if twin != one and identity_held_out(twin) == self.held_out:
                return one, twin

    def view(self, group: int, row: int) -> tuple[ScenePicture, int]:
        """Row 0 to 3 of a group: the picture, and which of its subjects is meant."""
        who = self.identities(group)[row // 2]
        rng = self._random("view", group, row)
        while True:
            frame, slot = self._frame(rng, who)
            picture = render(frame, self.size)
            if (_owner(picture.labels) == slot + 1).mean() >= LEAST_SEEN:
                return picture, slot

    def _frame(self, rng: random.Random, who: Identity) -> tuple[FrameSpec, int]:
        cast = [who]
        if rng.random() < COMPANY_SHARE:
            kind = rng.choice([kind for kind in KINDS if kind != who.kind])
            cast.append(sample_identity(rng, held_out=self.held_out, kind=kind))
            rng.shuffle(cast)
        frame = sample_frame(rng, held_out=self.held_out, identities=tuple(cast))
        return frame, cast.index(who)

    def _random(self, *purpose: object) -> random.Random:
        return random.Random(f"views {self.held_out} {self.seed} {self.kind} {purpose}")


@torch.no_grad()
def draw_views(
    views: SubjectViews, number: int, count: int = COUNT, vae: Path | None = None
) -> dict[str, Tensor]:
    """Groups `number * count` to `(number + 1) * count`, `REDRAWN_SHARE` of them by `vae`."""
    groups = range(number * count, (number + 1) * count)
    seen = [views.view(group, row) for group in groups for row in range(GROUP)]
    rgb = np.stack([picture.rgb for picture, _ in seen])
    if vae is not None:
        model: Any = load_autoencoder(vae)
        g = generator(number, "views redrawn")
        chosen = torch.rand(len(seen), generator=g) < REDRAWN_SHARE
        for rows in chosen.nonzero()[:, 0].split(32):
            x = torch.from_numpy(rgb[rows.numpy()]).permute(0, 3, 1, 2).float() / 255.0
            again = redrawn(x, model, g).clamp(0.0, 1.0)
            rgb[rows.numpy()] = (again * 255.0).round().byte().permute(0, 2, 3, 1).numpy()
    rows = [_row(one, picture, slot) for one, (picture, slot) in zip(rgb, seen, strict=True)]
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}


def _row(rgb: NDArray[np.uint8], picture: ScenePicture, slot: int) -> dict[str, Tensor]:
    size = len(rgb)
    shown = _owner(picture.labels) == slot + 1
    ys, xs = np.flatnonzero(shown.any(1)), np.flatnonzero(shown.any(0))
    box = (float(xs[0]), float(ys[0]), float(xs[-1] + 1), float(ys[-1] + 1))
    crop, window = subject_crop(rgb, box)
    part = np.where(shown, (picture.labels - 1) % len(PARTS) + 1, 0).astype(np.uint8)
    shares = (np.array(box).reshape(2, 2) - [window.x, window.y]) / window.side
    points = np.array(picture.figures[slot].keypoints) * size
    points = (points - [window.x, window.y]) / window.side
    points[((points < 0) | (points > 1)).any(1)] = np.nan
    actor = picture.frame.subjects[slot]
    count = torch.from_numpy(np.bincount(part[2::4, 2::4].ravel(), minlength=1 + len(PARTS))[1:])
    words = actor.identity.to_dict() | {"action": actor.action, "expression": actor.expression}
    factors, hues, scalars = subject_truth(schema(), words, hidden_factors(actor.identity, count))
    return {
        "crops": torch.from_numpy(crop[:3].copy()),
        "parts": torch.from_numpy(_sampled(part, window)),
        "boxes": torch.from_numpy(shares.ravel()).half(),
        "keypoints": torch.from_numpy(points).half(),
        "factors": factors,
        "hues": hues,
        "scalars": scalars,
    }


def _owner(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Whose each pixel is: 0 nobody's, k + 1 subject k's."""
    return np.where(labels > 0, (labels.astype(np.int16) - 1) // len(PARTS) + 1, 0).astype(np.uint8)


def _sampled(part: NDArray[np.uint8], window: CropWindow) -> NDArray[np.uint8]:
    """The parts at the middle of each cell of the crop's grid, 0 outside of the picture."""
    steps = (np.arange(GRID) + 0.5) / GRID * window.side
    x, y = np.floor(window.x + steps).astype(int), np.floor(window.y + steps).astype(int)
    padded = np.pad(part, 1)
    x, y = (np.clip(v + 1, 0, len(padded) - 1) for v in (x, y))
    return padded[np.ix_(y, x)]


def views_inputs(views: SubjectViews, count: int, vae: Path | None) -> dict[str, Any]:
    """What shards take from their inputs, for `shards.claim` and `shards.check`."""
    return {
        "format": FORMAT,
        "held_out": views.held_out,
        "seed": views.seed,
        "count": count,
        "crop": CROP,
        "vae": None if vae is None else folder_sha256(vae),
        "schema": hashlib.sha256(repr(schema()).encode()).hexdigest(),
    }


def view_maker(
    folder: Path, views: SubjectViews, count: int, vae: Path | None
) -> Callable[[int], Path]:
    """What draws shard `number` into `folder`, if it is not there, and returns its path.

    Raises:
        InputError: the folder's shards were made of something else.
    """
    claim(folder, views_inputs(views, count, vae))
    return partial(_draw, views=views, folder=folder, count=count, vae=vae)


def _draw(number: int, *, views: SubjectViews, folder: Path, count: int, vae: Path | None) -> Path:
    path = shard_path(folder, number)
    if not path.exists():
        torch.set_num_threads(1)
        save_tensors(path, draw_views(views, number, count, vae))
    return path


def main(argv: list[str] | None = None) -> None:
    """Draw the shards that are missing."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--folder", type=Path, default=Path("runs/views"))
    parser.add_argument("--vae", type=Path, default=Path("weights/storyworld/vae"))
    parser.add_argument("--first", type=int, default=0, help="number of the first shard")
    parser.add_argument("--shards", type=int, default=16, help=f"shards of {COUNT * GROUP} views")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args(argv)
    draw = view_maker(options.folder, SubjectViews(), COUNT, options.vae)
    numbers = range(options.first, options.first + options.shards)
    draw_shards(draw, numbers, options.processes)


if __name__ == "__main__":
    main()
