"""Stored files: contents, owners, quotas, sweeping."""

from __future__ import annotations

import os
import time
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from consistent_gen.errors import InputError
from services.errors import Conflict, NotFound, StorageError, StorageFull
from services.keys import Quota
from services.settings import StorageSettings
from services.store import ArtifactStore
from tests.services.shop import Shop

PNG = "image/png"


def files(shop: Shop) -> list[Path]:
    return [path for path in (shop.folder / "artifacts").rglob("*") if path.is_file()]


def test_bytes_come_back_and_equal_ones_are_kept_once(shop: Shop) -> None:
    first = shop.artifacts.put("alice", b"picture", PNG)
    second = shop.artifacts.put("bob", b"picture", "image/webp")
    assert first.id != second.id and first.sha256 == second.sha256 and first.bytes == 7
    assert shop.artifacts.read("alice", first.id) == shop.artifacts.read("bob", second.id)
    found, path = shop.artifacts.open("bob", second.id)
    assert found == second and path.read_bytes() == b"picture"
    assert len(files(shop)) == 1 and path.name == first.sha256
    assert shop.artifacts.used_bytes() == 7
    shop.artifacts.delete("alice", first.id)
    assert shop.artifacts.read("bob", second.id) == b"picture"
    shop.artifacts.delete("bob", second.id)
    assert files(shop) == [] and shop.artifacts.used_bytes() == 0


def test_others_artifacts_do_not_exist(shop: Shop) -> None:
    kept = shop.artifacts.put("alice", b"mine", PNG)
    for artifact in (kept.id, "art_0123456789abcdef01234567", "../../etc/passwd", "", "%"):
        for call in (shop.artifacts.open, shop.artifacts.read, shop.artifacts.delete):
            with pytest.raises(NotFound) as refused:
                call("bob", artifact)
            assert "alice" not in refused.value.message
    assert shop.artifacts.read("alice", kept.id) == b"mine"


@pytest.mark.parametrize(
    "media_type", ["image/svg+xml", "text/html", "image/gif", "", "image/png\n"]
)
def test_only_pictures_are_kept(shop: Shop, media_type: str) -> None:
    with pytest.raises(InputError, match="media type"):
        shop.artifacts.put("alice", b"x", media_type)
    with pytest.raises(InputError, match="empty"):
        shop.artifacts.put("alice", b"", PNG)
    assert files(shop) == []


def test_quotas_of_owner_key_and_server(folder: Path) -> None:
    shop = Shop(folder)
    storage = StorageSettings(quota_bytes=1000, owner_quota_bytes=400, reserve_bytes=0)
    quotas = {"rich": Quota(storage_bytes=900), "poor": Quota(storage_bytes=0)}
    shop.artifacts = ArtifactStore(
        folder / "artifacts", shop.db, storage, quota_of=lambda o: quotas.get(o, Quota())
    )
    shop.artifacts.put("alice", bytes(300), PNG)
    with pytest.raises(StorageFull, match="your 400 bytes"):
        shop.artifacts.put("alice", bytes(101), PNG)
    with pytest.raises(StorageFull, match="your 0 bytes"):
        shop.artifacts.put("poor", b"x", PNG)
    shop.artifacts.put("rich", b"r" * 600, PNG)
    with pytest.raises(StorageFull, match="server"):
        shop.artifacts.put("rich", b"q" * 101, PNG)
    shop.artifacts.put("alice", b"p" * 100, PNG)
    assert len(files(shop)) == 3
    shop.db.close()


def test_drawings_count_once_they_are_accepted(shop: Shop) -> None:
    shop.submit("alice", frames=1)
    (lease,) = shop.jobs.lease("worker", 1)
    drawing = shop.artifacts.put("alice", b"drawing", PNG, temporary=True)
    assert shop.artifacts.used_bytes("alice") == 0
    assert shop.jobs.finish(lease, artifact=drawing.id, scores={})
    assert shop.artifacts.used_bytes("alice") == 7


def test_pictures_on_their_way_have_a_bound(folder: Path) -> None:
    shop = Shop(folder, storage=StorageSettings(reserve_bytes=0, owner_quota_bytes=1000))
    for number in range(4):
        shop.artifacts.put("alice", bytes([number]) * 250, PNG, temporary=True)
    with pytest.raises(StorageFull, match="on their way"):
        shop.artifacts.put("alice", b"x", PNG, temporary=True)
    shop.artifacts.put("bob", b"x", PNG, temporary=True)
    shop.clock.advance(400)
    shop.artifacts.sweep()
    shop.artifacts.put("alice", b"x", PNG, temporary=True)
    shop.db.close()


