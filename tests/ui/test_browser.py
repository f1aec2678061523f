"""The studio in a real browser against the real server: the walk of a first visitor.

The steps depend on each other and run in this order on one page. Screenshots go to out/ui.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.ui.browsing import MARKS, NAMELESS, SHOTS, VIEWS, Visit, visiting

pytestmark = MARKS


class Walk(Visit):
    """One visitor who draws a story."""

    view = VIEWS["wide"]

    def story(self) -> Any:
        mine = [one for one in self.client.stories().stories if one.title == "Mia and Otto"]
        return self.client.story(mine[0].id)

    def pictures(self) -> list[bytes]:
        """The bytes of the pictures that count, by scene."""
        frames = self.story().frames
        chosen = [next(v for v in f.versions if v.version == f.current) for f in frames]
        return [self.client.artifact(version.artifact) for version in chosen]

    def shoot(self, name: str) -> None:
        """The page in both widths, light and dark."""
        SHOTS.mkdir(parents=True, exist_ok=True)
        for view, (width, height) in VIEWS.items():
            self.page.set_viewport_size({"width": width, "height": height})
            for light in ("light", "dark"):
                dark = str(light == "dark").lower()
                self.page.evaluate(f"document.body.classList.toggle('dark', {dark})")
                self.page.wait_for_timeout(150)
                file = SHOTS / f"{name}-{view}-{light}.png"
                self.page.screenshot(path=str(file), full_page=view == "narrow")
        self.page.evaluate("document.body.classList.remove('dark')")
        width, height = VIEWS["wide"]
        self.page.set_viewport_size({"width": width, "height": height})


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walk]:
    with visiting(Walk, tmp_path_factory.mktemp("data")) as visitor:
        yield visitor


def test_the_first_page_is_ready_to_draw(walk: Walk) -> None:
    assert walk.page.title() == "Story studio"
    assert walk.page.input_value("#story-title input, #story-title textarea") == "Two Friends"
    assert walk.page.locator(".scene-card").count() == 4
    assert walk.page.get_by_role("button", name="Draw", exact=True).is_enabled()
    assert walk.page.evaluate(NAMELESS) == []
    walk.shoot("first")


def test_a_story_is_written_with_the_keyboard(walk: Walk) -> None:
    page = walk.page
    page.get_by_role("button", name="Remove scene 4").click()
    name = page.get_by_label("Name", exact=True).nth(1)
    name.fill("Otto")
    name.press("Tab")
    prompts = page.locator(".scene-card textarea")
    assert prompts.nth(1).input_value() == "{Otto} waving in the forest"  # renamed everywhere
    prompts.nth(2).focus()
    page.keyboard.press("Alt+ArrowUp")
    assert prompts.nth(1).input_value() == "{Mia} and {Otto} dancing in a meadow"
    assert page.evaluate("document.activeElement.value") == prompts.nth(1).input_value()
    page.get_by_role("button", name="Remove scene 3").click()
    page.get_by_role("button", name="Put Otto into scene 1").click()
    assert prompts.nth(0).input_value().endswith("{Otto}")
    prompts.nth(0).fill("{Mia} reading a book in the forest")
    page.fill("#story-title input, #story-title textarea", "Mia and Otto")
    assert page.locator(".cast-card").count() == 2


def test_drawing_shows_previews_and_stops_at_once(walk: Walk) -> None:
    walk.steps(150)
    walk.page.click("#draw")
    walk.wait(".frame img.preview")
    Visit.shoot(walk, "drawing")  # one view: in the time of four the drawing might end
    walk.page.click("#cancel")
    walk.says("Stopped")
    assert walk.page.locator("#cancel").is_hidden()
    assert walk.client.jobs(limit=1).jobs[0].state == "cancelled"


def test_drawing_to_the_end(walk: Walk) -> None:
    walk.steps(4)
    walk.page.click("#draw")
    walk.says("All 2 scenes are drawn.")
    assert [frame.prompt for frame in walk.story().frames] == [
        "{Mia} reading a book in the forest",
        "{Mia} and {Otto} dancing in a meadow",
    ]
    walk.wait("#page img")
    assert walk.page.evaluate(NAMELESS) == []


def test_one_frame_is_drawn_again_and_the_other_stays(walk: Walk) -> None:
    before = walk.pictures()
    frame = walk.page.get_by_role("button", name=re.compile("Open scene 2"))
    frame.focus()
    walk.page.keyboard.press("Enter")
    walk.wait("#compare img")
    walk.page.click("#reroll")
    walk.wait(".compare.n2")
    after = walk.pictures()
    assert after[0] == before[0]
    assert after[1] != before[1]
    walk.page.get_by_text("Caption and speech").click()
    walk.page.get_by_role("button", name="+ Add a speech bubble").click()
    walk.page.get_by_label("Bubble 1", exact=True).fill("May I have this dance?")
    bubble = walk.page.locator(".bubble")
    left = bubble.evaluate("(node) => node.style.left")
    bubble.focus()
    walk.page.keyboard.press("ArrowRight")
    assert bubble.evaluate("(node) => node.style.left") != left
    walk.page.click("#save-words")
    walk.wait("text=The words are saved.")
    assert walk.story().frames[1].bubbles[0].text == "May I have this dance?"
    walk.shoot("frame")
    # The earlier version goes back into the book.
    assert walk.page.locator("#versions .thumbnail-item").count() == 2
    walk.page.click("#choose")
    walk.page.wait_for_function(
        "document.querySelector('#compare figcaption').innerText.includes('version 1')"
    )
    assert walk.pictures() == before
    assert walk.page.evaluate(NAMELESS) == []


def test_the_printed_book_is_a_pdf_that_opens(walk: Walk, tmp_path: Path) -> None:
    walk.page.click("#export-pdf")
    with walk.page.expect_download() as waiting:
        walk.page.click("#export-file a")
    file = tmp_path / "book.pdf"
    waiting.value.save_as(file)
    assert waiting.value.suggested_filename == "Mia_and_Otto.pdf"
    data = file.read_bytes()
    assert data.startswith(b"%PDF-") and data.rstrip().endswith(b"%%EOF")
    assert re.search(rb"/Type\s*/Page\b", data)
    at = int(data.rstrip().splitlines()[-2])  # where the table of objects begins
    assert data[at : at + 4] == b"xref" or b"/XRef" in data[at : at + 400]


def test_the_assistant_learns_a_character_and_draws_it(walk: Walk, tmp_path: Path) -> None:
    walk.tab("Assistant")
    walk.wait("#memory .hint, #memory .memories")
    photo = tmp_path / "bo.png"
    photo.write_bytes(walk.pictures()[0])
    with walk.page.expect_file_chooser() as chooser:
        walk.page.click("#say [data-testid='upload-button']")
    chooser.value.set_files(photo)
    walk.wait("#say .thumbnail-item, #say img")
    walk.say("This is my brown dog Bo")
    walk.page.locator("#say-yes").click()
    walk.wait("#memory >> text=Bo")
    walk.say("Draw Bo at the beach")
    walk.page.wait_for_function("document.querySelectorAll('#chat img').length >= 2")
    assert walk.page.get_by_role("button", name="Share").count() == 0
    assert walk.page.evaluate(NAMELESS) == []
    walk.shoot("assistant")


def test_a_library_character_goes_into_the_story(walk: Walk, tmp_path: Path) -> None:
    walk.tab("Characters")
    walk.wait("#shelf .hint, #shelf .shelf")
    walk.page.fill("#character-name input, #character-name textarea", "Bruno")
    walk.page.fill("#character-looks textarea", "a brown bear with a red scarf")
    walk.page.click("#save-character")
    walk.wait(".shelf-card")
    photo = tmp_path / "bruno.png"
    photo.write_bytes(walk.pictures()[1])
    with walk.page.expect_file_chooser() as chooser:
        walk.page.click("#add-reference")
    chooser.value.set_files(photo)
    walk.wait(".ref-card")
    assert walk.page.evaluate(NAMELESS) == []
    walk.shoot("characters")
    walk.page.click("#use-character")
    walk.wait("text=Bruno is in the story now")
    walk.tab("Story")
    assert walk.page.locator(".cast-card").count() == 3


def test_a_mistake_is_a_sentence_and_no_traceback(walk: Walk) -> None:
    first = walk.page.locator(".scene-card textarea").first
    before = first.input_value()
    first.fill("{Zorro} and a dragon")
    walk.page.click("#draw")
    walk.wait("text=nobody is called 'Zorro'")
    assert walk.page.locator(".scene-card.marked").count() == 1
    assert walk.page.locator("[data-marks='scene-0'] .trouble").is_visible()
    walk.says("Not drawn; see scene 1.")
    first.fill("{Mia} and a dragon in the garden")
    walk.wait("[data-marks='scene-0'] >> text=“dragon” cannot be drawn")
    walk.wait("[data-marks='scene-0'] >> text=“garden” is drawn as")
    assert walk.page.locator(".scene-card.marked").count() == 0
    assert "Traceback" not in walk.page.content()
    walk.shoot("marks")
    first.fill(before)


def test_a_reload_finds_everything(walk: Walk) -> None:
    walk.page.wait_for_timeout(1500)  # the desk is saved a moment after the last key
    walk.reload()
    walk.wait(".frame img")
    walk.says("All 2 scenes are drawn.")
    page = walk.page
    assert page.input_value("#story-title input, #story-title textarea") == "Mia and Otto"
    assert page.locator(".cast-card").count() == 3
    assert page.locator(".scene-card").count() == 2
    walk.tab("Assistant")
    page.wait_for_function("document.querySelectorAll('#chat img').length >= 2")
    walk.wait("#memory >> text=Bo")
    walk.tab("Characters")
    walk.wait(".shelf-card")


def test_the_lab_compares_two_methods(walk: Walk) -> None:
    walk.tab("Lab")
    walk.wait("#lab-methods input:checked")
    box = walk.page.locator("#lab-steps input[type=number]")
    box.fill("2")
    box.press("Tab")
    walk.page.get_by_label("Add portraits, so that every character can be measured alone").uncheck()
    walk.page.click("#lab-run")
    walk.wait("#lab-status >> text=2 of 2 methods are compared.")
    assert walk.page.locator("#lab-sheet img").count() == 4
    assert walk.page.evaluate(NAMELESS) == []
    walk.shoot("lab")


def test_no_page_is_wider_than_the_screen(walk: Walk) -> None:
    width, height = VIEWS["narrow"]
    walk.page.set_viewport_size({"width": width, "height": height})
    for name in ("Story", "Characters", "Assistant", "Lab"):
        walk.tab(name)
        walk.page.wait_for_timeout(300)
        assert walk.page.evaluate("document.documentElement.scrollWidth") <= width, name


def test_nothing_went_wrong_on_the_way(walk: Walk) -> None:
    assert walk.faults.found == []
    assert not [line for line in walk.log if "Traceback" in line]
    written = "".join(walk.log)
    assert "Zorro" not in written and "reading a book" not in written
