"""What clients hand in, judged before any of it is decoded, stored or shown.

Pictures: the format is told by content (PNG, JPEG, WebP), the size is read from the header before
anything is decoded, and what is kept is drawn anew from the pixels: turned upright, without
metadata (no GPS), without whatever else the file carried. Nothing is ever fetched from an address.
Texts: characters that no honest text has are refused; names may have no control characters at all.
"""

from __future__ import annotations

import io
import struct
import threading
import unicodedata
import warnings
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from PIL import Image, ImageOps, UnidentifiedImageError
from pydantic import BaseModel
from starlette.datastructures import UploadFile
from starlette.requests import Request

from services.errors import Refusal

MAX_SIDE = 16_384  # pixels
MIN_SIDE = 8
PILLOW_PIXELS = 40_000_000  # what Pillow itself refuses, for all servers of the process
MAX_FIELDS = 8
MAX_FIELD_BYTES = 16 << 10
DECODERS = 2  # pictures decoded at once; each may take several hundred megabytes
# Keys of bodies whose values are names: shown in lists, menus and files.
NAME_KEYS = frozenset({"name", "title", "style", "method", "scheduler", "layout", "size"})
_SIGNATURES = {"PNG": b"\x89PNG\r\n\x1a\n", "JPEG": b"\xff\xd8\xff"}
_MEDIA_TYPES = {"PNG": "image/png", "JPEG": "image/jpeg"}
_DAMAGED = (
    UnidentifiedImageError, OSError, ValueError, SyntaxError, EOFError, struct.error, zlib.error,
    IndexError, KeyError, TypeError, OverflowError,
)  # fmt: skip
_BOMBS = (Image.DecompressionBombWarning, Image.DecompressionBombError)
# Characters that reorder or hide what stands around them.
_INVISIBLE = frozenset("\u061c\u200e\u200f\u2028\u2029\ufeff") | frozenset(
    map(chr, (*range(0x202A, 0x202F), *range(0x2066, 0x206A), *range(0xFFF9, 0xFFFC)))
)
_Model = TypeVar("_Model", bound=BaseModel)


@dataclass(frozen=True)
class CleanPicture:
    """A picture that is safe to keep: `data` was made by us from the pixels alone."""

    data: bytes
    media_type: str
    width: int
    height: int


class PictureIntake:
    """Reads pictures of at most `max_pixels`; a few at once, the others wait."""

    def __init__(self, max_pixels: int) -> None:
        self.max_pixels = max_pixels
        self._decoders = threading.BoundedSemaphore(DECODERS)
        # Our own check comes first; these make Pillow refuse too, wherever else it is used.
        Image.MAX_IMAGE_PIXELS = max(max_pixels, PILLOW_PIXELS)
        warnings.filterwarnings("error", category=Image.DecompressionBombWarning)

    def read(self, data: bytes) -> CleanPicture:
        """The picture in `data`, drawn anew.

        Raises:
            Refusal: 415 for another format, 413 for too many pixels, 422 for a damaged file.
        """
        kind = sniff(data)
        with self._decoders:
            try:
                self._check(data, kind)
                with Image.open(io.BytesIO(data), formats=[kind]) as picture:
                    upright = _opaque(ImageOps.exif_transpose(picture))
            except _BOMBS:
                raise self._too_large() from None
            except _DAMAGED:
                raise Refusal(422, "damaged", f"the {kind} file is damaged; save it anew") from None
            # Photographs stay JPEG: as PNG they would be ten times as large.
            written = "JPEG" if kind == "JPEG" else "PNG"
            return CleanPicture(
                _encode(upright, written), _MEDIA_TYPES[written], upright.width, upright.height
            )

    def _check(self, data: bytes, kind: str) -> None:
        with Image.open(io.BytesIO(data), formats=[kind]) as picture:
            width, height = picture.size
            if width * height > self.max_pixels or max(width, height) > MAX_SIDE:
                raise self._too_large()
            if min(width, height) < MIN_SIDE:
                raise Refusal(422, "too_small", f"a picture needs {MIN_SIDE} pixels on each side")
            if kind != "JPEG" and getattr(picture, "n_frames", 1) > 1:
                raise Refusal(415, "unsupported_media", "moving pictures are not read; send one")
            picture.verify()

    def _too_large(self) -> Refusal:
        return Refusal(
            413,
            "too_many_pixels",
            f"the picture is larger than {self.max_pixels:,} pixels or {MAX_SIDE:,} on one side; "
            "scale it down",
        )


