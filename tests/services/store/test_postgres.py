"""Several gateways on one PostgreSQL: nobody leads, nothing is done twice, nobody waits for ever.

What a store promises on both databases is tested by the other files, with `shop` on either.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from consistent_gen.client.types import (
    FramePatch,
    JobState,
    LibraryCharacterIn,
    LibraryCharacterPatch,
    Problem,
    StoryPatch,
)
from consistent_gen.errors import InputError
from services.errors import BusyError, StorageError
from services.jobs.housekeeping import Housekeeper
from services.store import postgres_database, schema
from services.store.opening import pair
from services.store.pictures import read_picture
from services.store.postgres_database import ServerPostgres
from tests.services.shop import Clock, Shop
from tests.services.store.test_library import png


@pytest.fixture
def gateway(folder: Path, postgres_url: str) -> Iterator[Callable[[str], Shop]]:
    """Makes gateways on one store, with one clock."""
    clock, made = Clock(), list[Shop]()

    def make(name: str) -> Shop:
        made.append(Shop(folder, url=postgres_url, gateway=name, clock=clock))
        return made[-1]

    yield make
    for shop in made:
        shop.db.close()


def live(shop: Shop) -> None:
    """A life in which every kind of thing happens once."""
    problem = Problem(title="Broken", status=500, detail="it broke", code="broken")
    job = shop.submit("alice", 4, deadline_s=100.0, idempotency=("key", "hash"))
    shop.jobs.replay("alice", "", ("key", "hash"))
    first, second, third = shop.jobs.lease("worker", 3)
    preview = shop.artifacts.put("alice", b"preview", "image/png", temporary=True)
    shop.jobs.renew(first, step=1, preview=preview.id)
    shop.draw(first)
    shop.jobs.fail(second, problem, retryable=False)
    shop.jobs.release(third)
    shop.jobs.cancel("alice", job.id)
    shop.jobs.retry("alice", job.id)
    shop.jobs.lease("worker", 1)
    shop.clock.advance(5)
    shop.jobs.expire()
    shop.jobs.page("alice", state=JobState.running)
    shop.jobs.events("alice", job.id)
    shop.clock.advance(200)
    shop.jobs.expire()
    shop.stories.next_version("alice", job.story, 0, caption="new")
    patch = StoryPatch(revision=2, frames=[FramePatch(index=0, current=1)])
    shop.stories.patch("alice", job.story, patch)
    shop.stories.list("alice")
    mia = shop.library.create("alice", LibraryCharacterIn(name="Mia", description="a fox"))
    shop.library.patch("alice", mia.id, LibraryCharacterPatch(name="Max"))
    picture = read_picture(png())
    for data in (picture.data, png(1)):
        kept = shop.artifacts.put("alice", data, "image/png")
        shown = shop.library.add_reference("alice", mia.id, kept.id, picture.quality)
    shop.library.remove_reference("alice", mia.id, shown.id)
    shop.library.import_archive("alice", shop.library.export("alice", mia.id))
    shop.library.list("alice")
    shop.artifacts.delete("alice", shop.artifacts.put("alice", b"x", "image/png").id)
    shop.submit("bob", 1)
    shop.draw_all()
    Housekeeper(shop.db, shop.jobs, shop.artifacts, shop.board, clock=shop.clock).round()


def test_a_whole_life_leaves_the_same_on_both(folder: Path, postgres_url: str) -> None:
    left = []
    for place, url in (("lite", None), ("server", postgres_url)):
        shop = Shop(folder / place, url=url)
        live(shop)
        tables = [name for name, _ in _counts(shop)]
        left.append(_counts(shop))
        files = {path.name for path in (folder / place / "artifacts").glob("??/*")}
        assert files == {row["sha256"] for row in shop.db.rows("SELECT sha256 FROM blobs")}
        shop.db.close()
    assert "frame_versions" in tables and left[0] == left[1]


def _counts(shop: Shop) -> list[tuple[str, int]]:
    tables = ("blobs", "artifacts", "stories", "story_frames", "frame_versions", "jobs", "events",
              "job_frames", "attempts", "characters", "character_references")  # fmt: skip
    sql = "SELECT COUNT(*) AS number FROM {}"
    return [(name, shop.db.rows(sql.format(name))[0]["number"]) for name in tables]


def test_frames_are_leased_once_and_a_key_makes_one_job(gateway: Callable[[str], Shop]) -> None:
    shops = [gateway("a"), gateway("b")]
    stories = [shop.story("alice") for shop in shops]
    made: list[str] = []
    leased: list[tuple[str, int]] = []
    start = threading.Barrier(4)

    def work(shop: Shop, story: str, name: str) -> None:
        from tests.services.shop import ordered

        start.wait()
        for key in range(4):
            job, _ = shop.jobs.create(
                owner="alice", kind="story", story=story, frames=ordered(3, version=key + 1),
                idempotency=(f"key {key}", "hash"),
            )  # fmt: skip
            made.append(job.id)
        while leases := shop.jobs.lease(name, 1):
            leased.extend((lease.job, lease.frame) for lease in leases)
            assert all(shop.draw(lease) for lease in leases)

    threads = [
        threading.Thread(target=work, args=(shop, story, f"{n}{story}"))
        for shop, story in zip(shops, stories, strict=True)
        for n in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert len(made) == 16 and len(set(made)) == 4
    assert len(leased) == len(set(leased)) == 12


def test_what_one_gateway_writes_wakes_who_watches_at_another(
    gateway: Callable[[str], Shop],
) -> None:
    ours, theirs = gateway("a"), gateway("b")
    job = ours.submit(frames=1).id
    told: queue.SimpleQueue[frozenset[str]] = queue.SimpleQueue()
    ours.jobs.subscribe(told.put)
    (lease,) = theirs.jobs.lease("worker", 1)
    assert lease.job == job and told.get(timeout=30) == {job}, "it says which"
    seq = ours.jobs.changed()
    threading.Timer(0.1, lambda: theirs.jobs.renew(lease, step=3)).start()
    assert ours.jobs.wait(seq, 30.0, job=job) > seq
    assert ours.jobs.events("alice", job)[-1].data["step"] == 3


def test_a_worker_that_tells_another_gateway_is_alive(gateway: Callable[[str], Shop]) -> None:
    ours, theirs = gateway("a"), gateway("b")
    job = ours.submit(frames=2)

    def report() -> None:
        ours.board.report("worker", ready=True, instance="1")

    report()
    (known,) = ours.jobs.lease("worker", 1, instance="1")
    ours.jobs.lease("worker", 1, instance="1")  # an answer that never reached it
    for _ in range(6):
        ours.board.beat()
        theirs.board.beat()
        report()
        ours.jobs.renew(known, step=1)
        ours.clock.advance(1.0)
        assert theirs.jobs.expire() == 0
    assert theirs.board.ready
    for _ in range(4):
        report()
        ours.board.beat()
        ours.jobs.renew(known, step=2)
        ours.clock.advance(1.0)
        theirs.jobs.expire()
    found = theirs.jobs.get("alice", job.id).frames
    assert [(f.state, f.attempt) for f in found] == [("running", 1), ("queued", 0)]
    assert ours.draw(known)


def test_of_a_silent_gateway_no_worker_is_charged(gateway: Callable[[str], Shop]) -> None:
    """And of one that listens, a silent worker is."""
    ours, theirs = gateway("a"), gateway("b")
    job = ours.submit(frames=2)
    ours.board.beat()
    for name in ("lost", "dead"):
        board = ours.board if name == "lost" else theirs.board
        board.report(name, ready=True, instance="1")
        assert len(ours.jobs.lease(name, 1, instance="1")) == 1
    for _ in range(9):
        theirs.board.beat()
        theirs.jobs.expire()
        ours.clock.advance(0.5)
    outcomes = {
        row["worker"]: row["outcome"]
        for row in ours.db.rows("SELECT worker, outcome FROM attempts")
    }
    assert outcomes == {"lost": "lapsed", "dead": "worker_lost"}
    assert [frame.attempt for frame in ours.jobs.get("alice", job.id).frames] == [0, 1]


def test_two_gateways_sweep_one_folder_and_lose_no_file(gateway: Callable[[str], Shop]) -> None:
    shops = [gateway("a"), gateway("b")]
    end = time.monotonic() + 2.0

    def store(shop: Shop) -> None:
        while time.monotonic() < end:
            for number in range(3):  # the same bytes again and again, stored and deleted by both
                kept = shop.artifacts.put("alice", b"drawing %d" % number, "image/png")
                assert shop.artifacts.read("alice", kept.id)
                shop.artifacts.delete("alice", kept.id)
            shop.artifacts.sweep(0)

    threads = [threading.Thread(target=store, args=(shop,)) for shop in shops]
    kept = [shop.artifacts.put("alice", b"drawing 1", "image/png").id for shop in shops]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert [shops[0].artifacts.read("alice", one) for one in kept] == [b"drawing 1"] * 2


def test_a_gateway_that_stops_inside_of_a_transaction_is_cut_off(
    gateway: Callable[[str], Shop], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_database, "_IDLE_S", 1)
    stopped, going = gateway("a"), gateway("b")
    with pytest.raises(BusyError), stopped.db.transaction():
        stopped.db.change("INSERT INTO turns (name, state) VALUES ('half', '')")
        going.submit(frames=1)  # waits until the other is cut off
        stopped.db.change("INSERT INTO turns (name, state) VALUES ('rest', '')")
    assert going.db.rows("SELECT 1 FROM turns") == []
    assert stopped.submit(frames=1), "and it goes on afterwards"


def test_a_server_that_was_started_again_is_found_again(
    gateway: Callable[[str], Shop], postgres_server: str
) -> None:
    ours, theirs = gateway("a"), gateway("b")
    for shop in (ours, theirs):
        shop.db.claim()
        shop.submit(frames=1)
    with psycopg.connect(postgres_server, autocommit=True) as admin:
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
            " AND application_name = 'consistent-gen'"
        )
    job = ours.submit(frames=1)
    assert theirs.jobs.get("alice", job.id) == job
    woken = threading.Event()
    theirs.jobs.subscribe(lambda jobs: woken.set())
    end = time.monotonic() + 30.0
    while not woken.wait(0.1):
        assert time.monotonic() < end
        ours.jobs.cancel("alice", job.id)
    maintenance = ServerPostgres(str(ours.url))
    with pytest.raises(InputError, match="in use by a gateway"):
        maintenance.alone()
    maintenance.close()


def test_an_older_version_is_not_changed_under_the_feet_of_gateways(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[:-1])
        old = ServerPostgres(postgres_url)
        old.claim()
    with pytest.raises(StorageError, match="stop all of them"):
        ServerPostgres(postgres_url)
    old.close()
    fresh = ServerPostgres(postgres_url)
    assert fresh.pending() == []
    fresh.alone()
    late = ServerPostgres(postgres_url)
    with pytest.raises(InputError, match="restored or upgraded"):
        late.claim()
    late.close()
    fresh.close()


def test_a_folder_belongs_to_one_store(folder: Path, postgres_url: str) -> None:
    lite = Shop(folder)
    lite.artifacts.put("alice", b"drawing", "image/png")
    server = ServerPostgres(postgres_url)
    with pytest.raises(InputError, match="does not know"):
        pair(server, folder)
    pair(lite.db, folder)
    pair(lite.db, folder)
    with pytest.raises(InputError, match="belongs to another store"):
        pair(server, folder)
    server.close()
    lite.db.close()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://me:hunter2@127.0.0.1:1/db?connect_timeout=2", "me@127.0.0.1:1/db"),
        ("postgresql://me:hunter2%zz@127.0.0.1/db", "no address"),
    ],
)
def test_no_message_has_the_password(url: str, said: str) -> None:
    with pytest.raises((BusyError, InputError), match=said) as error:
        ServerPostgres(url)
    assert "hunter2" not in str(error.value)


def test_text_that_cannot_be_kept_is_the_callers_mistake(gateway: Callable[[str], Shop]) -> None:
    shop = gateway("a")
    with pytest.raises(InputError, match="NUL"):
        shop.library.create("alice", LibraryCharacterIn(name="Mia", description="a\0fox"))
    assert shop.library.list("alice").characters == []
