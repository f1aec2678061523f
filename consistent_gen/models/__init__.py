"""Text-to-image backbones: the story-world model and the user's own diffusers folders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from consistent_gen.diffusion.families import BACKBONES

if TYPE_CHECKING:
    import torch

    from consistent_gen.models.backbone import Backbone
    from consistent_gen.models.loras import LoraFile

DEFAULT_MODEL = "storyworld"
OFFLOADS = ("model", "sequential")


def load_backbone(
    path: str | Path | None = None,
    *,
    device: str | torch.device | None = None,
    dtype: str | None = None,
    loras: Sequence[LoraFile | str | Path] = (),
    offload: str | None = None,
) -> Backbone:
    """Load a diffusers-format folder; without a path, the model that ships with the package.

    It sets the allocator first (see `runtime.tune_allocator`).

    Args:
        path: folder with `model_index.json`, the bare name of a shipped model ("storyworld"), or
            the id of one that was fetched from the Hugging Face hub before ("owner/name"; it is
            read from the local cache). Nothing is ever fetched over the network.
        device: as in `runtime.device`; default a GPU if there is one, else the CPU.
        dtype: "float32", "float16" or "bfloat16"; default as in `runtime.dtype`.
        loras: LoRA files (.safetensors) whose layers are added, at most 8; a path alone has weight
            1 (see `models.loras.LoraFile`). What a file holds and the model lacks is an error.
        offload: "model" or "sequential": weights wait on the CPU and only what is called is on the
            device, a network or a layer at a time; for models larger than a GPU's memory.

    Raises:
        CheckpointError: the folder or a part of it is missing, damaged or of an unknown family, or
            a LoRA file is, or fits another model.
        InputError: no such device, number format or way to offload; a LoRA is given twice or with
            a weight out of range.
        MissingExtraError: LoRA files are given and peft is not installed.
    """
    from consistent_gen.models.pretrained import load_folder

    return load_folder(path, device=device, dtype=dtype, loras=loras, offload=offload)


__all__ = ["BACKBONES", "DEFAULT_MODEL", "OFFLOADS", "load_backbone"]
