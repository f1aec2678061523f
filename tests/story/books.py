"""Books for the tests of exports, and a small reader of PDF files."""

from __future__ import annotations

import re
from collections.abc import Sequence

from PIL import Image

from consistent_gen.story.book import Book, BookPanel, Speech

Color = tuple[int, int, int]


def color_of(index: int) -> Color:
    """A colour that no other panel has, far from paper, ink and bubbles."""
    return 40 + 9 * index % 100, 200 - 11 * index % 120, 90 + 7 * index % 60


def plain_panel(
    index: int = 0,
    caption: str = "",
    *speech: Speech,
    size: tuple[int, int] = (64, 64),
    pixelated: bool = True,
) -> BookPanel:
    """A panel of one colour; hard pixels, so that the colour arrives unchanged."""
    picture = Image.new("RGB", size, color_of(index))
    return BookPanel(picture=picture, caption=caption, bubbles=speech, pixelated=pixelated)


def book_of(
    panels: Sequence[BookPanel], layout: str = "comic4", title: str = "Two Friends"
) -> Book:
    return Book(title=title, panels=tuple(panels), layout=layout, made_with="tiny, vanilla")


class Pdf:
    """Objects of a PDF by number, found through its cross-reference table as a viewer does."""

    def __init__(self, data: bytes) -> None:
        assert data.startswith(b"%PDF-1.") and data.rstrip().endswith(b"%%EOF")
        start = int(re.findall(rb"startxref\s+(\d+)", data)[-1])
        table = re.match(rb"xref\s+0 (\d+)\s+((?:\d{10} \d{5} [nf]\s*)+)", data[start:])
        assert table is not None, "startxref does not point at a cross-reference table"
        entries = re.findall(rb"(\d{10}) \d{5} ([nf])", table[2])
        assert len(entries) == int(table[1])
        self.objects: dict[int, bytes] = {}
        for number, (offset, kind) in enumerate(entries):
            if kind == b"n":
                head = f"{number} 0 obj".encode()
                assert data.startswith(head, int(offset)), f"object {number} is not at its place"
                end = data.index(b"endobj", int(offset))
                self.objects[number] = data[int(offset) : end]
        root = re.search(rb"/Root (\d+) 0 R", data[start:])
        assert root is not None
        self.root = int(root[1])

    def pages(self) -> list[tuple[float, float]]:
        """Width and height of every page, in reading order."""
        catalog = self.objects[self.root]
        pages = re.search(rb"/Pages (\d+) 0 R", catalog)
        assert pages is not None
        return list(self._leaves(int(pages[1])))

    def _leaves(self, number: int) -> list[tuple[float, float]]:
        node = self.objects[number]
        if re.search(rb"/Type\s*/Pages\b", node):
            kids = re.search(rb"/Kids\s*\[([^\]]*)\]", node)
            assert kids is not None
            found = []
            for kid in re.findall(rb"(\d+) 0 R", kids[1]):
                found += self._leaves(int(kid))
            return found
        box = re.search(rb"/MediaBox\s*\[0 0 ([\d.]+) ([\d.]+)\]", node)
        assert box is not None
        return [(float(box[1]), float(box[2]))]

    def of(self, pattern: bytes) -> list[bytes]:
        """The objects that contain `pattern`, a regular expression."""
        return [content for content in self.objects.values() if re.search(pattern, content)]
