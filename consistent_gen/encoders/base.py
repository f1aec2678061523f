"""What the networks that read pictures share: a schema, a width, and a folder on disk."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Self

import torch
from torch import nn

from consistent_gen.checkpoints import load_tensors, read_json, save_tensors, write_json
from consistent_gen.encoders.factors import Schema
from consistent_gen.errors import CheckpointError


class PictureReader(nn.Module):
    """A network from pictures (b 3 128 128) to a `Reading` of the factors in `schema`."""

    kind: ClassVar[str]

    def __init__(self, schema: Schema, width: int) -> None:
        super().__init__()
        self.schema, self.width = schema, width

    def save(self, folder: str | Path, dtype: torch.dtype = torch.float16) -> None:
        """Write weights and schema to `folder`."""
        config = {"kind": self.kind, "width": self.width, "schema": self.schema.to_json()}
        write_json(Path(folder) / "config.json", config)
        tensors = {name: t.to(dtype) for name, t in self.state_dict().items()}
        save_tensors(Path(folder) / "model.safetensors", tensors)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what `save` wrote, as float32, ready to read pictures.

        Raises:
            CheckpointError: the folder is missing, damaged, or holds another kind of network.
        """
        config = read_json(Path(folder) / "config.json")
        if config.get("kind") != cls.kind:
            raise CheckpointError(
                f"{folder} holds a {config.get('kind')!r}; expected a {cls.kind!r}"
            )
        model = cls(Schema.from_json(config["schema"]), config["width"])
        tensors = load_tensors(Path(folder) / "model.safetensors")
        model.load_state_dict({name: t.float() for name, t in tensors.items()})
        model.eval()
        return model
