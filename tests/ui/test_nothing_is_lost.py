"""A browser on the desk: what was typed is never lost, whatever is pressed or reloaded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ui.browsing import MARKS, NAMELESS, Visit, visiting

pytestmark = MARKS


@pytest.fixture(scope="module")
def visit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Visit]:
    with visiting(Visit, tmp_path_factory.mktemp("data")) as visitor:
        yield visitor


def test_scenes_are_seen_at_first_and_nothing_scrolls_inside(visit: Visit) -> None:
    visit.page.wait_for_timeout(500)
    first = visit.page.locator(".scene-card").first.bounding_box()
    assert first is not None and first["y"] + 60 < 800
    inner = """() => [...document.querySelectorAll('.gradio-container *')]
      .filter((node) => node.checkVisibility() && node.tagName !== 'TEXTAREA'
        && node.scrollHeight > node.clientHeight + 4
        && /auto|scroll/.test(getComputedStyle(node).overflowY))
      .map((node) => node.className)"""
    assert visit.page.evaluate(inner) == []
    assert visit.page.evaluate(NAMELESS) == []
    visit.shoot("desk-1280")
    bottom = visit.page.locator("#script [data-key='add-scene']")
    bottom.scroll_into_view_if_needed()
    assert bottom.is_visible()
    visit.page.evaluate("scrollTo(0, 0)")


def test_typing_after_a_rename_is_kept(visit: Visit) -> None:
    name = visit.page.get_by_label("Name", exact=True).nth(1)
    name.fill("Otto")
    name.press("Tab")
    looks = visit.page.get_by_label("Looks like").nth(1)
    looks.focus()
    name.focus()
    name.fill("Emil")
    prompt = visit.page.locator(".scene-card textarea").nth(1)
    prompt.click()  # the name changes as the caret arrives here
    assert visit.page.evaluate("document.activeElement.dataset.key") == "scene-1-prompt"
    visit.page.keyboard.press("End")
    visit.page.keyboard.type(" at night")
    assert prompt.input_value() == "{Emil} waving in the forest at night"
    assert visit.page.get_by_role("button", name="Put Emil into scene 1").is_visible()
    visit.saved()


def test_a_reload_in_the_middle_of_a_word_keeps_it(visit: Visit) -> None:
    prompt = visit.page.locator(".scene-card textarea").nth(0)
    prompt.fill("{Mia} reading in the snow")
    visit.reload()  # sooner than anything is saved
    visit.page.wait_for_selector("#script .cast-card")
    visit.until("document.querySelector('.scene-card textarea')?.value.includes('snow')")
    visit.saved()
    visit.reload()
    visit.until("document.querySelector('.scene-card textarea')?.value.includes('snow')")


def test_undo_and_redo_for_every_edit(visit: Visit) -> None:
    before = visit.prompts()
    visit.page.wait_for_timeout(2000)
    visit.press("Remove scene 4")
    visit.saved()
    assert len(visit.prompts()) == 3
    visit.press("Undo")
    visit.until("document.querySelectorAll('.scene-card').length === 4")
    assert visit.prompts() == before
    visit.page.wait_for_timeout(1500)
    visit.press("Redo")
    visit.until("document.querySelectorAll('.scene-card').length === 3")
    visit.press("Undo")
    visit.until("document.querySelectorAll('.scene-card').length === 4")
    title = visit.page.locator("#story-title input, #story-title textarea")
    title.fill("Another title")
    visit.page.wait_for_timeout(1500)
    visit.press("Undo")
    visit.titled("Two Friends")


def test_two_presses_of_undo_at_once_count_twice(visit: Visit) -> None:
    for count in (3, 2):
        visit.page.wait_for_timeout(2000)  # a pause, so that these are two edits
        visit.press(f"Remove scene {count + 1}")
        visit.saved()
    for name, left in (("undo", 4), ("redo", 2), ("undo", 4)):
        visit.page.evaluate(
            f"for (let n = 0; n < 2; n++) document.querySelector('#{name}').click()"
        )
        visit.until(f"document.querySelectorAll('.scene-card').length === {left}")
        visit.page.wait_for_timeout(1500)  # nothing that comes late takes it back
        assert len(visit.prompts()) == left


def test_new_duplicate_and_delete_can_be_undone(visit: Visit) -> None:
    before = visit.prompts()
    for name, count in (("New", 1), ("Delete", 1)):
        visit.press(name)
        visit.until(f"document.querySelectorAll('.scene-card').length === {count}")
        assert visit.title == ""
        visit.press("Undo")
        visit.until("document.querySelectorAll('.scene-card').length === 4")
        assert visit.prompts() == before
    visit.press("Duplicate")
    visit.titled("Two Friends (copy)")
    assert visit.prompts() == before
    visit.press("Undo")
    visit.titled("Two Friends")


def test_a_story_file_comes_in(visit: Visit, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("title: Mine\ncharacters: {Ada: a girl}\nframes: ['{Ada} reading', a fox]\n")
    visit.bring_in(file)
    visit.titled("Mine")
    assert visit.prompts() == ["{Ada} reading", "a fox"]
    file.write_text("title: Mine\nframes: ['{Adda} reading']\n")
    visit.bring_in(file)
    visit.page.wait_for_selector("text=mine.yaml:2")
    assert visit.prompts() == ["{Ada} reading", "a fox"]


def test_what_goes_into_the_story_survives_a_reload(visit: Visit) -> None:
    page = visit.page
    page.get_by_role("tab", name="Characters", exact=True).click()
    page.fill("#character-name input, #character-name textarea", "Bruno")
    page.fill("#character-looks textarea", "a brown bear with a red scarf")
    page.click("#save-character")
    page.wait_for_selector(".shelf-card")
    page.click("#use-character")
    page.wait_for_selector("text=Bruno is in the story now")
    page.wait_for_timeout(800)
    visit.reload()
    page.wait_for_selector("#script .cast-card")
    names = "[...document.querySelectorAll('#script .cast-card input')]"
    visit.until(f"{names}.some((node) => node.value === 'Bruno')")


def test_words_are_marked_at_their_scene_and_replaced(visit: Visit) -> None:
    prompt = visit.page.locator(".scene-card textarea").nth(1)
    prompt.fill("a fox and a dragon in the garden")
    dragon = visit.page.wait_for_selector("[data-marks='scene-1'] >> text=“dragon” cannot be drawn")
    assert dragon is not None
    visit.page.wait_for_selector("[data-marks='scene-1'] >> text=“garden” is drawn as")
    assert visit.page.locator("[data-marks='scene-0'] .mark").count() == 0
    visit.shoot("marks-1280")
    choice = visit.page.locator("[data-marks='scene-1'] .chip").first
    if choice.count():
        word = choice.inner_text()
        choice.click()
        assert "dragon" not in prompt.input_value() and word in prompt.input_value()
    prompt.fill("{Zorro} waving")
    visit.press("Draw")
    visit.page.wait_for_selector("[data-marks='scene-1'] >> text=nobody is called 'Zorro'")
    visit.page.wait_for_timeout(13_000)  # longer than a message
    assert visit.page.locator("[data-marks='scene-1'] .trouble").is_visible()
    visit.shoot("trouble-1280")
    prompt.fill("a fox")
    visit.until("document.querySelectorAll('.scene-card.marked').length === 0")


def test_forgetting_is_asked_and_nothing_technical_is_told(visit: Visit) -> None:
    page = visit.page
    page.get_by_role("tab", name="Assistant", exact=True).click()
    page.wait_for_selector("#memory .hint, #memory .memories")
    box = page.locator("#say textarea")
    box.fill("I live in Lisbon and I love sardines.")
    box.press("Enter")
    page.wait_for_selector("#memory .memory > p:has-text('Lisbon')")
    said = page.locator("#chat").inner_text()
    assert "trait_obs" not in said and "turn" not in said.split() and "+ " not in said
    page.locator("#memory button", has_text="Forget").first.click()
    page.wait_for_selector("text=It cannot be undone")
    visit.shoot("forget-1280")
    page.locator("#memory button", has_text="Keep it").click()
    page.wait_for_selector("#memory .memory > p:has-text('Lisbon')")
    page.wait_for_selector("text=It cannot be undone", state="detached")


def test_nothing_went_wrong_on_the_way(visit: Visit) -> None:
    assert visit.faults.found == []
    assert not [line for line in visit.log if "Traceback" in line]
