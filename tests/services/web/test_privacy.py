"""The log of the server holds no word of a user, whatever happens."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from services.settings import PrivacySettings
from services.web import build_app
from tests.services.web.answers import problem
from tests.services.web.hand import settings_in

SECRET_WORDS = "xylophone quagmire zeppelin"


def test_the_log_holds_no_word_of_a_user(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, keys: tuple[Path, str, str]
) -> None:
    caplog.set_level(logging.DEBUG)
    app = build_app(settings_in(tmp_path, keys_file=keys[0]))
    headers = {"Authorization": f"Bearer {keys[1]}"}
    with TestClient(app, base_url="http://127.0.0.1", headers=headers) as client:
        words = SECRET_WORDS
        body = {"title": words, "frames": [{"prompt": f"a {words}", "caption": words}]}
        assert client.post("/v1/stories", json=body).status_code == 422
        assert client.post("/v1/stories", json={**body, words: 1}).status_code == 422
        body["frames"] = [{"prompt": "a fox in a forest", "caption": words}]
        assert client.post("/v1/stories", json=body).status_code == 202
        assert client.post("/v1/images", json={"prompt": words}).status_code == 422
        persona = client.post("/v1/personas", json={"name": words}).json()["id"]
        said = client.post(f"/v1/personas/{persona}/say", json={"text": f"I like {words}"})
        assert said.status_code == 200
        client.post(f"/v1/personas/{persona}/say", json={"text": f"draw {words}"})
        client.post(f"/v1/personas/{persona}/search", json={"text": words})
        card = {"name": words, "description": f"{words} keeps bees."}
        file = {"file": (words, json.dumps(card).encode(), "application/json")}
        place = (
            f"/v1/persona-lab/cards/{client.post('/v1/persona-lab/cards', files=file).json()['id']}"
        )
        assert client.post(f"{place}/talk", json={"text": words}).status_code == 200
        client.put(place, json={"name": " ", "scenario": words})
        client.get(f"/v1/jobs/{words}")
        client.get("/v1/jobs", params={"after": words, "state": words})
        client.post("/v1/artifacts", files={"file": (words, words.encode(), words)})

        def fail(*_: object, **__: object) -> None:
            raise RuntimeError(words)

        app.state.server.stories.list = fail
        fault = client.get("/v1/stories")
        problem(fault, 500, "internal")
    # What the test's own client writes about its requests is not the server's log.
    ours = [r for r in caplog.records if not r.name.startswith(("httpx", "httpcore"))]
    written = "".join(f"{record.getMessage()} {vars(record)}" for record in ours)
    assert "services.access" in written
    assert "RuntimeError" in written
    assert fault.json()["request_id"] in written
    for word in (*SECRET_WORDS.split(), keys[1], keys[1].rpartition("-")[2]):
        assert word not in written
    assert not any(word in fault.text for word in SECRET_WORDS.split())


def test_prompts_are_logged_where_the_operator_asks(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    settings = replace(settings_in(tmp_path), privacy=PrivacySettings(log_prompts=True))
    app = build_app(settings)
    with TestClient(app, base_url="http://127.0.0.1", client=("127.0.0.1", 1)) as client:
        frames = [{"prompt": "a fox in a forest", "caption": "quagmire"}]
        assert client.post("/v1/stories", json={"title": "x", "frames": frames}).status_code == 202
    written = [r.getMessage() for r in caplog.records if r.name == "services.prompts"]
    assert written == ['"a fox in a forest"']
