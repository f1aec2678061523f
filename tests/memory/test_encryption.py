"""Encryption at rest: nothing readable on the disk, a wrong key told at once, nothing lost."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from consistent_gen.cli import main
from consistent_gen.errors import ConsistentGenError, InputError, OutputError
from consistent_gen.memory import open_memory
from consistent_gen.memory.data.operations import Add, Batch, Update
from consistent_gen.memory.data.records import Media, Turn
from consistent_gen.memory.data.store import MemoryStoreError, Scope, Store
from consistent_gen.memory.storage.keys import (
    CHECK_FILE,
    MemoryKey,
    MemoryKeyError,
    key_from_environment,
    key_from_file,
    new_key,
)
from consistent_gen.memory.storage.sqlite_store import SqliteStore

KEY = MemoryKey("0123456789abcdef" * 4)
OTHER = MemoryKey("f" * 64)
CANARY = "zanzibarcanary"
PICTURE = b"picture canary " + bytes(range(256)) * 40


def lived_in(store: Store) -> str:
    """Words, a leaf with a past, a vector and a picture; returns the blob's name."""
    (turn,) = store.record([Turn(text=f"I live in {CANARY}", session=f"s {CANARY}")]).ids
    home = {"target": "Identity.Home", "evidence": (turn,)}
    store.apply(Batch(ops=(Add(value=f"lives in {CANARY}", **home),), turns=(turn,)))
    store.apply(Batch(ops=(Update(value=f"left {CANARY}", **home),), turns=(turn,)))
    store.create_space(f"space-{CANARY}", 64)
    store.put_vector(turn, f"space-{CANARY}", canary_vector())
    name = store.put_media(PICTURE)
    store.record([Media(text=CANARY, media=(name,), evidence=(turn,))])
    return name


def canary_vector() -> np.ndarray:
    # Of length 1 to the last bit, so that it is stored as it is.
    return np.random.default_rng(3).choice([-0.125, 0.125], 64).astype(np.float32)


def on_disk(folder: Path) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_nothing_readable_reaches_the_disk(tmp_path: Path) -> None:
    with SqliteStore(tmp_path, "ann", key=KEY) as store:
        name = lived_in(store)
        while_open = on_disk(tmp_path)
        store.compact()
    after = on_disk(tmp_path)
    assert any(file.name.endswith("-wal") for file in while_open)
    vector = canary_vector().astype("<f4").tobytes()
    secrets = (CANARY.encode(), PICTURE[:15], PICTURE[40:80], vector[:32], b"Identity.Home")
    for files in (while_open, after):
        for file, data in files.items():
            assert not any(secret in data for secret in secrets), file
            assert CANARY not in str(file) and name not in str(file)


def test_the_same_scan_finds_everything_without_a_key(tmp_path: Path) -> None:
    with SqliteStore(tmp_path, "ann") as store:
        name = lived_in(store)
        files = on_disk(tmp_path)
    found = b"".join(files.values())
    assert CANARY.encode() in found and PICTURE[40:80] in found
    assert canary_vector().astype("<f4").tobytes()[:32] in found
    assert any(name in str(file) for file in files)


def test_everything_works_as_in_the_open(tmp_path: Path) -> None:
    with SqliteStore(tmp_path, "ann", key=KEY) as store:
        name = lived_in(store)
    with open_memory(tmp_path, "ann", key=KEY) as store:
        assert {hit.kind for hit in store.full_text(CANARY)} == {"turn", "core", "media"}
        best = store.nearest(f"space-{CANARY}", canary_vector())[0]
        assert best.score == pytest.approx(1, abs=1e-5)
        assert store.get_media(name) == PICTURE and store.verify().ok
        (turn,) = store.list("turn")
        assert store.purge(Scope(ids=(turn.id,))).scrubbed
        assert store.count() == 0 and store.verify().problems == ()
        with pytest.raises(InputError):
            store.get_media(name)
    assert [f.name for f in on_disk(tmp_path) if "media" in f.parts] == []


