"""The file of API keys: what it holds, how it is read, and how it is changed."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from consistent_gen.checkpoints import read_json, write_json
from consistent_gen.errors import CheckpointError, InputError

ANONYMOUS_ID = "anonymous"
SCHEMA = 1
ID = re.compile(r"[a-z0-9][a-z0-9_.]{0,39}")
# Secrets have 256 random bits, which no number of guesses finds; the hash need not be slow.
_COST = {"n": 1 << 10, "r": 8, "p": 1}


@dataclass(frozen=True, kw_only=True)
class Quota:
    """A key's own limits; None means the server's (``Limits``, ``Storage``)."""

    running: int | None = None  # frames being drawn at once
    queued: int | None = None  # unfinished jobs
    storage_bytes: int | None = None  # lasting artifacts

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value is not None and (type(value) is not int or value < 0):
                raise InputError(f"{name} is {value!r}; expected a whole number from 0, or nothing")


@dataclass(frozen=True, kw_only=True)
class Key:
    """A caller. ``id`` is the ``owner`` of everything that is made with the key."""

    id: str
    quota: Quota = field(default_factory=Quota)


ANONYMOUS = Key(id=ANONYMOUS_ID)


@dataclass(frozen=True)
class Stored:
    """A key as the file has it: what verifies its secret, and not the secret."""

    key: Key
    salt: bytes
    hash: bytes


# Compared with when an id is unknown, so that this takes as long; no secret has this hash.
NOBODY = Stored(Key(id="nobody"), bytes(16), bytes(32))


def hash_secret(secret: str, salt: bytes) -> bytes:
    """What is kept of a secret."""
    return hashlib.scrypt(secret.encode(), salt=salt, dklen=32, **_COST)


def read_keys(file: Path) -> dict[str, Stored]:
    """All keys of a file by id. Raises InputError when it is not a key file."""
    try:
        content: Any = read_json(file)
        if content["schema"] != SCHEMA:
            raise InputError(f"has schema {content['schema']!r}; expected {SCHEMA}", source=file)
        entries: Mapping[str, Any] = content["keys"]
        return {key_id: _stored(key_id, entry) for key_id, entry in entries.items()}
    except CheckpointError as error:
        raise InputError(str(error)) from None
    except (KeyError, TypeError, ValueError, AttributeError):
        raise InputError(
            "is not a key file; make one with: services.keys add", source=file
        ) from None


def _stored(key_id: str, entry: Mapping[str, Any]) -> Stored:
    if not ID.fullmatch(key_id) or key_id == ANONYMOUS_ID:
        raise ValueError("not an id")
    salt, digest = bytes.fromhex(entry["salt"]), bytes.fromhex(entry["hash"])
    if len(salt) != 16 or len(digest) != 32:
        raise ValueError("not a hash")
    return Stored(Key(id=key_id, quota=Quota(**entry["quota"])), salt, digest)


def write_keys(file: Path, keys: Mapping[str, Stored]) -> None:
    """Write the file by rename, readable by its owner only."""
    entries = {
        key_id: {
            "salt": stored.salt.hex(),
            "hash": stored.hash.hex(),
            "quota": asdict(stored.key.quota),
        }
        for key_id, stored in keys.items()
    }
    before = os.umask(0o077)
    try:
        write_json(file, {"schema": SCHEMA, "keys": entries})
    finally:
        os.umask(before)


@contextlib.contextmanager
def changing(file: Path) -> Iterator[None]:
    """One change of the file at a time, among all processes."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.with_name(f".{file.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
