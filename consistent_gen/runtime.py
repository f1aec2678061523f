"""The machine: memory allocator, device, number format, seeds and versions.

torch is imported inside functions only, so that ``import consistent_gen`` stays quick and
:func:`tune_allocator` can run before the first tensor exists.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.metadata
import platform
from typing import TYPE_CHECKING

from consistent_gen.errors import InputError
from consistent_gen.registry import unknown_name

if TYPE_CHECKING:
    import torch

# Parameter numbers of mallopt(3), from glibc's malloc.h.
M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3
KEEP_BYTES = 1 << 30
# Older glibc refuses a mapping threshold above half of its largest arena heap.
OLD_GLIBC_LARGEST_MMAP_THRESHOLD = 32 << 20

DTYPES = ("float32", "float16", "bfloat16")

# What a report states about the software that made it.
REPORTED_PACKAGES = (
    "consistent-gen",
    "torch",
    "diffusers",
    "transformers",
    "safetensors",
    "skia-python",
    "numpy",
    "pillow",
)

_SEED_BITS = 63


def tune_allocator() -> bool:
    """Let glibc keep freed memory instead of handing it back to the kernel.

    Tensors of a few megabytes are allocated and freed thousands of times per picture. By default
    glibc maps each one afresh, and the page faults cost more than the arithmetic: with both
    thresholds raised an autoencoder pass went from 2.6 to 15.6 pictures per second on two cores.
    The process keeps its peak memory for as long as it lives; that is the price.

    Loading a model calls it; a program that makes large tensors before that may call it first.
    Calling it again does no harm. Returns whether the
    allocator took the setting; False on anything that is not glibc, where nothing is touched.
    """
    if platform.system() != "Linux":
        return False
    libc = ctypes.CDLL(None)
    # musl has mallopt's name in no header and jemalloc ignores it: only glibc means these numbers.
    if not hasattr(libc, "gnu_get_libc_version"):
        return False
    mallopt = libc.mallopt
    mallopt.argtypes = (ctypes.c_int, ctypes.c_int)
    mallopt.restype = ctypes.c_int
    mapped = mallopt(M_MMAP_THRESHOLD, KEEP_BYTES) or mallopt(
        M_MMAP_THRESHOLD, OLD_GLIBC_LARGEST_MMAP_THRESHOLD
    )
    return bool(mapped and mallopt(M_TRIM_THRESHOLD, KEEP_BYTES))


def device(name: str | None = None) -> torch.device:
    """The device called ``name``; without a name, a GPU if there is one, otherwise the CPU.

    Raises:
        InputError: no such device on this machine.
    """
    import torch

    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        wanted = torch.device(name)
    except RuntimeError:
        raise InputError(
            f"{name!r} is not a device; expected cpu, cuda, cuda:N or mps", source="device"
        ) from None
    cards = torch.cuda.device_count() if wanted.type == "cuda" else 0
    if wanted.type == "cuda" and (wanted.index or 0) >= cards:
        raise InputError(
            f"{name!r} was asked for, but torch sees {cards} CUDA devices here; use cpu",
            source="device",
        )
    if wanted.type == "mps" and not torch.backends.mps.is_available():
        raise InputError("'mps' was asked for, but torch finds no Metal device", source="device")
    return wanted


def dtype(name: str | None = None, on: torch.device | None = None) -> torch.dtype:
    """The floating-point format called ``name``; by default float16 on CUDA, else float32.

    CPUs stay with float32 by default: without matrix units for it, bfloat16 is several times
    slower there.

    Raises:
        UnknownNameError: ``name`` is none of :data:`DTYPES`.
    """
    import torch

    if name is None:
        return torch.float16 if on is not None and on.type == "cuda" else torch.float32
    if name not in DTYPES:
        raise unknown_name("number format", name, DTYPES)
    found: torch.dtype = getattr(torch, name)
    return found


def training_dtype(on: torch.device | None = None) -> torch.dtype:
    """The format that training computes in: bfloat16 on a GPU, and on a CPU that multiplies it in
    hardware (AVX512-BF16 or AMX), else float32.

    Without such units a bfloat16 product ran at one sixtieth of the float32 rate here.
    """
    import torch

    if on is not None and on.type == "cuda":
        return torch.bfloat16
    fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if fast else torch.float32


def frame_seed(story_seed: int, index: int, version: int = 0) -> int:
    """The seed of one frame: a 63-bit hash of the story's seed, the frame and its version.

    Frames next to each other get unrelated seeds, inserting a frame leaves the others' seeds
    alone when they keep their index, and a higher ``version`` re-rolls one frame only.
    """
    return _hash63("frame", story_seed, index, version)


def generator(seed: int, purpose: str) -> torch.Generator:
    """A CPU generator for one ``purpose`` ("latent", "dropout", ...) under ``seed``.

    Purposes have streams of their own, so drawing more numbers for one never shifts another. The
    numbers are drawn on the CPU everywhere, which makes them equal on every device.
    """
    import torch

    return torch.Generator(device="cpu").manual_seed(_hash63("generator", seed, purpose))


def versions() -> dict[str, str]:
    """Installed version per package of :data:`REPORTED_PACKAGES` that is there, and Python's."""
    found = {"python": platform.python_version()}
    for package in REPORTED_PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _hash63(*parts: int | str) -> int:
    # repr keeps 1 and "1" apart and the separator cannot be imitated, since repr escapes it.
    text = "\n".join(map(repr, parts)).encode()
    digest = hashlib.blake2b(text, digest_size=8).digest()
    return int.from_bytes(digest, "little") & ((1 << _SEED_BITS) - 1)
