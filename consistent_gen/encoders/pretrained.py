"""CLIP and DINO: what published adapters read of a picture besides a face, from a local folder.

Both are real classes of transformers, read from safetensors in a folder of the user's. Neither is
shipped or fetched.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from PIL import Image
from torch import Tensor

from consistent_gen.checkpoints import folder_sha256, read_json
from consistent_gen.encoders.faces import Picture, checked
from consistent_gen.errors import CheckpointError

MAX_BATCH = 16


@runtime_checkable
class ImageEncoder(Protocol):
    """Pictures to vectors.

    encoder_id: names the space. dimensions: of `embed`. width: channels of `hidden`.
    """

    encoder_id: str
    dimensions: int
    width: int

    def embed(self, pictures: Sequence[Picture]) -> Tensor:
        """n pictures (h w 3, uint8, RGB, any sizes) to n d, one vector a picture, not normed."""

    def hidden(self, pictures: Sequence[Picture], layer: int = -2) -> Tensor:
        """n pictures to n t c: the tokens after a layer; -2, the last but one, is what published
        adapters read.
        """


class _Transformer:
    """What both share: a folder, a processor, batches, hidden states."""

    kind: str
    model_class: str
    accepted: tuple[str, ...]  # "model_type" in config.json

    def __init__(self, folder: Path | str) -> None:
        import transformers

        place = Path(folder)
        found = read_json(place / "config.json").get("model_type", "unknown")
        if found not in self.accepted:
            raise CheckpointError(
                f"{place} holds a {found!r} model; expected {' or '.join(self.accepted)}"
            )
        try:
            self._processor: Any = transformers.AutoImageProcessor.from_pretrained(
                place, local_files_only=True, backend="pil"
            )
            self._model: Any = getattr(transformers, self.model_class).from_pretrained(
                place, local_files_only=True, use_safetensors=True
            )
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            what = str(error).splitlines()[0]
            raise CheckpointError(f"{place} cannot be read as {self.kind}: {what}") from None
        self._model.eval().requires_grad_(False)
        self.width = int(self._model.config.hidden_size)
        self.encoder_id = f"{self.kind}:{folder_sha256(place)[:12]}"

    def hidden(self, pictures: Sequence[Picture], layer: int = -2) -> Tensor:
        """See `ImageEncoder`."""
        return torch.cat([o.hidden_states[layer] for o in self._outputs(pictures)])

    @torch.inference_mode()
    def _outputs(self, pictures: Sequence[Picture]) -> list[Any]:
        images = [Image.fromarray(checked(picture)) for picture in pictures]
        found = []
        for start in range(0, len(images), MAX_BATCH):
            inputs = self._processor(images[start : start + MAX_BATCH], return_tensors="pt")
            found.append(self._model(inputs["pixel_values"], output_hidden_states=True))
        return found


class ClipEncoder(_Transformer):
    """The image tower of CLIP; `embed` gives the projected vector that CLIP compares with texts.

    Args:
        folder: in transformers' layout, of the image tower or of the whole model.

    Raises:
        CheckpointError: the folder is missing, damaged, or of another model.
    """

    kind, model_class = "clip", "CLIPVisionModelWithProjection"
    accepted = ("clip_vision_model", "clip")

    def __init__(self, folder: Path | str) -> None:
        super().__init__(folder)
        self.dimensions = int(self._model.config.projection_dim)

    def embed(self, pictures: Sequence[Picture]) -> Tensor:
        """See `ImageEncoder`."""
        return torch.cat([o.image_embeds for o in self._outputs(pictures)])


class DinoEncoder(_Transformer):
    """DINOv2; `embed` gives the class token, which compares subjects rather than words for them.

    Args, raises: as `ClipEncoder`.
    """

    kind, model_class = "dino", "Dinov2Model"
    accepted = ("dinov2",)

    def __init__(self, folder: Path | str) -> None:
        super().__init__(folder)
        self.dimensions = self.width

    def embed(self, pictures: Sequence[Picture]) -> Tensor:
        """See `ImageEncoder`."""
        return torch.cat([o.pooler_output for o in self._outputs(pictures)])
