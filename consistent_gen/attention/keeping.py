"""How what anchors leave is kept: as what, with how many bits, and where.

Keys and values of a whole story's anchors take gigabytes in a large model. The same numbers can be
had for less: the hidden states that a layer made them from are half as many (the layer projects
them again when they are read); memory of the host or a file holds what the device cannot; and
anchors can be drawn again beside every step of a frame, so that nothing is kept but their latents.
These are exact, within the rounding of the model's number format. Fewer bits are not, and are
chosen by nobody but the user.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from consistent_gen.errors import InputError, OutputError
from consistent_gen.registry import unknown_name

Kept = Literal["kv", "hidden", "replay"]
Where = Literal["device", "host", "disk"]
AUTO = "auto"


@dataclass(frozen=True)
class Keeping:
    """One way to keep exports.

    what: "kv" keys and values; "hidden" the hidden states that they are projected from; "replay"
    nothing, since anchors are drawn again beside every step.
    bits: of every number, 16 or 8 (whole numbers with a scale per token and head); None for the
    model's own.
    where: beside the model, in (pinned) memory of the host, or in a file of a temporary folder.
    """

    what: Kept = "kv"
    bits: Literal[16, 8] | None = None
    where: Where = "device"

    @property
    def name(self) -> str:
        """As users write it: "hidden-8bit-host"."""
        bits = "" if self.bits is None else f"-{self.bits}bit"
        return self.what + bits + ("" if self.where == "device" else f"-{self.where}")

    @property
    def exact(self) -> bool:
        """Whether what is read is what was left, within the model's rounding."""
        return self.bits is None

    def bytes(self, rows: int, channels: int, heads: int, element_bytes: int) -> int:
        """Of `rows` tokens of `channels` numbers that take `element_bytes` in the model."""
        if self.bits == 8:
            return rows * (channels + 4 * heads)
        return rows * channels * (min(2, element_bytes) if self.bits == 16 else element_bytes)


KV = Keeping()
REPLAY = Keeping("replay")
# The ways that keep something, with fewer bits and farther away; and the one that keeps nothing.
_WHAT: tuple[Kept, ...] = ("kv", "hidden")
_BITS: tuple[Literal[16, 8] | None, ...] = (None, 16, 8)
_WHERE: tuple[Where, ...] = ("device", "host", "disk")
MODES: dict[str, Keeping] = {
    mode.name: mode for mode in (*(Keeping(*way) for way in product(_WHAT, _BITS, _WHERE)), REPLAY)
}


def keeping(name: str) -> Keeping:
    """The way called `name`.

    Raises:
        UnknownNameError: there is none.
    """
    if name not in MODES:
        raise unknown_name("memory mode", name, (AUTO, *MODES))
    return MODES[name]


class SpillFile:
    """A file of one source's tensors, written once and read through memory maps.

    Raises:
        OutputError: the disk is full or may not be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._end = 0

    def put(self, x: Tensor) -> OnDisk:
        """Append a tensor."""
        raw = x.detach().contiguous().cpu().reshape(-1).view(torch.uint8).numpy()
        try:
            with open(self.path, "ab") as file:
                file.write(raw.tobytes())
        except OSError as error:
            raise OutputError(
                f"what anchors leave cannot be written to {self.path}: {error.strerror}; "
                "set TMPDIR to a folder with more room, or choose another memory mode"
            ) from error
        kept = OnDisk(self.path, self._end, raw.nbytes, tuple(x.shape), x.dtype)
        self._end += raw.nbytes
        return kept


@dataclass(frozen=True)
class OnDisk:
    """A tensor in a `SpillFile`, at a byte offset."""

    path: Path
    start: int
    nbytes: int
    shape: tuple[int, ...]
    dtype: torch.dtype

    def read(self) -> Tensor:
        """The tensor, in memory of its own."""
        if not self.nbytes:
            return torch.empty(self.shape, dtype=self.dtype)
        shape = (self.nbytes,)
        mapped = np.memmap(self.path, dtype=np.uint8, mode="r", offset=self.start, shape=shape)
        return torch.from_numpy(np.array(mapped)).view(self.dtype).reshape(self.shape)


@dataclass(frozen=True)
class Packed:
    """A tensor [m h d] as it is kept: its numbers, with a scale [m h 1] where they are whole.

    error: sum of squared differences from what was put, and sum of its squares.
    """

    values: Tensor | OnDisk
    scale: Tensor | OnDisk | None
    dtype: torch.dtype
    nbytes: int
    error: tuple[float, float] = (0.0, 0.0)

    def on(self, device: torch.device) -> Tensor:
        """What is read: [m h d] in the model's number format."""
        values, scale = (
            part.read() if isinstance(part, OnDisk) else part for part in (self.values, self.scale)
        )
        assert values is not None
        # From pinned memory the copy runs beside the computation.
        values = values.to(device, non_blocking=True)
        if scale is None:
            return values.to(self.dtype)
        return (values.float() * scale.to(device, non_blocking=True)).to(self.dtype)


def pack(
    x: Tensor, keeping: Keeping, device: torch.device | None = None, file: SpillFile | None = None
) -> Packed:
    """Keep x [m h d].

    device: where, None for where it is. file: where, if the mode says on disk.

    Raises:
        InputError: a number does not fit into 16 bits. OutputError: see `SpillFile`.
    """
    scale = None
    values, error = x, (0.0, 0.0)
    if keeping.bits == 8:
        scale = (x.float().abs().amax(-1, keepdim=True) / 127.0).clamp_min(1e-30)  # m h 1
        values = (x.float() / scale).round().clamp(-127, 127).to(torch.int8)
    elif keeping.bits == 16 and x.element_size() > 2:
        values = x.to(torch.float16)
        if x.device.type != "meta" and not bool(torch.isfinite(values).all()):
            raise InputError(
                "what an anchor leaves exceeds 65504, the largest number of 16 bits; choose a "
                "memory mode without 16bit"
            )
    lossy = scale is not None or values.dtype != x.dtype
    if lossy and x.device.type != "meta":
        wide = x.double()
        back = values.double() if scale is None else (values.float() * scale).double()
        error = float((back - wide).square().sum()), float(wide.square().sum())
    kept = [part for part in (values, scale) if part is not None]
    nbytes = sum(part.numel() * part.element_size() for part in kept)
    placed = [_placed(part, device) if file is None else file.put(part) for part in kept]
    return Packed(placed[0], placed[1] if len(placed) > 1 else None, x.dtype, nbytes, error)


def _placed(x: Tensor, device: torch.device | None) -> Tensor:
    if device is None or x.device == device:
        return x
    moved = x.to(device)
    pin = device.type == "cpu" and x.device.type == "cuda"
    return moved.pin_memory() if pin else moved


class SpillFolder:
    """The temporary folder of one bank, made when the first tensor is put there."""

    def __init__(self) -> None:
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._numbers: Iterator[int] = iter(range(1 << 62))

    def file(self) -> SpillFile:
        """A new empty file."""
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="consistent-gen-anchors-")
        return SpillFile(Path(self._folder.name) / f"{next(self._numbers)}.bin")

    def close(self) -> None:
        """Delete the folder and all that is in it."""
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None
