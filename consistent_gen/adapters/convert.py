"""Published pickles become safetensors, once, when a user asks for it.

This is the only module that reads a pickle. It does so with `weights_only=True`, which builds
tensors and containers and refuses every other object; with a file that is a plain torch archive and
no larger inside than outside; and never on the way of drawing: everything else reads safetensors.
`tests/test_repo_rules.py` holds all three.
"""

from __future__ import annotations

import itertools
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from consistent_gen.adapters.codec import OTHERS, Detected, detect
from consistent_gen.checkpoints import save_tensors
from consistent_gen.errors import CheckpointError

_DEPTH = 8  # dictionaries in dictionaries
_MOST_NAMES = 100_000  # a dictionary may hold itself
_MOST_SHARED = 4  # times a file's bytes that its tensors may have, since they may share memory


@dataclass(frozen=True)
class Pickled:
    """What a pickle holds. dropped: what was in it and is no tensor."""

    path: Path
    tensors: Mapping[str, Tensor]
    found: Detected
    dropped: tuple[str, ...]

    def licence(self) -> str:
        """One line about what may be done with the weights."""
        system = self.found.system
        use = "may" if system.licence.commercial else "must not"
        return (
            f"{system.title} for {self.found.base}: {system.licence.text}; "
            f"these weights {use} be used commercially"
        )


def read_pickled(path: str | Path) -> Pickled:
    """An adapter's published pickle.

    Raises:
        CheckpointError: no archive of torch, one with other objects than tensors, or no adapter
            that is known here.
    """
    source = Path(path)
    _check_archive(source)
    try:
        content = torch.load(source, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # whatever a hostile file leads torch to
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"{source} holds more than tensors, or is damaged, and is not read: {reason}"
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{source} holds a {type(content).__name__}; expected named tensors")
    leaves = dict(itertools.islice(_leaves(content), _MOST_NAMES + 1))
    tensors = {k: v for k, v in leaves.items() if _is_weight(v) and not k.startswith(OTHERS)}
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    if len(leaves) > _MOST_NAMES or size > _MOST_SHARED * source.stat().st_size:
        raise CheckpointError(
            f"{source} names {len(leaves)} things, {size} bytes of tensors, in a file of "
            f"{source.stat().st_size} bytes; no published file is like that"
        )
    dropped = tuple(sorted(key for key in leaves if key not in tensors))
    try:
        found = detect({key: tuple(tensor.shape) for key, tensor in tensors.items()})
    except CheckpointError as error:
        raise CheckpointError(f"{source}: {error}") from error
    return Pickled(source, tensors, found, dropped)


def convert(pickled: Pickled, out: str | Path) -> None:
    """Write what a pickle held as safetensors, by rename."""
    # Tensors of a pickle may share memory, which safetensors refuses.
    tensors = {key: tensor.clone() for key, tensor in pickled.tensors.items()}
    save_tensors(out, tensors, {"system": pickled.found.system.name})


def _check_archive(source: Path) -> None:
    if not source.is_file():
        raise CheckpointError(f"{source} is missing")
    if source.suffix == ".safetensors":
        raise CheckpointError(f"{source} is a safetensors file already")
    try:
        with zipfile.ZipFile(source) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError) as error:
        raise CheckpointError(
            f"{source} is no archive of torch 1.6 or newer, or is cut short"
        ) from error
    if not any(entry.filename.endswith("data.pkl") for entry in entries):
        raise CheckpointError(f"{source} is an archive, but not one that torch wrote")
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise CheckpointError(f"{source} has compressed entries, which torch does not write")


def _leaves(
    content: Mapping[Any, Any], path: str = "", depth: int = 0
) -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        name = f"{path}.{key}" if path else str(key)
        if isinstance(value, dict) and depth < _DEPTH:
            yield from _leaves(value, name, depth + 1)
        else:
            yield name, value


def _is_weight(value: Any) -> bool:
    # Sparse and quantised tensors are of no adapter, and safetensors has no word for them.
    return isinstance(value, Tensor) and value.layout == torch.strided and not value.is_quantized
