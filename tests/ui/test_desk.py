"""The story tab's handlers against a real server and a drawing hand."""

from __future__ import annotations

import threading
from dataclasses import replace
from itertools import pairwise

import pytest

from consistent_gen.client import ApiError
from consistent_gen.errors import ConsistentGenError, InputError
from tests.services.web.hand import Hand, until
from tests.ui.conftest import Place
from ui.app import open_folder
from ui.desk import Desk, StoryView, read_desk
from ui.frames import Frames, read_bubbles
from ui.state import Draft, SceneCard, write_script

FORMATS = {"pdf": b"%PDF-", "cbz": b"PK", "zip": b"PK", "gif": b"GIF8", "png": b"\x89PNG"}


def begin(desk: Desk) -> tuple[str, Draft]:
    """A new project with the first example, quick to draw."""
    project, is_new = desk.project(None)
    assert is_new
    return project.id, replace(desk.draft(project), steps=4)


def draw(desk: Desk, project: str, draft: Draft) -> list[StoryView]:
    return [view for _, view in desk.draw(project, draft)]


def artifacts(view: StoryView) -> list[str | None]:
    return [cell.picture for cell in view.board.cells]


def test_the_first_visit_finds_a_story_and_the_second_finds_it_again(desk: Desk) -> None:
    project, is_new = desk.project("prj_nobody_has_this")
    assert is_new
    assert desk.draft(project).title == "Two Friends"
    again, is_new = desk.project(project.id)
    assert (again.id, is_new) == (project.id, False)
    assert desk.project(None)[0].id != project.id


def test_the_first_click_draws_with_previews_and_progress(desk: Desk, hand: Hand) -> None:
    project, draft = begin(desk)
    views = draw(desk, project, draft)
    assert any(cell.preview for view in views for cell in view.board.cells)
    done = [view.board.done for view in views]
    assert done[-1] == len(draft.scenes) and all(b >= a for a, b in pairwise(done))
    last = views[-1]
    assert not last.busy and last.status == "All 4 scenes are drawn."
    assert views[0].busy
    assert all(desk.studio.picture(artifact) for artifact in artifacts(last))
    first = desk.studio.client.artifact(str(last.board.cells[0].picture))
    assert first.startswith(FORMATS["png"])


def test_a_restart_finds_everything(desk: Desk, hand: Hand, place: Place) -> None:
    project, draft = begin(desk)
    changed = replace(draft, title="Another name")
    last = draw(desk, project, changed)[-1]
    after = Desk(open_folder(place.client, place.data))
    kept, is_new = after.project(project)
    assert not is_new
    assert after.draft(kept) == changed
    views = list(after.resume(kept.story))
    assert artifacts(views[-1]) == artifacts(last)
    assert after.studio.projects.secret() == desk.studio.projects.secret()


def test_drawing_one_again_leaves_the_others_byte_for_byte(
    desk: Desk, frames: Frames, hand: Hand
) -> None:
    project, draft = begin(desk)
    before = draw(desk, project, draft)[-1]
    bytes_before = [desk.studio.client.artifact(str(a)) for a in artifacts(before)]
    after = list(desk.reroll(project, 1, draft.scenes[1].prompt, ""))[-1]
    bytes_after = [desk.studio.client.artifact(str(a)) for a in artifacts(after)]
    assert [a == b for a, b in zip(bytes_before, bytes_after, strict=True)] == [
        True, False, True, True,
    ]  # fmt: skip
    cell = after.board.cells[1]
    assert (cell.version, cell.versions) == (2, 2)
    assert cell.seed != before.board.cells[1].seed

    view = frames.open(project, 1)
    assert len(view.versions) == 2 and view.compare.count("<figure>") == 2
    assert view.beside == 1
    old = frames.choose(project, 1, 1)
    assert old.seed == str(before.board.cells[1].seed)
    assert desk.view(desk.story_of(project)).board.cells[1].picture == artifacts(before)[1]
    beside, version = frames.beside(project, 1, 1)
    assert version == 2 and "Beside it" in beside
    with pytest.raises(InputError, match="Choose a version"):
        frames.choose(project, 1, 9)


