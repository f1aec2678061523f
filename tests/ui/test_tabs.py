"""Characters, assistant and lab against a real server; and that the page is private."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import httpx
import pytest
from gradio.utils import get_upload_folder
from gradio_client import Client as GradioClient

from consistent_gen.client.types import LibraryCharacterIn
from consistent_gen.errors import ConsistentGenError, InputError
from tests.services.web.hand import Hand, world_png
from tests.ui.conftest import Place
from ui.app import _in_a_loop, open_folder
from ui.assistant_tab import AssistantTab
from ui.characters_tab import CharactersTab
from ui.lab import Score, bars_svg, groups, identity_mean, mean, with_portraits, written_out
from ui.lab_tab import LabTab
from ui.state import CastCard, Draft, SceneCard, spoken_of, write_draft
from ui.story_actions import StoryActions
from ui.story_tab import StoryTab
from ui.studio import Studio

ROOT = Path(__file__).resolve().parents[2]


class Tabs:
    """All tabs on one page that nobody looks at."""

    def __init__(self, studio: Studio) -> None:
        with gr.Blocks(analytics_enabled=False):
            project = gr.BrowserState(None, storage_key="k", secret="s")
            self.story = StoryTab(StoryActions(studio), project)
            self.characters = CharactersTab(studio, self.story)
            self.assistant = AssistantTab(studio, project)
            self.lab = LabTab(self.story.actions, project)


@pytest.fixture(scope="module")
def tabs(place: Place) -> Tabs:
    made: list[Tabs] = []
    _in_a_loop(lambda: made.append(Tabs(open_folder(place.client, place.data))))
    return made[0]


@pytest.fixture
def picture() -> Iterator[str]:
    uploads = Path(get_upload_folder())
    uploads.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=uploads) as folder:
        file = Path(folder) / "bo.png"
        file.write_bytes(world_png(5))
        yield str(file)


def pressed(**data: str) -> gr.EventData:
    return gr.EventData(None, data)


def value(update: Any) -> Any:
    return update["value"] if isinstance(update, dict) else update


# Characters ------------------------------------------------------------------------------------
def test_a_character_is_made_judged_used_and_handed_on(tabs: Tabs, picture: str) -> None:
    tab = tabs.characters
    with pytest.raises(InputError, match="needs a name"):
        tab.keep("", " ", "a dog", True, 0.5)
    chosen, shelf, heading, name, looks, usual, *_ = tab.keep("", "Bo", "a brown dog", True, 0.5)
    assert (name, looks, usual) == ("Bo", "a brown dog", True)
    assert 'aria-pressed="true"' in shelf and "Edit" in heading

    references = tab.add_pictures(chosen, [picture, picture])[7]
    found = re.findall(r'data-reference="([^"]+)"', references)
    assert found and re.search(r"good|usable|poor", references)
    tab.keep(chosen, "Bo", "a brown dog with a hat", False, 0.25)
    assert tabs.story.actions.studio.client.character(chosen).strength == 0.25
    assert tab.pick(pressed(character=chosen))[4] == "a brown dog with a hat"

    script = tab.into_story(chosen, {"cast": [{"name": "Bo", "description": "x"}], "scenes": []})
    assert [card["library"] for card in script.value["cast"]] == [chosen]
    again = tab.into_story(chosen, {"cast": [], "scenes": []})
    assert again.value["cast"][0]["description"] == "a brown dog with a hat"

    archive = Path(value(tab.hand_out(chosen)))
    assert archive.name == "Bo.character.zip"
    tab.remove_picture(pressed(reference=found[0]), chosen)
    copy = tab.bring_in(str(archive))[0]
    assert copy != chosen
    for one in (chosen, copy):
        assert tab.remove(one)[0] == ""
    assert tab.refresh(chosen)[0] == ""
    assert tab.arrive(chosen)[0] == ""
    assert "value" not in str(tab.arrive("")[3])  # a name that is being typed stays


def test_a_picture_on_a_card_moves_the_character_into_the_library(tabs: Tabs, picture: str) -> None:
    script = {"cast": [{"name": "Ada", "description": "a girl with a red hat"}], "scenes": []}
    fields = (script, "", "", "", 4, "", False)
    event = gr.EventData(None, {"index": 0, "path": picture})
    update = tabs.story._picture(event, "prj", *fields)
    entry = next(e for e in update.props["library"] if e["name"] == "Ada")
    assert update.props["assigned"] == {"index": 0, "name": "Ada", "library": entry["id"]}
    client = tabs.story.actions.studio.client
    assert len(client.character(entry["id"]).references) == 1
    outside = gr.EventData(None, {"index": 0, "path": "/etc/hostname"})
    with pytest.raises(InputError, match="did not arrive"):
        tabs.story._picture(outside, "prj", *fields)
    client.delete_character(entry["id"])


# Assistant -------------------------------------------------------------------------------------
def test_what_is_said_is_remembered_corrected_and_forgotten(tabs: Tabs) -> None:
    tab = tabs.assistant
    project = tabs.story.actions.project(None)[0].id
    people, messages, *_ = tab.begin_memory(project, "  Ana ")
    assert people["value"] and messages == []
    shown = list(tab.say(project, {"text": "My name is Ana and I live in Lisbon.", "files": []}))
    assert shown[0][0][-1]["content"] == "…"
    assert shown[-1][0][-1]["role"] == "assistant"
    assert "Lisbon" in tab.look(project, "")
    assert "Lisbon" in tab.look(project, "where is home")
    asked = list(tab.say(project, {"text": "Where do I live?", "files": []}))
    assert "Lisbon" in str(asked[-1][0][-1]["content"])

    tab.remember(project, "", "", "likes sardines")
    page = tab.look(project, "")
    key = next(k for k in re.findall(r'data-correct="([^"]+)"', page) if _text(page, k, "sardines"))
    chosen, text, *_ = tab.pick(pressed(correct=key), project, "", "")
    assert chosen == key and "sardines" in text
    tab.remember(project, "", chosen, "likes oranges")
    page = tab.look(project, "")
    assert "oranges" in page and "sardines" not in re.sub(r"<details>.*?</details>", "", page)
    key = next(k for k in re.findall(r'data-forget="([^"]+)"', page) if _text(page, k, "oranges"))
    asked = tab.pick(pressed(forget=key), project, "", "")[3]
    assert f'data-forget-sure="{key}"' in asked and "oranges" in tab.look(project, "")
    assert "data-forget-sure" not in tab.pick(pressed(keep="yes"), project, "", "")[3]
    tab.pick(pressed(forgetSure=key), project, "", "")
    assert "oranges" not in tab.look(project, "")
    assert tab.messages(_log(tab, project))[0]["content"].startswith("My name")
    assert tab.restore(project)[1] == tab.messages(_log(tab, project))
    remembered = tab.look(project, "")
    tab.clear(project)
    assert _log(tab, project) == [] and tab.look(project, "") == remembered


def _text(page: str, key: str, words: str) -> bool:
    at = page.index(f'"{key}"')
    return words in page[page.rindex("<li", 0, at) : at]


def _log(tab: AssistantTab, project: str) -> list[dict[str, Any]]:
    kept = tab.studio.projects.open(project)
    assert kept is not None
    return kept.chat


def test_a_picture_in_the_chat_is_taught_by_a_yes(tabs: Tabs, picture: str) -> None:
    tab = tabs.assistant
    project = tabs.story.actions.project(None)[0].id
    tab.begin_memory(project, "Bo's friend")
    said = {"text": "This is my small brown dog Bo", "files": [picture]}
    shown = list(tab.say(project, said))
    pictures = [m for m in shown[-1][0] if isinstance(m["content"], dict)]
    assert pictures and pictures[0]["content"]["path"].endswith(".png")
    assert shown[-1][2]["visible"] is True
    list(tab.say(project, {"text": "yes", "files": []}))
    assert "Bo" in tab.look(project, "")
    assert list(tab.say(project, {"text": "  ", "files": []})) == []


# Lab -------------------------------------------------------------------------------------------
def test_methods_are_compared_and_found_again(tabs: Tabs, hand: Hand) -> None:
    lab, actions = tabs.lab, tabs.story.actions
    project = actions.project(None)[0]
    draft = replace(actions.draft(project), scenes=actions.draft(project).scenes[:1])
    actions.studio.projects.change(project.id, draft=write_draft(draft))
    with pytest.raises(InputError, match="at least one method"):
        list(lab.compare(project.id, [], 4, True))
    shown = list(lab.compare(project.id, ["vanilla", "consistory"], 4, False))
    status, sheet, scores, stop = shown[-1]
    assert "2 of 2 methods" in status and stop["visible"] is False
    assert sheet.count("<img") == 2 and sheet.index("vanilla") < sheet.index("consistory")
    assert scores.count("<svg") == 3
    again = list(lab.restore(project.id))[-1]
    assert again[3] == sheet
    stories = actions.studio.projects.open(project.id)
    assert stories is not None and set(stories.lab) == {"vanilla", "consistory"}


def test_portraits_let_every_character_be_measured_alone() -> None:
    cast = (CastCard("Mia", "a girl"), CastCard("Bo", "a dog"))
    draft = Draft(cast=cast, scenes=(SceneCard("{Mia} and {Bo}"), SceneCard("{Bo} running")))
    names = ["Mia", "Bo"]
    scenes = with_portraits(draft).scenes
    assert scenes[:2] == draft.scenes
    alone = [spoken_of(scene.prompt, names) for scene in scenes]
    assert alone.count(["Mia"]) == 3 and alone.count(["Bo"]) == 3
    assert with_portraits(with_portraits(draft)) == with_portraits(draft)
    assert written_out("{sad Mia} and {Bo}", {"Mia": "a girl", "Bo": "a dog"}) == "a girl and a dog"


def test_what_cannot_be_read_counts_as_nothing() -> None:
    assert identity_mean([[[1.0, 0.5], [0.5, 1.0]], [[1.0, None], [None, 1.0]]]) == 0.5
    assert identity_mean([[[1.0]]]) is None and mean([None]) is None
    svg = bars_svg("T", {"a": None, "b": 0.5}, top=1.0)
    assert svg.count("plot-bar") == 1 and 'aria-label="T: a ?, b 0.50"' in svg
    assert Score("a").identity is None


def test_only_pictures_of_one_character_are_grouped(actions: StoryActions, hand: Hand) -> None:
    project = actions.project(None)[0]
    draft = replace(actions.draft(project), steps=4)
    list(actions.draw(project.id, draft))
    story = actions.story(project.id)
    assert story is not None
    found = {group.character: group for group in groups(story, draft)}
    assert set(found) == {"Mia", "Bruno"}
    assert found["Mia"].prompts == (f"{draft.cast[0].description} reading a book in the forest",)


# The page --------------------------------------------------------------------------------------
def test_exactly_the_documented_routes_are_public(place: Place) -> None:
    client = GradioClient(place.server.url, verbose=False)
    try:
        found = client.view_api(return_format="dict", print_info=False)
        assert set(found["named_endpoints"]) == {"/draw_story", "/read_job"}
        assert found["unnamed_endpoints"] == {}
        config = httpx.get(f"{place.server.url}/config").json()
        public = {d["id"] for d in config["dependencies"] if d["api_visibility"] != "private"}
        assert len(public) == 2
        page = (ROOT / "docs" / "serving.md").read_text()
        assert set(re.findall(r"^\| `(/\w+)` \| gradio", page, re.MULTILINE)) == {
            *found["named_endpoints"]
        }
        for number in range(len(config["dependencies"])):
            if number not in public:
                with pytest.raises(Exception):  # noqa: B017 - whatever gradio raises
                    client.predict(fn_index=number)
    finally:
        client.close()


def test_the_pages_own_events_need_the_page(place: Place) -> None:
    with httpx.Client(base_url=place.server.url) as http:
        config = http.get("/config").json()
        private = next(
            d["id"] for d in config["dependencies"] if d["api_visibility"] == "private"
            and d["backend_fn"]
        )  # fmt: skip
        public = {d["api_name"]: d["id"] for d in config["dependencies"]}["draw_story"]
        name = next(d["api_name"] for d in config["dependencies"] if d["id"] == private)
        own = {"data": [], "fn_index": private, "session_hash": "abc"}
        calls = [
            ("queue/join", own), ("queue/join", {**own, "fn_index": str(private)}),
            ("queue/join", {"data": [], "session_hash": "abc"}), (f"call/{name}", {"data": []}),
            ("call/draw_story", own), ("run/read_job", own), (f"call/v2/{name}", {}),
            ("upload", []), ("queue/join", []), ("reset", {"event_id": "x"}),
        ]  # fmt: skip
        for path, body in calls:
            answer = http.post(f"/gradio_api/{path}", json=body)
            assert (answer.status_code, answer.json()["code"]) == (403, "no_session"), path
        large = {"data": ["x" * (1 << 20)], "fn_index": public, "session_hash": "abc"}
        assert http.post("/gradio_api/queue/join", json=large).status_code == 413
        assert not http.cookies
        cookie = http.get("/").headers["set-cookie"]
        assert "HttpOnly" in cookie and "SameSite=Strict" in cookie and "Path=/" in cookie
        assert http.post("/gradio_api/queue/join", json=own).status_code == 200
        forged = cookie.partition(";")[0][:-1] + (
            "0" if cookie.partition(";")[0][-1] != "0" else "1"
        )
        with httpx.Client(base_url=place.server.url, headers={"Cookie": forged}) as other:
            assert other.post("/gradio_api/queue/join", json=own).status_code == 403


def test_the_api_goes_first_and_files_outside_are_refused(place: Place) -> None:
    with httpx.Client(base_url=place.server.url) as http:
        assert http.get("/").status_code == 200
        assert http.get("/v1/limits").json()["frames"] > 0
        for path in ("/etc/passwd", str(place.data / "studio" / "projects" / "secret")):
            assert http.get(f"/gradio_api/file={path}").status_code in (403, 404)
        head = http.get("/").text
        assert "<title>Story studio</title>" in head or "Story studio" in head


def test_a_library_entry_that_is_gone_is_said(tabs: Tabs) -> None:
    client = tabs.story.actions.studio.client
    one = client.create_character(LibraryCharacterIn(name="Zed", description="a dog"))
    client.delete_character(one.id)
    with pytest.raises(ConsistentGenError):
        tabs.characters.into_story(one.id, {})
