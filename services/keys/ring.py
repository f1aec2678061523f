"""API keys: a JSON file of hashes, made once, verified in constant time.

A token is ``cg-<id>-<secret>``. The file keeps scrypt(secret) with a salt per key, so it does not
show tokens, and the limits of each key.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import hmac
import os
import re
import secrets
import threading
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
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
    safety: bool | None = None  # whether pictures are checked (`services.safety`)

    def __post_init__(self) -> None:
        if self.safety is not None and type(self.safety) is not bool:
            raise InputError(f"safety is {self.safety!r}; expected true, false, or nothing")
        for name, value in asdict(self).items():
            if name != "safety" and value is not None and (type(value) is not int or value < 0):
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
    former: tuple[bytes, bytes] | None = None  # salt and hash of the secret before, until retired

    def shows(self, secret: str) -> bool:
        """Whether a secret is the key's; takes as long for a key without a former one."""
        pairs = [(self.salt, self.hash), self.former or (bytes(16), bytes(32))]
        return any([hmac.compare_digest(hash_secret(secret, s), h) for s, h in pairs])


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
    former = entry.get("former")
    pairs = [_hash_of(entry), *([] if former is None else [_hash_of(former)])]
    key = Key(id=key_id, quota=Quota(**entry["quota"]))
    return Stored(key, *pairs[0], former=None if former is None else pairs[1])


def _hash_of(entry: Mapping[str, Any]) -> tuple[bytes, bytes]:
    salt, digest = bytes.fromhex(entry["salt"]), bytes.fromhex(entry["hash"])
    if len(salt) != 16 or len(digest) != 32:
        raise ValueError("not a hash")
    return salt, digest


def write_keys(file: Path, keys: Mapping[str, Stored]) -> None:
    """Write the file by rename, readable by its owner only."""
    entries = {
        key_id: {
            **_written(stored.salt, stored.hash),
            "quota": asdict(stored.key.quota),
            **({} if stored.former is None else {"former": _written(*stored.former)}),
        }
        for key_id, stored in keys.items()
    }
    before = os.umask(0o077)
    try:
        write_json(file, {"schema": SCHEMA, "keys": entries})
    finally:
        os.umask(before)


def _written(salt: bytes, digest: bytes) -> dict[str, str]:
    return {"salt": salt.hex(), "hash": digest.hex()}


@contextlib.contextmanager
def changing(file: Path) -> Iterator[None]:
    """One change of the file at a time, among all processes."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.with_name(f".{file.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


_TOKEN = re.compile(r"cg-([a-z0-9][a-z0-9_.]{0,39})-([A-Za-z0-9_-]{43})")
_REMEMBERED = 256


class KeyRing:
    """The keys of a file; changes of the file count from the next call on."""

    def __init__(self, file: Path | None) -> None:
        """None is an empty ring. Raises InputError when the file is not a key file."""
        self._file = None if file is None else Path(file)
        self._lock = threading.Lock()
        self._stamp: tuple[int, ...] | None = None
        self._keys: dict[str, Stored] = {}
        # Tokens that were right, under a hash that nobody else can compute.
        self._secret = secrets.token_bytes(32)
        self._right: dict[bytes, Key] = {}
        self._reload()

    def verify(self, token: str) -> Key | None:
        """The key that a bearer token shows, or None. Takes as long for an unknown id as for a
        wrong secret. Fails closed: a file that has become unreadable lets nobody in.
        """
        try:
            self._reload()
        except InputError:
            return None
        match = _TOKEN.fullmatch(token) if len(token) < 128 else None
        if match is None:
            return None
        mark = hmac.digest(self._secret, token.encode(), "sha256")
        with self._lock:
            right = self._right.get(mark)
            stored = self._keys.get(match[1], NOBODY)
        if right is not None:
            return right
        if not stored.shows(match[2]):
            return None
        with self._lock:
            # Only if the file did not change meanwhile.
            if self._keys.get(stored.key.id) is not stored:
                return None
            while len(self._right) >= _REMEMBERED:
                del self._right[next(iter(self._right))]
            self._right[mark] = stored.key
        return stored.key

    def quota_of(self, owner: str) -> Quota:
        """A key's limits; those of an unknown owner are the server's."""
        with self._lock:
            stored = self._keys.get(owner)
        return Quota() if stored is None else stored.key.quota

    def ids(self) -> list[str]:
        """Ids of the keys, sorted."""
        with self._lock:
            return sorted(self._keys)

    def _reload(self) -> None:
        if self._file is None:
            return
        try:
            status = self._file.stat()
        except OSError:
            self._replace({}, None)
            raise InputError(
                "the key file is missing; create a key first", source=self._file
            ) from None
        stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
        if stamp == self._stamp:
            return
        try:
            keys = read_keys(self._file)
        except InputError:
            self._replace({}, None)
            raise
        self._replace(keys, stamp)

    def _replace(self, keys: dict[str, Stored], stamp: tuple[int, ...] | None) -> None:
        with self._lock:
            self._keys, self._stamp, self._right = keys, stamp, {}


def create_key(file: Path, key_id: str, quota: Quota | None = None) -> str:
    """Add a key to ``file`` (made when missing, readable by its owner only); returns the token.

    The token is shown only here. Raises InputError for a bad or taken id.
    """
    if not ID.fullmatch(key_id) or key_id in (ANONYMOUS_ID, NOBODY.key.id):
        raise InputError(
            f"{key_id!r} cannot be the id of a key; use 1 to 40 lower-case letters, digits, '_' "
            f"and '.', other than {ANONYMOUS_ID} and {NOBODY.key.id}"
        )
    secret, salt = secrets.token_urlsafe(32), secrets.token_bytes(16)
    stored = Stored(Key(id=key_id, quota=quota or Quota()), salt, hash_secret(secret, salt))
    with changing(file):
        keys = read_keys(file) if file.exists() else {}
        if key_id in keys:
            raise InputError(f"{file} has a key {key_id!r} already; revoke it first")
        write_keys(file, {**keys, key_id: stored})
    return f"cg-{key_id}-{secret}"


def rotate_key(file: Path, key_id: str) -> str:
    """Give a key a new token and return it. The one before is taken as well until `retire_key`; one
    before that is not any more. Raises InputError when there is no such key.
    """
    secret, salt = secrets.token_urlsafe(32), secrets.token_bytes(16)
    with changing(file):
        keys = read_keys(file)
        stored = _known(keys, key_id, file)
        before = stored.salt, stored.hash
        keys[key_id] = Stored(stored.key, salt, hash_secret(secret, salt), former=before)
        write_keys(file, keys)
    return f"cg-{key_id}-{secret}"


def retire_key(file: Path, key_id: str) -> None:
    """Take a key's former token no more. Raises InputError: no such key, or it has none."""
    with changing(file):
        keys = read_keys(file)
        stored = _known(keys, key_id, file)
        if stored.former is None:
            raise InputError(f"the key {key_id!r} has no former token; rotate gives it a new one")
        keys[key_id] = replace(stored, former=None)
        write_keys(file, keys)


def _known(keys: Mapping[str, Stored], key_id: str, file: Path) -> Stored:
    if key_id not in keys:
        raise InputError(f"{file} has no key {key_id!r}; it has: {', '.join(sorted(keys))}")
    return keys[key_id]


def revoke_key(file: Path, key_id: str) -> None:
    """Remove a key; what was made with it stays. Raises InputError when it is not there."""
    with changing(file):
        keys = read_keys(file)
        _known(keys, key_id, file)
        del keys[key_id]
        write_keys(file, keys)