def test_a_seed_that_is_kept_draws_with_it(desk: Desk, hand: Hand) -> None:
    project, draft = begin(desk)
    draw(desk, project, draft)
    last = list(desk.reroll(project, 0, "{Mia} dancing in a meadow", "123456789012345678"))[-1]
    assert last.board.cells[0].seed == 123456789012345678
    with pytest.raises(InputError, match="not a whole number"):
        list(desk.reroll(project, 0, "", "12x"))
    with pytest.raises(InputError, match="Choose a picture"):
        list(desk.reroll(project, 99, "", ""))


def test_only_changed_scenes_are_drawn_again(desk: Desk, hand: Hand) -> None:
    project, draft = begin(desk)
    before = draw(desk, project, draft)[-1]
    with pytest.raises(InputError, match="No scene has changed"):
        list(desk.draw_changes(project, draft))
    scene = replace(draft.scenes[3], prompt="{Bruno} sitting on the grass")
    edited = replace(draft, scenes=(*draft.scenes[:3], scene))
    after = list(desk.draw_changes(project, edited))[-1]
    assert artifacts(after)[:3] == artifacts(before)[:3]
    assert artifacts(after)[3] != artifacts(before)[3]
    with pytest.raises(InputError, match="Press Draw"):
        list(desk.draw_changes(project, replace(edited, style="neon")))


def test_leaving_the_page_cancels_nothing_and_cancel_does(desk: Desk, hand: Hand) -> None:
    project, draft = begin(desk)
    hand.pause()
    stream = desk.draw(project, draft)
    next(stream)
    stream.close()  # what Gradio does when a tab is closed
    assert [j.state.finished for j in desk.studio.client.jobs(limit=1).jobs] == [False]
    story = desk.story_of(project)
    assert desk.view(story).busy

    assert desk.cancel(project) == 1
    stopped = list(desk.resume(story))[-1]
    assert not stopped.busy and stopped.can_retry and "Stopped" in stopped.status
    assert desk.cancel(project) == 0
    hand.go()
    again = list(desk.retry(project))[-1]
    assert again.status == "All 4 scenes are drawn." and not again.can_retry


def test_a_double_click_draws_once(desk: Desk, hand: Hand, monkeypatch: pytest.MonkeyPatch) -> None:
    project, draft = begin(desk)
    monkeypatch.setattr("ui.desk.DOUBLE_CLICK_S", 3600.0)
    stories = len(desk.studio.client.stories().stories)
    assert draw(desk, project, draft) and draw(desk, project, draft) == []
    assert len(desk.studio.client.stories().stories) == stories + 1
    monkeypatch.setattr("ui.desk.DOUBLE_CLICK_S", 0.0)
    assert draw(desk, project, draft)


def test_a_reload_in_mid_drawing_goes_on_showing(desk: Desk, hand: Hand, place: Place) -> None:
    project, draft = begin(desk)
    hand.pause()
    next(desk.draw(project, draft))
    story = desk.story_of(project)
    views: list[StoryView] = []
    other = Desk(open_folder(place.client, place.data))
    watcher = threading.Thread(target=lambda: views.extend(other.resume(story)))
    watcher.start()
    until(lambda: views, "the board after the reload")
    assert views[0].busy
    hand.go()
    watcher.join(60)
    assert views[-1].status == "All 4 scenes are drawn."


def test_a_frame_that_fails_says_why_and_can_be_tried_again(desk: Desk, hand: Hand) -> None:
    project, draft = begin(desk)
    hand.spoil = lambda lease: lease["frame"] == 2
    last = draw(desk, project, draft)[-1]
    assert last.board.cells[2].state == "failed" and last.board.cells[2].error
    assert last.can_retry and "1 failed" in last.status
    hand.spoil = lambda lease: False
    assert list(desk.retry(project))[-1].status == "All 4 scenes are drawn."


