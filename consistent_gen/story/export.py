"""A book as one file: PDF, comic archive, ZIP of frames, moving GIF or one PNG.

The same book gives the same bytes on one machine: no file holds a time, a path or a random number.
What a frame says about itself (prompt, seed, ...) goes into the ZIP only; all others show
pictures, captions and speech, and name in their properties what they were made with.
"""

from __future__ import annotations

import io
import re
import unicodedata
import zipfile
from collections.abc import Callable, Mapping
from typing import NamedTuple

from consistent_gen.registry import resolve
from consistent_gen.story.book import Book

MAX_NAME_CHARACTERS = 60

# Name -> the function from a book to its bytes.
FORMATS = {
    "png": "consistent_gen.story.export_pages:png_of",
    "pdf": "consistent_gen.story.export_pages:pdf_of",
    "cbz": "consistent_gen.story.export_pages:cbz_of",
    "gif": "consistent_gen.story.export_pages:gif_of",
    "zip": "consistent_gen.story.book_folder:zip_of",
}
MEDIA_TYPES = {
    "png": "image/png",
    "pdf": "application/pdf",
    "cbz": "application/vnd.comicbook+zip",
    "gif": "image/gif",
    "zip": "application/zip",
}


class Exported(NamedTuple):
    """A file to hand out; `filename` is ASCII without separators, made from the title."""

    data: bytes
    media_type: str
    filename: str


def export_story(book: Book, format: str) -> Exported:
    """`book` as a file of one of `FORMATS`.

    Raises:
        UnknownNameError: there is no such format.
        LimitError: the result would be larger than the format allows.
    """
    make: Callable[[Book], bytes] = resolve(FORMATS, format, kind="export format")
    return Exported(make(book), MEDIA_TYPES[format], f"{file_stem(book.title)}.{format}")


def file_stem(title: str) -> str:
    """A file name without ending from a title: lower-case ASCII words with hyphens."""
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode()
    words = re.findall(r"[a-z0-9]+", plain.lower())
    return "-".join(words)[:MAX_NAME_CHARACTERS].strip("-") or "story"


NO_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest that a ZIP can say
PACKED_ALREADY = (".png", ".jpg", ".gif")


def archive(files: Mapping[str, bytes]) -> bytes:
    """A ZIP of `files`, relative POSIX names to contents, in the order given."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as target:
        for name, data in files.items():
            assert name and ".." not in name and not name.startswith("/") and "\\" not in name
            entry = zipfile.ZipInfo(name, date_time=NO_DATE)
            entry.create_system = 3  # the same on every system
            entry.external_attr = 0o644 << 16
            stored = name.endswith(PACKED_ALREADY)
            entry.compress_type = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
            target.writestr(entry, data)
    return stream.getvalue()
