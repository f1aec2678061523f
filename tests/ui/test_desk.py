"""The desk: every edit can be undone, files come in, and marks stand where they belong."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from consistent_gen.errors import InputError
from tests.services.web.hand import Hand
from ui.desk import read_file
from ui.marks import marked_scenes
from ui.state import CastCard, Draft, SceneCard, read_draft
from ui.story_actions import StoryActions

MIA = CastCard("Mia", "a girl with curly ginger hair")


def begin(actions: StoryActions) -> tuple[str, Draft]:
    project, _ = actions.project(None)
    return project.id, actions.draft(project)


def lying(actions: StoryActions, project: str) -> Draft:
    """What a reload would show."""
    return actions.draft(actions.project(project)[0])


def opened(actions: StoryActions, project: str) -> str:
    found = actions.studio.projects.open(project)
    assert found is not None
    return found.story


def test_every_edit_is_undone_and_done_again(actions: StoryActions) -> None:
    project, first = begin(actions)
    with pytest.raises(InputError, match="nothing to undo"):
        actions.desk.undo(project)
    second = replace(first, title="Second")
    actions.keep(project, second)
    actions.desk._typed.clear()  # a pause
    third = replace(second, scenes=second.scenes[:1])
    actions.keep(project, third)
    assert actions.desk.undo(project) == second == lying(actions, project)
    actions.keep(project, replace(second, steps=actions.studio.model().steps))  # as a form shows it
    assert actions.desk.redo(project) == third
    assert [actions.desk.undo(project) for _ in range(2)] == [second, first]
    assert actions.desk.redo(project) == second
    actions.keep(project, replace(second, title="Other"))
    with pytest.raises(InputError, match="nothing to redo"):
        actions.desk.redo(project)


def test_a_button_pressed_twice_before_its_answer_counts_twice(actions: StoryActions) -> None:
    project, first = begin(actions)
    drafts = [first]
    for title in ("Second", "Third"):
        drafts.append(replace(first, title=title))
        actions.keep(project, drafts[-1])
        actions.desk._typed.clear()  # a pause
    for before in (drafts[1], drafts[0]):  # the browser shows the third draft both times
        actions.desk.leave(project, drafts[2])
        assert actions.desk.undo(project) == before
    for after in drafts[1:]:
        actions.desk.leave(project, first)
        assert actions.desk.redo(project) == after
    typed = replace(first, title="Typed since")
    actions.desk.leave(project, typed)
    assert actions.desk.undo(project) == drafts[2]


def test_typing_is_one_edit(actions: StoryActions) -> None:
    project, first = begin(actions)
    for end in range(1, 9):
        actions.keep(project, replace(first, title="Friends!"[:end]))
    assert actions.desk.undo(project) == first


def test_a_new_story_and_a_copy_are_edits_too(actions: StoryActions) -> None:
    project, first = begin(actions)
    assert actions.desk.begin(project).scenes == (SceneCard(),)
    assert actions.desk.undo(project) == first
    copy = actions.desk.duplicate(project)
    assert (copy.title, copy.scenes) == ("Two Friends (copy)", first.scenes)
    assert actions.desk.undo(project) == first


def test_a_deleted_story_comes_back_with_its_pictures(actions: StoryActions, hand: Hand) -> None:
    project, draft = begin(actions)
    for _ in actions.draw(project, replace(draft, steps=4)):
        pass
    story = opened(actions, project)
    assert story in [value for _, value in actions.choices(project)]
    assert actions.desk.delete(project).scenes == (SceneCard(),)
    assert opened(actions, project) == ""
    assert story not in [value for _, value in actions.choices(project)]
    assert actions.desk.undo(project).title == draft.title
    assert opened(actions, project) == story and actions.story(project) is not None
    assert story in [value for _, value in actions.choices(project)]
    actions.desk.redo(project)
    assert story not in [value for _, value in actions.choices(project)]
    kept = actions.studio.projects.open(project)
    assert kept is not None
    long_ago = [{"story": story, "at": 0.0}]
    actions.studio.projects.change(project, deleted=long_ago)
    actions.project(project)  # the next visit
    assert story not in [value for _, value in actions.choices()]


def test_a_zip_export_lies_on_the_desk_again(
    actions: StoryActions, hand: Hand, tmp_path: Path
) -> None:
    project, draft = begin(actions)
    for _ in actions.draw(project, replace(draft, steps=4)):
        pass
    file = tmp_path / "story.zip"
    file.write_bytes(actions.studio.client.export(opened(actions, project), "zip"))
    back, notes = actions.desk.bring_in(project, file)
    assert notes == []
    assert (back.title, back.scenes) == (draft.title, draft.scenes)
    assert [(c.name, c.description) for c in back.cast] == [
        (c.name, c.description) for c in draft.cast
    ]
    assert opened(actions, project) == "" and lying(actions, project) == back


def test_files_come_in_or_say_why_not(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("title: Mine\ncharacters: {Mia: a girl}\nframes: ['{Mia} reading']\n")
    assert read_file(file)[0].title == "Mine"
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("[Mia] reads a book\n[Mia] waves\n[Bo] sleeps\n")
    assert len(read_file(prompts)[0].frames) == 2  # the first line says who Mia is
    file.write_text("title: Mine\nloras: [a.safetensors]\nframes: [a cat]\n")
    assert read_file(file)[1] == [
        "its LoRA files are left out: the studio draws with its own model"
    ]
    file.write_text("title: Mine\nframes: ['{Mai} reading']\n")
    with pytest.raises(InputError, match=r"a\.yaml:2: .*Mai"):
        read_file(file)
    archive = tmp_path / "b.zip"
    with zipfile.ZipFile(archive, "w") as target:
        target.writestr("other.txt", "x")
    with pytest.raises(InputError, match=r"holds no story\.yaml"):
        read_file(archive)


def test_marks_stand_at_the_scene_and_the_character_they_are_about(actions: StoryActions) -> None:
    scenes = (
        SceneCard(""),
        SceneCard("{Mia} with a dragon in the garden"),
        SceneCard("{Zorro} waving"),
        SceneCard("{Mia} reading a book in the forest"),
    )
    marks = actions.desk.marks(Draft(title="x", cast=(MIA, CastCard("Bo", "")), scenes=scenes))
    assert marked_scenes(marks) == [1, 3]
    assert "nobody is called 'Zorro'" in marks["scenes"][2]["problems"][0]
    words = {word["said"]: word for word in marks["scenes"][1]["words"]}
    assert words["dragon"]["fate"] == "left_out"
    assert words["garden"]["fate"] == "near" and words["garden"]["drawn"]
    text = scenes[1].prompt
    assert text[words["dragon"]["start"] : words["dragon"]["end"]] == "dragon"
    assert marks["scenes"][3]["words"] == []
    assert marks["cast"][0]["problems"] == [] and marks["cast"][1]["problems"]


def test_a_project_of_yesterday_opens(actions: StoryActions) -> None:
    project, draft = begin(actions)
    place = actions.studio.projects._place(project)
    tree = place.read_text().replace('"past": [], "future": [], "deleted": []', '"x": 0')
    place.write_text(tree)
    assert read_draft(actions.project(project)[0].draft) == draft


def test_what_a_page_had_not_saved_is_taken_over(actions: StoryActions) -> None:
    project, draft = begin(actions)
    kept = actions.studio.projects.open(project)
    assert kept is not None
    left = json.dumps({"cast": [], "scenes": [{"prompt": "a fox in the snow"}]})
    found = actions.draft(actions.adopt(kept, left))
    assert (found.title, [scene.prompt for scene in found.scenes]) == (
        draft.title,
        ["a fox in the snow"],
    )
    assert actions.desk.undo(project) == draft
    for nothing in ("", "{", "[]", "null"):
        assert actions.draft(actions.adopt(kept, nothing)) == draft
