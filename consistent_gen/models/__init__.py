"""Text-to-image backbones: the story-world model and the user's own diffusers folders."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from consistent_gen.diffusion.families import BACKBONES

if TYPE_CHECKING:
    import torch

    from consistent_gen.models.backbone import Backbone

DEFAULT_MODEL = "storyworld"


def load_backbone(
    path: str | Path | None = None,
    *,
    device: str | torch.device | None = None,
    dtype: str | None = None,
) -> Backbone:
    """Load a diffusers-format folder; without a path, the model that ships with the package.

    It sets the allocator first (see `runtime.tune_allocator`).

    Args:
        path: folder with `model_index.json`, or the bare name of a shipped model ("storyworld").
            Nothing is ever fetched over the network.
        device: as in `runtime.device`; default a GPU if there is one, else the CPU.
        dtype: "float32", "float16" or "bfloat16"; default as in `runtime.dtype`.

    Raises:
        CheckpointError: the folder or a part of it is missing, damaged or of an unknown family.
        InputError: no such device or number format.
    """
    from consistent_gen.models.pretrained import load_folder

    return load_folder(path, device=device, dtype=dtype)


__all__ = ["BACKBONES", "DEFAULT_MODEL", "load_backbone"]
