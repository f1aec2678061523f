from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from consistent_gen.draw_settings import DrawSettings
from consistent_gen.engine import Engine, FrameDone, FrameRequest, read_png, write_png
from consistent_gen.engine.metadata import MAX_FILE_BYTES, parameters_text
from consistent_gen.errors import InputError, LimitError
from consistent_gen.models.backbone import Backbone

REQUEST = FrameRequest(
    prompt="a red fox",
    negative="a hat",
    seed=3,
    story={"title": "Zoë", "index": 4},
    settings=DrawSettings(steps=2),
)


@pytest.fixture(scope="module")
def drawn(tiny: Backbone) -> FrameDone:
    (done,) = [e for e in Engine(tiny).run([REQUEST]) if isinstance(e, FrameDone)]
    return done


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def with_text(source: Path, target: Path, text: str, compressed: bool = False) -> Path:
    """A copy of a PNG in which our text chunk says something else."""
    content = source.read_bytes()
    start = content.index(b"iTXtconsistent_gen") - 4
    (length,) = struct.unpack(">I", content[start : start + 4])
    data = zlib.compress(text.encode()) if compressed else text.encode()
    flags = b"\1\0" if compressed else b"\0\0"
    fresh = chunk(b"iTXt", b"consistent_gen\0" + flags + b"\0\0" + data)
    target.write_bytes(content[:start] + fresh + content[start + 12 + length :])
    return target


@pytest.fixture
def png(drawn: FrameDone, tmp_path: Path) -> Path:
    write_png(tmp_path / "frame.png", drawn.image, drawn.metadata)
    return tmp_path / "frame.png"


def test_round_trip(drawn: FrameDone, png: Path) -> None:
    image, metadata = read_png(png)
    assert np.array_equal(image, drawn.image)
    assert metadata == drawn.metadata
    assert metadata["story"] == {"title": "Zoë", "index": 4}


def test_equal_frames_make_equal_files(drawn: FrameDone, png: Path, tiny: Backbone) -> None:
    (again,) = [e for e in Engine(tiny).run([REQUEST]) if isinstance(e, FrameDone)]
    write_png(png.with_name("again.png"), again.image, again.metadata)
    assert png.read_bytes() == png.with_name("again.png").read_bytes()
    assert sorted(p.name for p in png.parent.iterdir()) == ["again.png", "frame.png"]


def test_people_can_read_the_settings(drawn: FrameDone, png: Path) -> None:
    with Image.open(png) as picture:
        text = picture.text["parameters"]  # type: ignore[attr-defined]
    assert text == parameters_text(drawn.metadata)
    assert text.splitlines()[:2] == ["a red fox", "Negative prompt: a hat"]
    assert "Steps: 2, Sampler: ddim, CFG scale: 5.0, Seed: 3, Size: 128x128" in text


def test_files_that_are_not_ours(png: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain.png"
    Image.new("RGB", (4, 4)).save(plain)
    with pytest.raises(InputError, match="no 'consistent_gen' text chunk"):
        read_png(plain)
    Image.new("RGB", (4, 4)).save(tmp_path / "photo.jpg")
    with pytest.raises(InputError, match="not a PNG"):
        read_png(tmp_path / "photo.jpg")
    with pytest.raises(InputError, match="no such file"):
        read_png(tmp_path / "none.png")
    with pytest.raises(InputError):
        read_png(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"schema": 2}', "[" * 100_000, "null"])
def test_text_that_is_not_ours(png: Path, text: str) -> None:
    with pytest.raises(InputError):
        read_png(with_text(png, png.with_name("other.png"), text))


@pytest.mark.parametrize("compressed", [True, False])
def test_long_text_is_refused(png: Path, compressed: bool) -> None:
    bomb = with_text(png, png.with_name("bomb.png"), "a" * (70 << 20 >> 1), compressed)
    assert bomb.stat().st_size < MAX_FILE_BYTES
    with pytest.raises(InputError):
        read_png(bomb)


@pytest.mark.parametrize("side", [6_000, 60_000, 2**31 - 1])
def test_huge_pictures_are_refused_before_decoding(tmp_path: Path, side: int) -> None:
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    tiny_data = chunk(b"IDAT", zlib.compress(b"\0"))
    bomb = tmp_path / "bomb.png"
    bomb.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + tiny_data + chunk(b"IEND", b"")
    )
    with pytest.raises(InputError, match=r"pixels|limit"):
        read_png(bomb)


def test_a_huge_file_is_refused_unread(tmp_path: Path) -> None:
    sparse = tmp_path / "sparse.png"
    with sparse.open("wb") as stream:
        stream.truncate(MAX_FILE_BYTES + 1)
    with pytest.raises(LimitError, match="64 MiB"):
        read_png(sparse)


@given(
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=6),
    st.integers(0, 10**6),
)
@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_damaged_files_are_read_or_refused(
    png: Path, changes: list[tuple[int, int]], cut: int
) -> None:
    content = bytearray(png.read_bytes())
    for place, value in changes:
        # Half of the changes go where the structure is.
        content[place % (len(content) if place % 2 else 200)] = value
    if cut % 3 == 0:
        del content[cut % len(content) :]
    damaged = png.with_name("damaged.png")
    damaged.write_bytes(content)
    try:
        image, metadata = read_png(damaged)
    except InputError as error:
        assert "damaged.png" in str(error)
    else:
        assert image.dtype == np.uint8
        assert metadata["schema"] == 1
