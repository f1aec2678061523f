"""The story tab's handlers against a real server and a drawing hand."""

from __future__ import annotations

import io
import threading
import zipfile
from dataclasses import replace
from itertools import pairwise

import pytest
from PIL import Image

from consistent_gen.client import ApiError
from consistent_gen.errors import ConsistentGenError, InputError
from consistent_gen.rewards.sight import Sight
from tests.services.web.hand import Hand, until
from tests.ui.conftest import Place
from ui.app import open_folder
from ui.frames import Frames, read_bubbles
from ui.state import Draft, SceneCard, read_script, write_script
from ui.story_actions import StoryActions, StoryView, read_form

FORMATS = {"pdf": b"%PDF-", "cbz": b"PK", "zip": b"PK", "gif": b"GIF8", "png": b"\x89PNG"}


def begin(actions: StoryActions) -> tuple[str, Draft]:
    """A new project with the first example, quick to draw."""
    project, is_new = actions.project(None)
    assert is_new
    return project.id, replace(actions.draft(project), steps=4)


def draw(actions: StoryActions, project: str, draft: Draft) -> list[StoryView]:
    return [view for _, view in actions.draw(project, draft)]


def artifacts(view: StoryView) -> list[str | None]:
    return [cell.picture for cell in view.board.cells]


def test_the_first_visit_finds_a_story_and_the_second_finds_it_again(actions: StoryActions) -> None:
    project, is_new = actions.project("prj_nobody_has_this")
    assert is_new
    assert actions.draft(project).title == "Two Friends"
    again, is_new = actions.project(project.id)
    assert (again.id, is_new) == (project.id, False)
    assert actions.project(None)[0].id != project.id


def test_the_first_click_draws_with_previews_and_progress(
    actions: StoryActions, hand: Hand
) -> None:
    project, draft = begin(actions)
    views = draw(actions, project, draft)
    assert any(cell.preview for view in views for cell in view.board.cells)
    done = [view.board.done for view in views]
    assert done[-1] == len(draft.scenes) and all(b >= a for a, b in pairwise(done))
    last = views[-1]
    assert not last.busy and last.status == "All 4 scenes are drawn."
    assert views[0].busy
    assert all(actions.studio.picture(artifact) for artifact in artifacts(last))
    first = actions.studio.client.artifact(str(last.board.cells[0].picture))
    assert first.startswith(FORMATS["png"])


def test_a_restart_finds_everything(actions: StoryActions, hand: Hand, place: Place) -> None:
    project, draft = begin(actions)
    changed = replace(draft, title="Another name")
    last = draw(actions, project, changed)[-1]
    after = StoryActions(open_folder(place.client, place.data))
    kept, is_new = after.project(project)
    assert not is_new
    assert after.draft(kept) == changed
    views = list(after.resume(project))
    assert artifacts(views[-1]) == artifacts(last)
    assert after.studio.projects.secret() == actions.studio.projects.secret()


def test_drawing_one_again_leaves_the_others_byte_for_byte(
    actions: StoryActions, frames: Frames, hand: Hand
) -> None:
    project, draft = begin(actions)
    before = draw(actions, project, draft)[-1]
    bytes_before = [actions.studio.client.artifact(str(a)) for a in artifacts(before)]
    after = list(actions.reroll(project, 1, draft.scenes[1].prompt, ""))[-1]
    bytes_after = [actions.studio.client.artifact(str(a)) for a in artifacts(after)]
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
    assert actions.view(actions.story_of(project)).board.cells[1].picture == artifacts(before)[1]
    beside, version = frames.beside(project, 1, 1)
    assert version == 2 and "Beside it" in beside
    with pytest.raises(InputError, match="Choose a version"):
        frames.choose(project, 1, 9)


def test_a_seed_that_is_kept_draws_with_it(actions: StoryActions, hand: Hand) -> None:
    project, draft = begin(actions)
    draw(actions, project, draft)
    last = list(actions.reroll(project, 0, "{Mia} dancing in a meadow", "123456789012345678"))[-1]
    assert last.board.cells[0].seed == 123456789012345678
    with pytest.raises(InputError, match="not a whole number"):
        list(actions.reroll(project, 0, "", "12x"))
    with pytest.raises(InputError, match="Choose a picture"):
        list(actions.reroll(project, 99, "", ""))


