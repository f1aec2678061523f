"""Two gateways over HTTP on one PostgreSQL and one folder: whichever a caller or worker meets."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from consistent_gen.client import Client
from consistent_gen.client.types import StoryIn
from consistent_gen.errors import InputError
from services.settings import StoreSettings
from services.web import open_state
from tests.services.web.hand import Hand, Server, settings_in, until


@pytest.fixture
def pair(folder: Path, postgres_url: str) -> Iterator[tuple[Server, Server]]:
    settings = dataclasses.replace(settings_in(folder), store=StoreSettings(url=postgres_url))
    servers = Server(settings).start(), Server(settings).start()
    for server in servers:
        # FastAPI builds routes when they are first looked at, with filters of warnings that two
        # threads take from each other.
        assert httpx.get(f"{server.url}/v1/nothing").status_code == 404
    yield servers
    for server in servers:
        server.stop()


def test_a_job_given_to_one_is_drawn_through_the_other(
    pair: tuple[Server, Server], story: StoryIn
) -> None:
    first, second = pair
    hand = Hand(second.url).start()
    with Client(first.url, key=None) as here, Client(second.url, key=None) as there:
        hand.go()
        made = here.create_story(story, idempotency_key="the-same")
        assert there.create_story(story, idempotency_key="the-same").job == made.job
        types = [event.type for event in here.events(made.job)]
        assert types.count("frame") == len(story.frames) and types[-1] == "done"
        done = there.wait(made.job)
        assert here.wait(made.job) == done and done.state == "succeeded"
        for frame in done.frames:
            assert here.artifact(frame.artifact or "") == there.artifact(frame.artifact or "")
    hand.stop()


def test_both_are_ready_when_a_worker_tells_one(pair: tuple[Server, Server]) -> None:
    def status(server: Server) -> int:
        return httpx.get(f"{server.url}/readyz").status_code

    first, second = pair
    assert (status(first), status(second)) == (503, 503)

    def report() -> bool:
        second.state.workers.report("w", ready=True, instance="1")
        return status(first) == 200

    until(report, "readiness of the other")
    second.state.workers.gone("w")
    until(lambda: (status(first), status(second)) == (503, 503), "its end")


def test_a_second_gateway_on_an_sqlite_store_is_refused(folder: Path) -> None:
    settings = settings_in(folder)
    state = open_state(settings)
    with pytest.raises(InputError, match="in use by another gateway"):
        open_state(settings)
    state.close()
