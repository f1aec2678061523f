"""A part of a drawn picture again, in a browser: a box is drawn, a stroke painted, and undone."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from consistent_gen.client.types import StoryFrame
from tests.services.web.hand import Hand
from tests.ui.browsing import MARKS, NAMELESS, Visit, visiting_at
from tests.ui.conftest import Place
from ui.part_panel import MARKED

pytestmark = MARKS
STORY = "title: Ada\ncharacters: {Ada: a girl with curly ginger hair}\nframes: ['{Ada} reading']\n"


@pytest.fixture
def visit(place: Place, hand: Hand) -> Iterator[Visit]:
    with visiting_at(Visit, place.server.url) as visitor:
        yield visitor


def frame(visit: Visit) -> StoryFrame:
    return visit.client.story(visit.client.stories(limit=1).stories[0].id).frames[0]


def drag(visit: Visit, canvas: Any, *way: tuple[float, float]) -> None:
    """Paint from one place of the picture to another, in shares of its sides."""
    canvas.scroll_into_view_if_needed()
    side, mouse = canvas.bounding_box(), visit.page.mouse
    (x, y), *rest = [
        (side["x"] + u * side["width"], side["y"] + v * side["height"]) for u, v in way
    ]
    mouse.move(x, y)
    mouse.down()
    for x, y in rest:
        mouse.move(x, y, steps=8)
    mouse.up()


def test_a_box_and_a_stroke_are_marked_drawn_and_undone(
    visit: Visit, hand: Hand, tmp_path: Path
) -> None:
    orders: list[dict[str, Any]] = []

    def note(lease: dict[str, Any]) -> bool:
        orders.append(lease["order"])
        return False

    hand.spoil = note
    file = tmp_path / "ada.yaml"
    file.write_text(STORY)
    visit.bring_in(file)
    visit.titled("Ada")
    visit.steps(4)
    visit.press("Draw")
    visit.says("The scene is drawn.")
    visit.page.locator("#board .frame").first.click()
    visit.wait("#frame-heading >> text=Scene 1")
    visit.page.get_by_role("button", name="Redraw a part").click()
    canvas = visit.page.locator("#part-marks canvas")
    canvas.wait_for()
    visit.press("Draw this part again")  # Ada, who is offered first
    visit.until("document.querySelector('#board').innerText.includes('version 2 of 2')")
    assert orders[-1]["part"]["character"] == [1, 1]
    visit.wait("#part-undo")

    visit.press("Box")
    drag(visit, canvas, (0.95, 0.95), (0.5, 0.25))
    visit.until(f"document.querySelector('#part-who input').value === '{MARKED}'")
    assert visit.page.evaluate(NAMELESS) == []
    visit.press("Draw this part again")
    visit.until("document.querySelector('#board').innerText.includes('version 3 of 3')")
    box = orders[-1]["part"]["box"]
    assert box == pytest.approx([0.5, 0.25, 0.95, 0.95], abs=0.03)
    visit.wait("#part-undo")

    visit.press("Brush")
    drag(visit, canvas, (0.25, 0.25), (0.75, 0.25))
    visit.until("document.querySelector('.painter-live').textContent === 'Marked.'")
    drag(visit, canvas, (0.25, 0.9), (0.75, 0.9))
    visit.press("Take back the last")
    visit.until(f"document.querySelector('#part-who input').value === '{MARKED}'")
    visit.shoot("part-painted")
    visit.press("Draw this part again")
    visit.until("document.querySelector('#board').innerText.includes('version 4 of 4')")
    with Image.open(io.BytesIO(visit.client.artifact(orders[-1]["part"]["mask"]))) as opened:
        mask = np.asarray(opened.convert("L")) > 127
    rows = np.flatnonzero(mask.any(1)) / len(mask)
    assert (rows[0], rows[-1]) == pytest.approx((0.19, 0.31), abs=0.03)
    assert mask[:, len(mask) // 2].any() and mask.mean() < 0.15

    visit.wait("#part-undo")
    assert frame(visit).current == 4
    visit.page.click("#part-undo")
    visit.wait("text=The picture is as it was.")
    assert frame(visit).current == 3
