"""Text for printed pages: shaped, wrapped and fitted into boxes, in any script that a font has.

Pillow's own font comes first, so that a book looks the same on every machine. A word with letters
that it lacks is set in another font, a sign such as an emoji alone: from a package of the extra
`ui`, then from the system. What no font has is simplified or left out, and told (`unwritten`).
Texts are vectors: in a PDF they can be selected and searched. Lengths are points.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import skia
from PIL import ImageFont
from skia import textlayout

from consistent_gen.story.layout import PLAIN_SIGNS, SYSTEM_FONTS
from consistent_gen.story.layouts import RGB

Align = Literal["left", "center"]

MORE_FONTS = (*SYSTEM_FONTS, "NotoSansArabic-Regular.ttf", "NotoSansHebrew-Regular.ttf",
              "NotoSansDevanagari-Regular.ttf", "NotoColorEmoji.ttf")  # fmt: skip
FONT_PACKAGE = "manimgx_fonts"  # Noto fonts, under the SIL Open Font License
FIRST_FONT = "NotoSans[wght].ttf"  # of the package: the one for letters with accents
BUNDLED = "bundled"
FINE = 8.0  # text is laid out this much larger, since line heights are rounded to whole units
MAX_CHARACTERS = 4000
DOTS = "..."
_JOINERS = "\u200c\u200d"  # they choose between letter forms in Arabic and Indic scripts
_RIGHT_TO_LEFT_ISOLATE, _END_OF_ISOLATE = "\u2067", "\u2069"
# Signs that only choose how others look: the presentation of emoji.
_UNSEEN = "\ufe0e\ufe0f\u20e3"
_MAX_MARKS = 2  # accents on one letter; more only make towers of them


@dataclass(frozen=True)
class TextBlock:
    """Lines of text that lie in a box of `width` x `height`; `cut` when words were left out."""

    paragraph: Any
    width: float
    height: float
    size: float
    cut: bool = False

    @property
    def breaks_words(self) -> bool:
        """Whether a word is longer than a line and goes on in the next one."""
        return self.paragraph is not None and self.paragraph.MinIntrinsicWidth > self.width * FINE

    def paint(self, canvas: Any, x: float, y: float) -> None:
        """Draw with the box's left upper corner at (x, y)."""
        if self.paragraph is None:
            return
        canvas.save()
        canvas.translate(x, y)
        canvas.scale(1 / FINE, 1 / FINE)
        self.paragraph.paint(canvas, 0, 0)
        canvas.restore()


NOTHING = TextBlock(None, 0.0, 0.0, 0.0)


class Lettering:
    """The fonts that a set of texts needs. Not for use by several threads at once."""

    def __init__(self, texts: Iterable[str]) -> None:
        texts = list(texts)
        letters = {c for text in texts for c in _plain_text(text)}
        self._families = _families(letters)
        self._faces = [_face(family) for family in self._families]
        provider = textlayout.TypefaceFontProvider()
        for family, face in zip(self._families, self._faces, strict=True):
            provider.registerTypeface(face, family)
        self._collection = textlayout.FontCollection()
        self._collection.setDefaultFontManager(provider)
        self._unicode = skia.Unicodes.ICU.Make()
        self._written: dict[str, str] = {}

    def writable(self, text: str) -> str:
        """`text` on one line in signs that the fonts have, without what cannot be shown."""
        if text not in self._written:
            shown = "".join(
                c if c in _JOINERS or self._has(c) else self._plain(c) for c in _plain_text(text)
            )
            self._written[text] = " ".join(shown.split())
        return self._written[text]

    def unwritten(self, text: str) -> list[str]:
        """Characters of `text` that are left out since no font has them, each once."""
        dropped = [
            c
            for c in _plain_text(text)
            if c not in _JOINERS and not self._has(c) and not self._plain(c).strip()
        ]
        shown = [c for c in dropped if not c.isspace() and unicodedata.category(c)[0] != "C"]
        return [c for c in dict.fromkeys(shown) if c not in _UNSEEN]

    def set(
        self, text: str, size: float, width: float, *, color: RGB, align: Align = "center"
    ) -> TextBlock:
        """`text` in letters of `size`, in lines of at most `width`; words too long are broken."""
        words = self.writable(text)
        return self._lines(words, size, width, color, align) if words else NOTHING

    def _lines(self, words: str, size: float, width: float, color: RGB, align: Align) -> TextBlock:
        if _reads_from_right(words):
            words = f"{_RIGHT_TO_LEFT_ISOLATE}{words}{_END_OF_ISOLATE}"
        paragraph = self._paragraph(words, size, color, align)
        paragraph.layout(width * FINE)
        return TextBlock(paragraph, width, paragraph.Height / FINE, size)

    def balanced(
        self, text: str, size: float, width: float, *, color: RGB, align: Align = "center"
    ) -> TextBlock:
        """As `set`, with as many lines but of nearly equal length: no lone word at the end."""
        block = self.set(text, size, width, color=color, align=align)
        low, high = width / 3, width
        while block.height > 1.8 * size and high - low > size / 2:
            middle = (low + high) / 2
            tried = self.set(text, size, middle, color=color, align=align)
            if tried.height <= block.height and tried.paragraph.LongestLine <= middle * FINE:
                block, high = tried, middle
            else:
                low = middle
        return block

    def fit(
        self,
        text: str,
        width: float,
        height: float,
        *,
        largest: float,
        smallest: float,
        color: RGB,
        align: Align = "center",
    ) -> TextBlock:
        """`text` as large as the box allows; what does not fit at `smallest` is cut with dots."""
        size = largest
        while True:
            block = self.set(text, size, width, color=color, align=align)
            if block.height <= height:
                return self.balanced(text, size, width, color=color, align=align)
            if size <= smallest:
                return self._cut(text, width, height, size=size, color=color, align=align)
            size = max(smallest, size * 0.92)

    def _cut(
        self, text: str, width: float, height: float, *, size: float, color: RGB, align: Align
    ) -> TextBlock:
        words = self.writable(text)
        low, high = 0, len(words)
        block = NOTHING
        while low < high:
            middle = (low + high + 1) // 2
            tried = self._lines(f"{words[:middle].rstrip()}{DOTS}", size, width, color, align)
            if tried.height <= height:
                low, block = middle, tried
            else:
                high = middle - 1
        return TextBlock(block.paragraph, block.width, block.height, block.size, cut=True)

    def _paragraph(self, words: str, size: float, color: RGB, align: Align) -> Any:
        paragraph_style = textlayout.ParagraphStyle()
        paragraph_style.setTextStyle(self._style(size, color, foreign=False))
        aligns = {"left": textlayout.TextAlign.kLeft, "center": textlayout.TextAlign.kCenter}
        paragraph_style.setTextAlign(aligns[align])
        builder = textlayout.ParagraphBuilder.make(paragraph_style, self._collection, self._unicode)
        for foreign, run in _runs(words):
            builder.pushStyle(self._style(size, color, foreign=foreign))
            builder.addText(run)
            builder.pop()
        return builder.Build()

    def _style(self, size: float, color: RGB, *, foreign: bool) -> Any:
        """Of words in the book's font, or of those with letters that it lacks."""
        first, *others = self._families
        style = textlayout.TextStyle()
        style.setFontFamilies([*others, first] if foreign else self._families)
        style.setFontSize(size * FINE)
        style.setColor(skia.Color(*color))
        return style

    def _has(self, character: str) -> bool:
        return character == " " or any(_shows(face, character) for face in self._faces)

    def _plain(self, character: str) -> str:
        """What stands in for a character that no font has: plainer signs, a blank or nothing."""
        if character in PLAIN_SIGNS:
            return PLAIN_SIGNS[character]
        kind = unicodedata.category(character)
        if kind[0] in "MC":
            return ""
        if kind in ("So", "Sk"):  # pictographs: words around them still make sense
            return " "
        plain = [
            c for c in unicodedata.normalize("NFKD", character) if not unicodedata.combining(c)
        ]
        return "".join(plain) if plain and all(self._has(c) for c in plain) else ""


