"""Larger prints: size, colours, places, borders, bytes, limits, and what a missing extra says."""

from __future__ import annotations

import importlib.util
import io
import re
import zipfile
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from consistent_gen.errors import InputError, LimitError, MissingExtraError
from consistent_gen.story.enlarge import MAX_PIXELS, check_enlarging, enlarged, enlarged_book
from consistent_gen.story.export import export_story
from tests.story.books import Pdf, book_of, plain_panel


def shapes(size: int = 48) -> Image.Image:
    picture = Image.new("RGB", (size, size - 8), (200, 220, 240))
    draw = ImageDraw.Draw(picture)
    draw.ellipse((8, 6, 30, 28), fill=(180, 40, 40))
    draw.rectangle((34, 12, 42, 32), fill=(30, 90, 50))
    return picture


@pytest.mark.parametrize("factor", [2, 4])
def test_the_picture_is_the_same_and_larger(factor: int) -> None:
    picture = shapes()
    large = enlarged(picture, factor)
    assert large.size == (48 * factor, 40 * factor)
    back = np.asarray(large.resize(picture.size, Image.Resampling.BOX), dtype=float)
    wanted = np.asarray(picture, dtype=float)
    off = np.abs(back - wanted).mean()
    # Colours of large areas agree, also at the border, where the network would pad with black.
    assert np.abs(back - wanted)[:4].mean() < 2.0 and np.abs(back - wanted)[:, -4:].mean() < 2.0
    assert off < 0.6 * np.abs(np.roll(back, 1, axis=1) - wanted).mean()
    assert off < 0.3 * np.abs(back[..., ::-1] - wanted).mean()
    assert enlarged(picture, factor).tobytes() == large.tobytes()


def test_a_sharp_edge_stays_sharp() -> None:
    def steepest(picture: Image.Image) -> float:
        row = np.asarray(picture.convert("L"), dtype=float)[picture.height // 2]
        return float(np.abs(np.diff(row)).max())

    picture = shapes()
    smooth = picture.resize((192, 160), Image.Resampling.BICUBIC)
    assert steepest(enlarged(picture, 4)) > 1.5 * steepest(smooth)


def test_hard_pixels_become_squares() -> None:
    picture = shapes()
    large = np.asarray(enlarged(picture, 4, pixelated=True))
    assert np.array_equal(large[1::4, 2::4], np.asarray(picture))


def test_bounds() -> None:
    with pytest.raises(InputError, match="3; expected 2 or 4"):
        enlarged(shapes(), 3)
    with pytest.raises(LimitError, match="4 times"):
        enlarged(Image.new("RGB", (2100, 100)), 4)
    with pytest.raises(LimitError, match="at most"):
        enlarged(Image.new("RGB", (MAX_PIXELS // 1000 + 1, 1000)), 2)
    many = book_of([plain_panel(i, size=(1400, 1400)) for i in range(17)])
    with pytest.raises(LimitError, match="after enlarging"):
        enlarged_book(many, 4)


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def without(name: str, *rest: Any) -> Any:
        return None if name == "ncnn" else found(name, *rest)

    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", without)
    with pytest.raises(MissingExtraError, match=r"pip install 'consistent-gen\[enlarge\]'"):
        check_enlarging(2)


def test_a_book_is_printed_finer_and_keeps_its_frames() -> None:
    panels = [plain_panel(i, f"Caption {i}.", size=(64, 48), pixelated=i == 1) for i in range(2)]
    book = book_of(panels)
    fine = enlarged_book(book, 4)
    assert [panel.picture.size for panel in fine.panels] == [(256, 192)] * 2
    plain, printed = (
        max(w for w, _ in _pictures(export_story(b, "pdf").data)) for b in (book, fine)
    )
    assert printed >= 1.45 * plain  # 300 dots per inch against 200
    with zipfile.ZipFile(io.BytesIO(export_story(fine, "zip").data)) as archive:
        sizes = {
            name: Image.open(io.BytesIO(archive.read(name))).size
            for name in archive.namelist()
            if name.endswith(".png")
        }
    assert sizes["frames/00.large.png"] == (256, 192)


def _pictures(data: bytes) -> list[tuple[int, int]]:
    found = [
        re.findall(rb"/(?:Width|Height) (\d+)", o) for o in Pdf(data).of(rb"/Subtype\s*/Image")
    ]
    return [(int(a), int(b)) for a, b in found]
