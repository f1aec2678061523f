"""Books on disk: the ZIP export with its manifest, and folders that a book can be read from.

story.json, beside frames/NN.png, holds what the pictures do not: title, layout, captions and
speech. `read_book` reads such a folder again, or one that `consistent-gen story` drew.
"""

from __future__ import annotations

import io
import json
import re
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image, PngImagePlugin, UnidentifiedImageError

from consistent_gen.errors import InputError, LimitError
from consistent_gen.story.book import MAX_PANELS, STORY_FILE, Book, BookPanel, Speech
from consistent_gen.story.export import archive
from consistent_gen.story.layouts import DEFAULT_LAYOUT
from consistent_gen.story.output import REPORT, enlarged_path, frame_path
from consistent_gen.story.output import SCHEMA as REPORT_SCHEMA

MANIFEST = "story.json"
SCHEMA = "consistent_gen.book/1"
MAX_MANIFEST_BYTES = 8 << 20
MAX_FRAME_BYTES = 64 << 20
MAX_FRAME_PIXELS = 32_000_000
MAX_TITLE, MAX_CAPTION, MAX_SPEECH = 500, 4000, 1000

_FRAME_PATH = re.compile(r"frames/[0-9]{2,4}\.png")


# Writing ------------------------------------------------------------------------------------------
def zip_of(book: Book) -> bytes:
    """The frames as PNG with their metadata, and a manifest from which the book can be read; of a
    fine book also the enlarged pictures, which say nothing about themselves.
    """
    files: dict[str, bytes] = {MANIFEST: _manifest(book)}
    if book.story is not None:
        files[STORY_FILE] = book.story.encode()
    for index, panel in enumerate(book.panels):
        files[frame_path(index)] = panel.png if panel.png is not None else _png(panel)
    if book.fine:
        for index, panel in enumerate(book.panels):
            large = replace(panel, metadata=None)
            files[enlarged_path(index)] = _png(large)
    return archive(files)


def _manifest(book: Book) -> bytes:
    frames = []
    for index, panel in enumerate(book.panels):
        frame: dict[str, Any] = {"path": frame_path(index), "caption": panel.caption}
        if panel.pixelated:
            frame["pixelated"] = True
        if panel.bubbles:
            frame["bubbles"] = [_speech_fields(speech) for speech in panel.bubbles]
        if panel.metadata is not None:
            frame["metadata"] = dict(panel.metadata)
        frames.append(frame)
    value = {
        "schema": SCHEMA,
        "title": book.title,
        "layout": book.layout,
        "made_with": book.made_with,
        "frames": frames,
    }
    return (json.dumps(value, indent=2, ensure_ascii=True, allow_nan=False) + "\n").encode()


def _speech_fields(speech: Speech) -> dict[str, Any]:
    fields: dict[str, Any] = {"text": speech.text, "x": speech.x, "y": speech.y}
    if speech.target is not None:
        fields |= {"tail_x": speech.tail_x, "tail_y": speech.tail_y}
    if speech.thought:
        fields["thought"] = True
    return fields


def _png(panel: BookPanel) -> bytes:
    chunks = PngImagePlugin.PngInfo()
    if panel.metadata is not None:
        text = json.dumps(dict(panel.metadata), ensure_ascii=False, sort_keys=True, allow_nan=False)
        chunks.add_itxt("consistent_gen", text)
    stream = io.BytesIO()
    picture = panel.picture.convert("RGB")
    picture.save(stream, format="PNG", pnginfo=chunks, compress_level=6)
    return stream.getvalue()


# Reading ------------------------------------------------------------------------------------------
def read_book(folder: str | Path, *, layout: str | None = None) -> Book:
    """The book in a folder that holds story.json (an unpacked ZIP export) or report.json.

    `layout` beats the one that the folder names.

    Raises:
        InputError: the folder, its manifest or a picture is missing or damaged; names the file.
        LimitError: a picture or the book is too large.
        UnknownNameError: there is no such layout.
    """
    root = Path(folder)
    if not root.is_dir():
        raise InputError("no such folder; expected one that was drawn before", source=root)
    if (root / MANIFEST).is_file():
        source, schema = root / MANIFEST, SCHEMA
    elif (root / REPORT).is_file():
        source, schema = root / REPORT, REPORT_SCHEMA
    else:
        message = f"neither {REPORT} nor {MANIFEST} is in it; draw a story into it first"
        raise InputError(message, source=root)
    value = _read_object(source, schema)
    reader = _BookReader(source)
    frames = reader.items(value, "frames")
    if len(frames) > MAX_PANELS:
        raise LimitError(f"{len(frames)} frames; a book holds at most {MAX_PANELS}", source=source)
    made_with = reader.text(value, "made_with", 500, "")
    return Book(
        title=reader.text(value, "title", MAX_TITLE),
        panels=tuple(_panel(reader, root, frame) for frame in frames),
        layout=layout or reader.text(value, "layout", 40, DEFAULT_LAYOUT),
        made_with=made_with if schema == SCHEMA else _report_line(value),
    )