def test_what_cannot_be_drawn_is_said_before_anything_starts(desk: Desk) -> None:
    project, draft = begin(desk)
    empty = replace(draft, scenes=(SceneCard(),))
    with pytest.raises(InputError, match="say what is in the picture"):
        next(desk.draw(project, empty))
    strange = replace(draft, scenes=(SceneCard("{Mia} and a dragon"),))
    with pytest.raises(ApiError, match="dragon") as caught:
        next(desk.draw(project, strange))
    assert caught.value.status == 422
    assert "dragon" in desk.keep(project, strange)
    assert desk.keep(project, draft) == ""
    with pytest.raises(InputError, match="Nothing is drawn yet"):
        desk.story_of(project)


def test_examples_and_stories_can_be_opened(desk: Desk, hand: Hand) -> None:
    project, draft = begin(desk)
    drawn = draw(desk, project, draft)[-1]
    story = desk.story_of(project)
    choices = dict((value, label) for label, value in desk.choices())
    assert story in choices and "4 of 4" in choices[story]
    robot, view = desk.open(project, "example:The Robot Who Liked Flowers")
    assert robot.cast[0].name == "Pip" and not view.board.cells
    back, view = desk.open(project, story)
    assert back.scenes == draft.scenes and artifacts(view) == artifacts(drawn)
    assert desk.opened(project) == story


@pytest.mark.parametrize("format", sorted(FORMATS))
def test_every_export_is_a_file_of_its_kind(
    format: str, desk: Desk, frames: Frames, hand: Hand
) -> None:
    project, draft = begin(desk)
    with pytest.raises(InputError, match="Nothing is drawn yet"):
        frames.export(project, format, "grid")
    assert frames.page(project, "grid") is None
    draw(desk, project, replace(draft, title="../Mia & friends"))
    file = frames.export(project, format, "strip")
    assert file.read_bytes().startswith(FORMATS[format])
    assert file.name == f"Mia_friends.{format}"
    story = desk.story(project)
    assert story is not None and story.layout == "strip"


def test_words_change_without_drawing(desk: Desk, frames: Frames, hand: Hand) -> None:
    project, draft = begin(desk)
    before = draw(desk, project, draft)[-1]
    said = [{"text": "Hello!", "x": 0.5, "y": 2, "tail_x": 0.4, "tail_y": 0.6}, {"text": "  "}]
    view = frames.say(project, 0, "  A new\ncaption ", {"bubbles": said})
    assert view.caption == "A new caption"
    assert [(b["text"], b["y"], b["thought"]) for b in view.bubbles] == [("Hello!", 1.0, False)]
    assert artifacts(desk.view(desk.story_of(project))) == artifacts(before)
    with pytest.raises(InputError, match="at most 6"):
        frames.say(project, 0, "", [{"text": "x"}] * 7)
    assert frames.open(project, 17).index == -1


def test_captions_of_the_desk_are_printed(desk: Desk, frames: Frames, hand: Hand) -> None:
    project, draft = begin(desk)
    draw(desk, project, draft)
    scene = replace(draft.scenes[0], caption="Printed with this.")
    desk.keep(project, replace(draft, title="New title", scenes=(scene, *draft.scenes[1:])))
    assert frames.page(project, "grid")
    story = desk.story(project)
    assert story is not None
    assert (story.title, story.frames[0].caption) == ("New title", "Printed with this.")


def test_the_form_fields_are_read_whatever_their_type(desk: Desk) -> None:
    _, draft = begin(desk)
    script = write_script(draft)
    read = read_desk(script, draft.title, draft.style, draft.method, 4, draft.seed, draft.locked)
    assert read == draft
    odd = read_desk(None, "", "", "", "x", None, None)  # type: ignore[arg-type]
    assert odd == Draft()
    assert read_bubbles({"bubbles": "no list"}) == []


def test_a_story_that_was_deleted_leaves_an_empty_board(desk: Desk, hand: Hand) -> None:
    project, draft = begin(desk)
    draw(desk, project, draft)
    desk.studio.client.delete_story(desk.story_of(project))
    assert desk.story(project) is None
    with pytest.raises(ConsistentGenError):
        list(desk.reroll(project, 0, "", ""))
