"""Exports: they open, show everything, give away nothing, and are the same every time."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from consistent_gen.errors import InputError, LimitError, UnknownNameError
from consistent_gen.story.book import MAX_PANELS, Book, BookPanel, Speech
from consistent_gen.story.export import FORMATS, MEDIA_TYPES, export_story, file_stem
from consistent_gen.story.layouts import LAYOUTS
from tests.every_run import or_slow
from tests.story.books import Pdf, book_of, color_of, plain_panel

HELLO = Speech(text="Hello!", x=0.3, y=0.2, tail_x=0.5, tail_y=0.6)
HMM = Speech(text="Hm...", x=0.7, y=0.2, tail_x=0.6, tail_y=0.7, thought=True)
SECRET = "zxq-prompt-words"
HOSTILE = [
    "word " * 2000,
    "W" * 5000,
    "שלום עולם, (abc) 123!",
    "مرحبا بالعالم، هذه جملة",
    "🦊🐻 👨‍👩‍👧‍👦 🏴󠁧󠁢󠁥󠁮󠁧󠁿",
    "\x00\x07\x1b[31m\u202e\u2066 evil \ud800 \uffff",
    "Z" + "\u0301\u0316" * 400,
    "</title><script>alert(1)</script> ]]> %PDF- (() \\ ) endobj",
    "\n\n\t \u00a0",
    "漢字かな한글",
]


def small_book(layout: str = "comic4", count: int = 5) -> Book:
    panels = [plain_panel(i, f"Caption {i}.", HELLO, HMM) for i in range(count)]
    return book_of(panels, layout)


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_opens_and_is_the_same_each_time(format: str) -> None:
    book = small_book()
    made = export_story(book, format)
    assert made.data == export_story(book, format).data
    assert made.media_type == MEDIA_TYPES[format]
    assert made.filename == f"two-friends.{format}"
    data = made.data
    if format == "pdf":
        assert len(Pdf(data).pages()) == 2
    elif format in ("cbz", "zip"):
        assert zipfile.ZipFile(io.BytesIO(data)).testzip() is None
    else:
        Image.open(io.BytesIO(data)).load()


def test_bytes_depend_on_nothing_but_the_book() -> None:
    program = """
import hashlib
from PIL import Image
from consistent_gen.story.book import *
from consistent_gen.story.export import FORMATS, export_story
panels = tuple(BookPanel(picture=Image.new("RGB", (32, 32), (90, i, 9)), caption="\u010caj.",
    bubbles=(Speech(text="Hi", x=.5, y=.2, tail_x=.5, tail_y=.7),)) for i in range(3))
