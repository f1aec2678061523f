"""Drawing a part of a finished picture again; the rest of it stays.

At every step the places that are kept are put back as they are at that noise level (Lugmayr et al.,
"RePaint", arXiv 2201.09865, equation 8, without its resampling; Avrahami et al., "Blended latent
diffusion", arXiv 2206.02779), so that what is drawn anew grows to fit what stands around it. The
finished picture is laid over the old one, with a seam of a few pixels inside the mask: outside of
the mask every pixel keeps its bytes.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from consistent_gen.errors import InputError

SEAM = 1 / 32  # of the picture's shorter side, inside the mask
MAX_SIDE = 4096


@dataclass(frozen=True, kw_only=True, eq=False)
class Redrawing:
    """What is drawn again of which picture.

    picture: uint8 [h w 3]. mask: bool [h w], True where it is drawn again.

    Raises:
        InputError: another form, a mask of another size, or one that marks nothing.
    """

    picture: NDArray[np.uint8]
    mask: NDArray[np.bool_]

    def __post_init__(self) -> None:
        shape, kind = self.picture.shape, self.picture.dtype.name
        if len(shape) != 3 or shape[2] != 3 or kind != "uint8" or max(shape[:2]) > MAX_SIDE:
            raise InputError(
                f"the picture to redraw is {kind} {shape}; expected uint8 (height, width, 3) of "
                f"at most {MAX_SIDE} pixels a side"
            )
        if self.mask.shape != shape[:2] or self.mask.dtype != np.bool_:
            raise InputError(
                f"the mask is {self.mask.dtype.name} {self.mask.shape}; expected bool "
                f"{shape[:2]}, the picture's size"
            )
        if not self.mask.any():
            raise InputError("the mask marks nothing; mark what shall be drawn again")

    def record(self) -> dict[str, Any]:
        """JSON values for the new picture's metadata."""
        return {
            "picture_sha256": hashlib.sha256(self.picture.tobytes()).hexdigest(),
            "mask_sha256": hashlib.sha256(self.mask.tobytes()).hexdigest(),
            "share": round(float(self.mask.mean()), 4),
        }

    def drawn_at(self, width: int, height: int) -> NDArray[np.uint8]:
        """The picture in the size that the model draws at, uint8 [h w 3]."""
        image = Image.fromarray(self.picture)
        if image.size != (width, height):
            image = image.resize((width, height), Image.Resampling.LANCZOS)
        return np.asarray(image)

    def cells(self, latent: tuple[int, int]) -> Tensor:
        """Which cells of a latent (height, width) are drawn again: all that the mask touches."""
        mask = torch.from_numpy(self.mask.astype(np.float32))[None, None]
        touched = F.adaptive_max_pool2d(mask, latent)[0, 0]  # h w
        return touched > 0.0

    def laid_over(self, new: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The old picture with the new one [h w 3], of any size, in the mask."""
        height, width = self.mask.shape
        image = Image.fromarray(new)
        if image.size != (width, height):
            image = image.resize((width, height), Image.Resampling.LANCZOS)
        share = self.share()[..., None]  # h w 1
        mixed = share * np.asarray(image, np.float32) + (1.0 - share) * self.picture
        result: NDArray[np.uint8] = np.where(
            share > 0.0, np.rint(mixed).clip(0, 255), self.picture
        ).astype(np.uint8)
        return result

    def share(self) -> NDArray[np.float32]:
        """How much of the new picture is seen, [h w]: 0 outside of the mask, rising to 1 within a
        seam inside it. The picture's own edge is no seam.
        """
        seam = max(1, round(SEAM * min(self.mask.shape)))
        mask = torch.from_numpy(self.mask.astype(np.float32))[None, None]
        found = mask.clone()
        inner = mask
        for _ in range(seam - 1):  # one pixel less at a time
            inner = -F.max_pool2d(F.pad(-inner, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
            found += inner
        share: NDArray[np.float32] = (found / seam)[0, 0].numpy()
        return share