def test_a_wrong_key_opens_nothing_and_loses_nothing(tmp_path: Path) -> None:
    with SqliteStore(tmp_path, "ann", key=KEY) as store:
        lived_in(store)
    before = on_disk(tmp_path)
    for key, words in ((OTHER, "does not open"), (None, "is encrypted; give its key")):
        with pytest.raises(MemoryKeyError, match=words):
            open_memory(tmp_path, "ann", key=key)
    assert on_disk(tmp_path) == before
    (check,) = tmp_path.rglob(CHECK_FILE)
    check.unlink()  # without the check value the file itself must refuse
    before = on_disk(tmp_path)
    for key in (OTHER, None):
        with pytest.raises(MemoryStoreError, match=r"another key|encrypted"):
            open_memory(tmp_path, "ann", key=key)
        assert on_disk(tmp_path) == before
    with open_memory(tmp_path, "ann", key=KEY) as store:
        assert store.count("turn") == 1 and store.verify().ok
    assert check.is_file()


def test_a_memory_in_the_open_takes_no_key(tmp_path: Path) -> None:
    with SqliteStore(tmp_path, "ann") as store:
        lived_in(store)
    before = on_disk(tmp_path)
    with pytest.raises(MemoryStoreError, match="without a key"):
        open_memory(tmp_path, "ann", key=KEY)
    assert on_disk(tmp_path) == before
    with open_memory(tmp_path, "ann") as store:
        assert store.count("turn") == 1


def test_users_of_one_key_cannot_read_each_other(tmp_path: Path) -> None:
    with SqliteStore(tmp_path, "ann", key=KEY) as ann, SqliteStore(tmp_path, "bob", key=KEY) as bob:
        name = lived_in(ann)
        lived_in(bob)
        mine, other = ann.folder, bob.folder
        assert not {f.name for f in (mine / "media").rglob("*/*")} & {
            f.name for f in (other / "media").rglob("*/*")
        }
    (other / "memory.db").write_bytes((mine / "memory.db").read_bytes())
    with pytest.raises(MemoryStoreError):
        open_memory(tmp_path, "bob", key=KEY)
    assert name


@pytest.mark.parametrize("part", ["database", "picture", "check"])
def test_damage_is_noticed(tmp_path: Path, part: str) -> None:
    with SqliteStore(tmp_path, "ann", key=KEY) as store:
        name = lived_in(store)
        store.record([Turn(text="x" * 5_000) for _ in range(30)])
        folder = store.folder
    chosen = {
        "database": folder / "memory.db", "check": folder / CHECK_FILE,
        "picture": next((folder / "media").glob("*/*")),
    }[part]  # fmt: skip
    data = bytearray(chosen.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 8] = bytes(8) if part == "check" else os.urandom(8)
    chosen.write_bytes(data)
    with pytest.raises(ConsistentGenError, match=r"damaged|another key|does not open"):
        read_all(tmp_path, name)


def read_all(folder: Path, name: str) -> None:
    with open_memory(folder, "ann", key=KEY) as store:
        store.list("turn")
        store.get_media(name)
        if not store.verify().ok:
            raise MemoryStoreError("damaged, says verify")


def test_an_export_moves_a_memory_under_a_key(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "open", "ann") as store:
        name = lived_in(store)
        file = store.export(tmp_path / "all.zip")
        histories = [store.history(r.id) for r in store.list("core")]
    with open_memory(tmp_path / "sealed", "ann", key=KEY) as store:
        store.restore(file)
        assert [store.history(r.id) for r in store.list("core")] == histories
        assert store.get_media(name) == PICTURE and store.verify().ok
        assert store.export(tmp_path / "again.zip").read_bytes() == file.read_bytes()


