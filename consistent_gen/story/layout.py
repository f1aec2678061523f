"""The page: title, a grid of panels and a caption under each, as one picture."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from functools import lru_cache

from PIL import Image, ImageDraw, ImageFilter, ImageFont

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


PAPER = (250, 246, 238)
INK = (52, 46, 42)
CAPTION_INK = (82, 74, 68)
ACCENT = (222, 142, 92)
SHADOW = (120, 100, 80)
SUPERSAMPLE = 4  # for the rounded corners


@dataclass(frozen=True)
class Panel:
    """A picture with its caption; `pixelated` keeps hard pixels when it is enlarged."""

    image: Image.Image
    caption: str = ""
    pixelated: bool = False


@dataclass(frozen=True)
class Grid:
    """The measures of a page in pixels, from how many panels there are."""

    columns: int
    panel_width: int
    margin: int
    gap: int
    title_size: int
    caption_size: int

    @property
    def width(self) -> int:
        """Width of the page."""
        return 2 * self.margin + self.columns * self.panel_width + (self.columns - 1) * self.gap


def grid_for(count: int) -> Grid:
    """Few panels are large, many are small, so that a page stays below about 25 million pixels."""
    if count <= 12:
        columns = {1: 1, 2: 2, 4: 2}.get(count, 3)
        return Grid(columns, 512, 80, 44, 64, 27)
    if count <= 48:
        return Grid(4, 384, 72, 36, 60, 23)
    return Grid(6, 256, 64, 28, 56, 18)


def draw_page(title: str, panels: list[Panel]) -> Image.Image:
    """The page of a story as an RGB picture. `panels` is not empty."""
    grid = grid_for(len(panels))
    typeface = typeface_for([title, *(panel.caption for panel in panels)])
    rows = [panels[i : i + grid.columns] for i in range(0, len(panels), grid.columns)]
    captions = [[_caption_lines(panel, typeface, grid) for panel in row] for row in rows]
    line_height = round(grid.caption_size * 1.42)
    heights = [
        max(_panel_size(p, grid)[1] for p in row) + 22 + max(map(len, lines)) * line_height
        for row, lines in zip(rows, captions, strict=True)
    ]
    title_font = typeface.at(grid.title_size)
    title_lines = balanced(typeface.writable(title), title_font, grid.width - 2 * grid.margin, 3)
    top = _title_height(title_lines, grid)
    height = top + sum(heights) + (len(rows) - 1) * grid.gap + grid.margin
    page = Image.new("RGB", (grid.width, height), PAPER)
    _draw_title(page, title_lines, title_font, grid)
    y = top
    for row, lines, row_height in zip(rows, captions, heights, strict=True):
        _draw_row(page, row, lines, y, typeface.at(grid.caption_size), line_height, grid)
        y += row_height + grid.gap
    return page


def _caption_lines(panel: Panel, typeface: Typeface, grid: Grid) -> list[str]:
    font = typeface.at(grid.caption_size)
    return balanced(typeface.writable(panel.caption), font, grid.panel_width - 12, 8)


def _panel_size(panel: Panel, grid: Grid) -> tuple[int, int]:
    width, height = panel.image.size
    return grid.panel_width, max(1, round(grid.panel_width * height / width))


def _title_height(lines: list[str], grid: Grid) -> int:
    return grid.margin + len(lines) * round(grid.title_size * 1.2) + 76


def _draw_title(page: Image.Image, lines: list[str], font: Font, grid: Grid) -> None:
    draw = ImageDraw.Draw(page)
    y = grid.margin
    for line in lines:
        draw.text((page.width / 2, y), line, INK, font, anchor="ma", stroke_width=0.6)
        y += round(grid.title_size * 1.2)
    middle = page.width // 2
    for x in (-26, 0, 26):
        radius = 5 if x else 7
        draw.ellipse(
            (middle + x - radius, y + 20 - radius, middle + x + radius, y + 20 + radius), ACCENT
        )


def _draw_row(page: Image.Image, row: list[Panel], captions: list[list[str]], top: int, font: Font,
              line_height: int, grid: Grid) -> None:  # fmt: skip
    draw = ImageDraw.Draw(page)
    used = len(row) * grid.panel_width + (len(row) - 1) * grid.gap
    x = (page.width - used) // 2
    tallest = max(_panel_size(panel, grid)[1] for panel in row)
    for panel, lines in zip(row, captions, strict=True):
        size = _panel_size(panel, grid)
        _paste_panel(page, panel, (x, top + tallest - size[1]), size)
        for i, line in enumerate(lines):
            middle = (x + grid.panel_width / 2, top + tallest + 22 + i * line_height)
            draw.text(middle, line, CAPTION_INK, font, anchor="ma")
        x += grid.panel_width + grid.gap


def _paste_panel(
    page: Image.Image, panel: Panel, corner: tuple[int, int], size: tuple[int, int]
) -> None:
    spread = max(4, size[0] // 42)
    mask, shade = _edges(size, max(6, size[0] // 28), spread)
    x, y = corner
    page.paste(SHADOW, (x - 2 * spread, y - 2 * spread + spread // 2), shade)
    resample = Image.Resampling.NEAREST if panel.pixelated else Image.Resampling.LANCZOS
    page.paste(panel.image.convert("RGB").resize(size, resample), corner, mask)


@lru_cache(maxsize=4)
def _edges(size: tuple[int, int], radius: int, spread: int) -> tuple[Image.Image, Image.Image]:
    """The masks of a panel with round corners and of its shadow, `2 * spread` larger all round."""
    mask = _rounded(size, radius)
    shade = Image.new("L", (size[0] + 4 * spread, size[1] + 4 * spread), 0)
    shade.paste(mask.point(lambda v: v * 0.42), (2 * spread, 2 * spread))
    return mask, shade.filter(ImageFilter.GaussianBlur(spread / 1.4))


def _rounded(size: tuple[int, int], radius: int) -> Image.Image:
    large = Image.new("L", (size[0] * SUPERSAMPLE, size[1] * SUPERSAMPLE), 0)
    box = (0, 0, large.width - 1, large.height - 1)
    ImageDraw.Draw(large).rounded_rectangle(box, radius * SUPERSAMPLE, 255)
    return large.resize(size, Image.Resampling.LANCZOS)
