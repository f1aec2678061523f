"""Start from an idea: the desk is filled, every text can be edited, and undo takes it back."""

from __future__ import annotations

import pytest

from consistent_gen.errors import InputError
from tests.ui.test_desk import begin, lying, opened
from ui.idea_box import draft_of_idea
from ui.state import draft_problems
from ui.story_actions import StoryActions


def test_an_idea_fills_the_desk_and_is_undone(actions: StoryActions) -> None:
    project, first = begin(actions)
    draft, notices = draft_of_idea(actions, "  a shy fox\nfinds a balloon ", 5.0)
    assert notices == [] and draft_problems(draft) == []
    assert draft.title == "A shy fox finds a balloon" and len(draft.scenes) == 5
    assert all(scene.caption for scene in draft.scenes) and draft.cast
    actions.desk.put(project, draft, story="")
    assert lying(actions, project) == draft and opened(actions, project) == ""
    marks = actions.desk.marks(draft)
    for mark in (*marks["scenes"], *marks["cast"]):
        assert not any((mark["problems"], mark["words"], mark["notices"]))
    assert actions.desk.undo(project) == first
    assert actions.desk.redo(project) == draft


def test_another_press_is_another_story(actions: StoryActions) -> None:
    stories = {draft_of_idea(actions, "a rainy day", 6)[0].scenes for _ in range(4)}
    assert len(stories) > 1


def test_what_cannot_be_drawn_is_told(actions: StoryActions) -> None:
    _, notices = draft_of_idea(actions, "a dragon who wants to fly", 6)
    assert any("dragon" in notice for notice in notices)


@pytest.mark.parametrize("idea", ["", "  ", None])
def test_nothing_is_no_idea(actions: StoryActions, idea: object) -> None:
    with pytest.raises(InputError, match="in a sentence"):
        draft_of_idea(actions, idea, 6)


@pytest.mark.parametrize(("frames", "count"), [(1, 2), (99, 24), ("many", 6), (None, 6)])
def test_the_number_of_scenes_is_bounded(actions: StoryActions, frames: object, count: int) -> None:
    assert len(draft_of_idea(actions, "a fox", frames)[0].scenes) == count


def test_what_the_server_refuses_is_told(actions: StoryActions) -> None:
    with pytest.raises(Exception, match="addresses are not read"):
        draft_of_idea(actions, "https://example.org", 6)
