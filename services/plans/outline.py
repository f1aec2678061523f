"""A model folder without its weights: what planning asks of a model, from configs and tokenizer.

A gateway that only plans stories needs a few hundred kilobytes of a folder of gigabytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from consistent_gen.checkpoints import read_json
from consistent_gen.errors import CheckpointError
from consistent_gen.models import pretrained
from consistent_gen.models.words import closed_vocabulary, unknown_words


class ModelOutline:
    """Answers `story.plan.Model` as the loaded `Backbone` of the same folder does.

    Args:
        path: as in `models.load_backbone`.

    Raises:
        CheckpointError: the folder or one of the files is missing or damaged.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self.path = pretrained._find(path)
        index = read_json(self.path / pretrained.INDEX)
        self._tokenizer = pretrained._part(self.path, index, "tokenizer")
        unet = self._config("unet")
        vae = self._config("vae")
        try:
            side = unet["sample_size"]
            height, width = (side, side) if isinstance(side, int) else side
            factor = 2 ** (len(vae["block_out_channels"]) - 1)
            self._size = int(width) * factor, int(height) * factor
            self._multiple: int = factor * 2 ** (len(unet["block_out_channels"]) - 1)
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"the configs of {self.path} lack what a size follows from: {error!r}"
            ) from None

    @property
    def name(self) -> str:
        """The model's name."""
        return self.path.name

    @property
    def tokenizer(self) -> Any:
        """A fast tokenizer of transformers."""
        return self._tokenizer

    @property
    def default_size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self._size

    @property
    def size_multiple(self) -> int:
        """What both sides must be multiples of."""
        return self._multiple

    @cached_property
    def recommended(self) -> Mapping[str, float]:
        """Settings that the folder recommends, by name."""
        return pretrained.recommendations(self.path)[0]

    @cached_property
    def method_settings(self) -> Mapping[str, Mapping[str, Any]]:
        """Settings of methods that the folder recommends, by their names."""
        return pretrained.recommendations(self.path)[1]

    @cached_property
    def sha256(self) -> str:
        """The hash that names the folder's contents."""
        return pretrained._sha256(self.path)

    def vocabulary(self) -> frozenset[str] | None:
        """The words of a closed vocabulary, None for an open one."""
        return closed_vocabulary(self._tokenizer)

    def unknown_words(self, prompt: str) -> list[str]:
        """Words of `prompt` that a closed vocabulary lacks."""
        return unknown_words(self._tokenizer, prompt)

    def _config(self, part: str) -> dict[str, Any]:
        config = read_json(self.path / part / "config.json")
        if not isinstance(config, dict):
            raise CheckpointError(f"{self.path / part / 'config.json'} is not a JSON object")
        return config
