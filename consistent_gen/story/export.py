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
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from consistent_gen.registry import resolve
from consistent_gen.story.book import Book

MAX_NAME_CHARACTERS = 60
_MOST_SHOWN = 12

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
    """A file to hand out; `filename` is ASCII without separators, made from the title. `notices`
    are sentences on what could not be written into it.
    """

    data: bytes
    media_type: str
    filename: str
    notices: tuple[str, ...] = ()


def export_story(book: Book, format: str) -> Exported:
    """`book` as a file of one of `FORMATS`.

    Raises:
        UnknownNameError: there is no such format.
        LimitError: the result would be larger than the format allows.
    """
    make: Callable[[Book], bytes] = resolve(FORMATS, format, kind="export format")
    notices = () if format == "zip" else tuple(unwritten(book))  # its pictures have no words
    name = f"{file_stem(book.title)}.{format}"
    return Exported(make(book), MEDIA_TYPES[format], name, notices)


def unwritten(book: Book) -> Iterator[str]:
    """Sentences on the characters that no font here has, by scene; pages leave these out."""
    texts = {"the title": [book.title]} | {
        f"scene {number}": [panel.caption, *(speech.text for speech in panel.bubbles)]
        for number, panel in enumerate(book.panels, 1)
    }
    yield from unwritten_texts(texts)


def unwritten_texts(texts: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """The same of texts by the place where they stand."""
    from consistent_gen.story.lettering import Lettering

    lettering = Lettering([text for said in texts.values() for text in said])
    for place, said in texts.items():
        lost = list(dict.fromkeys(c for text in said for c in lettering.unwritten(text)))
        if lost:
            many = f"{len(lost)} characters" if len(lost) > 1 else "1 character"
            verb = "have" if len(lost) > 1 else "has"
            shown = " ".join(lost[:_MOST_SHOWN]) + (" ..." if len(lost) > _MOST_SHOWN else "")
            yield f"{many} of {place} {verb} no glyph in any font here: {shown}"


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
