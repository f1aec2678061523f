"""The key of an encrypted memory: 256 random bits from a file or the environment.

A key is never typed on a command line, where other users of the machine could read it, and never a
pass phrase, which could be guessed. Everything a user's memory needs is derived from it by
HMAC-SHA-256 with a purpose and the user's handle, so one key file can serve many users and no two
of them share a derived key.

``encryption.json`` beside the database holds a check value, so that a wrong key is told from a
damaged file before anything is touched. Losing that file loses nothing: the right key opens the
memory without it and writes it anew.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import secrets
from pathlib import Path

from consistent_gen.checkpoints import atomic_file
from consistent_gen.errors import InputError, OutputError
from consistent_gen.memory.data.store import MemoryStoreError

VARIABLE = "CONSISTENT_GEN_MEMORY_KEY"
CHECK_FILE = "encryption.json"
_HEX = re.compile(r"[0-9a-fA-F]{64}")
_MOST = 4_096


class MemoryKeyError(MemoryStoreError):
    """The key is missing, is not this memory's, or was given to a memory in the open."""


class MemoryKey:
    """A secret that never shows in a repr, a log or an error.

    Raises ``InputError`` unless ``text`` is 64 hexadecimal digits (`new_key` makes one).
    """

    def __init__(self, text: str, *, source: str | Path = "the key") -> None:
        if not isinstance(text, str) or not _HEX.fullmatch(text.strip()):
            raise InputError(
                "a memory's key is 64 hexadecimal digits; `consistent-gen memory new-key FILE` "
                "makes one",
                source=source,
            )
        self._secret = bytes.fromhex(text.strip())

    def __repr__(self) -> str:
        return "MemoryKey(...)"

    def derived(self, purpose: str, handle: str) -> bytes:
        """32 bytes for one purpose and one user."""
        info = f"consistent-gen-memory/1/{purpose}/{handle}".encode()
        return hmac.digest(self._secret, info, hashlib.sha256)


def new_key(path: str | Path) -> Path:
    """Write a fresh random key to a file that only its owner may read.

    Raises ``OutputError`` when the file exists (a lost key cannot be made again) or cannot be
    written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32) + "\n")
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError:
        raise OutputError(f"{path} exists; a key is never overwritten") from None
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from None
    return path


def key_from_file(path: str | Path) -> MemoryKey:
    """The key in a file. Raises ``InputError`` when it cannot be read or holds no key."""
    try:
        with Path(path).open("rb") as file:
            data = file.read(_MOST)
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", source=path) from None
    return MemoryKey(data.decode("ascii", "replace"), source=path)


def key_from_environment(variable: str = VARIABLE) -> MemoryKey | None:
    """The key in an environment variable, or None when it is not set."""
    text = os.environ.get(variable)
    return None if not text else MemoryKey(text, source=variable)


def check_key(folder: Path, check: str | None) -> None:
    """Compare the check value of a key (None: no key) with the memory in ``folder``.

    Raises ``MemoryKeyError`` for a missing or wrong key; nothing has been opened by then.
    """
    told = _told(folder)
    if told is None:
        return
    if check is None:
        raise MemoryKeyError(
            "this memory is encrypted; give its key (--memory-key FILE, or the environment "
            f"variable {VARIABLE})"
        )
    if not hmac.compare_digest(told, check):
        raise MemoryKeyError("this key does not open this memory; nothing was changed")


def note_key(folder: Path, check: str) -> None:
    """Leave the check value beside a database that its key has opened."""
    if _told(folder) is None:
        note = {"format": 1, "database": "chacha20-poly1305", "media": "aes-256-gcm"}
        with atomic_file(folder / CHECK_FILE) as temporary:
            Path(temporary).write_text(json.dumps({**note, "check": check}, indent=1) + "\n")


def _told(folder: Path) -> str | None:
    try:
        return str(json.loads((folder / CHECK_FILE).read_text())["check"])
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError):
        raise MemoryStoreError(
            f"{CHECK_FILE} is damaged; remove it and open the memory with its key to mend it"
        ) from None
