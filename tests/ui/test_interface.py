"""The page's public routes with Gradio's own client on a server with keys: one gate."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import httpx
import pytest
from gradio_client import Client as GradioClient

from consistent_gen.client import Client
from services.keys import Quota, create_key
from tests.services.web.hand import Hand, Server, settings_in, until
from ui.app import mount

STORY = {"title": "Fox", "words": "as_written", "frames": [{"prompt": "a fox in the snow"}]}


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    file = tmp_path_factory.mktemp("keys") / "keys.json"
    return {
        "file": str(file),
        "studio": create_key(file, "studio"),
        "mia": create_key(file, "mia"),
        "full": create_key(file, "full", Quota(queued=0)),
    }


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory, tokens: dict[str, str]) -> Iterator[str]:
    data = tmp_path_factory.mktemp("data")
    server = Server(settings_in(data, keys_file=Path(tokens["file"])))
    with Client(server.url, key=tokens["studio"]) as client:
        mount(server.app, client, data_dir=data)
        server.start()
        hand = Hand(server.url).start()
        yield server.url
        hand.stop()
        server.stop()


def gradio(url: str, token: str = "", **headers: str) -> GradioClient:
    said = headers | ({"Authorization": f"Bearer {token}"} if token else {})
    return GradioClient(url, headers=said, verbose=False)


@pytest.fixture(scope="module")
def clients(url: str, tokens: dict[str, str]) -> Iterator[Callable[[str], GradioClient]]:
    """A client for each of those who call; each reads the whole page when it is made."""
    with ExitStack() as made:

        @functools.cache
        def client(who: str) -> GradioClient:
            return made.enter_context(closing(gradio(url, tokens.get(who, ""))))

        yield client


def test_a_story_is_drawn_and_its_job_read_with_the_callers_key(
    url: str, tokens: dict[str, str]
) -> None:
    client = gradio(url, tokens["mia"], **{"X-User": "ann", "Idempotency-Key": "fox-1"})
    order = client.predict(story=STORY, api_name="/draw_story")
    assert client.predict(story=STORY, api_name="/draw_story")["job"] == order["job"]
    job = until(lambda: (j := client.predict(job=order["job"], api_name="/read_job"))["state"]
                == "succeeded" and j, "the drawing")  # fmt: skip
    headers = {"Authorization": f"Bearer {tokens['mia']}"}
    picture = httpx.get(f"{url}/v1/artifacts/{job['frames'][0]['artifact']}", headers=headers)
    assert picture.content.startswith(b"\x89PNG")
    with Client(url, key=tokens["studio"]) as studio:
        assert studio.stories().stories == []
    client.close()


@pytest.mark.parametrize(
    ("who", "call", "said"),
    [
        ("", {"story": STORY, "api_name": "/draw_story"}, "401 unauthorized"),
        ("full", {"story": STORY, "api_name": "/draw_story"}, "429 quota"),
        ("mia", {"story": {"title": "x"}, "api_name": "/draw_story"}, "422 invalid: frames"),
        ("studio", {"job": "job_000000000000000000000000", "api_name": "/read_job"}, "404"),
        ("mia", {"job": "../stories", "api_name": "/read_job"}, "422 invalid"),
    ],
)
def test_what_the_gate_refuses_is_refused_here(
    clients: Callable[[str], GradioClient], who: str, call: dict[str, object], said: str
) -> None:
    client = clients(who)
    with pytest.raises(Exception, match=said):
        client.predict(**call)


def test_pages_of_other_sites_may_not_call_them(url: str, tokens: dict[str, str]) -> None:
    answer = httpx.post(
        f"{url}/gradio_api/call/draw_story",
        json={"data": [STORY]},
        headers={"Origin": "https://evil.example", "Authorization": f"Bearer {tokens['mia']}"},
    )
    assert (answer.status_code, answer.json()["code"]) == (403, "cross_site")
