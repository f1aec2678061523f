"""One server with two keys for all tests of this folder, and clients for both."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from consistent_gen.client import Client
from consistent_gen.client.types import StoryIn
from services.keys import create_key
from tests.services.web.hand import Hand, Server, settings_in


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    file = tmp_path_factory.mktemp("keys") / "keys.json"
    return file, create_key(file, "alice"), create_key(file, "bob")


@pytest.fixture(scope="session")
def server(
    tmp_path_factory: pytest.TempPathFactory, keys: tuple[Path, str, str]
) -> Iterator[Server]:
    served = Server(settings_in(tmp_path_factory.mktemp("data"), keys_file=keys[0])).start()
    yield served
    served.stop()


@pytest.fixture(scope="session")
def drawing(server: Server) -> Iterator[Hand]:
    hand = Hand(server.url).start()
    yield hand
    hand.stop()


@pytest.fixture
def hand(drawing: Hand) -> Iterator[Hand]:
    """The drawing hand, going, whatever a test does with it."""
    drawing.go()
    yield drawing
    drawing.spoil = lambda lease: False
    drawing.go()


@pytest.fixture(scope="session")
def alice(server: Server, keys: tuple[Path, str, str]) -> Iterator[Client]:
    with Client(server.url, key=keys[1]) as client:
        yield client


@pytest.fixture(scope="session")
def bob(server: Server, keys: tuple[Path, str, str]) -> Iterator[Client]:
    with Client(server.url, key=keys[2]) as client:
        yield client


@pytest.fixture(scope="session")
def raw(server: Server, keys: tuple[Path, str, str]) -> Iterator[httpx.Client]:
    """Alice, without any help of our client."""
    headers = {"Authorization": f"Bearer {keys[1]}"}
    with httpx.Client(base_url=server.url, headers=headers, timeout=30.0) as client:
        yield client


@pytest.fixture
def story() -> StoryIn:
    return StoryIn.model_validate(
        {
            "title": "Two friends",
            "characters": {
                "Mia": {"description": "a girl with curly brown hair and a red dress"},
                "Bo": {"description": "a brown dog with a blue scarf"},
            },
            "frames": [
                {"prompt": "{Mia} walking in a forest", "caption": "Mia sets out."},
                {"prompt": "{Mia} and {Bo} on a beach"},
                {"prompt": "{Bo} sitting in a meadow"},
            ],
            "seed": 7,
            "steps": 4,
            "preview_every": 1,
        }
    )
