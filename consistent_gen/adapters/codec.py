"""Published adapter files: what one is, whether it fits a model, in and out of an `Adapter`.

A file is judged by the names and shapes of its tensors before any of them is read, and everything
that can be wrong with it has words of its own: a pickle, a foreign file, one that lacks tensors,
one for another base model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from consistent_gen.adapters.adapter import Adapter, IdentitySystem, Shapes
from consistent_gen.adapters.index import SYSTEMS
from consistent_gen.adapters.weights import LayerPlace, context_width, places_of
from consistent_gen.checkpoints import load_tensors, save_tensors
from consistent_gen.errors import CheckpointError, InputError
from consistent_gen.registry import resolve

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
# Models by the width of the text that they read and the number of their attention layers.
BASES: dict[tuple[int, int], str] = {
    (768, 32): "Stable Diffusion 1.5",
    (1024, 32): "Stable Diffusion 2",
    (2048, 140): "SDXL",
}
# Number formats of weights; what is quantised is not read.
FORMATS = ("F64", "F32", "F16", "BF16")
# Parts of a training checkpoint that are not the adapter's.
OTHERS = ("unet.", "vae.", "text_encoder.")


@dataclass(frozen=True)
class Detected:
    """What a file is. sizes: arguments of the system's constructor. base: the model it is for."""

    system: type[IdentitySystem]
    sizes: Mapping[str, Any]
    base: str


def detect(shapes: Shapes) -> Detected:
    """What the file with tensors of these shapes is.

    Raises:
        CheckpointError: it is of no system that is known here; names the nearest.
    """
    for name in SYSTEMS:
        system: type[IdentitySystem] = resolve(SYSTEMS, name)
        sizes = _sizes(system, shapes)
        if sizes is not None:
            return Detected(system, sizes, _base_of(shapes, sizes.get("width")))
    some = ", ".join(sorted(shapes)[:2])
    raise CheckpointError(
        f"its {len(shapes)} tensors ({some}, ...) are of no adapter that is known here; nearest is "
        f"{_nearest(shapes)}"
    )


def load_adapter(
    path: str | Path, unet: Any, *, system: str | None = None, **switches: Any
) -> Adapter:
    """An adapter from a safetensors file in its published layout, built for `unet`.

    system: what it is, where that shall not be guessed. switches: what the file does not say, as of
        the system's constructor (`version` of FaceID-Plus, `order` of ConsistentID).
    Tensors keep the file's number format.

    Raises:
        CheckpointError: a pickle, no adapter, tensors are missing or too many, or it is for
            another model. InputError: a switch that the system does not have.
    """
    found = load_system(path, unet, system=system, **switches)
    if not isinstance(found, Adapter):
        raise CheckpointError(f"{path} holds {found.title}, which has no tokens: use load_system")
    return found


def load_system(
    path: str | Path, unet: Any, *, system: str | None = None, **switches: Any
) -> IdentitySystem:
    """As `load_adapter`, of any system."""
    source = Path(path)
    try:
        shapes = file_shapes(source)
        found = detect(shapes) if system is None else _as_system(system, shapes)
        adapter = built(found, shapes, places_of(unet), switches)
        tensors = {k: t for k, t in load_tensors(source).items() if not k.startswith(OTHERS)}
        ours = {_ours(adapter, key): tensor for key, tensor in tensors.items()}
    except CheckpointError as error:
        message = str(error)
        raise CheckpointError(message if str(source) in message else f"{source}: {message}") from (
            error.__cause__
        )
    adapter.load_state_dict(ours, assign=True)
    return adapter.eval().requires_grad_(False)


def dump(adapter: IdentitySystem) -> dict[str, Tensor]:
    """The adapter's tensors by the names of published files."""
    return {_published(adapter, key): tensor for key, tensor in adapter.state_dict().items()}


def save_adapter(
    path: str | Path, adapter: IdentitySystem, metadata: Mapping[str, str] | None = None
) -> None:
    """Write the adapter in its published layout, as one safetensors file."""
    save_tensors(path, dump(adapter), {"system": adapter.name, **(metadata or {})})


def file_shapes(path: str | Path) -> Shapes:
    """Names and shapes of a safetensors file's tensors; none of them is read.

    Raises:
        CheckpointError: the file is missing, damaged, or of a format that can run code.
    """
    from safetensors import SafetensorError, safe_open

    source = Path(path)
    if source.suffix in PICKLES:
        raise CheckpointError(
            f"{source} is a pickle, which can run code when it is read; convert it once: "
            f"consistent-gen weights convert {source}"
        )
    if source.suffix != ".safetensors":
        raise CheckpointError(f"{source} is not a .safetensors file")
    if not source.is_file():
        raise CheckpointError(f"{source} is missing")
    try:
        with safe_open(source, framework="pt") as file:
            slices = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118
            shapes = {key: tuple(part.get_shape()) for key, part in slices.items()}
            formats = {key: str(part.get_dtype()) for key, part in slices.items()}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{source} is damaged or cut short: {error}") from error
    odd = [key for key, name in formats.items() if name not in FORMATS]
    if odd:
        raise CheckpointError(
            f"{source}: {odd[0]} is of the number format {formats[odd[0]]}; "
            f"expected one of {', '.join(FORMATS)}"
        )
    return {key: shape for key, shape in shapes.items() if not key.startswith(OTHERS)}


