"""API keys: a JSON file of hashes, made once, verified in constant time.

A token is ``cg-<id>-<secret>``. The file keeps scrypt(secret) with a salt per key, so it does not
show tokens, and the limits of each key.
"""

from __future__ import annotations

import hmac
import re
import secrets
import threading
from pathlib import Path

from consistent_gen.errors import InputError
from services.keys.file import (
    ANONYMOUS_ID,
    ID,
    NOBODY,
    Key,
    Quota,
    Stored,
    changing,
    hash_secret,
    read_keys,
    write_keys,
)

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
        if not hmac.compare_digest(hash_secret(match[2], stored.salt), stored.hash):
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


def revoke_key(file: Path, key_id: str) -> None:
    """Remove a key; what was made with it stays. Raises InputError when it is not there."""
    with changing(file):
        keys = read_keys(file)
        if keys.pop(key_id, None) is None:
            raise InputError(f"{file} has no key {key_id!r}; it has: {', '.join(sorted(keys))}")
        write_keys(file, keys)
