"""What folders take on the disk."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def folder_bytes(folder: Path) -> int:
    """Bytes of all files in a folder and below; 0 where there is none."""
    used = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):  # gone meanwhile
                used += os.stat(os.path.join(place, name)).st_size
    return used
