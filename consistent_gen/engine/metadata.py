"""What a picture says about itself: everything needed to draw it again, in its PNG.

Two text chunks: `consistent_gen` holds one JSON object (`SCHEMA`), `parameters` the same for
people, in the form that other tools show. Reading treats the file as hostile: sizes are bounded
before anything is decompressed, and every fault becomes an `InputError`.
"""

from __future__ import annotations

import hashlib
import json
import platform
import warnings
import zlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, PngImagePlugin, UnidentifiedImageError

from consistent_gen import runtime
from consistent_gen.checkpoints import atomic_file
from consistent_gen.draw_settings import SETTINGS
from consistent_gen.engine.request import FrameRequest
from consistent_gen.errors import InputError, LimitError
from consistent_gen.models.backbone import Backbone

SCHEMA = 1
CHUNK = "consistent_gen"
PARAMETERS_CHUNK = "parameters"
REDRAWN = "redrawn"  # likewise: which part of which picture was drawn again
MOVED = "moved"  # and how far what was drawn was moved
LORAS = "loras"  # of a picture's model: which LoRA files acted, by hash
IDENTITIES = "identities"  # in a picture's story: who is in it, as an adapter was told
MAX_FILE_BYTES = 64 << 20
MAX_PIXELS = 32_000_000
MAX_TEXT_CHARACTERS = 1 << 20


def describe(
    backbone: Backbone, request: FrameRequest, image: np.ndarray, *, bucket: int | None
) -> dict[str, Any]:
    """The metadata of a drawn frame, uint8 [h w 3]; `bucket` is None in throughput mode.

    It holds no time and no path: the same frame drawn twice has the same metadata.
    """
    settings = dict(vars(request.settings))
    del settings["size"]
    width, height = request.size(backbone)
    story = dict(request.story)
    if request.identities is not None:
        story[IDENTITIES] = dict(request.identities.record)
    if request.redrawing is not None:
        story[REDRAWN] = request.redrawing.record()
    elif request.moved:
        story[MOVED] = request.moved
    return {
        "schema": SCHEMA,
        "model": _model(backbone, refined=bool(request.settings.refine)),
        "prompt": request.prompt,
        "negative": request.negative,
        "seed": request.seed,
        **settings,
        "width": width,
        "height": height,
        "method": request.method,
        "story": story,
        "mode": "throughput" if bucket is None else "exact",
        "bucket": bucket,
        "dtype": str(backbone.dtype).removeprefix("torch."),
        "machine": machine(backbone),
        "versions": runtime.versions(),
        "pixels_sha256": pixels_sha256(image),
    }


def _model(backbone: Backbone, *, refined: bool) -> dict[str, Any]:
    model: dict[str, Any] = {"name": backbone.name, "sha256": backbone.folder_sha256}
    if backbone.loras:
        model[LORAS] = [lora.record() for lora in backbone.loras]
    return model | {"refiner": backbone.refiner_sha256} if refined else model


def machine(backbone: Backbone) -> dict[str, Any]:
    """What of the machine can change the last bits of a picture."""
    on_gpu = backbone.device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(backbone.device) if on_gpu else backbone.device.type,
        "cpu": _cpu_name(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "attention": _attention_backend(backbone),
    }


def _attention_backend(backbone: Backbone) -> str:
    """The chosen attention kernel by name; all layers have the same."""
    for module in backbone.denoiser.modules():
        chosen = getattr(getattr(module, "processor", None), "_attention_backend", None)
        if chosen is not None:
            return str(getattr(chosen, "value", chosen))
    return "default"


def pixels_sha256(image: np.ndarray) -> str:
    """Hash of a picture's shape and pixels, uint8 [h w 3]."""
    digest = hashlib.sha256(repr(image.shape).encode())
    digest.update(np.ascontiguousarray(image).tobytes())
    return digest.hexdigest()


