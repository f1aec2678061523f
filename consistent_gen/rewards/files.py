"""Picture files that anybody may have made: read within limits, each on its own.

A file that cannot be read gives a reason and costs the others nothing.
"""

from __future__ import annotations

import hashlib
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from consistent_gen.errors import InputError, LimitError
from consistent_gen.inputs import as_rgb
from consistent_gen.rewards.base import Picture

FORMATS = ("PNG", "JPEG", "WEBP")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic")
MAX_FILES = 300  # every two of them are compared
MAX_FILE_BYTES = 64 << 20
MAX_PIXELS = 60_000_000
TOO_LARGE = f"too many pixels; at most {MAX_PIXELS:,} are read"
KEPT_SIDE = 512  # pixels a side of what is kept: scores look at less, and memory has an end
LEAST_SIDE = 8


@dataclass(frozen=True)
class PictureFile:
    """One file: its picture, at most KEPT_SIDE pixels a side, or the reason why there is none.

    digest: of the pixels as they are shown; equal for equal pictures.
    """

    name: str
    picture: Picture | None
    reason: str = ""
    digest: str = ""


def read_folder(folder: str | Path) -> list[PictureFile]:
    """The picture files of a folder (not of folders in it), in the order of their names.

    Files that are named as no picture are passed over.

    Raises:
        InputError: there is no such folder, or no picture in it. LimitError: too many.
    """
    place = Path(folder)
    if not place.is_dir():
        what = "this is a file; give the folder it is in" if place.exists() else "no such folder"
        raise InputError(what, source=place)
    try:
        names = sorted(
            p.name
            for p in place.iterdir()
            if p.suffix.lower() in SUFFIXES and not p.name.startswith(".") and not p.is_dir()
        )
    except OSError as error:
        raise InputError(f"cannot be listed: {error.strerror}", source=place) from None
    if not names:
        raise InputError(
            f"no picture files; expected files named {', '.join(SUFFIXES[:4])}", source=place
        )
    if len(names) > MAX_FILES:
        raise LimitError(f"{len(names)} pictures; at most {MAX_FILES} are scored", source=place)
    return [read_file(place / name) for name in names]


def read_file(path: Path) -> PictureFile:
    """One file; never raises for what is in it."""
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            return PictureFile(path.name, None, f"larger than {MAX_FILE_BYTES >> 20} MiB")
        if not size:
            return PictureFile(path.name, None, "the file is empty")
        return _decoded(path)
    except UnidentifiedImageError:
        return PictureFile(path.name, None, "not a PNG, JPEG or WebP file")
    except Image.DecompressionBombError:
        return PictureFile(path.name, None, TOO_LARGE)  # by a limit that others set lower
    except FileNotFoundError:
        return PictureFile(path.name, None, "no such file")
    except PermissionError:
        return PictureFile(path.name, None, "may not be read")
    except (OSError, ValueError, SyntaxError, EOFError, zlib.error, MemoryError):
        return PictureFile(path.name, None, "damaged or cut short; save it anew")


def _decoded(path: Path) -> PictureFile:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # sizes are checked here, and profiles may be odd
        with Image.open(path, formats=FORMATS) as opened:
            width, height = opened.size
            if width * height > MAX_PIXELS:
                return PictureFile(path.name, None, TOO_LARGE)
            if min(width, height) < LEAST_SIDE:
                told = f"{width} x {height} pixels; at least {LEAST_SIDE} a side are needed"
                return PictureFile(path.name, None, told)
            opened.draft("RGB", (2 * KEPT_SIDE, 2 * KEPT_SIDE))
            shown = as_rgb(opened)
            shown.thumbnail((KEPT_SIDE, KEPT_SIDE), Image.Resampling.LANCZOS, reducing_gap=3.0)
    pixels = np.array(shown, np.uint8)
    digest = hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()
    return PictureFile(path.name, pixels, "", digest)
