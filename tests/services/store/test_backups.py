"""Backup, restore, upgrade and rollback: of both databases, and of what an older version made."""

from __future__ import annotations

import shutil
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from consistent_gen.errors import InputError
from services.keys import KeyRing, create_key
from services.personas import OpenPersonas
from services.settings import AuthSettings, Settings, StorageSettings, StoreSettings
from services.store import backups, schema
from services.store.__main__ import main
from services.web import open_state
from tests.services.shop import Shop

MADE = Path(__file__).parents[2] / "memory" / "earlier" / "made.zip"


def settings_of(folder: Path, url: str | None = None, keys: Path | None = None) -> Settings:
    return Settings(
        storage=StorageSettings(data_dir=folder, reserve_bytes=0),
        store=StoreSettings(url=url),
        auth=AuthSettings(keys_file=keys),
    )


def told(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    """What a command says."""
    assert main(arguments) == code
    captured = capsys.readouterr()
    return captured.err if code else captured.out


@pytest.fixture
def earlier(folder: Path) -> Path:
    """The data folder of a server of release 0.1, with a persona."""
    with zipfile.ZipFile(MADE) as archive:
        archive.extractall(folder / "made")
    (folder / "made" / "personas").rename(folder / "made" / "server" / "personas")
    return folder / "made" / "server"


@pytest.fixture
def busy(shop: Shop) -> Iterator[Shop]:
    """A store in which stories are drawn, deleted and swept all the time."""
    stop = threading.Event()

    def live() -> None:
        while not stop.is_set():
            job = shop.submit(frames=3)
            leases = shop.jobs.lease("worker", 3)
            for lease in leases:
                shop.artifacts.put("alice", b"preview" + lease.id.encode(), "image/png")
                shop.draw(lease, lease.id.encode())
            if len(shop.stories.list("alice").stories) > 20:
                shop.stories.delete("alice", job.story)
            shop.artifacts.sweep(0)

    shop.submit(frames=2, idempotency=("kept", "hash"))
    thread = threading.Thread(target=live)
    thread.start()
    yield shop
    stop.set()
    thread.join(60)


def test_a_backup_that_is_taken_while_jobs_run_is_of_one_moment(busy: Shop, folder: Path) -> None:
    source = settings_of(folder, busy.url)
    for number in range(3):
        kept, target = folder / f"backup-{number}", settings_of(folder / f"again-{number}")
        made = backups.back_up(source, busy.db, kept)
        assert not made.missing and made.tables["job_frames"].rows >= 2
        assert backups.restore(target, kept) == made
        shop = Shop(target.storage.data_dir)
        for row in shop.db.rows("SELECT id, owner FROM artifacts"):
            assert shop.artifacts.read(row["owner"], row["id"])
        wrong = shop.db.rows(
            """SELECT 1 FROM job_frames f WHERE (f.state = 'succeeded') <> (
                   SELECT COUNT(*) FROM frame_versions v WHERE v.story = f.story
                   AND v.frame = f.frame AND v.version = f.version)"""
        )
        assert wrong == [] and shop.db.rows("PRAGMA foreign_key_check") == []
        assert shop.jobs.queue().running == 0, "nobody draws there"
        assert shop.jobs.replay("alice", "", ("kept", "hash"))
        shop.draw_all()
        shop.artifacts.sweep(0)
        files = {path.name for path in (target.storage.data_dir / "artifacts").glob("??/*")}
        assert files == {row["sha256"] for row in shop.db.rows("SELECT sha256 FROM blobs")}
        shop.db.close()


def test_a_store_moves_to_postgresql_and_back(
    folder: Path, postgres_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = folder / "keys.json"
    token = create_key(keys, "alice")
    lite = Shop(folder / "lite")
    job = lite.submit(frames=3)
    leases = lite.jobs.lease("worker", 2)
    lite.draw(leases[0])
    before = lite.jobs.get("alice", job.id), lite.stories.get("alice", job.story)
    said = told(capsys, "backup", str(folder / "one"), "--data", str(folder / "lite"),
                "--keys", str(keys))  # fmt: skip
    assert "1 pictures" in said
    lite.db.close()
    new = ["--data", str(folder / "server"), "--set", f"store.url='{postgres_url}'",
           "--keys", str(folder / "server-keys.json")]  # fmt: skip
    assert "restored" in told(capsys, "restore", str(folder / "one"), *new)
    ring = KeyRing(folder / "server-keys.json")
    assert (key := ring.verify(token)) and key.id == "alice"
    state = open_state(settings_of(folder / "server", postgres_url))
    after = state.jobs.get("alice", job.id), state.stories.get("alice", job.story)
    assert after[1] == before[1] and after[0].frames[0] == before[0].frames[0]
    assert [(f.state, f.attempt) for f in after[0].frames[1:]] == [("queued", 0)] * 2
    assert state.artifacts.read("alice", str(after[0].frames[0].artifact))
    refused = told(capsys, "restore", str(folder / "one"), *new, code=2)
    assert "in use by a gateway" in refused
    told(capsys, "backup", str(folder / "two"), *new)
    state.close()
    assert "empty store only" in told(capsys, "restore", str(folder / "one"), *new, code=2)
    told(capsys, "restore", str(folder / "two"), "--data", str(folder / "back"))
    back = Shop(folder / "back")
    assert back.jobs.get("alice", job.id).frames == after[0].frames
    back.db.close()


def test_what_an_older_version_left_is_upgraded_and_rolled_back(
    earlier: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = folder / "keys.json"
    create_key(keys, "alice")
    place = ["--data", str(earlier), "--keys", str(keys)]
    said = told(capsys, "upgrade", *place)
    names = [name for name, _ in schema.MIGRATIONS[4:]]
    assert "upgraded: " + ", ".join(names) in said
    kept = Path(said.split("before the upgrade: ")[1].split("\n")[0])
    assert told(capsys, "upgrade", *place) == "nothing to upgrade\n"
    shop = Shop(earlier)
    (mia,) = shop.library.list("alice").characters
    assert shop.library.export("alice", mia.id) == (earlier / "mia.zip").read_bytes()
    (job,) = shop.jobs.page("alice").jobs
    assert shop.draw_all() == 1
    shop.submit("bob")
    shop.db.close()
    said = told(capsys, "rollback", *place)
    assert f"rolled back to {kept}" in said and "tables of 0004_library" in said
    replaced = Path(said.split("what was there before is in ")[1].split("\n")[0])
    assert backups.check(replaced).tables["stories"].rows == 2
    database = backups.opened(settings_of(earlier))
    assert database.pending() == names
    states = [r["state"] for r in database.rows("SELECT state FROM job_frames ORDER BY frame")]
    assert states == ["succeeded", "queued"]
    database.close()
    desk = OpenPersonas(earlier / "personas", lambda: None)
    (persona,) = desk.all("alice").personas
    assert "Lisbon" in desk.say("alice", persona.id, "Where do I live?").text
    desk.close()
    state = open_state(settings_of(earlier))  # this version upgrades by itself
    assert [f.state for f in state.jobs.get("alice", job.id).frames] == ["succeeded", "queued"]
    state.close()


def test_a_running_gateway_keeps_all_but_backups_away(folder: Path) -> None:
    settings = settings_of(folder / "data")
    state = open_state(settings)
    backups.back_up(settings, state.database, folder / "kept")
    for change in (
        lambda: backups.restore(settings, folder / "kept"),
        lambda: backups.upgrade(settings),
        lambda: backups.roll_back(settings, folder / "kept"),
    ):
        with pytest.raises(InputError, match="in use by another gateway"):
            change()
    state.close()


def test_what_is_no_sound_backup_changes_nothing(folder: Path) -> None:
    source, target = settings_of(folder / "data"), settings_of(folder / "target")
    shop = Shop(folder / "data")
    shop.submit(frames=1)
    shop.draw_all()
    backups.back_up(source, shop.db, folder / "sound")
    with pytest.raises(InputError, match="there already"):
        backups.back_up(source, shop.db, folder / "sound")
    shop.db.close()
    (picture,) = (folder / "sound" / "artifacts").glob("??/*")
    faults = {
        "tables/jobs.jsonl": b"{}\n",
        "manifest.json": b"{}",
        str(picture.relative_to(folder / "sound")): b"another picture",
        "tables/blobs.jsonl": None,
    }
    for number, (name, content) in enumerate(faults.items()):
        broken = folder / f"broken-{number}"
        shutil.copytree(folder / "sound", broken)
        (broken / name).unlink()
        if content is not None:
            (broken / name).write_bytes(content)
        with pytest.raises(InputError):
            backups.restore(target, broken)
    assert not (folder / "target").exists()
    backups.restore(target, folder / "sound")
    with pytest.raises(InputError, match="empty store only"):
        backups.restore(target, folder / "sound")


def test_a_lost_file_is_told_and_keeps_no_backup_away(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shop = Shop(folder / "data")
    for content in (b"one", b"two"):
        shop.artifacts.put("alice", content, "image/png")
    shop.db.close()
    next((folder / "data" / "artifacts").glob("??/*")).unlink()
    assert main(["backup", str(folder / "kept"), "--data", str(folder / "data")]) == 1
    assert "1 pictures are missing" in capsys.readouterr().out
    assert len(backups.check(folder / "kept").missing) == 1
    message = told(capsys, "backup", str(folder / "x"), "--data", str(folder / "none"), code=2)
    assert "is not there" in message and len(message.splitlines()) == 1
