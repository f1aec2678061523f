"""Where the features of faces are, found by a network that learns on true pictures only.

A drawn face is readable when all of its features are there and stand as features of true faces do.
So a small convolutional network learns to point at eyes, nose and mouth corners of the world's own
pictures; what it then finds in a drawing is compared with what it finds in true pictures of the
same prompts. It is made anew on a machine that does not have it (some minutes on two cores).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from consistent_gen.checkpoints import load_tensors, save_tensors
from consistent_gen.world.dataset import StoryWorld

POINTS = 5  # left eye, right eye, nose, left and right mouth corner
SIDE = 128  # pixels of the pictures that are looked at
CELL = 2  # pixels of a heat map's cell
PICTURES, BATCH, STEPS = 6000, 16, 1000
FOUND = 0.02  # share of true faces that may fall below the peaks asked for, and beyond the distance


class FaceFinder(nn.Module):
    """Pictures b 3 128 128 in [-1, 1] to heat maps b 5 64 64 (logits), one for each feature."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        w1, w2, w3 = width, 2 * width, 3 * width
        self.fine = _stage(3, w1)
        self.middle = _stage(w1, w2)
        self.coarse = nn.Sequential(_stage(w2, w3), *[_dilated(w3, d) for d in (1, 2, 4)])
        self.up2, self.up1 = nn.Conv2d(w3, w2, 1), nn.Conv2d(w2, w1, 1)
        self.heat = nn.Sequential(
            nn.Conv2d(w1, w1, 3, padding=1), nn.SiLU(), nn.Conv2d(w1, POINTS, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """b 3 h w to b 5 h/2 w/2."""
        fine = self.fine(x)
        middle = self.middle(fine)
        coarse = self.coarse(middle)
        middle = middle + F.interpolate(self.up2(coarse), scale_factor=2.0, mode="bilinear")
        fine = fine + F.interpolate(self.up1(middle), scale_factor=2.0, mode="bilinear")
        heat: Tensor = self.heat(fine)
        return heat


def _stage(before: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, width, 4, stride=2, padding=1), nn.GroupNorm(8, width), nn.SiLU(),
        nn.Conv2d(width, width, 3, padding=1), nn.GroupNorm(8, width), nn.SiLU(),
    )  # fmt: skip


def _dilated(width: int, dilation: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation),
        nn.GroupNorm(8, width),
        nn.SiLU(),
    )


def targets(points: Tensor) -> Tensor:
    """Heat maps b 5 64 64, a bump of one cell's radius at each point of `points` (b k 5 2, in
    [0, 1], nan where there is nobody).
    """
    cells = SIDE // CELL
    grid = torch.arange(cells) + 0.5
    at = points * cells
    x = (grid - at[..., 0:1]) ** 2  # b k 5 w
    y = (grid - at[..., 1:2]) ** 2
    bumps = torch.exp(-(y.unsqueeze(-1) + x.unsqueeze(-2)) / 2.0)  # b k 5 h w
    return bumps.nan_to_num(0.0).amax(1)


def face_finder(path: Path, pictures: int = PICTURES, steps: int = STEPS) -> FaceFinder:
    """The network in `path`, learnt and written there when it is missing."""
    torch.manual_seed(0)  # initial weights only
    model = FaceFinder()
    if path.exists():
        model.load_state_dict(load_tensors(path))
        return model.eval()
    world = StoryWorld("train", seed=11)
    drawn = [world.picture(i) for i in range(pictures)]
    x = torch.from_numpy(np.stack([p.rgb for p in drawn])).permute(0, 3, 1, 2)
    points = torch.full((pictures, 3, POINTS, 2), float("nan"))
    for i, picture in enumerate(drawn):
        for k, figure in enumerate(picture.figures):
            points[i, k] = torch.tensor(figure.keypoints)
    model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        index = torch.randint(pictures, (BATCH,), generator=generator)
        heat = model(x[index].float().div(127.5).sub(1.0).contiguous())
        wanted = targets(points[index])
        # A point covers few of 4,096 cells, so cells with something weigh more.
        loss = F.binary_cross_entropy_with_logits(heat, wanted, weight=1.0 + 30.0 * wanted)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    path.parent.mkdir(parents=True, exist_ok=True)
    save_tensors(path, {k: v.contiguous() for k, v in model.state_dict().items()})
    return model.eval()


@torch.inference_mode()
def found(model: FaceFinder, pictures: np.ndarray) -> tuple[Tensor, Tensor]:
    """The best place of every feature and how sure it is, in pictures of one character.

    Args:
        pictures: uint8 n h w 3, of any size.

    Returns:
        places n 5 2 in [0, 1]; peaks n 5 in [0, 1].
    """
    places, peaks = [], []
    for start in range(0, len(pictures), 50):
        x = torch.from_numpy(pictures[start : start + 50]).permute(0, 3, 1, 2).float() / 127.5 - 1
        if x.shape[-1] != SIDE:
            x = F.interpolate(x, (SIDE, SIDE), mode="area")
        heat = model(x).sigmoid().flatten(2)  # n 5 cells
        peak, at = heat.max(-1)
        cells = SIDE // CELL
        places.append((torch.stack([at % cells, at // cells], -1) + 0.5) / cells)
        peaks.append(peak)
    return torch.cat(places), torch.cat(peaks)


def shape_of(places: Tensor) -> Tensor:
    """How features stand to each other, n 8: places of nose and mouth corners and the middle of
    the eyes, less the mean of all, over the distance of the eyes.
    """
    eyes = (places[:, 0] - places[:, 1]).norm(dim=-1).clamp(min=1e-3)
    middle = places.mean(1, keepdim=True)
    return ((places - middle) / eyes.view(-1, 1, 1)).flatten(1)[:, :8]


def faces(model: FaceFinder, drawn: np.ndarray, true: np.ndarray) -> dict[str, np.ndarray]:
    """For every picture of one character: are all features there, and how far is their shape from
    those of true faces (Mahalanobis)? What is asked for is what all but 2 % of true ones have.
    """
    true_places, true_peaks = found(model, true)
    places, peaks = found(model, drawn)
    asked = true_peaks.quantile(FOUND, dim=0)
    shapes = shape_of(true_places).double()
    # Few faces are misplaced by the network itself; the median keeps them out of the middle.
    centre = shapes.median(0).values
    spread = (shapes - centre).T @ (shapes - centre) / len(shapes)
    inverse = torch.linalg.pinv(spread + 1e-6 * torch.eye(len(spread)))

    def distance(x: Tensor) -> Tensor:
        d = shape_of(x).double() - centre
        return torch.einsum("ni,ij,nj->n", d, inverse, d).clamp(min=0).sqrt()

    near = distance(true_places)
    bound = near.quantile(1.0 - FOUND)

    def all_there(p: Tensor, d: Tensor) -> np.ndarray:
        return ((p >= asked).all(1) & (d <= bound)).float().numpy()

    far = distance(places)
    return {
        "drawn_found": all_there(peaks, far),
        "true_found": all_there(true_peaks, near),
        "drawn_distance": far.numpy(),
        "true_distance": near.numpy(),
    }
