"""A real server with the studio mounted in it, and a hand that draws; one for all tests here."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# Before gradio is imported: no statistics, no look-ups.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

import pytest

from consistent_gen.client import Client
from tests.services.web.hand import Hand, Server, settings_in

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of what gradio imports, not ours
    from ui.app import mount, open_folder
    from ui.frames import Frames
    from ui.story_actions import StoryActions
    from ui.studio import Studio


@dataclass
class Place:
    """A running studio: the server, where its data lies, and a client of it."""

    server: Server
    data: Path
    client: Client


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    data = tmp_path_factory.mktemp("studio")
    server = Server(settings_in(data))
    client = Client(server.url)
    mount(server.app, client, data_dir=data)
    server.start()
    yield Place(server, data, client)
    client.close()
    server.stop()


@pytest.fixture(scope="session")
def drawing(place: Place) -> Iterator[Hand]:
    hand = Hand(place.server.url).start()
    yield hand
    hand.stop()


@pytest.fixture
def hand(drawing: Hand) -> Iterator[Hand]:
    """The drawing hand, going, whatever a test does with it."""
    drawing.go()
    yield drawing
    drawing.spoil = lambda lease: False
    drawing.go()


@pytest.fixture
def studio(place: Place) -> Studio:
    """A studio as after a restart: it knows nothing but what is on the server and on disk."""
    return open_folder(place.client, place.data)


@pytest.fixture
def actions(studio: Studio) -> StoryActions:
    return StoryActions(studio)


@pytest.fixture
def frames(actions: StoryActions) -> Frames:
    return Frames(actions)
