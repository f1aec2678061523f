"""Pictures from outside: what is refused, and what is left of those that are kept."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib

import httpx
import pytest
from PIL import Image

from consistent_gen.client import Client
from tests.services.web.answers import problem, upload


def png_of_size(width: int, height: int) -> bytes:
    """A PNG that announces a size and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(b"\0" * 1000)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


def saved(kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture = Image.new("RGB", (64, 48), "red")
    picture.paste("blue", (0, 0, 32, 48))
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def moving(kind: str) -> bytes:
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "blue")]
    buffer = io.BytesIO()
    frames[0].save(buffer, kind, save_all=True, append_images=frames[1:])
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (png_of_size(20_000, 10_000), 413, "too_many_pixels"),
        (png_of_size(8_000, 5_000), 413, "too_many_pixels"),
        (png_of_size(2_000_000, 10), 413, "too_many_pixels"),
        (png_of_size(500, 500), 422, "damaged"),
        (png_of_size(0, 10), 422, None),
        (saved("PNG")[:100], 422, "damaged"),
        (saved("JPEG")[:200], 422, "damaged"),
        (saved("GIF"), 415, "unsupported_media"),
        (saved("BMP"), 415, "unsupported_media"),
        (saved("TIFF"), 415, "unsupported_media"),
        (moving("PNG"), 415, "unsupported_media"),
        (moving("WEBP"), 415, "unsupported_media"),
        (b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>", 415, "unsupported_media"),
        (b"<?xml version='1.0'?><svg/>", 415, "unsupported_media"),
        (b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00.", 415, "unsupported_media"),
        (b"PK\x03\x04" + b"\0" * 100, 415, "unsupported_media"),
        (b"%PDF-1.7\n" + saved("PNG"), 415, "unsupported_media"),
        (b"<html>" + saved("JPEG"), 415, "unsupported_media"),
        (b"", 415, "unsupported_media"),
        (b"RIFF\x10\0\0\0WEBPVP8 ", 422, "damaged"),
    ],
    ids=lambda value: value[:12].hex() if isinstance(value, bytes) else None,
)  # fmt: skip
def test_what_is_no_honest_picture(
    raw: httpx.Client, data: bytes, status: int, code: str | None
) -> None:
    problem(upload(raw, data), status, code)


def test_a_polyglot_loses_its_other_half(raw: httpx.Client, alice: Client) -> None:
    """A PNG that is a zip with a script too is kept as a picture alone."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("evil.html", "<script>alert(1)</script>")
    polyglot = saved("PNG") + buffer.getvalue()
    assert zipfile.is_zipfile(io.BytesIO(polyglot))
    answer = upload(raw, polyglot, "evil.html")
    assert answer.status_code == 201
    kept = alice.artifact(answer.json()["id"])
    assert not zipfile.is_zipfile(io.BytesIO(kept))
    assert b"evil" not in kept
    assert Image.open(io.BytesIO(kept)).size == (64, 48)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_orientation_is_applied_and_the_place_dropped(alice: Client, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to see it upright
    exif[0x010F] = "SecretCamera"
    exif.get_ifd(0x8825)[2] = (51.0, 30.0, 0.0)
    kept = alice.artifact(alice.upload(saved(kind, exif=exif)).id)
    with Image.open(io.BytesIO(kept)) as picture:
        assert picture.size == (48, 64)
        assert not picture.getexif()
        assert "exif" not in picture.info
        top = picture.convert("RGB").getpixel((24, 8))
    assert b"SecretCamera" not in kept
    assert isinstance(top, tuple) and top[2] > 200 > top[0]  # the left half came to the top


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "I;16", "CMYK", "1"])
def test_every_kind_of_pixels_is_read(alice: Client, mode: str) -> None:
    buffer = io.BytesIO()
    Image.new(mode, (40, 30)).save(buffer, "JPEG" if mode == "CMYK" else "PNG")
    kept = alice.artifact(alice.upload(buffer.getvalue()).id)
    with Image.open(io.BytesIO(kept)) as picture:
        assert (picture.mode, picture.size) == ("RGB", (40, 30))