def parameters_text(metadata: Mapping[str, Any]) -> str:
    """The metadata for people: prompt, negative prompt, one line of settings."""
    settings = {
        **{
            setting.label: metadata[name]
            for name, setting in SETTINGS.items()
            if setting.label and metadata.get(name) not in (None, setting.off)
        },
        "Seed": metadata["seed"],
        "Size": f"{metadata['width']}x{metadata['height']}",
        "Model": metadata["model"]["name"],
        "Model hash": metadata["model"]["sha256"][:10],
        "Method": metadata["method"],
    }
    if loras := metadata["model"].get(LORAS):
        said = (f"{one.get('name', one['sha256'][:10])} {one['weight']:g}" for one in loras)
        settings["LoRA"] = " + ".join(said)
    lines = [metadata["prompt"]]
    if metadata["negative"]:
        lines.append(f"Negative prompt: {metadata['negative']}")
    return "\n".join([*lines, ", ".join(f"{key}: {value}" for key, value in settings.items())])


def write_png(path: str | Path, image: np.ndarray, metadata: Mapping[str, Any]) -> None:
    """Write a picture, uint8 [h w 3], with its metadata, by rename. Equal inputs, equal bytes.

    Raises:
        OutputError: the file cannot be written.
    """
    chunks = PngImagePlugin.PngInfo()
    text = json.dumps(metadata, ensure_ascii=False, sort_keys=True, allow_nan=False)
    chunks.add_itxt(CHUNK, text)
    chunks.add_itxt(PARAMETERS_CHUNK, parameters_text(metadata))
    with atomic_file(path) as temporary:
        Image.fromarray(image).save(temporary, format="PNG", pnginfo=chunks, compress_level=6)


def read_png(path: str | Path) -> tuple[np.ndarray, dict[str, Any]]:
    """A picture, uint8 [h w 3], and its metadata.

    Raises:
        InputError: not a PNG, damaged, or without our metadata.
        LimitError: larger than `MAX_FILE_BYTES`, `MAX_PIXELS` or `MAX_TEXT_CHARACTERS`.
    """
    source = Path(path)
    try:
        if source.stat().st_size > MAX_FILE_BYTES:
            raise LimitError(f"the file is larger than {MAX_FILE_BYTES >> 20} MiB", source=source)
        image, text = _open_png(source)
    except UnidentifiedImageError:
        raise InputError("this is not a PNG file", source=source) from None
    except FileNotFoundError:
        raise InputError("no such file", source=source) from None
    except (OSError, ValueError, SyntaxError, EOFError, zlib.error, Image.DecompressionBombError,
            Image.DecompressionBombWarning) as error:  # fmt: skip
        # What Pillow raises for damaged files; its own text limits arrive as ValueError.
        raise InputError(f"the PNG cannot be read: {error}", source=source) from error
    if text is None:
        raise InputError(
            f"the picture has no {CHUNK!r} text chunk; only pictures drawn by this package, "
            "and not saved again by another program, can be drawn again",
            source=source,
        )
    return image, _parse(text, source)


def _open_png(source: Path) -> tuple[np.ndarray, str | None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(source, formats=("PNG",)) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise LimitError(
                    f"the picture has {picture.width}x{picture.height} pixels; "
                    f"at most {MAX_PIXELS} are read",
                    source=source,
                )
            picture.load()  # text may stand behind the pixels
            text = getattr(picture, "text", {}).get(CHUNK)
            return np.asarray(picture.convert("RGB")), text


def _parse(text: str, source: Path) -> dict[str, Any]:
    if len(text) > MAX_TEXT_CHARACTERS:
        raise LimitError(f"the {CHUNK!r} chunk is too long", source=source)
    try:
        metadata = json.loads(text)
    except (ValueError, RecursionError):  # a number may have too many digits
        raise InputError(f"the {CHUNK!r} chunk is not JSON", source=source) from None
    if not isinstance(metadata, dict) or metadata.get("schema") != SCHEMA:
        raise InputError(
            f"the {CHUNK!r} chunk is not of schema {SCHEMA}; "
            "it was written by another version of this package",
            source=source,
        )
    return metadata


@cache
def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
