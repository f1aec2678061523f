"""Pictures that users give are read as a viewer shows them, whatever their format."""

from __future__ import annotations

import io
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from consistent_gen.inputs import as_rgb, open_picture
from consistent_gen.rewards.files import read_file


def stored(picture: Image.Image, kind: str = "PNG", **more: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **more)
    return file.getvalue()


def test_a_phones_picture_is_upright() -> None:
    wide = Image.new("RGB", (40, 20), "red")
    wide.paste("blue", (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    found = open_picture(stored(wide, "JPEG", exif=exif, quality=95))
    assert found.size == (20, 40)
    assert np.asarray(found)[5, 10, 2] > 200 > 50 > np.asarray(found)[35, 10, 2]


def test_what_is_transparent_is_white() -> None:
    for mode in ("RGBA", "LA", "PA"):
        clear = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
        clear.paste((255, 0, 0, 255) if mode == "RGBA" else (90, 90, 90, 255), (0, 0, 4, 8))
        found = np.asarray(as_rgb(clear.convert(mode)))
        assert found.shape == (8, 8, 3) and (found[:, 4:] == 255).all()
        assert (found[:, :4] != 255).any()
    palette = Image.new("P", (8, 8), 0)
    palette.putpalette([0, 0, 0, 200, 0, 0])
    found = np.asarray(open_picture(stored(palette, transparency=0)))
    assert (found == 255).all()


def test_sixteen_bits_grey_and_cmyk() -> None:
    deep = Image.fromarray(np.full((8, 8), 0x8000, np.uint16))
    assert (np.asarray(open_picture(stored(deep))) == 0x80).all()
    assert (np.asarray(as_rgb(Image.new("L", (8, 8), 77))) == 77).all()
    ink = Image.new("CMYK", (8, 8), (0, 0, 0, 0))
    assert (np.asarray(open_picture(stored(ink, "JPEG"))) >= 254).all()


def test_of_an_animation_the_first_frame_is_taken_and_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "green")]
    data = stored(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    with caplog.at_level(logging.WARNING):
        assert np.asarray(open_picture(data))[0, 0].tolist() == [255, 0, 0]
    assert "an animation of 3 frames: its first one is taken" in caplog.text


def test_what_is_scored_is_read_the_same(tmp_path: Path) -> None:
    clear = Image.new("RGBA", (40, 40), (0, 0, 0, 0))
    clear.paste((255, 0, 0, 255), (0, 0, 20, 40))
    (tmp_path / "one.png").write_bytes(stored(clear))
    found = read_file(tmp_path / "one.png").picture
    assert found is not None
    assert np.array_equal(found, np.asarray(open_picture(tmp_path / "one.png")))