def test_random_histories_agree_with_a_store_in_the_open(tmp_path: Path) -> None:
    rng = random.Random(11)
    stores = [SqliteStore(tmp_path / n, "ann", key=k) for n, k in (("open", None), ("sealed", KEY))]
    for step in range(40):
        choice, text = rng.randrange(4), f"word{rng.randrange(9)} step {step}"
        place, target = rng.randrange(50), rng.choice(["Work.Job", "Identity.Home"])
        for store in stores:
            turns = store.list("turn")
            if choice == 0 or not turns:
                store.record([Turn(text=text)])
            elif choice == 1:
                store.apply(Batch(ops=(Update(target=target, value=text),), author="user"))
            elif choice == 2:
                store.record([Media(media=(store.put_media(text.encode() * 9),))])
            else:
                store.purge(Scope(ids=(turns[place % len(turns)].id,)))
    for query in ("word3", "step", "word7 word8"):
        hits = [[(h.kind, round(h.score, 9)) for h in s.full_text(query)] for s in stores]
        assert hits[0] == hits[1]
    for kind in ("turn", "core", "media"):
        texts = [[(r.text, r.media, r.version) for r in s.list(kind)] for s in stores]  # type: ignore[arg-type]
        assert texts[0] == texts[1]
    for store in stores:
        assert store.verify().ok
        store.close()


def test_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = new_key(tmp_path / "keys" / "mine")
    assert path.stat().st_mode & 0o077 == 0
    key = key_from_file(path)
    assert key.derived("a", "h") != key.derived("b", "h") != key.derived("b", "i")
    assert path.read_text().strip() not in f"{key!r}{key}"
    with pytest.raises(OutputError, match="never overwritten"):
        new_key(path)
    for text in ("", "secret", "0" * 63, "g" * 64):
        (tmp_path / "bad").write_text(text)
        with pytest.raises(InputError, match="64 hexadecimal digits") as caught:
            key_from_file(tmp_path / "bad")
        assert not text or text not in str(caught.value)
    (tmp_path / "large").write_bytes(os.urandom(100_000))
    for bad in (tmp_path / "large", tmp_path / "none", tmp_path):
        with pytest.raises(InputError):
            key_from_file(bad)
    monkeypatch.delenv("CONSISTENT_GEN_MEMORY_KEY", raising=False)
    assert key_from_environment() is None
    monkeypatch.setenv("CONSISTENT_GEN_MEMORY_KEY", path.read_text())
    found = key_from_environment()
    assert found is not None and found.derived("a", "h") == key.derived("a", "h")


def test_a_server_is_not_encrypted_by_us() -> None:
    with pytest.raises(InputError, match="server"):
        open_memory("postgresql://nowhere/none", "ann", key=KEY)


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., subprocess.CompletedProcess[str]]:
    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        capsys.readouterr()
        with monkeypatch.context() as patch:
            patch.delenv("CONSISTENT_GEN_MEMORY_KEY", raising=False)
            for name, value in environment.items():
                patch.setenv(name, value)
            code = main(["memory", *arguments])
        said = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, code, said.out, said.err)

    return run


def test_the_command_line_takes_a_file_or_the_environment(
    tmp_path: Path, command: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    key, place = tmp_path / "key", ("--memory", str(tmp_path / "m"))
    assert command("new-key", str(key)).returncode == 0
    with open_memory(tmp_path / "m", "me", key=key_from_file(key)) as store:
        lived_in(store)
    listed = command("list", *place, "--memory-key", str(key))
    assert listed.returncode == 0 and CANARY in listed.stdout
    also = command("list", *place, CONSISTENT_GEN_MEMORY_KEY=key.read_text())
    assert also.stdout == listed.stdout
    refused = command("list", *place)
    assert refused.returncode and "encrypted" in refused.stderr and CANARY not in refused.stderr
    zipped = str(tmp_path / "x.zip")
    assert "--plain" in command("export", zipped, *place, "--memory-key", str(key)).stderr
    assert not Path(zipped).exists()
    done = command("export", zipped, "--plain", *place, "--memory-key", str(key))
    assert done.returncode == 0 and Path(zipped).exists()
