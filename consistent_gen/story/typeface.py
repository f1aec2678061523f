"""Letters for the page: the font that Pillow brings, or a system font where that lacks letters."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

from PIL import ImageFont

# Tried in this order, by name, when a text has letters outside Pillow's own (mostly ASCII) font.
SYSTEM_FONTS = (
    "DejaVuSans.ttf", "NotoSans-Regular.ttf", "LiberationSans-Regular.ttf", "Arial.ttf",
    "arial.ttf", "Arial Unicode.ttf", "NotoSansCJK-Regular.ttc", "msgothic.ttc", "seguiemj.ttf",
)  # fmt: skip
# What stands in for signs that a font lacks: dashes, quotation marks, ellipsis, and letters that
# Unicode does not take apart.
PLAIN_SIGNS = {
    "\u2013": "-", "\u2014": " - ", "\u2018": "'", "\u2019": "'", "\u201a": ",", "\u201c": '"',
    "\u201d": '"', "\u201e": '"', "\u2026": "...", "\u00a0": " ", "«": '"', "»": '"', "ß": "ss",
    "æ": "ae", "Æ": "Ae", "ø": "o", "Ø": "O", "œ": "oe", "ł": "l", "Ł": "L", "đ": "d",
}  # fmt: skip

Font = ImageFont.FreeTypeFont


@dataclass(frozen=True)
class Typeface:
    """A font at any size, and the text as this font can show it."""

    path: str | None

    def at(self, size: int) -> Font:
        """The font with letters about `size` pixels high."""
        if self.path is None:
            font = ImageFont.load_default(size)
            assert isinstance(font, ImageFont.FreeTypeFont), "Pillow was built without FreeType"
            return font
        return ImageFont.truetype(self.path, size)

    def writable(self, text: str) -> str:
        """`text` in letters that the font has: signs and accents simplified, "?" for the rest."""
        font = self.at(24)
        return "".join(c if _has(font, c) else _plain(font, c) for c in text)


def typeface_for(texts: list[str]) -> Typeface:
    """Pillow's font when it can write all `texts`, else the system font that can write the most."""
    letters = {c for text in texts for c in text if not c.isspace()}
    bundled = Typeface(None)
    fewest = _missing(bundled, letters - set(PLAIN_SIGNS))
    best = bundled
    for name in SYSTEM_FONTS if fewest else ():
        candidate = Typeface(name)
        try:
            missing = _missing(candidate, letters)
        except OSError:
            continue  # not installed
        if missing < fewest:
            best, fewest = candidate, missing
    return best


def wrap(text: str, font: Font, width: float, max_lines: int | None = None) -> list[str]:
    """Lines of at most `width` pixels, broken at spaces, inside words only where one is too long.

    With `max_lines`, what does not fit is cut and the last line ends in "...".
    """
    lines: list[str] = []
    line = ""
    for word in text.split():
        joined = f"{line} {word}" if line else word
        if font.getlength(joined) <= width:
            line = joined
            continue
        if line:
            lines.append(line)
        pieces = _broken(word, font, width)
        lines.extend(pieces[:-1])
        line = pieces[-1]
    if line:
        lines.append(line)
    if max_lines is None or len(lines) <= max_lines:
        return lines
    last = lines[max_lines - 1]
    while last and font.getlength(f"{last}...") > width:
        last = last[:-1].rstrip()
    return [*lines[: max_lines - 1], f"{last}..."]


def balanced(text: str, font: Font, width: float, max_lines: int) -> list[str]:
    """As `wrap`, with as many lines but of nearly equal length: no lone word at the end."""
    lines = wrap(text, font, width, max_lines)
    low, high = width / 3, width
    while 1 < len(lines) < max_lines and high - low > 4:
        middle = (low + high) / 2
        tried = wrap(text, font, middle)
        if len(tried) <= len(lines):
            lines, high = tried, middle
        else:
            low = middle
    return lines


def _broken(word: str, font: Font, width: float) -> list[str]:
    pieces, piece = [], ""
    for character in word:
        if piece and font.getlength(piece + character) > width:
            pieces.append(piece)
            piece = ""
        piece += character
    return [*pieces, piece]


def _missing(typeface: Typeface, letters: set[str]) -> int:
    font = typeface.at(24)
    return sum(not _has(font, c) for c in letters)


def _has(font: Font, character: str) -> bool:
    # A font draws every letter it lacks as one and the same box: that of a code point without
    # any meaning.
    if character.isspace():
        return character == " "
    mask, box = font.getmask(character), font.getmask("\U0010ffff")
    return mask.size != box.size or bytes(mask) != bytes(box)


def _plain(font: Font, character: str) -> str:
    if character.isspace():
        return " "
    if character in PLAIN_SIGNS:
        return PLAIN_SIGNS[character]
    if unicodedata.category(character) in ("Mn", "Cf"):
        return ""
    letters = [c for c in unicodedata.normalize("NFKD", character) if not unicodedata.combining(c)]
    return "".join(letters) if letters and all(_has(font, c) for c in letters) else "?"