def sniff(data: bytes) -> str:
    """ "PNG", "JPEG" or "WEBP" by the first bytes. Raises ``Refusal`` (415) for anything else."""
    for kind, signature in _SIGNATURES.items():
        if data.startswith(signature):
            return kind
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    start = data[:256].lstrip().lower()
    hint = ""
    if start.startswith((b"<svg", b"<?xml", b"<!doctype svg")):
        hint = "; SVG can hold programs, save it as PNG"
    elif start.startswith((b"http:", b"https:", b"file:", b"data:")):
        hint = "; addresses are never fetched, send the file itself"
    raise Refusal(415, "unsupported_media", f"expected a PNG, JPEG or WebP file{hint}")


async def uploaded(request: Request, *, field: str = "file") -> bytes:
    """The bytes of the one file of a multipart form. Raises as `form_of`."""
    data, _ = await form_of(request, field=field)
    return data


async def form_of(request: Request, *, field: str) -> tuple[bytes, dict[str, str]]:
    """The one file of a multipart form and the short texts beside it.

    Raises:
        Refusal: there is no such file, or a text stands in its place.
        HTTPException: 400 for too many parts or a form that cannot be read.
    """
    async with request.form(
        max_files=1, max_fields=MAX_FIELDS, max_part_size=MAX_FIELD_BYTES
    ) as form:
        value = form.get(field)
        if not isinstance(value, UploadFile):
            said = "addresses and paths are not read" if isinstance(value, str) else "none came"
            raise Refusal(422, "no_file", f"the form needs a file in the field {field!r}; {said}")
        texts = {name: text for name, text in form.items() if isinstance(text, str)}
        return await value.read(), texts


def readable(body: _Model) -> _Model:
    """`body` itself. Raises ``ValueError`` (pydantic makes it a 422) for texts that hide things."""
    _check_texts(body.model_dump(mode="json", warnings=False), "", name=False)
    return body


def check_text(text: str, place: str, *, name: bool) -> None:
    """Raise ``ValueError`` for control characters, and in names for whatever reorders text."""
    for character in text:
        category = unicodedata.category(character)
        if category == "Cs":
            raise ValueError(f"{place} is not valid Unicode (a lone surrogate)")
        if category == "Cc" and (name or character not in "\n\r\t"):
            raise ValueError(f"{place} has a control character (U+{ord(character):04X})")
        if name and character in _INVISIBLE:
            raise ValueError(f"{place} has an invisible character (U+{ord(character):04X})")


def _check_texts(value: Any, place: str, *, name: bool) -> None:
    if isinstance(value, str):
        check_text(value, place or "text", name=name)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            # The keys of `characters` are names themselves; all other keys are ours.
            check_text(str(key), "a name", name=True)
            shown = "(name)" if place == "characters" else str(key)
            _check_texts(item, shown, name=key in NAME_KEYS)
    elif isinstance(value, Sequence):
        for item in value:
            _check_texts(item, place, name=name)


def _opaque(picture: Image.Image) -> Image.Image:
    """RGB; what is transparent becomes white, 16 bits become 8."""
    if picture.mode.startswith("I;16"):
        return picture.point(lambda value: value / 256).convert("L").convert("RGB")
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        layer = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return picture.convert("RGB")


def _encode(picture: Image.Image, kind: str) -> bytes:
    clean = Image.frombytes("RGB", picture.size, picture.tobytes())
    buffer = io.BytesIO()
    if kind == "JPEG":
        clean.save(buffer, "JPEG", quality=95, subsampling=0)
    else:
        clean.save(buffer, "PNG", compress_level=6)
    return buffer.getvalue()
