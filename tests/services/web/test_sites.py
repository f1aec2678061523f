"""Other sites, and a public address with a path: who may read what, and where things are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, Request, Response
from starlette.testclient import TestClient

from consistent_gen.errors import InputError
from services.keys import create_key
from services.settings import ServerSettings, load_settings
from services.web import build_app
from tests.services.web.hand import settings_in

FRIEND, STRANGER = "https://friend.example", "https://evil.example"
STORY = {"title": "x", "frames": [{"prompt": "a fox"}]}


def reflecting() -> FastAPI:
    """An application beside ours that lets every site in."""
    app = FastAPI()

    @app.get("/{path:path}")
    def page(path: str, request: Request, response: Response) -> dict[str, str]:
        response.headers["Access-Control-Allow-Origin"] = request.headers.get("origin", "*")
        response.headers["Access-Control-Allow-Credentials"] = "true"
        return {"path": "/" + path}

    return app


def client_of(folder: Path, mode: str, **server: Any) -> TestClient:
    headers, auth = {}, {}
    if mode == "keys":
        auth = {"keys_file": folder / "keys.json"}
        headers = {"Authorization": f"Bearer {create_key(auth['keys_file'], 'alice')}"}
    settings = replace(settings_in(folder / "data", **auth), server=ServerSettings(**server))
    app = build_app(settings)
    app.mount("/", reflecting())
    return TestClient(app, base_url="http://127.0.0.1", headers=headers)


def cors(headers: Any) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.startswith("access-control-")}


@pytest.mark.parametrize("mode", ["keys", "anonymous"])
def test_no_answer_reflects_an_origin(tmp_path: Path, mode: str) -> None:
    with client_of(tmp_path, mode) as client:
        for origin in (STRANGER, "null", "http://127.0.0.1"):
            asks = {"Access-Control-Request-Method": "POST"}
            for path in ("/v1/limits", "/v1/stories", "/", "/gradio_api/info", "/livez"):
                for method, more in (("GET", {}), ("OPTIONS", asks)):
                    answer = client.request(method, path, headers={"Origin": origin, **more})
                    assert cors(answer.headers) == {}, (origin, method, path)


@pytest.mark.parametrize("mode", ["keys", "anonymous"])
def test_pages_of_allowed_sites_may_use_the_interface_alone(tmp_path: Path, mode: str) -> None:
    with client_of(tmp_path, mode, cors_origins=(FRIEND,)) as client:
        friend = {"Origin": FRIEND, "Sec-Fetch-Site": "cross-site"}
        preflight = client.options(
            "/v1/stories",
            headers={**friend, "Access-Control-Request-Method": "POST", "Authorization": ""},
        )
        assert preflight.status_code == 204 and preflight.content == b""
        told = cors(preflight.headers)
        assert told["access-control-allow-origin"] == FRIEND
        assert "POST" in told["access-control-allow-methods"]
        for name in ("Authorization", "Content-Type", "Idempotency-Key"):
            assert name in told["access-control-allow-headers"]
        assert "access-control-allow-credentials" not in told
        made = client.post("/v1/stories", json=STORY, headers=friend)
        assert made.status_code == 202
        assert made.headers["access-control-allow-origin"] == FRIEND
        assert "Origin" in made.headers["vary"]
        assert "Location" in made.headers["access-control-expose-headers"]
        wrong = client.get("/v1/stories/sto_x", headers=friend)
        assert wrong.headers["access-control-allow-origin"] == FRIEND, "problems are read too"
        for path, status in (("/", 403), ("/internal/leases", 401)):
            answer = client.get(path, headers={**friend, "Authorization": ""})
            assert answer.status_code == status and cors(answer.headers) == {}
        stranger = client.get("/v1/limits", headers={"Origin": STRANGER})
        assert cors(stranger.headers) == {}


@pytest.mark.parametrize(
    "origin", ["*", "null", "https://a.example/", "https://*.example", "ftp://x", "a.example"]
)
def test_what_is_no_origin_is_refused_at_the_start(origin: str) -> None:
    with pytest.raises(InputError, match="cors_origins"):
        load_settings(overrides=[f"server.cors_origins=['{origin}']"])


@pytest.mark.parametrize("public", ["http://127.0.0.1/studio", "http://127.0.0.1/studio/"])
def test_a_path_of_the_public_address_is_taken_off(tmp_path: Path, public: str) -> None:
    with client_of(tmp_path, "anonymous", public_url=public) as client:
        for prefix in ("", "/studio"):
            assert client.get(f"{prefix}/livez").json()["status"] == "ok"
            assert client.get(f"{prefix}/v1/limits").json()["frames"] == 64
            assert client.get(f"{prefix}/a%20page").json() == {"path": "/a page"}
            made = client.post(f"{prefix}/v1/stories", json=STORY)
            job = made.json()["job"]
            assert made.headers["location"] == f"http://127.0.0.1/studio/v1/jobs/{job}"
            assert client.get(made.headers["location"]).json()["id"] == job
        answer = client.get("/studio", follow_redirects=False)
        assert (answer.status_code, answer.headers["location"]) == (308, "/studio/")
        assert client.get("/studious").json() == {"path": "/studious"}
        assert client.post("/studio/internal/leases", json={}).status_code == 401
