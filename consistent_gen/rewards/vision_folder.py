"""Features by any vision model of transformers that lies in a folder: CLIP, SigLIP, DINOv2, ...

Nothing is downloaded. CLIP and its kin give their picture features, others their pooled output, or
the first token where they pool nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from consistent_gen.checkpoints import folder_sha256
from consistent_gen.errors import CheckpointError, InputError
from consistent_gen.language.embedders import quiet_loading

BATCH = 16


class FolderFeatures:
    """An embedder (see `foreground.Embeds`) of a model folder.

    Raises:
        InputError: there is no such folder. CheckpointError: it holds no such model.
    """

    def __init__(self, folder: str | Path) -> None:
        from transformers import AutoImageProcessor, AutoModel

        place = Path(folder)
        if not place.is_dir():
            raise InputError("no such model folder; download the model first", source=place)
        options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        try:
            with quiet_loading():
                self._processor: Any = AutoImageProcessor.from_pretrained(place, **options)
                self._model: Any = AutoModel.from_pretrained(
                    place, use_safetensors=True, **options
                ).eval()
        except (OSError, ValueError, KeyError) as error:
            told = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise CheckpointError(f"{place} holds no vision model: {told}") from error
        self.name = f"{place.name} ({type(self._model).__name__})"
        self.sha256 = folder_sha256(place)

    def __call__(self, pictures: NDArray[np.uint8]) -> Any:
        """n d of n h w 3."""
        import torch

        found = []
        with torch.inference_mode():
            for start in range(0, len(pictures), BATCH):
                part = list(pictures[start : start + BATCH])
                pixels = self._processor(images=part, return_tensors="pt")["pixel_values"]
                found.append(self._features(pixels))
        return torch.cat(found).float().numpy()

    def _features(self, pixels: Any) -> Any:
        model = self._model
        if hasattr(model, "get_image_features"):
            found = model.get_image_features(pixel_values=pixels)
            return found if not hasattr(found, "pooler_output") else found.pooler_output
        output = model(pixel_values=pixels)
        pooled = getattr(output, "pooler_output", None)
        return output.last_hidden_state[:, 0] if pooled is None else pooled.flatten(1)
