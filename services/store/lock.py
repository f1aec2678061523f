"""One gateway per data folder: whoever comes second is told so, and shares nothing unknowingly."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from consistent_gen.errors import InputError
from services.errors import StorageFull

LOCK_NAME = "gateway.lock"


class FolderLock:
    """Held from its making until `close`, or until the process ends, however it ends.

    The file stays, since removing it would let two hold two files of one name.
    """

    def __init__(self, folder: Path) -> None:
        """Raises InputError when somebody else holds it, StorageFull when it cannot be written."""
        path = folder / LOCK_NAME
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise StorageFull(f"cannot write {path}: {error.strerror or error}") from None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._file, 20, 0).decode("ascii", "replace").strip()
            os.close(self._file)
            raise InputError(
                f"{folder} is in use by another gateway (process {holder or 'unknown'}); stop that "
                "one first, or give this one a folder of its own with --data or storage.data_dir"
            ) from None
        except OSError as error:
            os.close(self._file)
            raise InputError(
                f"{folder} cannot be locked ({error.strerror}); the data of a gateway must be on a "
                "disk with real file locks, which network file systems often lack"
            ) from None
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, str(os.getpid()).encode(), 0)

    def close(self) -> None:
        """Let the folder go; calling it again does nothing."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
