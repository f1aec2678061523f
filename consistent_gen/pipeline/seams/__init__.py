"""What differs between families of pipelines, one file each; `seam.Seam` says what that is."""

from __future__ import annotations

from consistent_gen.pipeline.seams.flux import FluxSeam
from consistent_gen.pipeline.seams.pixart import PixArtSeam
from consistent_gen.pipeline.seams.qwen import QwenSeam
from consistent_gen.pipeline.seams.sd3 import SD3Seam
from consistent_gen.pipeline.seams.seam import Seam
from consistent_gen.pipeline.seams.unet import UNetSeam

SEAMS: dict[str, Seam] = {
    "unet": UNetSeam(),
    "sd3": SD3Seam(),
    "flux": FluxSeam(),
    "qwen": QwenSeam(),
    "pixart": PixArtSeam(),
}

__all__ = ["SEAMS", "Seam"]
