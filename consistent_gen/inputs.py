"""Checks of single values that come in from outside, with errors that say what was expected."""

from __future__ import annotations

import io
import itertools
import logging
import warnings
import zipfile
import zlib
from collections.abc import Callable, Collection
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from consistent_gen.errors import InputError, LimitError, UnknownNameError
from consistent_gen.registry import nearest

if TYPE_CHECKING:
    from PIL import Image

logger = logging.getLogger(__name__)

PICTURE_FORMATS = ("PNG", "JPEG", "WEBP")  # of a user's own pictures

# What reading a ZIP archive raises when it is damaged or of a kind that is not read.
BROKEN_ZIP = (
    zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, EOFError, NotImplementedError,
    RuntimeError,
)  # fmt: skip
_MOST_LISTED = 2000  # entries of a folder that are compared


def missing_file(path: Path, suffixes: Collection[str] = ()) -> InputError:
    """The error for a file that is not there, with the one that looks most like it.

    suffixes: of files that can be meant (".yaml"); none: any.
    """
    guess = nearest_file(path, suffixes)
    if guess is not None:
        same = guess.parent == path.parent
        hint = f"; did you mean {str(guess.name if same else guess)!r}?"
    else:
        folder = f"; the folder {str(path.parent)[:80]!r} does not exist either"
        hint = "" if path.parent.is_dir() else folder
    return InputError("there is no such file" + hint, source=path)


def nearest_file(path: Path, suffixes: Collection[str] = ()) -> Path | None:
    """The file whose path looks most like `path`, folder by folder; None when none does."""
    try:
        parent: Path | None = path.parent
        if not path.parent.is_dir():
            parent = _nearest_entry(path.parent, lambda entry: entry.is_dir())
        if parent is None:
            return None
        return _nearest_entry(
            parent / path.name,
            lambda entry: entry.is_file() and (not suffixes or entry.suffix.lower() in suffixes),
        )
    except (OSError, ValueError):  # a folder that may not be read; a NUL in the path
        return None


def _nearest_entry(path: Path, fits: Callable[[Path], bool]) -> Path | None:
    if not path.parent.is_dir():
        return None
    listed = list(itertools.islice(path.parent.iterdir(), _MOST_LISTED))
    # "two friends" stands for two_friends.yaml: what is typed may lack the ending.
    names = {name: entry for entry in listed if fits(entry) for name in (entry.stem, entry.name)}
    close = nearest(path.name.replace(" ", "_"), names)
    return None if close is None else path.parent / names[close].name


def check_choice(value: object, options: tuple[str, ...] | list[str], what: str) -> None:
    """Raise ``UnknownNameError`` with the nearest name unless ``value`` is one of ``options``."""
    if value in options:
        return
    close = nearest(value, options) if isinstance(value, str) else None
    hint = f"; did you mean {close!r}?" if close else ""
    raise UnknownNameError(f"unknown {what} {value!r}; expected one of {', '.join(options)}{hint}")


def check_text(value: object, what: str, limit: int) -> None:
    """Raise unless ``value`` is a string that every backend can hold: UTF-8, no NUL, not long."""
    if not isinstance(value, str):
        raise InputError(f"{what} is a {type(value).__name__}; expected a string")
    if len(value) > limit:
        raise LimitError(f"{what} has {len(value):,} characters; the limit is {limit:,}")
    if "\x00" in value:
        raise InputError(f"{what} contains a NUL character; remove it")
    if value.isascii():
        return
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"{what} holds a lone surrogate at character {error.start}; send valid Unicode"
        ) from None


def check_time(value: datetime | None, what: str) -> None:
    """Raise unless ``value`` is ``None`` or carries a time zone."""
    if value is not None and (not isinstance(value, datetime) or value.utcoffset() is None):
        raise InputError(f"{what} is {value!r}; expected a datetime with a time zone (UTC is safe)")


def as_rgb(picture: Image.Image) -> Image.Image:
    """A picture as a viewer shows it: upright, on white where it is transparent, 8 bits of RGB.

    Of 16 bits of grey the upper eight are taken, of an animation the first frame (with a warning in
    the log).
    """
    import numpy as np
    from PIL import Image, ImageOps

    if getattr(picture, "n_frames", 1) > 1:
        logger.warning("a picture is an animation of %d frames: its first one is taken",
                       getattr(picture, "n_frames", 1))  # fmt: skip
        picture.seek(0)
    upright = ImageOps.exif_transpose(picture)
    if upright.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in upright.info:
        white = Image.new("RGBA", upright.size, "white")
        upright = Image.alpha_composite(white, upright.convert("RGBA"))
    if upright.mode.startswith("I"):  # 16 bits of grey, which `convert` would clip
        deep = np.asarray(upright, np.int64)
        upright = Image.fromarray((deep >> (8 if deep.max() > 255 else 0)).astype(np.uint8))
    return upright.convert("RGB")


def open_picture(given: Path | bytes) -> Image.Image:
    """The picture in a user's file (or its bytes), as `as_rgb`.

    Raises:
        InputError: it is none, it is damaged, or it is too large; the message lacks its subject.
    """
    from PIL import Image

    file = io.BytesIO(given) if isinstance(given, bytes) else given
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file, formats=PICTURE_FORMATS) as opened:
                return as_rgb(opened)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise InputError(f"has more than {Image.MAX_IMAGE_PIXELS:,} pixels") from None
    except (OSError, ValueError, SyntaxError, EOFError):
        raise InputError(
            "cannot be read; expected a PNG, JPEG or WebP file that a viewer opens"
        ) from None
