"""Books on disk: the ZIP export and its way back, drawn folders, and damaged ones."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from consistent_gen.engine.metadata import write_png
from consistent_gen.errors import ConsistentGenError, InputError, LimitError
from consistent_gen.story.book import Book, Speech
from consistent_gen.story.book_folder import read_book
from consistent_gen.story.export import export_story
from tests.story.books import book_of, plain_panel

HELLO = Speech(text="Hello!", x=0.3, y=0.2, tail_x=0.5, tail_y=0.6, thought=True)
METADATA: dict[str, Any] = {
    "schema": 1, "model": {"name": "tiny", "sha256": "0" * 64}, "prompt": "a fox", "negative": "",
    "seed": 7, "steps": 2, "guidance": 1.0, "scheduler": "ddim", "width": 8, "height": 8,
    "method": "vanilla",
}  # fmt: skip


def drawn_folder(place: Path, frames: int = 2) -> Path:
    """What `consistent-gen story` leaves, without its pages."""
    (place / "frames").mkdir(parents=True)
    listed = []
    for i in range(frames):
        picture = np.full((8, 8, 3), 30 * i, dtype=np.uint8)
        write_png(place / f"frames/{i:02d}.png", picture, METADATA)
        listed.append({"path": f"frames/{i:02d}.png", "caption": f"Words {i}", "prompt": "a fox"})
    report = {"schema": "consistent_gen.story_report/1", "title": "Drawn", "method": "vanilla",
              "model": {"name": "tiny"}, "frames": listed}  # fmt: skip
    (place / "report.json").write_text(json.dumps(report))
    return place


def unpacked(book: Book, place: Path) -> Path:
    with zipfile.ZipFile(io.BytesIO(export_story(book, "zip").data)) as archive:
        assert all(not name.startswith("/") and ".." not in name for name in archive.namelist())
        archive.extractall(place)
    return place


def test_a_zip_export_comes_back_as_it_was(tmp_path: Path) -> None:
    panels = [
        plain_panel(0, "Erste Worte: čaj, 漢字 \x07", HELLO),
        plain_panel(1, "", size=(40, 24), pixelated=False),
    ]
    book = book_of(panels, "strip", title='A "quoted" title')
    back = read_book(unpacked(book, tmp_path))
    assert (back.title, back.layout, back.made_with) == (book.title, "strip", book.made_with)
    for was, now in zip(book.panels, back.panels, strict=True):
        assert (now.caption, now.bubbles, now.pixelated) == (
            was.caption,
            was.bubbles,
            was.pixelated,
        )
        assert now.picture.tobytes() == was.picture.tobytes()
    for format in ("zip", "pdf", "png"):
        assert export_story(back, format).data == export_story(book, format).data


def test_a_drawn_folder_is_read_with_its_metadata_and_bytes(tmp_path: Path) -> None:
    folder = drawn_folder(tmp_path / "drawn")
    book = read_book(folder, layout="splash")
    assert (book.title, book.layout, book.made_with) == ("Drawn", "splash", "tiny, vanilla")
    assert [panel.caption for panel in book.panels] == ["Words 0", "Words 1"]
    archive = zipfile.ZipFile(io.BytesIO(export_story(book, "zip").data))
    for i in range(2):
        name = f"frames/{i:02d}.png"
        assert archive.read(name) == (folder / name).read_bytes(), (
            "frames are handed on as they are"
        )
    manifest = json.loads(archive.read("story.json"))
    assert manifest["frames"][0]["metadata"]["prompt"] == "a fox"
    assert str(tmp_path) not in json.dumps(manifest)


def test_a_frame_without_a_file_of_its_own_is_written_with_its_metadata() -> None:
    panel = plain_panel(0)
    book = book_of([type(panel)(picture=panel.picture, metadata={"seed": 3})])
    archive = zipfile.ZipFile(io.BytesIO(export_story(book, "zip").data))
    picture = Image.open(io.BytesIO(archive.read("frames/00.png")))
    picture.load()
    assert json.loads(picture.info["consistent_gen"]) == {"seed": 3}


def change(folder: Path, **fields: Any) -> None:
    value = json.loads((folder / "report.json").read_text())
    (folder / "report.json").write_text(json.dumps(value | fields))


FRAME = {"path": "frames/00.png"}


def with_bubble(**fields: Any) -> dict[str, Any]:
    return {"frames": [FRAME | {"bubbles": [fields]}]}


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"schema": "other"}, "expected an object with schema"),
        ({"title": 5}, "title is missing or not text"),
        ({"title": "t" * 501}, "at most 500"),
        ({"frames": []}, "no pictures yet"),
        ({"frames": {}}, "frames is missing or not a list"),
        ({"frames": [3]}, "frames is missing or not a list"),
        ({"frames": [{}]}, "path is missing or not text"),
        ({"frames": [{"path": "/etc/passwd"}]}, "is no path of a frame"),
        ({"frames": [{"path": "frames/../../x.png"}]}, "is no path of a frame"),
        ({"frames": [{"path": "frames/77.png"}]}, "the frame is missing"),
        ({"frames": [FRAME] * 201}, "at most 200"),
        (with_bubble(text="x"), "x is missing"),
        (with_bubble(text="x", x=True, y=0), "not a number"),
        (with_bubble(text="x", x=9, y=0), "expected 0 to 1"),
        (with_bubble(text="x", x=1e999, y=0), "expected 0 to 1"),
        ({"frames": [FRAME | {"caption": ["x"]}]}, "caption is missing or not text"),
        ({"layout": "spiral"}, "unknown layout 'spiral'"),
    ],
)
def test_a_damaged_report_is_refused_by_name(
    tmp_path: Path, fields: dict[str, Any], says: str
) -> None:
    folder = drawn_folder(tmp_path / "drawn")
    change(folder, **fields)
    with pytest.raises(ConsistentGenError, match=says):
        read_book(folder)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000])
def test_what_is_no_report_is_refused(tmp_path: Path, content: bytes) -> None:
    folder = drawn_folder(tmp_path / "drawn")
    (folder / "report.json").write_bytes(content)
    with pytest.raises(InputError, match=r"report\.json: "):
        read_book(folder)


@pytest.mark.parametrize("content", [b"", b"GIF89a", b"\x89PNG\r\n\x1a\n" + b"\x00" * 50])
def test_a_damaged_frame_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    folder = drawn_folder(tmp_path / "drawn")
    (folder / "frames/01.png").write_bytes(content)
    with pytest.raises(InputError, match=r"01\.png: "):
        read_book(folder)


def test_a_bomb_of_a_frame_is_refused(tmp_path: Path) -> None:
    folder = drawn_folder(tmp_path / "drawn")
    Image.new("1", (20_000, 5_000)).save(folder / "frames/01.png")
    with pytest.raises((LimitError, InputError), match=r"01\.png: "):
        read_book(folder)


def test_a_folder_with_nothing_of_ours_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="draw a story into it first"):
        read_book(tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        read_book(tmp_path / "absent")