def test_the_sweep_takes_what_nobody_shows_and_nothing_else(shop: Shop) -> None:
    job = shop.submit("alice", frames=2)
    first, second = shop.jobs.lease("worker", 2)
    shop.draw(first)
    old, new, unused = (
        shop.artifacts.put("alice", data, PNG, temporary=True) for data in (b"old", b"new", b"no")
    )
    upload = shop.artifacts.put("alice", b"upload", PNG)
    shop.jobs.renew(second, step=1, preview=old.id)
    shop.jobs.renew(second, step=2, preview=new.id)
    assert shop.artifacts.sweep() == 0, "somebody may still be looking at them"
    shop.clock.advance(301)
    # Two rows and their two files.
    assert shop.artifacts.sweep() == 4
    for gone in (old, unused):
        with pytest.raises(NotFound):
            shop.artifacts.open("alice", gone.id)
    drawn = shop.jobs.get("alice", job.id).frames[0].artifact
    assert drawn is not None
    for kept in (new.id, upload.id, drawn):
        assert shop.artifacts.read("alice", kept)
    assert len(files(shop)) == 3 and shop.artifacts.sweep() == 0


def test_half_written_and_nameless_files_are_swept(shop: Shop) -> None:
    folder = shop.folder / "artifacts"
    kept = shop.artifacts.put("alice", b"kept", PNG)
    (folder / "incoming-dead").write_bytes(b"half")
    (folder / "incoming-live").write_bytes(b"half")
    hour_ago = time.time() - 3600
    os.utime(folder / "incoming-dead", (hour_ago, hour_ago))
    (folder / "ab").mkdir(exist_ok=True)
    (folder / "ab" / ("ab" * 32)).write_bytes(b"no row")
    (folder / "README").write_bytes(b"not ours")
    assert shop.artifacts.sweep() == 2
    names = {path.name for path in files(shop)}
    assert names == {kept.sha256, "incoming-live", "README"}


def test_what_is_shown_cannot_be_deleted_by_itself(shop: Shop) -> None:
    job = shop.submit("alice", frames=1)
    shop.draw_all()
    drawn = shop.jobs.get("alice", job.id).frames[0].artifact
    assert drawn is not None
    with pytest.raises(Conflict, match="shows this picture"):
        shop.artifacts.delete("alice", drawn)
    shop.stories.delete("alice", job.story)
    with pytest.raises(NotFound):
        shop.artifacts.open("alice", drawn)


def test_damage_is_noticed(shop: Shop) -> None:
    kept = shop.artifacts.put("alice", b"picture", PNG)
    path = shop.artifacts.open("alice", kept.id)[1]
    path.write_bytes(b"pictur3")
    with pytest.raises(StorageError, match="damaged"):
        shop.artifacts.read("alice", kept.id)
    path.unlink()
    with pytest.raises(StorageError, match="missing"):
        shop.artifacts.open("alice", kept.id)
    again = shop.artifacts.put("bob", b"picture", PNG)
    assert shop.artifacts.read("bob", again.id) == b"picture"
    assert shop.artifacts.read("alice", kept.id) == b"picture"


CONTENTS = st.sampled_from([b"a", b"bb", b"ccc"])
STEPS = st.lists(
    st.tuples(st.sampled_from(["put", "temporary", "delete", "sweep"]), CONTENTS), max_size=25
)


@settings(max_examples=25)
@given(STEPS)
def test_rows_and_files_always_agree(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, bytes]]
) -> None:
    shop = Shop(tmp_path_factory.mktemp("store"))
    lasting: dict[str, bytes] = {}
    for what, data in steps:
        shop.clock.advance(1)
        if what in ("put", "temporary"):
            kept = shop.artifacts.put("alice", data, PNG, temporary=what == "temporary")
            if what == "put":
                lasting[kept.id] = data
        elif what == "sweep":
            shop.artifacts.sweep(0)
        elif lasting:
            artifact = next(iter(lasting))
            del lasting[artifact]
            shop.artifacts.delete("alice", artifact)
    shop.clock.advance(1)
    shop.artifacts.sweep(0)
    for artifact, data in lasting.items():
        assert shop.artifacts.read("alice", artifact) == data
    assert sorted(p.read_bytes() for p in files(shop)) == sorted(set(lasting.values()))
    assert shop.artifacts.used_bytes("alice") == sum(map(len, lasting.values()))
    assert shop.artifacts.used_bytes() == sum(map(len, set(lasting.values())))
    shop.db.close()
