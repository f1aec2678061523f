"""ZIP archives with equal bytes for equal content: fixed order, fixed date, no owner."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping

NO_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest that a ZIP can say
PACKED_ALREADY = (".png", ".jpg", ".gif")


def archive(files: Mapping[str, bytes]) -> bytes:
    """A ZIP of `files`, relative POSIX names to contents, in the order given."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as target:
        for name, data in files.items():
            assert name and ".." not in name and not name.startswith("/") and "\\" not in name
            entry = zipfile.ZipInfo(name, date_time=NO_DATE)
            entry.create_system = 3  # the same on every system
            entry.external_attr = 0o644 << 16
            stored = name.endswith(PACKED_ALREADY)
            entry.compress_type = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
            target.writestr(entry, data)
    return stream.getvalue()
