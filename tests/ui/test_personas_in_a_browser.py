"""The personas tab in a browser: import a card, mend it, talk, see the drift, audit, draw.

The steps depend on each other and run in this order on one page. A hand draws, so nothing waits for
a model.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from consistent_gen.persona.cards import with_card
from tests.services.web.hand import Hand, world_png
from tests.ui.browsing import MARKS, NAMELESS, Visit, visiting_at
from tests.ui.conftest import Place

pytestmark = MARKS
KEY = "sk-4f9a8b7c6d5e4f3a2b1c0d9e8f7a6b5c"
WIDER = "document.documentElement.scrollWidth > window.innerWidth + 1"
# What scrolls by itself inside the page: there is one scroll bar, the page's.
SCROLLERS = """() => [...document.querySelectorAll('[role=tabpanel] *')]
  .filter((node) => node.checkVisibility() && node.tagName !== 'IFRAME')
  .filter((node) => node.scrollHeight > node.clientHeight + 4 && node.clientHeight > 0
    && ['auto', 'scroll'].includes(getComputedStyle(node).overflowY))
  .map((node) => node.outerHTML.slice(0, 120))"""


class PersonaWalk(Visit):
    """A visitor of the personas tab."""

    def says(self, words: str) -> None:
        """Say something to the persona; its answer is there when the box is empty and done."""
        turns = self.page.locator("#persona-talk .persona").count()
        self.page.fill("#persona-say textarea, #persona-say input", words)
        self.press("Say it")
        self.until(
            f"document.querySelectorAll('#persona-talk .persona').length > {turns} && "
            "!document.querySelector('#persona-talk').innerText.includes('…')"
        )


@pytest.fixture(scope="module")
def walk(place: Place, drawing: Hand) -> Iterator[PersonaWalk]:
    drawing.go()
    with visiting_at(PersonaWalk, place.server.url) as visitor:
        yield visitor


def card_file(folder: Path) -> Path:
    data: dict[str, Any] = {
        "name": "Mira",
        "description": f"Mira keeps bees. Her shop opens with {KEY} and a smile.",
        "personality": "Mira is patient. Mira fears storms. <b>Mira sings.</b>",
        "scenario": "A village in autumn.",
        "first_mes": "",
        "mes_example": "",
    }
    told = {"spec": "chara_card_v2", "spec_version": "2.0", "data": data}
    file = folder / "mira.png"
    file.write_bytes(with_card(world_png(7), json.dumps(told), ("chara",)))
    return file


def test_a_card_is_imported_and_its_issues_stand_at_the_fields(
    walk: PersonaWalk, tmp_path: Path
) -> None:
    walk.tab("Personas")
    walk.wait("#cards >> text=No card is here yet")
    with walk.page.expect_file_chooser() as chooser:
        walk.press("Import a card")
    chooser.value.set_files(card_file(tmp_path))
    walk.wait("#issues-description >> text=Mend this first")
    walk.wait("#issues-first_mes >> text=Have a look")
    assert KEY not in walk.page.inner_text("#issues-description")
    walk.page.fill("#persona-say textarea, #persona-say input", "Hello?")
    walk.press("Say it")
    walk.wait("text=mend the card first")
    assert walk.page.input_value("#persona-say textarea, #persona-say input") == "Hello?"
    walk.shoot("personas-issues")


def test_what_the_validator_says_is_mended(walk: PersonaWalk) -> None:
    walk.page.fill(
        "#card-description textarea", "Mira keeps bees. Mira has red hair and a green coat."
    )
    walk.page.fill("#card-first_mes textarea", "Mind the bees, {{user}}.")
    walk.press("Save and check again")
    walk.wait("#cards .count >> text=ready")
    assert walk.page.locator("#issues-description li").count() == 0
    assert walk.page.input_value("#persona-looks textarea") == "Mira has red hair and a green coat."
    walk.reload()
    walk.wait("#script .cast-card")
    walk.tab("Personas")
    walk.until("document.querySelector('#card-first_mes textarea')?.value.startsWith('Mind')")


def test_a_talk_shows_its_drift(walk: PersonaWalk) -> None:
    walk.says("Do you keep bees?")
    walk.wait("#persona-talk >> text=Mira keeps bees.")
    walk.wait("#persona-talk >> text=Mind the bees, User.")
    walk.says("Do you sing?")
    walk.wait("#persona-talk >> text=<b>Mira sings.</b>")
    points = walk.page.get_attribute("#persona-drift polyline", "points")
    assert points is not None
    assert len(points.split()) == 3
    assert "away from the card" in walk.page.inner_text("#persona-drift")


def test_the_persona_draws_itself_within_the_talk(walk: PersonaWalk) -> None:
    walk.page.fill("#persona-looks textarea", "a girl with red hair and a green coat")
    for count, (line, button) in enumerate(
        (("draw yourself in the forest", "Say it"), ("on a beach", "Draw yourself like this")), 1
    ):
        walk.page.fill("#persona-say textarea, #persona-say input", line)
        walk.press(button)
        walk.until(
            "[...document.querySelectorAll('#persona-talk img')]"
            f".filter((one) => one.complete && one.naturalWidth > 0).length === {count}"
        )
    walk.wait("#persona-talk >> text=Here I am: on a beach.")
    (one,) = (c for c in walk.client.characters().characters if c.name == "Mira")
    stories = [s for s in walk.client.stories(limit=50).stories if s.title == "Talk with Mira"]
    story = walk.client.story(stories[0].id)
    assert len(stories) == 1 and len(story.frames) == 2  # one story, so one cast
    assert story.request.characters["Mira"].library == one.id
    walk.shoot("personas-talk-pictures")


def test_a_picture_that_fails_is_told_within_the_talk(walk: PersonaWalk, hand: Hand) -> None:
    hand.spoil = lambda lease: True
    walk.page.fill("#persona-say textarea, #persona-say input", "at the castle")
    walk.press("Draw yourself like this")
    walk.wait("#persona-talk >> text=The picture was not drawn: spoilt")


def test_an_audit_ends_in_a_report_that_is_opened(walk: PersonaWalk) -> None:
    walk.press("Audit the persona")
    walk.press("Open the report")
    frame = walk.page.frame_locator("#audit-report iframe")
    frame.get_by_role("heading", level=1).wait_for()
    assert "Mira" in frame.get_by_role("heading", level=1).inner_text()
    walk.until(
        "(() => { const frame = document.querySelector('#audit-report iframe');"
        "return frame.clientHeight >= frame.contentDocument.documentElement.scrollHeight })()"
    )
    assert walk.page.locator("#audit-report iframe").get_attribute("sandbox") == "allow-same-origin"


@pytest.mark.parametrize(("name", "size"), [("wide", (1280, 800)), ("narrow", (390, 844))])
def test_the_tab_fits_the_page(walk: PersonaWalk, name: str, size: tuple[int, int]) -> None:
    walk.page.set_viewport_size({"width": size[0], "height": size[1]})
    walk.page.wait_for_timeout(300)
    assert not walk.page.evaluate(WIDER)
    assert walk.page.evaluate(SCROLLERS) == []
    assert walk.page.evaluate(NAMELESS) == []
    for mode in ("light", "dark"):
        walk.page.evaluate(f"document.body.classList.toggle('dark', {str(mode == 'dark').lower()})")
        walk.page.wait_for_timeout(200)
        walk.shoot(f"personas-{name}-{mode}")
        walk.page.screenshot(path=f"out/ui/personas-{name}-{mode}-full.png", full_page=True)
    walk.page.evaluate("document.body.classList.remove('dark')")
    walk.page.set_viewport_size({"width": 1280, "height": 800})


def test_the_persona_is_drawn_in_a_story(walk: PersonaWalk) -> None:
    walk.page.fill("#persona-looks textarea", "a girl with red hair and a green coat")
    walk.press("Begin a story with this persona")
    walk.titled("Mira")
    walk.steps(4)
    walk.press("Draw")
    walk.wait("#status >> text=All 3 scenes are drawn.")
    story = walk.client.story(walk.client.stories(limit=1).stories[0].id)
    (one,) = [c for c in walk.client.characters().characters if c.name == "Mira"]
    assert story.request.characters["Mira"].library == one.id
    assert one.description == "a girl with red hair and a green coat"
    wrong = [fault for fault in walk.faults.found if "409" not in fault]
    assert wrong == []