def built(
    found: Detected, shapes: Shapes, places: tuple[LayerPlace, ...], switches: Mapping[str, Any]
) -> IdentitySystem:
    """The adapter without its weights, on the meta device, once the file is known to fit.

    Raises:
        CheckpointError, InputError: as `load_adapter`.
    """
    system, base = found.system, _model(context_width(places), len(places))
    width = found.sizes.get("width", context_width(places))
    numbers = [n for key in shapes if (n := _number(system, key)) is not None]
    last = max((p.number for p in places if p.cross or found.sizes.get("rank")), default=0)
    if width != context_width(places) or (numbers and max(numbers) > last):
        raise CheckpointError(
            f"it is {system.title} for {found.base}, and this model is {base}: its tokens are "
            f"{width} wide, the model reads {context_width(places)}"
        )
    try:
        with torch.device("meta"):
            adapter = system(places, **found.sizes, **switches)
    except TypeError as error:
        raise InputError(
            f"{system.title} has no such switch: {', '.join(switches)} ({error})"
        ) from error
    wanted = _wanted(adapter, shapes)
    missing = sorted(wanted.keys() - shapes.keys())
    if missing:
        raise CheckpointError(
            f"it is {system.title} for {found.base} and lacks {len(missing)} of {len(wanted)} "
            f"tensors, such as {missing[0]}: it is cut short or of another version"
        )
    strange = sorted(shapes.keys() - wanted.keys())
    if strange:
        raise CheckpointError(
            f"it looks like {system.title} for {found.base} and has {len(strange)} tensors that "
            f"this has not, such as {strange[0]}"
        )
    for key, shape in wanted.items():
        if shapes[key] != shape:
            raise CheckpointError(
                f"it is {system.title} for {found.base}, whose {key} is {shapes[key]}; "
                f"this model ({base}) needs {shape}"
            )
    return adapter


def _wanted(adapter: IdentitySystem, shapes: Shapes) -> dict[str, tuple[int, ...]]:
    """Shapes that a file must have; the adapter takes on the file's spelling of names."""
    for ours, spellings in adapter.prefixes.items():
        there = [s for s in spellings if any(key.startswith(s) for key in shapes)]
        adapter.spelling[ours] = there[0] if there else spellings[0]
    state = adapter.state_dict()
    return {_published(adapter, key): tuple(tensor.shape) for key, tensor in state.items()}


def _as_system(name: str, shapes: Shapes) -> Detected:
    system: type[IdentitySystem] = resolve(SYSTEMS, name, kind="adapter")
    sizes = _sizes(system, shapes)
    if sizes is None:
        raise CheckpointError(f"it is not {system.title}; nearest is {_nearest(shapes)}")
    return Detected(system, sizes, _base_of(shapes, sizes.get("width")))


def _sizes(system: type[IdentitySystem], shapes: Shapes) -> dict[str, Any] | None:
    try:
        return system.sizes(shapes)
    except (ValueError, IndexError, ZeroDivisionError) as error:
        raise CheckpointError(
            f"it looks like {system.title}, and its tensors have shapes that this never has"
        ) from error


def _nearest(shapes: Shapes) -> str:
    """The system of whose marks a file has most, and the first that it lacks."""
    systems: list[type[IdentitySystem]] = [resolve(SYSTEMS, name) for name in SYSTEMS]

    def has(mark: str) -> bool:
        return any(mark in key for key in shapes)

    best = max(systems, key=lambda s: sum(map(has, s.marks)) / len(s.marks))
    lacking = [mark for mark in best.marks if not has(mark)]
    return f"{best.title}, which has {lacking[0]}" if lacking else best.title


def _base_of(shapes: Shapes, width: int | None) -> str:
    """The model that a file is for, by what its layers look like."""
    parts = (key.split(".")[1:2] for key in shapes)
    numbers = [n for part in parts for p in part if (n := _layer_number(p)) is not None]
    # Without a LoRA the last layer, a cross-attention layer, is there all the same.
    return _model(width or 0, max(numbers, default=-1) + 1)


def _model(width: int, layers: int) -> str:
    return BASES.get((width, layers), f"a model that reads {width} wide with {layers} layers")


def _number(system: type[IdentitySystem], key: str) -> int | None:
    """The number of a layer's tensor."""
    for prefix in system.prefixes["attention."]:
        if key.startswith(prefix):
            return _layer_number(key[len(prefix) :].partition(".")[0])
    return None


def _layer_number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 4 else None


def _published(adapter: IdentitySystem, key: str) -> str:
    ours = next(prefix for prefix in adapter.spelling if key.startswith(prefix))
    rest = key[len(ours) :]
    for mine, theirs in adapter.leaves.items():
        if ours == "attention." and rest.endswith(mine):
            rest = rest.removesuffix(mine) + theirs
    return adapter.spelling[ours] + rest


def _ours(adapter: IdentitySystem, key: str) -> str:
    ours = next(mine for mine, theirs in adapter.spelling.items() if key.startswith(theirs))
    rest = key[len(adapter.spelling[ours]) :]
    for mine, theirs in adapter.leaves.items():
        if ours == "attention." and rest.endswith(theirs):
            rest = rest.removesuffix(theirs) + mine
    return ours + rest
