"""What the page answers to requests that no browser of an honest visitor sends."""

from __future__ import annotations

import httpx
import pytest

from tests.services.web.hand import world_png
from tests.ui.conftest import Place
from ui.markup import file_url
from ui.studio import Studio


def test_garbage_is_answered_and_leaves_no_traceback(
    place: Place, capfd: pytest.CaptureFixture[str]
) -> None:
    with httpx.Client(base_url=place.server.url, timeout=30) as http:
        assert http.get("/").status_code == 200  # gives the page's cookie
        events = http.get("/config").json()["dependencies"]
        for event in events[:24:2]:
            session = f"s{event['id']}"
            sent = {"data": ["zzz"] * len(event["inputs"]), "fn_index": event["id"],
                    "session_hash": session}  # fmt: skip
            assert http.post("/gradio_api/queue/join", json=sent).status_code == 200
            told = http.get("/gradio_api/queue/data", params={"session_hash": session}).text
            assert "process_completed" in told
    written = "".join(capfd.readouterr())
    assert "Traceback" not in written and "zzz" not in written


def test_addresses_of_pictures_name_no_folder(place: Place, studio: Studio) -> None:
    artifact = place.client.upload(world_png(3)).id
    path = studio.picture(artifact)
    assert path is not None
    address = file_url(path)
    assert str(place.data) not in address
    with httpx.Client(base_url=place.server.url) as http:
        found = http.get(f"/{address}")
        assert found.status_code == 200 and found.content.startswith(b"\x89PNG")
        for other in (
            "pictures/../projects/secret",
            "pictures/%2e%2e/projects/secret",
            "/etc/passwd",
        ):
            assert http.get(f"/gradio_api/file={other}").status_code in (403, 404)
