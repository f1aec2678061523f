"""Pictures that come from outside: what they are, and how good they are as a reference."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from dataclasses import dataclass

import numpy as np
from PIL import Image, UnidentifiedImageError

from consistent_gen.client.types import Quality
from consistent_gen.errors import InputError, LimitError

MEDIA_TYPES = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}
SMALL_SIDE = 64  # pixels; less is poor
GOOD_SIDE = 128
# Variance of the Laplacian (of values in 0..255, longer side 256) of a picture in focus; from
# there on more means texture or noise, not sharpness.
SHARP_VARIANCE = 300.0
BLURRED = 0.08
SOFT = 0.25
DARK, BRIGHT = 0.12, 0.95
_MEASURED_SIDE = 256
_DAMAGED = (
    UnidentifiedImageError, OSError, ValueError, SyntaxError, EOFError, struct.error, zlib.error,
    IndexError, KeyError, TypeError, OverflowError,
)  # fmt: skip


@dataclass(frozen=True)
class CheckedPicture:
    """Checked bytes of a picture, its media type, and what we think of it as a reference."""

    data: bytes
    media_type: str
    quality: Quality


def read_picture(data: bytes, *, max_pixels: int = 32_000_000) -> CheckedPicture:
    """Check that ``data`` is a whole PNG, JPEG or WebP picture, decided by its content.

    Raises:
        InputError: another format, or damaged.
        LimitError: more than ``max_pixels``, read from the header before decoding.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # our own limit is below Pillow's warning or above it
            with Image.open(io.BytesIO(data), formats=list(MEDIA_TYPES)) as picture:
                width, height = picture.size
                if width * height > max_pixels:
                    raise LimitError(
                        f"the picture is {width} x {height}; at most {max_pixels:,} pixels are "
                        "read, scale it down"
                    )
                media_type = MEDIA_TYPES[picture.format or ""]
                picture.load()
                quality = assess(picture)
    except Image.DecompressionBombError:
        raise LimitError("the picture has far too many pixels; scale it down") from None
    except LimitError:
        raise
    except _DAMAGED:
        raise InputError("not a whole PNG, JPEG or WebP picture; save it anew") from None
    return CheckedPicture(data, media_type, quality)


def assess(picture: Image.Image) -> Quality:
    """How well ``picture`` can serve as the reference of a character, with advice."""
    width, height = picture.size
    grey = picture.convert("L")
    # Sharpness is judged at one size, so that a large soft picture is not mistaken for a sharp one.
    grey.thumbnail((_MEASURED_SIDE, _MEASURED_SIDE), Image.Resampling.BOX)
    values = np.asarray(grey, dtype=np.float64)
    sharpness = min(1.0, _laplacian_variance(values) / SHARP_VARIANCE)
    brightness = float(values.mean()) / 255.0
    side = min(width, height)
    poor = _faults(side < SMALL_SIDE, sharpness < BLURRED, brightness < DARK, brightness > BRIGHT)
    weak = _faults(side < GOOD_SIDE, sharpness < SOFT, False, False)
    return Quality(
        width=width,
        height=height,
        sharpness=round(sharpness, 4),
        brightness=round(brightness, 4),
        verdict="poor" if poor else "usable" if weak else "good",
        advice=poor or weak,
    )


def _faults(small: bool, blurred: bool, dark: bool, bright: bool) -> list[str]:
    said = {
        f"use a picture of at least {GOOD_SIDE} pixels on its shorter side": small,
        "use a sharper picture, in focus and without motion": blurred,
        "use a brighter picture": dark,
        "use a picture that is not overexposed or almost white": bright,
    }
    return [advice for advice, applies in said.items() if applies]


def _laplacian_variance(values: np.ndarray) -> float:
    if min(values.shape) < 3:
        return 0.0
    middle = values[1:-1, 1:-1]
    around = values[:-2, 1:-1] + values[2:, 1:-1] + values[1:-1, :-2] + values[1:-1, 2:]
    return float((around - 4.0 * middle).var())
