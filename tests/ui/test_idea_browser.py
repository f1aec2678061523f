"""A browser starts from an idea: the box opens, the desk fills, undo brings back what lay there."""

from __future__ import annotations

from tests.ui import test_nothing_is_lost as walking
from tests.ui.browsing import NAMELESS
from tests.ui.test_nothing_is_lost import Visit, visit

__all__ = ["visit"]
pytestmark = walking.pytestmark


def scenes(visit: Visit, count: int) -> None:
    visit.until(f"document.querySelectorAll('#script .scene-card').length === {count}")


def test_an_idea_becomes_an_editable_story(visit: Visit) -> None:
    first = visit.title
    visit.press("Idea")
    visit.page.fill("#idea textarea, #idea input", "a shy fox finds a balloon")
    visit.press("Write")
    visit.titled("A shy fox finds a balloon")
    scenes(visit, 6)
    visit.page.wait_for_selector("#idea-box", state="hidden")
    prompts = visit.prompts()
    assert any("balloon" in prompt for prompt in prompts)
    visit.shoot("idea")
    field = visit.page.locator("#script .scene-card textarea").first
    field.fill("{nobody} waving")
    visit.saved()
    visit.press("Undo")
    first_prompt = "document.querySelector('#script .scene-card textarea').value"
    visit.until(f"!{first_prompt}.includes('nobody')")
    visit.press("Undo")
    visit.titled(first)
    visit.press("Redo")
    visit.titled("A shy fox finds a balloon")
    assert visit.faults.found == []


def test_nothing_is_lost_where_there_is_no_idea(visit: Visit) -> None:
    visit.press("Idea")
    visit.page.wait_for_selector("#idea-box", state="visible")
    visit.page.fill("#idea textarea, #idea input", "?!")
    title = visit.title
    visit.press("Write")
    visit.page.get_by_text("an idea is a sentence").wait_for()
    assert visit.title == title
    visit.shoot("idea_box")
    nameless: list[str] = visit.page.evaluate(NAMELESS)
    assert nameless == []
    visit.press("Idea")
    visit.page.wait_for_selector("#idea-box", state="hidden")
