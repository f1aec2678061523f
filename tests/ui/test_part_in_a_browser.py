"""A part of a drawn picture again, in a browser: a box is clicked, drawn, and undone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from consistent_gen.client.types import StoryFrame
from tests.services.web.hand import Hand
from tests.ui.browsing import MARKS, NAMELESS, Visit, visiting_at
from tests.ui.conftest import Place

pytestmark = MARKS
STORY = "title: Ada\ncharacters: {Ada: a girl with curly ginger hair}\nframes: ['{Ada} reading']\n"


@pytest.fixture
def visit(place: Place, hand: Hand) -> Iterator[Visit]:
    with visiting_at(Visit, place.server.url) as visitor:
        yield visitor


def frame(visit: Visit) -> StoryFrame:
    return visit.client.story(visit.client.stories(limit=1).stories[0].id).frames[0]


def test_a_box_is_marked_drawn_and_undone(visit: Visit, hand: Hand, tmp_path: Path) -> None:
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
    picture = visit.page.locator("#part-picture img")
    picture.wait_for()
    visit.press("Draw this part again")  # Ada, who is offered first
    visit.until("document.querySelector('#board').innerText.includes('version 2 of 2')")
    assert orders[-1]["part"]["character"] == [1, 1]
    visit.wait("#part-undo")

    side = picture.bounding_box()["width"]
    picture.click(position={"x": side * 0.5, "y": side * 0.25})
    visit.page.wait_for_timeout(1500)
    picture.click(position={"x": side * 0.95, "y": side * 0.95})
    visit.page.wait_for_timeout(1500)
    assert visit.page.evaluate(NAMELESS) == []
    visit.press("Draw this part again")
    visit.until("document.querySelector('#board').innerText.includes('version 3 of 3')")
    box = orders[-1]["part"]["box"]
    assert box == pytest.approx([0.5, 0.25, 0.95, 0.95], abs=0.06)
    visit.wait("#part-undo")
    assert frame(visit).current == 3
    visit.page.click("#part-undo")
    visit.wait("text=The picture is as it was.")
    assert frame(visit).current == 2
