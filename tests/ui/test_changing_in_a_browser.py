"""A browser on a drawn story: changed in place, kept for others, and told what is not right.

The steps depend on each other and run in this order on one page. A hand draws, so nothing waits for
a model.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from consistent_gen.client.types import ScoreOut, StoryOut
from consistent_gen.rewards.sight import Sight
from tests.services.web.hand import Hand, world_png
from tests.ui.browsing import MARKS, NAMELESS, VIEWS, Visit, visiting_at
from tests.ui.conftest import Place

pytestmark = MARKS
STORY = """\
title: Ada and Bo
characters: {Ada: a girl with curly ginger hair, Bo: a brown bear}
frames: ['{Ada} reading in the forest', '{Bo} waving in a meadow']
"""


class Empty:
    """A reader that sees nobody in any picture, and finds no two pictures alike."""

    def look(self, pictures: list[bytes]) -> list[list[Sight]]:
        nobody = Sight(present=False, subject={}, hues={}, scalars={}, scene={})
        return [[nobody] for _ in pictures]

    def score(self, pictures: list[bytes], prompts: object) -> ScoreOut:
        identity = [[1.0 if a is b else 0.4 for a in pictures] for b in pictures]
        return ScoreOut(identity=[[*row] for row in identity], alignment=[], scorer="empty")

    def close(self) -> None:
        """Nothing is held."""


@pytest.fixture(scope="module")
def visit(place: Place, drawing: Hand) -> Iterator[Visit]:
    drawing.go()
    scorer = place.server.state.scorer
    place.server.state.scorer = Empty()  # type: ignore[assignment]
    with visiting_at(Visit, place.server.url) as visitor:
        yield visitor
    place.server.state.scorer = scorer


def story(visit: Visit) -> StoryOut:
    return visit.client.story(visit.client.stories(limit=1).stories[0].id)


def test_a_story_is_drawn(visit: Visit, tmp_path: Path) -> None:
    file = tmp_path / "ada.yaml"
    file.write_text(STORY)
    visit.bring_in(file)
    visit.titled("Ada and Bo")
    visit.steps(4)
    visit.press("Draw")
    visit.says("All 2 scenes are drawn.")


def test_draw_changes_draws_what_an_edited_character_changes(visit: Visit) -> None:
    before = story(visit)
    visit.page.get_by_label("Looks like").nth(1).fill("a black bear with a green scarf")
    visit.press("Draw changes")
    visit.until("document.querySelector('#board').innerText.includes('version 2 of 2')")
    visit.says("All 2 scenes are drawn.")
    after = story(visit)
    assert after.id == before.id
    assert [frame.current for frame in after.frames] == [1, 2]
    assert after.request.characters["Bo"].description == "a black bear with a green scarf"


def test_draw_changes_draws_an_added_scene_and_keeps_the_others(visit: Visit) -> None:
    before = story(visit)
    visit.page.locator("[data-key='add-scene']").click()
    visit.page.locator(".scene-card textarea").nth(2).fill("a fox in the snow")
    visit.press("Draw changes")
    visit.says("All 3 scenes are drawn.")
    after = story(visit)
    assert [frame.versions for frame in after.frames[:2]] == [f.versions for f in before.frames]
    assert visit.page.locator("#board .cell").count() == 3
    visit.wait("#board .missing")  # the last thing that is looked for
    visit.page.wait_for_timeout(1000)
    visit.press("Draw changes")
    visit.wait("text=No scene has changed since it was drawn.")


def test_words_at_a_picture_reach_the_desk(visit: Visit) -> None:
    visit.page.locator("#board .frame").first.click()
    visit.wait("#frame-heading >> text=Scene 1")
    visit.page.get_by_role("button", name="Caption and speech").click()
    # Cuneiform is in no font here.
    visit.keep_typing("#frame-caption textarea, #frame-caption input", "Ada reads \U00012000.")
    visit.press("Save the words")
    visit.until(
        "document.querySelector('[data-key=scene-0-caption]').value.startsWith('Ada reads')"
    )


def test_what_no_font_has_is_told_with_the_export(visit: Visit) -> None:
    visit.page.click("#export-pdf")
    visit.wait("#unwritten >> text=1 character of scene 1 has no glyph in any font here")
    visit.shoot("unwritten-1280")


def test_a_drawn_picture_becomes_a_library_character(visit: Visit) -> None:
    visit.page.locator("#keep button", has_text="Keep Ada").click()
    visit.wait("text=Ada is in the library")
    assert "Ada" in [one.name for one in visit.client.characters().characters]
    assert visit.page.evaluate(NAMELESS) == []
    visit.shoot("keep-1280")


def test_two_subjects_under_one_name_are_asked_about(visit: Visit, tmp_path: Path) -> None:
    visit.tab("Characters")
    visit.page.locator(".shelf-card", has_text="Ada").click()
    visit.wait(".ref-card")
    for number in (0, 1):
        photo = tmp_path / f"{number}.png"
        photo.write_bytes(world_png(number, side=256))
        with visit.page.expect_file_chooser() as chooser:
            visit.page.click("#add-reference")
        chooser.value.set_files(photo)
        visit.until(f"document.querySelectorAll('.ref-card').length === {number + 2}")
    visit.wait("#references >> text=seem to show two different subjects")
    visit.shoot("two-subjects-1280")


def test_who_is_missing_is_told_with_a_button_beside_it(visit: Visit, tmp_path: Path) -> None:
    visit.tab("Story")
    file = tmp_path / "hurried.yaml"
    file.write_text(STORY.replace("'{Bo} waving in a meadow'", "'{Ada} and {Bo} at night'"))
    visit.bring_in(file)
    visit.until("document.querySelectorAll('#board .cell').length === 0")
    visit.press("Draw")
    visit.says("All 2 scenes are drawn.")
    visit.wait("#board .missing button")
    # The first one that stands there: the board is put there anew while pictures are looked at.
    again = visit.page.locator("#board .missing button[data-again]").first
    index = int(again.get_attribute("data-again"))
    assert "not to be seen" in visit.page.locator("#board .missing").first.inner_text()
    visit.shoot("missing-1280")
    again.click()
    visit.until("document.querySelector('#board').innerText.includes('version 2 of 2')")
    visit.says("All 2 scenes are drawn.")
    frame = story(visit).frames[index]
    assert frame.current == 2 and frame.versions[0].seed != frame.versions[1].seed


def test_a_writer_who_sees_everybody_is_believed(visit: Visit, tmp_path: Path) -> None:
    visit.tab("Story")
    file = tmp_path / "believed.yaml"
    text = STORY.replace("'{Bo} waving in a meadow'", "'{Ada} and {Bo} at night'")
    file.write_text(text.replace("title: ", "title: Believed, "))
    visit.bring_in(file)
    visit.until("document.querySelectorAll('#board .cell').length === 0")
    visit.press("Draw")
    visit.says("All 2 scenes are drawn.")
    for left in (2, 1, 0):  # each picture is looked at in its turn, and the board put there anew
        visit.until(f"document.querySelectorAll('#board .missing').length === {left}")
        if left:
            visit.page.click("#board .missing button[data-there]")
    visit.until("!document.querySelector('#status').innerText.includes('missing')")


def test_a_phone_shows_it_all_without_scrolling_sideways(visit: Visit) -> None:
    width, height = VIEWS["narrow"]
    visit.page.set_viewport_size({"width": width, "height": height})
    for name in ("Characters", "Assistant", "Lab", "Story"):
        visit.tab(name)
        visit.page.wait_for_timeout(300)
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= width, name
    visit.shoot("missing-390")


def test_nothing_went_wrong_on_the_way(visit: Visit) -> None:
    assert visit.faults.found == []
