"""Broken files and hostile archives: a clear error, and nothing lost."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from consistent_gen.errors import ConsistentGenError, InputError, LimitError, OutputError
from consistent_gen.memory import open_memory
from consistent_gen.memory.data.records import Media, Turn
from consistent_gen.memory.data.store import MemoryStoreError, Store
from consistent_gen.memory.storage.sqlite_store import SqliteStore


@pytest.fixture
def exported(lite: Store, tmp_path: Path) -> Path:
    lite.record([Turn(text="hello"), Media(media=(lite.put_media(b"picture"),))])
    return lite.export(tmp_path / "good.zip")


def members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(path: Path, parts: dict[str, bytes], *, honest: bool = True) -> Path:
    if honest:
        manifest = json.loads(parts["manifest.json"])
        hashed = {
            n: hashlib.sha256(d).hexdigest() for n, d in parts.items() if n != "manifest.json"
        }
        parts = {**parts, "manifest.json": json.dumps({**manifest, "members": hashed}).encode()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    return path


def edited(parts: dict[str, bytes], **changes: object) -> dict[str, bytes]:
    first, *rest = parts["records.jsonl"].split(b"\n")
    line = json.dumps({**json.loads(first), **changes}).encode()
    return {**parts, "records.jsonl": b"\n".join([line, *rest])}


HOSTILE: dict[str, Callable[[dict[str, bytes]], dict[str, bytes]]] = {
    "traversal": lambda p: {**p, "../../evil": b"x"},
    "absolute": lambda p: {**p, "/etc/passwd": b"x"},
    "odd media name": lambda p: {**p, "media/" + "0" * 64: b"not that"},
    "unknown member": lambda p: {**p, "notes.txt": b"x"},
    "newer": lambda p: {**p, "manifest.json": b'{"format": "consistent-gen-memory", "version": 2}'},
    "other format": lambda p: {**p, "manifest.json": b'{"format": "zip", "version": 1}'},
    "no records": lambda p: {n: d for n, d in p.items() if n != "records.jsonl"},
    "not json": lambda p: {**p, "records.jsonl": b"{{{"},
    "unknown kind": lambda p: edited(p, kind="spell"),
    "unknown field": lambda p: edited(p, body={"evil": 1}),
    "no id": lambda p: edited(p, id=""),
    "huge time": lambda p: edited(p, valid_from=10**30),
    "twice": lambda p: {**p, "records.jsonl": p["records.jsonl"] * 2},
    "media missing": lambda p: edited(p, media=["1" * 64]),
    "vector counts": lambda p: {**p, "vectors.json": json.dumps({
        "spaces": [{"name": "s", "dimensions": 3, "of": [["t", 1]]}], "roles": {}, "state": {},
    }).encode(), "vectors/0.f32": b"1234"},
    "deep": lambda p: {**p, "vectors.json": b"[" * 50_000},
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_archive_is_refused_as_a_whole(
    exported: Path, opened: Callable[..., Store], tmp_path: Path, name: str
) -> None:
    target = opened(tmp_path / "new")
    bad = packed(tmp_path / "bad.zip", HOSTILE[name](members(exported)), honest=name != "newer")
    with pytest.raises(ConsistentGenError):
        target.restore(bad)
    assert target.count() == 0 and target.version == 0 and target.spaces() == {}
    assert not (tmp_path.parent / "evil").exists()
    target.compact()
    assert target.verify().ok and target.restore(exported) == 2


def test_a_changed_byte_is_noticed(
    exported: Path, opened: Callable[..., Store], tmp_path: Path
) -> None:
    parts = members(exported)
    parts["records.jsonl"] = parts["records.jsonl"].replace(b"hello", b"jello")
    bad = packed(tmp_path / "bad.zip", parts, honest=False)
    with pytest.raises(InputError, match="does not match"):
        opened(tmp_path / "new").restore(bad)


def test_a_bomb_is_refused_before_it_unpacks(exported: Path, opened: Callable[..., Store],
                                             tmp_path: Path) -> None:  # fmt: skip
    bomb = {**members(exported), "log.jsonl": b"\n" * (80 * 1024**2)}
    with pytest.raises(LimitError, match="unpack"):
        opened(tmp_path / "new").restore(packed(tmp_path / "bad.zip", bomb))


@pytest.mark.parametrize("data", [b"", b"PK", b"not a zip", os.urandom(500)])
def test_other_files_are_not_archives(lite: Store, tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.zip").write_bytes(data)
    with pytest.raises(InputError, match="zip"):
        lite.restore(tmp_path / "x.zip")
    with pytest.raises(InputError, match="no such file"):
        lite.restore(tmp_path / "none.zip")


def test_an_export_never_overwrites(exported: Path, lite: Store) -> None:
    before = exported.read_bytes()
    with pytest.raises(OutputError, match="exists"):
        lite.export(exported)
    with pytest.raises(OutputError):
        lite.export(exported.parent / "no" / "folder.zip")
    assert exported.read_bytes() == before
    assert [p for p in exported.parent.iterdir() if p.name.endswith(".part")] == []


def test_a_damaged_database_is_named_and_kept(tmp_path: Path) -> None:
    with SqliteStore(tmp_path, "ann") as store:
        store.record([Turn(text=f"turn {n} " + "x" * 500) for n in range(200)])
        store.compact()
        file = store.folder / "memory.db"
    whole = file.read_bytes()
    file.write_bytes(b"garbage!" + whole[8:])
    with pytest.raises(MemoryStoreError, match="damaged"):
        open_memory(tmp_path, "ann")
    assert file.read_bytes() == b"garbage!" + whole[8:]
    middle = len(whole) // 2 // 4096 * 4096
    file.write_bytes(whole[:middle] + os.urandom(8192) + whole[middle + 8192 :])
    with open_memory(tmp_path, "ann") as store:
        try:
            assert not store.verify().ok
        except MemoryStoreError as error:
            assert "damaged" in str(error)


def test_a_newer_or_foreign_file_is_refused_untouched(tmp_path: Path) -> None:
    with SqliteStore(tmp_path, "ann") as ann, SqliteStore(tmp_path, "bob") as bob:
        ann.record([Turn(text="mine")])
        mine, other = ann.folder / "memory.db", bob.folder / "memory.db"
    shutil.copy(mine, other)
    with pytest.raises(MemoryStoreError, match="another user"):
        open_memory(tmp_path, "bob")
    connection = sqlite3.connect(mine)
    connection.execute("INSERT INTO migrations VALUES ('9999_later', 0)")
    connection.commit()
    connection.close()
    with pytest.raises(MemoryStoreError, match=r"newer version.*9999_later"):
        open_memory(tmp_path, "ann")


def test_a_damaged_picture_is_noticed(tmp_path: Path) -> None:
    with SqliteStore(tmp_path, "ann") as store:
        name = store.put_media(b"picture")
        store.record([Media(media=(name,))])
        (store.folder / "media" / name[:2] / name).write_bytes(b"pictura")
        with pytest.raises(MemoryStoreError, match="damaged"):
            store.get_media(name)
        assert "damaged" in store.verify().problems[0]
        (store.folder / "media" / name[:2] / name).unlink()
        assert "no bytes" in store.verify().problems[0]


def test_a_full_disk_changes_nothing(lite: Store) -> None:
    assert isinstance(lite, SqliteStore)
    lite.record([Turn(text="before")])
    ((pages,),) = lite.db.rows("PRAGMA page_count")
    lite.db.rows(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(OutputError, match="no room"):
        lite.record([Turn(text="x" * 20_000) for _ in range(10)])
    lite.db.rows("PRAGMA max_page_count = 1000000")
    assert lite.count() == 1 and lite.verify().ok


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError):
        open_memory(tmp_path / "file", "ann")


def test_a_locked_memory_says_so(tmp_path: Path) -> None:
    with SqliteStore(tmp_path, "ann", busy_timeout_s=0.1) as store:
        other = sqlite3.connect(store.folder / "memory.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(MemoryStoreError, match="another process"):
            store.record([Turn(text="x")])
        other.execute("ROLLBACK")
        other.close()
        assert store.record([Turn(text="x")]).version == 1


def test_a_memory_is_private_to_its_owner(lite: Store) -> None:
    assert isinstance(lite, SqliteStore)
    assert stat.S_IMODE(lite.folder.stat().st_mode) == 0o700
