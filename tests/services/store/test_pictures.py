"""Pictures from outside: what is read, and the opinion about references."""

from __future__ import annotations

import contextlib
import io
import struct
import zlib

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from PIL import Image, ImageDraw, ImageFilter

from consistent_gen.errors import InputError, LimitError
from services.store.pictures import read_picture


def sharp(side: int = 256) -> Image.Image:
    picture = Image.new("RGB", (side, side), (90, 140, 190))
    draw = ImageDraw.Draw(picture)
    for step in range(0, side, max(2, side // 16)):
        draw.line((step, 0, side - step, side), fill=(240, 220, 60), width=max(1, side // 64))
    return picture


def saved(picture: Image.Image, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_formats_are_told_by_content(kind: str) -> None:
    data = saved(sharp(), kind)
    found = read_picture(data)
    assert found.data == data and found.media_type == f"image/{kind.lower()}"
    assert (found.quality.width, found.quality.height, found.quality.verdict) == (256, 256, "good")
    assert found.quality.advice == []


@pytest.mark.parametrize(
    ("picture", "verdict", "word"),
    [
        (sharp(40), "poor", "128 pixels"),
        (sharp(100), "usable", "128 pixels"),
        (sharp().filter(ImageFilter.GaussianBlur(12)), "poor", "sharper"),
        (sharp().point(lambda value: value // 12), "poor", "brighter"),
        (Image.new("RGB", (256, 256), "white"), "poor", "overexposed"),
    ],
)
def test_a_weak_reference_comes_with_advice(picture: Image.Image, verdict: str, word: str) -> None:
    quality = read_picture(saved(picture)).quality
    assert quality.verdict == verdict
    assert any(word in line for line in quality.advice), quality.advice


def test_more_blur_is_judged_less_sharp() -> None:
    judged = [
        read_picture(saved(sharp().filter(ImageFilter.GaussianBlur(radius)))).quality.sharpness
        for radius in (1.0, 1.5, 2.0, 3.0, 4.0)
    ]
    assert judged == sorted(judged, reverse=True) and judged[0] > 2 * judged[-1]


def huge_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [10_000, 30_000])
def test_too_many_pixels_are_refused_by_the_header(side: int) -> None:
    with pytest.raises(LimitError, match="pixels"):
        read_picture(huge_header(side, side))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"https://example.com/picture.png",
        b"\x80\x04\x95pickle",
        saved(sharp(64), "GIF"),
        saved(sharp(64), "TIFF"),
        saved(sharp())[:500],
        huge_header(64, 64),
    ],
)
def test_what_is_no_picture_is_refused(data: bytes) -> None:
    with pytest.raises(InputError, match="PNG, JPEG or WebP"):
        read_picture(data)


@settings(max_examples=60)
@given(at=st.floats(0, 1), noise=st.binary(min_size=1, max_size=20))
def test_damage_is_survived(at: float, noise: bytes) -> None:
    data = bytearray(saved(sharp(64)))
    place = int(at * len(data))
    data[place : place + len(noise)] = noise
    with contextlib.suppress(InputError, LimitError):
        read_picture(bytes(data))
