"""API keys: tokens, limits, revoking, files that are not key files."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from consistent_gen.errors import InputError
from services.keys import KeyRing, Quota, create_key, revoke_key
from services.keys.__main__ import main

ROOT = Path(__file__).resolve().parents[3]
ENTRY: dict[str, Any] = {"salt": "0" * 32, "hash": "0" * 64, "quota": {}}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def test_a_token_is_verified_and_nothing_like_it(file: Path) -> None:
    token = create_key(file, "alice", Quota(running=2))
    other = create_key(file, "bob")
    ring = KeyRing(file)
    for _ in range(2):
        key = ring.verify(token)
        assert key is not None and key.id == "alice" and key.quota == Quota(running=2)
    assert ring.quota_of("alice").running == 2 and ring.quota_of("nobody") == Quota()
    secret = token.removeprefix("cg-alice-")
    wrong = [
        "", "alice", secret, token[:-1], token + "x", token.swapcase(), f"cg-bob-{secret}",
        f"cg-carol-{secret}", f"cg-nobody-{secret}", f"cg-anonymous-{secret}", f" {token}",
        token + "\n", token.replace("cg-", "CG-"), "cg-alice-" + "A" * 43, "cg-" * 1000, "é" * 47,
    ]  # fmt: skip
    assert [text for text in wrong if ring.verify(text) is not None] == []
    bob = ring.verify(other)
    assert bob is not None and bob.id == "bob" and ring.ids() == ["alice", "bob"]


def test_the_file_shows_no_token_and_is_private(file: Path) -> None:
    token = create_key(file, "alice")
    text = file.read_text()
    assert token.removeprefix("cg-alice-") not in text and "alice" in text
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    salts = [json.loads(text)["keys"]["alice"]["salt"]]
    create_key(file, "bob")
    salts += [json.loads(file.read_text())["keys"]["bob"]["salt"]]
    assert len(set(salts)) == 2


def test_revoking_counts_at_once_even_for_a_token_that_was_just_used(file: Path) -> None:
    token, kept = create_key(file, "alice"), create_key(file, "bob")
    ring = KeyRing(file)
    assert ring.verify(token) and ring.verify(kept)
    revoke_key(file, "alice")
    assert ring.verify(token) is None and ring.verify(kept)
    again = create_key(file, "alice")
    assert ring.verify(again) and ring.verify(token) is None
    with pytest.raises(InputError, match="no key 'carol'"):
        revoke_key(file, "carol")


def test_a_file_that_becomes_unreadable_lets_nobody_in(file: Path) -> None:
    token = create_key(file, "alice")
    ring = KeyRing(file)
    good = file.read_bytes()
    assert ring.verify(token)
    for bad in (b"", b"{", b"[]", b'{"schema": 1}'):
        file.write_bytes(bad)
        assert ring.verify(token) is None
    file.unlink()
    assert ring.verify(token) is None
    file.write_bytes(good)
    assert ring.verify(token)


@pytest.mark.parametrize(
    "content",
    [
        "", "[]", "null", '{"keys": {}}', '{"schema": 2, "keys": {}}',
        '{"schema": 1, "keys": {"a": 3}}', '{"schema": 1, "keys": {"a": {"salt": "00"}}}',
        '{"schema": 1, "keys": {"a": {"salt": "zz", "hash": "zz", "quota": {}}}}',
        json.dumps({"schema": 1, "keys": {"../a": ENTRY}}),
        json.dumps({"schema": 1, "keys": {"anonymous": ENTRY}}),
        json.dumps({"schema": 1, "keys": {"a": ENTRY | {"quota": {"running": -1}}}}),
        json.dumps({"schema": 1, "keys": {"a": ENTRY | {"quota": {"frames": 1}}}}),
    ],
)  # fmt: skip
def test_what_is_no_key_file_is_refused(file: Path, content: str) -> None:
    file.write_text(content)
    with pytest.raises(InputError):
        KeyRing(file)
    with pytest.raises(InputError):
        create_key(file, "alice")
    assert file.read_text() == content


@pytest.mark.parametrize("key_id", ["", "A", "a b", "a-b", "../x", "a" * 41, "anonymous", "nobody"])
def test_ids_are_plain_words(file: Path, key_id: str) -> None:
    with pytest.raises(InputError):
        create_key(file, key_id)
    assert not file.exists()


def test_an_id_is_made_once_and_by_many_at_once(file: Path) -> None:
    create_key(file, "alice")
    with pytest.raises(InputError, match="already"):
        create_key(file, "alice")
    threads = [threading.Thread(target=create_key, args=(file, f"user{n}")) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert len(KeyRing(file).ids()) == 13


def test_an_empty_ring_knows_nobody() -> None:
    ring = KeyRing(None)
    assert ring.verify("cg-alice-" + "A" * 43) is None and ring.ids() == []


def test_the_program(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["add", str(file), "alice", "queued=3"]) == 0
    token = capsys.readouterr().out.strip()
    assert KeyRing(file).verify(token) and KeyRing(file).quota_of("alice") == Quota(queued=3)
    done = subprocess.run(
        [sys.executable, "-m", "services.keys", "list", str(file)],
        capture_output=True, text=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "alice\n"), done.stderr
    for wrong in ([], ["add"], ["add", str(file), "bob", "queued=x"], ["add", str(file), "alice"]):
        assert main(wrong) == 2
        assert "Traceback" not in capsys.readouterr().err
    assert main(["revoke", str(file), "alice"]) == 0 and KeyRing(file).ids() == []


def test_two_tokens_of_a_key_are_taken_while_it_is_rotated(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = create_key(file, "alice", Quota(running=2))
    ring = KeyRing(file)
    assert ring.verify(first) is not None
    assert main(["rotate", str(file), "alice"]) == 0
    second = capsys.readouterr().out.strip()
    for token in (first, second, first):
        key = ring.verify(token)
        assert key is not None and (key.id, key.quota) == ("alice", Quota(running=2))
    # A third one ends the first, so that there are never more than two.
    assert main(["rotate", str(file), "alice"]) == 0
    third = capsys.readouterr().out.strip()
    assert [ring.verify(t) is not None for t in (first, second, third)] == [False, True, True]
    assert main(["retire", str(file), "alice"]) == 0
    assert [ring.verify(t) is not None for t in (second, third)] == [False, True]
    assert main(["retire", str(file), "alice"]) == 2
    assert "no former token" in capsys.readouterr().err
    assert main(["rotate", str(file), "bob"]) == 2
    assert "no key 'bob'" in capsys.readouterr().err