def test_only_changed_scenes_are_drawn_again(actions: StoryActions, hand: Hand) -> None:
    project, draft = begin(actions)
    before = draw(actions, project, draft)[-1]
    with pytest.raises(InputError, match="No scene has changed"):
        list(actions.draw_changes(project, draft))
    drawn = len(hand.drawn)
    scene = replace(draft.scenes[3], prompt="{Bruno} sitting on the grass")
    edited = replace(draft, scenes=(*draft.scenes[:3], scene))
    after = list(actions.draw_changes(project, edited))[-1]
    assert artifacts(after)[:3] == artifacts(before)[:3]
    assert artifacts(after)[3] != artifacts(before)[3]
    assert len(hand.drawn) - drawn == 1
    again = list(actions.draw_changes(project, replace(edited, style="neon")))[-1]
    assert not {*artifacts(again)} & {*artifacts(after)}


def test_who_is_missing_is_drawn_again_with_a_new_seed(
    actions: StoryActions, hand: Hand, place: Place
) -> None:
    class Empty:
        """A reader that sees nobody in any picture."""

        def look(self, pictures: list[bytes]) -> list[list[Sight]]:
            nobody = Sight(present=False, subject={}, hues={}, scalars={}, scene={})
            return [[nobody] for _ in pictures]

        def close(self) -> None:
            """Nothing is held."""

    project, draft = begin(actions)
    scorer = place.server.state.scorer
    place.server.state.scorer = Empty()  # type: ignore[assignment]
    try:
        views = draw(actions, project, replace(draft, scenes=draft.scenes[2:]))
        assert [cell.missing for cell in views[-1].board.cells] == [("Mia", "Bruno")] * 2
        seeds = [cell.seed for cell in views[-1].board.cells]
        place.server.state.scorer = scorer
        last = list(actions.reroll(project, 1, "", ""))[-1]
        assert last.board.cells[0].seed == seeds[0] != last.board.cells[1].seed != seeds[1]
    finally:
        place.server.state.scorer = scorer


def test_words_that_are_changed_at_a_picture_are_changed_on_the_desk(
    actions: StoryActions, frames: Frames, hand: Hand
) -> None:
    project, draft = begin(actions)
    draw(actions, project, draft)
    scenes = (SceneCard("a fox in a forest"), *draft.scenes)  # the third picture is scene 4 now
    script = write_script(replace(draft, scenes=scenes))
    script = actions.write_down(project, script, 2, caption="At last!")
    frames.say(project, 2, "At last!", [])
    assert [scene["caption"] for scene in script["scenes"]][3] == "At last!"
    assert actions.draft_of(project).scenes[3].caption == "At last!"
    script = actions.write_down(project, script, 1, prompt="{Bruno} sitting")
    list(actions.reroll(project, 1, "{Bruno} sitting", ""))
    cast, scenes = read_script(script)
    last = list(actions.draw_changes(project, replace(draft, cast=cast, scenes=scenes)))[-1]
    assert [cell.version for cell in last.board.cells] == [2, 1, 2, 1, 1]
    assert [cell.caption for cell in last.board.cells][3] == "At last!"
    with pytest.raises(InputError, match="No scene has changed"):
        list(actions.draw_changes(project, actions.draft_of(project)))
    frames.page(project, "grid")
    assert actions.view(actions.story_of(project)).board.cells[3].caption == "At last!"


def test_an_edited_character_and_an_added_scene_are_drawn_in_the_same_story(
    actions: StoryActions, frames: Frames, hand: Hand
) -> None:
    project, draft = begin(actions)
    draw(actions, project, draft)
    story = actions.story_of(project)
    before = list(actions.reroll(project, 0, "", ""))[-1]
    frames.say(project, 0, draft.scenes[0].caption, {"bubbles": [{"text": "Oh!"}]})
    scenes = (SceneCard("a fox in a forest"), *draft.scenes)
    after = list(actions.draw_changes(project, replace(draft, scenes=scenes)))[-1]
    assert actions.story_of(project) == story
    assert artifacts(after)[1:] == artifacts(before)
    kept = actions.studio.client.story(story)
    assert kept.frames[1].current == 2
    assert [bubble.text for bubble in kept.frames[1].bubbles] == ["Oh!"]
    assert after.status == "All 5 scenes are drawn."
    fewer = list(actions.draw_changes(project, draft))[-1]
    assert fewer.status == "No picture has changed. All 4 scenes are drawn."
    assert artifacts(fewer) == artifacts(before)
    bruno = replace(draft.cast[1], description="a black bear with a green scarf")
    cast = (draft.cast[0], bruno)
    last = list(actions.draw_changes(project, replace(draft, cast=cast)))[-1]
    shown = [index for index, scene in enumerate(draft.scenes) if bruno.name in scene.prompt]
    assert shown
    for index in shown:
        assert artifacts(last)[index] != artifacts(before)[index]


