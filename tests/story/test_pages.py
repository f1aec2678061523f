"""Pages of every layout: every panel once, in order, whole, with its words inside its frame."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consistent_gen.story.layouts import LAYOUTS
from consistent_gen.story.pages import Box, Page, arrange, letter
from tests.story.books import book_of, plain_panel

COUNTS = range(1, 14)
SIZES = st.tuples(st.integers(1, 300), st.integers(1, 300))


def overlap(a: Box, b: Box) -> bool:
    return (
        a.x < b.x + b.width - 0.01
        and b.x < a.x + a.width - 0.01
        and a.y < b.y + b.height - 0.01
        and b.y < a.y + a.height - 0.01
    )


def within(inner: Box, outer: Box) -> bool:
    return (
        inner.x >= outer.x - 0.01
        and inner.y >= outer.y - 0.01
        and inner.x + inner.width <= outer.x + outer.width + 0.01
        and inner.y + inner.height <= outer.y + outer.height + 0.01
    )


def check(pages: list[Page], count: int) -> None:
    inside = [page for page in pages if not page.cover]
    assert [cell.index for page in inside for cell in page.cells] == list(range(count))
    assert len({(page.width, page.height) for page in pages}) == 1
    for page in pages:
        paper = Box(0, 0, page.width, page.height)
        boxes = [cell.frame for cell in page.cells]
        assert all(within(box, paper) for box in boxes)
        assert not any(overlap(a, b) for a, b in combinations(boxes, 2))
        assert not any(overlap(page.title_box, box) for box in boxes if page.title.height)
        for cell in page.cells:
            assert within(cell.picture, cell.frame)
            if cell.caption.height:
                assert within(cell.caption_box, cell.frame)
                assert not overlap(cell.caption_box, cell.picture)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("count", COUNTS)
def test_every_layout_holds_any_number_of_panels(layout: str, count: int) -> None:
    captions = ["", "Short.", "A caption of a usual length, which needs more than one line. " * 2]
    panels = [plain_panel(i, captions[i % 3]) for i in range(count)]
    book = book_of(panels, layout, title="A title that is long enough for a second line, surely")
    pages = arrange(book, letter(book))
    check(pages, count)
    for page in pages:
        for cell in page.cells:
            assert cell.picture.width == pytest.approx(cell.picture.height)


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(list(LAYOUTS)), st.lists(SIZES, min_size=1, max_size=9), st.text(max_size=200)
)
def test_pictures_of_any_shape_keep_it(
    layout: str, sizes: list[tuple[int, int]], text: str
) -> None:
    panels = [plain_panel(i, text, size=size) for i, size in enumerate(sizes)]
    book = book_of(panels, layout, title=text)
    pages = arrange(book, letter(book))
    check(pages, len(panels))
    for page in pages:
        for cell in page.cells:
            width, height = sizes[cell.index]
            assert cell.picture.width / cell.picture.height == pytest.approx(width / height)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_captions_of_the_longest_allowed_length_are_not_cut(layout: str) -> None:
    caption = ("The quick brown fox jumps over the lazy dog and goes home. " * 12)[:600]
    book = book_of([plain_panel(i, caption) for i in range(7)], layout)
    pages = arrange(book, letter(book))
    assert not any(cell.caption.cut for page in pages for cell in page.cells)


@pytest.mark.parametrize(
    ("layout", "count", "pages"),
    [
        ("comic4", 4, 1),
        ("comic4", 13, 4),
        ("comic6", 6, 1),
        ("comic6", 7, 2),
        ("strip", 8, 1),
        ("grid", 12, 1),
        ("grid", 200, 17),
        ("splash", 3, 4),
        ("picture-book", 13, 14),
    ],
)
def test_number_of_pages(layout: str, count: int, pages: int) -> None:
    book = book_of([plain_panel(i % 13) for i in range(count)], layout)
    arranged = arrange(book, letter(book))
    assert len(arranged) == pages
    check(arranged, count)


def test_pages_are_evenly_filled() -> None:
    book = book_of([plain_panel(i) for i in range(7)], "comic6")
    assert [len(page.cells) for page in arrange(book, letter(book))] == [4, 3]


def test_only_books_of_several_pages_have_page_numbers() -> None:
    one = book_of([plain_panel()] * 4)
    two = book_of([plain_panel()] * 5)
    assert [page.number for page in arrange(one, letter(one))] == [None]
    assert [page.number for page in arrange(two, letter(two))] == [1, 2]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("size", [(300, 1), (1, 300), (300, 20), (20, 300)])
def test_extreme_shapes_are_whole(layout: str, size: tuple[int, int]) -> None:
    for title in ("T", "A very long title " * 20):
        book = book_of([plain_panel(i, "Words.", size=size) for i in range(2)], layout, title)
        pages = arrange(book, letter(book))
        check(pages, 2)
        assert min(pages[0].width, pages[0].height) > 70