book = Book(title="T", panels=panels)
print([hashlib.sha256(export_story(book, f).data).hexdigest() for f in FORMATS])
"""
    seen = {
        subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": seed, "TZ": zone, "PATH": "", "PYTHONPATH": root},
            cwd="/",
        ).stdout
        for seed, zone in (("1", "UTC"), ("77", "Asia/Tokyo"))
        for root in [str(Path(__file__).resolve().parents[2])]
    }
    assert len(seen) == 1 and "[" in seen.pop()


def test_exports_at_the_same_time_do_not_disturb_each_other() -> None:
    books = [small_book(layout) for layout in list(LAYOUTS)[:3]]
    alone = [export_story(book, "pdf").data for book in books]
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(lambda book: export_story(book, "pdf").data, books * 2))
    assert together == alone * 2


COUNTS = [(layout, count) for count in (1, 13) for layout in LAYOUTS]


@pytest.mark.parametrize("case", or_slow(COUNTS, [*COUNTS[: len(LAYOUTS)], ("comic4", 13)]))
def test_pdf_pages_and_pictures(case: tuple[str, int]) -> None:
    layout, count = case
    book = small_book(layout, count)
    pdf = Pdf(export_story(book, "pdf").data)
    sizes = pdf.pages()
    assert len(set(sizes)) == 1 and all(72 < side < 1200 for size in sizes for side in size)
    pictures = pdf.of(rb"/Subtype\s*/Image")
    assert len(pictures) == count + LAYOUTS[layout].cover


def test_pdf_text_is_text_with_embedded_fonts_and_no_time() -> None:
    data = export_story(small_book(), "pdf").data
    pdf = Pdf(data)
    assert pdf.of(rb"/FontFile2") and pdf.of(rb"/ToUnicode")
    assert not re.search(rb"/(CreationDate|ModDate|ID)\b", data)
    assert b"/JavaScript" not in data and b"/URI" not in data


@pytest.mark.skipif(shutil.which("pdftotext") is None, reason="needs poppler's pdftotext")
def test_pdf_text_can_be_selected_in_reading_order(tmp_path: Path) -> None:
    file = tmp_path / "book.pdf"
    file.write_bytes(export_story(small_book(count=2), "pdf").data)
    done = subprocess.run(
        ["pdftotext", "-raw", str(file), "-"], capture_output=True, text=True, check=True
    )
    words = " ".join(done.stdout.split())
    assert words.startswith("Two Friends")
    places = [words.index(part) for part in ("Hello!", "Hm...", "Caption 0.", "Caption 1.")]
    assert places == sorted(places)


@pytest.mark.skipif(shutil.which("pdftoppm") is None, reason="needs poppler's pdftoppm")
def test_pdf_shows_what_the_png_shows(tmp_path: Path) -> None:
    book = small_book(count=4)
    file = tmp_path / "book.pdf"
    file.write_bytes(export_story(book, "pdf").data)
    page = tmp_path / "page"
    subprocess.run(
        ["pdftoppm", "-r", "150", "-png", "-singlefile", str(file), str(page)], check=True
    )
    ours = Image.open(io.BytesIO(export_story(book, "png").data)).convert("L").resize((124, 140))
    theirs = Image.open(page.with_suffix(".png")).convert("L").resize((124, 140))
    differences = [abs(a - b) for a, b in zip(ours.tobytes(), theirs.tobytes(), strict=True)]
    assert sum(differences) / len(differences) < 4


@pytest.mark.parametrize("layout", or_slow(LAYOUTS, ["comic4", "grid"]))
def test_png_shows_every_panel(layout: str) -> None:
    book = book_of([plain_panel(i) for i in range(5)], layout)
    picture = Image.open(io.BytesIO(export_story(book, "png").data))
    colors = {color for _, color in picture.getcolors(1 << 24) or []}
    assert {color_of(i) for i in range(5)} <= colors


def test_png_of_the_longest_book_stays_within_bounds() -> None:
    book = book_of([plain_panel(i % 9, size=(8, 8)) for i in range(MAX_PANELS)], "picture-book")
    picture = Image.open(io.BytesIO(export_story(book, "png").data))
    assert picture.width * picture.height <= 16_000_000


def test_cbz_has_numbered_pages_and_comic_info() -> None:
    book = book_of([plain_panel(i) for i in range(5)], title="A <B> & C")
    archive = zipfile.ZipFile(io.BytesIO(export_story(book, "cbz").data))
    assert archive.namelist() == ["ComicInfo.xml", "001.jpg", "002.jpg"]
    info = ElementTree.fromstring(archive.read("ComicInfo.xml"))
    assert info.findtext("Title") == "A <B> & C" and info.findtext("PageCount") == "2"
    for name in archive.namelist()[1:]:
        Image.open(io.BytesIO(archive.read(name))).verify()
    assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_gif_shows_the_panels_in_order_for_as_long_as_reading_takes() -> None:
    panels = [plain_panel(0), plain_panel(1, "words " * 20), plain_panel(2)]
    gif = Image.open(io.BytesIO(export_story(book_of(panels), "gif").data))
    assert getattr(gif, "n_frames", 1) == 3 and gif.info["loop"] == 0
    durations = []
    for i in range(3):
        gif.seek(i)
        durations.append(gif.info["duration"])
        middle = gif.convert("RGB").getpixel((gif.width // 2, gif.width // 2))
        assert isinstance(middle, tuple)
        assert all(abs(a - b) <= 4 for a, b in zip(middle, color_of(i), strict=True))
    assert durations[0] == durations[2] < durations[1] <= 6000


@pytest.mark.parametrize("format", [name for name in FORMATS if name != "zip"])
def test_prompts_and_seeds_stay_out_of_all_but_the_zip(format: str) -> None:
    metadata = {"prompt": SECRET, "seed": 7}
    panel = BookPanel(picture=Image.new("RGB", (32, 32)), metadata=metadata, png=SECRET.encode())
    assert SECRET.encode() not in export_story(book_of([panel]), format).data


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_breaks_an_export(text: str) -> None:
    speech = Speech(text=text, x=0.5, y=0.5, tail_x=0.5, tail_y=0.5)
    panels = [plain_panel(0, text, speech), plain_panel(1, "ok")]
    book = Book(title=text, panels=tuple(panels), layout="comic6", made_with=text[:300])
    assert len(Pdf(export_story(book, "pdf").data).pages()) == 1
    Image.open(io.BytesIO(export_story(book, "gif").data)).load()
    manifest = zipfile.ZipFile(io.BytesIO(export_story(book, "zip").data)).read("story.json")
    assert json.loads(manifest)["frames"][0]["caption"] == text
    info = zipfile.ZipFile(io.BytesIO(export_story(book, "cbz").data)).read("ComicInfo.xml")
    ElementTree.fromstring(info)


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=300))
def test_file_names_are_plain(title: str) -> None:
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", file_stem(title))


def test_what_cannot_be_exported_is_refused_with_reasons() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown export format 'pfd'.*'pdf'"):
        export_story(small_book(), "pfd")
    with pytest.raises(UnknownNameError, match=r"unknown layout 'comic5'.*comic4"):
        small_book("comic5")
    with pytest.raises(InputError, match="no pictures yet"):
        book_of([])
    with pytest.raises(LimitError, match="at most 200"):
        book_of([plain_panel()] * 201)
    with pytest.raises(LimitError, match=r"picture 1 has 7 bubbles; at most 6"):
        book_of([plain_panel(0, "", *[HELLO] * 7)])
    with pytest.raises(InputError, match=r"picture 1: a bubble's place is 1.5; expected 0 to 1"):
        book_of([plain_panel(0, "", Speech(text="x", x=1.5, y=0))])
    with pytest.raises(InputError, match="needs both tail_x and tail_y"):
        book_of([plain_panel(0, "", Speech(text="x", x=0.5, y=0, tail_x=0.5))])


@pytest.mark.slow
@pytest.mark.parametrize("format", FORMATS)
def test_the_longest_book(format: str) -> None:
    panels = [plain_panel(i % 9, f"Caption {i}", HELLO, size=(16, 16)) for i in range(MAX_PANELS)]
    data = export_story(book_of(panels, "grid"), format).data
    assert 1000 < len(data) < 100 << 20
    if format == "pdf":
        assert len(Pdf(data).pages()) == 17