def _plain_text(text: str) -> str:
    """`text` composed, bounded, without control and format characters and towers of accents."""
    kept: list[str] = []
    marks = 0
    for character in unicodedata.normalize("NFC", text[:MAX_CHARACTERS]):
        kind = unicodedata.category(character)
        marks = marks + 1 if kind == "Mn" else 0
        if character.isspace() or kind == "Cc":
            kept.append(" ")
        elif character in _JOINERS or (
            kind not in ("Cf", "Cs", "Co", "Cn") and marks <= _MAX_MARKS
        ):
            kept.append(character)
    return "".join(kept) + (DOTS if len(text) > MAX_CHARACTERS else "")


def _runs(words: str) -> Iterator[tuple[bool, str]]:
    """Whether words have letters that the book's font lacks, and the words; no word is set in two
    fonts, but for signs in it that are no letters.
    """
    pieces = (piece for word in words.split(" ") for piece in (word, " "))
    for foreign, run in groupby([*pieces][:-1], _is_foreign):
        yield foreign, "".join(run)


def _is_foreign(word: str) -> bool:
    return any(unicodedata.category(c)[0] in "LM" and not _shows(_face(BUNDLED), c) for c in word)


def _families(letters: set[str]) -> list[str]:
    """The fonts to use: Pillow's own, and for letters that it lacks as few others as there can be,
    first those that have the most of them.
    """
    wanted = {c for c in letters if not c.isspace() and c not in _JOINERS}
    left = {c for c in wanted - set(PLAIN_SIGNS) if not _shows(_face(BUNDLED), c)}
    families = [BUNDLED]
    others = [*_packaged(), *(name for name in MORE_FONTS if _face(name) is not None)]
    while left and others:
        best = min(others, key=lambda name: sum(not _shows(_face(name), c) for c in left))
        still = {c for c in left if not _shows(_face(best), c)}
        if len(still) == len(left):
            break
        families.append(best)
        others.remove(best)
        left = still
    return families


@cache
def _packaged() -> tuple[str, ...]:
    """Paths of the fonts of the package, if it is installed."""
    found = find_spec(FONT_PACKAGE)
    folders = found.submodule_search_locations if found else None
    files = [file for folder in folders or () for file in Path(folder).glob("*.ttf")]
    upright = [file for file in files if "Italic" not in file.name]
    return tuple(map(str, sorted(upright, key=lambda f: (f.name != FIRST_FONT, f.name))))


@cache
def _face(family: str) -> Any:
    """The typeface of a family, None when it is not installed."""
    manager = skia.FontMgr.New_Custom_Empty()  # asks nothing of the system's font settings
    if family == BUNDLED:
        font = ImageFont.load_default(16)
        assert isinstance(font, ImageFont.FreeTypeFont), "Pillow was built without FreeType"
        return manager.makeFromData(skia.Data.MakeWithCopy(font.font_bytes))
    try:
        path = ImageFont.truetype(family, 16).path
    except OSError:
        return None
    return manager.makeFromFile(str(path))


def _shows(face: Any, character: str) -> bool:
    return bool(face.unicharsToGlyphs([ord(character)])[0])


def _reads_from_right(text: str) -> bool:
    """Whether the first letter with a direction is of a script written from right to left."""
    for character in text:
        direction = unicodedata.bidirectional(character)
        if direction in ("L", "R", "AL"):
            return direction != "L"
    return False