def test_leaving_the_page_cancels_nothing_and_cancel_does(
    actions: StoryActions, hand: Hand
) -> None:
    project, draft = begin(actions)
    hand.pause()
    stream = actions.draw(project, draft)
    next(stream)
    stream.close()  # what Gradio does when a tab is closed
    assert [j.state.finished for j in actions.studio.client.jobs(limit=1).jobs] == [False]
    story = actions.story_of(project)
    assert actions.view(story).busy

    assert actions.cancel(project) == 1
    stopped = list(actions.resume(project))[-1]
    assert not stopped.busy and stopped.can_retry and "Stopped" in stopped.status
    assert actions.cancel(project) == 0
    hand.go()
    again = list(actions.retry(project))[-1]
    assert again.status == "All 4 scenes are drawn." and not again.can_retry


def test_a_double_click_draws_once(
    actions: StoryActions, hand: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    project, draft = begin(actions)
    monkeypatch.setattr("ui.story_actions.DOUBLE_CLICK_S", 3600.0)
    stories = len(actions.studio.client.stories().stories)
    assert draw(actions, project, draft) and draw(actions, project, draft) == []
    assert len(actions.studio.client.stories().stories) == stories + 1
    monkeypatch.setattr("ui.story_actions.DOUBLE_CLICK_S", 0.0)
    assert draw(actions, project, draft)


def test_a_reload_in_mid_drawing_goes_on_showing(
    actions: StoryActions, hand: Hand, place: Place
) -> None:
    project, draft = begin(actions)
    hand.pause()
    next(actions.draw(project, draft))
    views: list[StoryView] = []
    other = StoryActions(open_folder(place.client, place.data))
    watcher = threading.Thread(target=lambda: views.extend(other.resume(project)))
    watcher.start()
    until(lambda: views, "the board after the reload")
    assert views[0].busy
    hand.go()
    watcher.join(60)
    assert views[-1].status == "All 4 scenes are drawn."


def test_what_still_draws_shows_nothing_on_the_board_of_another_story(
    actions: StoryActions, hand: Hand
) -> None:
    project, draft = begin(actions)
    hand.pause()
    stream = actions.draw(project, draft)
    next(stream)
    story = actions.story_of(project)
    actions.open(project, "")
    hand.go()
    assert list(stream) == []
    assert not actions.has_open(project, story)

    actions.open(project, story)
    assert list(actions.resume(project))[-1].status == "All 4 scenes are drawn."


def test_a_frame_that_fails_says_why_and_can_be_tried_again(
    actions: StoryActions, hand: Hand
) -> None:
    project, draft = begin(actions)
    hand.spoil = lambda lease: lease["frame"] == 2
    last = draw(actions, project, draft)[-1]
    assert last.board.cells[2].state == "failed" and last.board.cells[2].error
    assert last.can_retry and "1 failed" in last.status
    hand.spoil = lambda lease: False
    assert list(actions.retry(project))[-1].status == "All 4 scenes are drawn."


def test_what_cannot_be_drawn_is_said_before_anything_starts(actions: StoryActions) -> None:
    project, draft = begin(actions)
    empty = replace(draft, scenes=(SceneCard(),))
    with pytest.raises(InputError, match="say what is in the picture"):
        next(actions.draw(project, empty))
    long = replace(draft, scenes=(SceneCard("{Mia} and a fox " * 40),))
    with pytest.raises(ApiError, match="shorten it") as caught:
        next(actions.draw(project, long))
    strange = replace(draft, scenes=(SceneCard("{Mia} and a dragon"),))
    assert caught.value.status == 422
    said = [word["said"] for word in actions.keep(project, strange)["scenes"][0]["words"]]
    assert "dragon" in said
    assert not any(mark["words"] for mark in actions.keep(project, draft)["scenes"])
    with pytest.raises(InputError, match="Nothing is drawn yet"):
        actions.story_of(project)


def test_examples_and_stories_can_be_opened(actions: StoryActions, hand: Hand) -> None:
    project, draft = begin(actions)
    drawn = draw(actions, project, draft)[-1]
    story = actions.story_of(project)
    choices = dict((value, label) for label, value in actions.choices())
    assert story in choices and "4 of 4" in choices[story]
    robot, view = actions.open(project, "example:The Robot Who Liked Flowers")
    assert robot.cast[0].name == "Pip" and not view.board.cells
    back, view = actions.open(project, story)
    assert back.scenes == draft.scenes and artifacts(view) == artifacts(drawn)
    assert actions.opened(project) == story


def test_every_export_is_a_file_of_its_kind(
    actions: StoryActions, frames: Frames, hand: Hand
) -> None:
    project, draft = begin(actions)
    with pytest.raises(InputError, match="Nothing is drawn yet"):
        frames.export(project, "pdf", "grid")
    assert frames.page(project, "grid") is None
    draw(actions, project, replace(draft, title="../Mia & friends"))
    for format, start in FORMATS.items():
        file = frames.export(project, format, "strip")
        assert file.read_bytes().startswith(start)
        assert file.name == f"Mia_friends.{format}"
    story = actions.story(project)
    assert story is not None and story.layout == "strip"


@pytest.mark.slow  # the server's own exports of twice the size run always
def test_pictures_for_printing_are_twice_as_large(
    actions: StoryActions, frames: Frames, hand: Hand
) -> None:
    pytest.importorskip("ncnn")
    project, draft = begin(actions)
    draw(actions, project, draft)
    sides = []
    for large in (False, True):
        with zipfile.ZipFile(frames.export(project, "zip", "grid", large=large)) as archive:
            first = min(name for name in archive.namelist() if name.endswith(".png"))
            sides.append(Image.open(io.BytesIO(archive.read(first))).size)
    assert sides[1] == tuple(2 * side for side in sides[0])


def test_words_change_without_drawing(actions: StoryActions, frames: Frames, hand: Hand) -> None:
    project, draft = begin(actions)
    before = draw(actions, project, draft)[-1]
    said = [{"text": "Hello!", "x": 0.5, "y": 2, "tail_x": 0.4, "tail_y": 0.6}, {"text": "  "}]
    view = frames.say(project, 0, "  A new\ncaption ", {"bubbles": said})
    assert view.caption == "A new caption"
    assert [(b["text"], b["y"], b["thought"]) for b in view.bubbles] == [("Hello!", 1.0, False)]
    assert artifacts(actions.view(actions.story_of(project))) == artifacts(before)
    with pytest.raises(InputError, match="at most 6"):
        frames.say(project, 0, "", [{"text": "x"}] * 7)
    assert frames.open(project, 17).index == -1


def test_captions_of_the_desk_are_printed(
    actions: StoryActions, frames: Frames, hand: Hand
) -> None:
    project, draft = begin(actions)
    draw(actions, project, draft)
    scene = replace(draft.scenes[0], caption="Printed with this.")
    actions.keep(project, replace(draft, title="New title", scenes=(scene, *draft.scenes[1:])))
    assert frames.page(project, "grid")
    story = actions.story(project)
    assert story is not None
    assert (story.title, story.frames[0].caption) == ("New title", "Printed with this.")


def test_the_form_fields_are_read_whatever_their_type(actions: StoryActions) -> None:
    _, draft = begin(actions)
    script = write_script(draft)
    read = read_form(script, draft.title, draft.style, draft.method, 4, draft.seed, draft.locked)
    assert read == draft
    assert read_form(script, *[""] * 3, 4, "", False, 1, 3.0).mend == 3
    odd = read_form(None, "", "", "", "x", None, None)  # type: ignore[arg-type]
    assert odd == Draft()
    assert read_bubbles({"bubbles": "no list"}) == []


def test_a_story_that_was_deleted_leaves_an_empty_board(actions: StoryActions, hand: Hand) -> None:
    project, draft = begin(actions)
    draw(actions, project, draft)
    actions.studio.client.delete_story(actions.story_of(project))
    assert actions.story(project) is None
    with pytest.raises(ConsistentGenError):
        list(actions.reroll(project, 0, "", ""))