def _panel(reader: _BookReader, root: Path, frame: Mapping[str, Any]) -> BookPanel:
    name = reader.text(frame, "path", 40)
    if not _FRAME_PATH.fullmatch(name):
        raise InputError(
            f"{name!r} is no path of a frame; expected frames/NN.png", source=reader.source
        )
    data, picture, metadata = _read_frame(root / name)
    pixelated = frame.get("pixelated", False) is True
    if "pixelated" not in frame and isinstance(frame.get("prompt"), str):
        pixelated = "pixel" in frame["prompt"].lower()
    return BookPanel(
        picture=picture,
        caption=reader.text(frame, "caption", MAX_CAPTION, ""),
        bubbles=tuple(_speech(reader, item) for item in reader.items(frame, "bubbles", [])),
        pixelated=pixelated,
        metadata=metadata,
        png=data,
    )


def _speech(reader: _BookReader, item: Mapping[str, Any]) -> Speech:
    tailed = "tail_x" in item or "tail_y" in item
    return Speech(
        text=reader.text(item, "text", MAX_SPEECH),
        x=reader.place(item, "x"),
        y=reader.place(item, "y"),
        tail_x=reader.place(item, "tail_x") if tailed else None,
        tail_y=reader.place(item, "tail_y") if tailed else None,
        thought=item.get("thought", False) is True,
    )


def _report_line(value: Mapping[str, Any]) -> str:
    model = value.get("model")
    name = model.get("name") if isinstance(model, dict) else None
    parts = [name, value.get("method")]
    return ", ".join(part for part in parts if isinstance(part, str))[:500]


def _read_object(source: Path, schema: str) -> dict[str, Any]:
    try:
        if source.stat().st_size > MAX_MANIFEST_BYTES:
            raise LimitError(f"larger than {MAX_MANIFEST_BYTES >> 20} MiB", source=source)
        value = json.loads(source.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        raise InputError("this is not JSON", source=source) from None
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", source=source) from None
    if not isinstance(value, dict) or value.get("schema") != schema:
        raise InputError(f"expected an object with schema {schema!r}", source=source)
    return value


def _read_frame(path: Path) -> tuple[bytes, Image.Image, dict[str, Any] | None]:
    """A frame's bytes, its picture and what it says about itself."""
    try:
        if path.stat().st_size > MAX_FRAME_BYTES:
            raise LimitError(f"larger than {MAX_FRAME_BYTES >> 20} MiB", source=path)
        data = path.read_bytes()
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=("PNG",)) as picture:
                if picture.width * picture.height > MAX_FRAME_PIXELS:
                    raise LimitError(f"{picture.width}x{picture.height} is too large", source=path)
                picture.load()
                return data, picture.convert("RGB"), _own_words(picture)
    except FileNotFoundError:
        raise InputError("the frame is missing", source=path) from None
    except UnidentifiedImageError:
        raise InputError("this is not a PNG file", source=path) from None
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError,
            Image.DecompressionBombWarning) as error:  # fmt: skip
        raise InputError(f"the PNG cannot be read: {error}", source=path) from None


def _own_words(picture: Image.Image) -> dict[str, Any] | None:
    text = getattr(picture, "text", {}).get("consistent_gen")
    try:
        value = json.loads(text) if text else None
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


class _BookReader:
    """Typed values out of a manifest, with errors that name the file and the key."""

    def __init__(self, source: Path) -> None:
        self.source = source

    def text(
        self, item: Mapping[str, Any], key: str, limit: int, default: str | None = None
    ) -> str:
        """The text at `key`; `default` when it is absent."""
        value = item.get(key, default)
        if not isinstance(value, str):
            raise InputError(f"{key} is missing or not text", source=self.source)
        if len(value) > limit:
            raise LimitError(
                f"{key} has {len(value)} characters; at most {limit}", source=self.source
            )
        return value

    def items(
        self, item: Mapping[str, Any], key: str, default: list[Any] | None = None
    ) -> list[Mapping[str, Any]]:
        """The list of objects at `key`; `default` when it is absent."""
        value = item.get(key, default)
        if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
            raise InputError(f"{key} is missing or not a list of objects", source=self.source)
        return value

    def place(self, item: Mapping[str, Any], key: str) -> float:
        """The number at `key`, which `Book` requires to be in [0, 1]."""
        value = item.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise InputError(f"{key} is missing or not a number", source=self.source)
        return float(value)
