"""Character cards in archives (`.charx`, version 3): `card.json` and the files that it names.

A ZIP file comes from a stranger: its directory, the number of its entries and all that is unpacked
are bounded, sizes that it states are not believed, and no entry ever becomes a file of its own.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager

from consistent_gen.errors import InputError, LimitError
from consistent_gen.inputs import BROKEN_ZIP

SIGNATURE = b"PK"
CARD = "card.json"
MAX_DIRECTORY = 2 << 20  # bytes of the list of entries
MAX_ENTRIES = 10_000
MAX_TEXT = 24 << 20  # bytes of card.json, unpacked
MAX_UNPACKED = 256 << 20  # bytes of all entries, when an archive is written anew
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_END = b"PK\x05\x06"  # of the record at the end, 22 bytes and a comment of at most 65,535
_MADE = (1980, 1, 1, 0, 0, 0)


def card_text(data: bytes) -> tuple[str, int]:
    """The JSON of the card in an archive, and how many other files lie beside it.

    Raises:
        InputError: no archive, a damaged or encrypted one, one without `card.json` at its root.
        LimitError: more entries, or a longer card, than are read.
    """
    with _opened(data) as archive:
        text = _unpacked(archive, _card_entry(archive), MAX_TEXT)
        others = sum(not e.is_dir() and e.filename != CARD for e in archive.infolist())
    try:
        return text.decode("utf-8-sig"), others
    except UnicodeDecodeError:
        raise InputError(f"{CARD} of the archive is no UTF-8 text") from None


def with_card(data: bytes | None, text: str) -> bytes:
    """The archive with `text` as its card and everything else as it was; a new one without `data`.

    An archive that holds this card already is returned byte for byte.

    Raises:
        InputError, LimitError: as `card_text`; or the archive unpacks to more than is written.
    """
    if data is not None and card_text(data)[0] == text:
        return data
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        if data is None:
            new.writestr(zipfile.ZipInfo(CARD, _MADE), text, zipfile.ZIP_DEFLATED)
        else:
            _copied(data, text, new)
    return out.getvalue()


def _copied(data: bytes, text: str, new: zipfile.ZipFile) -> None:
    with _opened(data) as archive:
        left = MAX_UNPACKED
        new.comment = archive.comment
        card = _card_entry(archive)
        for entry in archive.infolist():
            body = text.encode("utf-8")
            if entry is not card:
                body = _unpacked(archive, entry, left)
                left -= len(body)
            fresh = zipfile.ZipInfo(entry.filename, entry.date_time)
            fresh.external_attr, fresh.comment = entry.external_attr, entry.comment
            new.writestr(fresh, body, entry.compress_type)


@contextmanager
def _opened(data: bytes) -> Iterator[zipfile.ZipFile]:
    if not data.startswith(SIGNATURE):
        raise InputError("is no archive (ZIP)")
    place = data.rfind(_END, max(0, len(data) - 22 - 65_535))
    if place < 0 or len(data) < place + 22:
        raise InputError("the archive ends in the middle; it was not copied whole")
    if int.from_bytes(data[place + 12 : place + 16], "little") > MAX_DIRECTORY:
        raise LimitError(f"the archive lists more than {MAX_DIRECTORY >> 20} MiB of entries")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if len(archive.infolist()) > MAX_ENTRIES:
                raise LimitError(f"the archive has more than {MAX_ENTRIES:,} entries")
            yield archive
    except (*BROKEN_ZIP, UnicodeDecodeError) as error:
        raise InputError(f"the archive is damaged: {error}") from None


def _card_entry(archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    found = [entry for entry in archive.infolist() if entry.filename == CARD]
    if not found:
        names = ", ".join(entry.filename[:40] for entry in archive.infolist()[:5]) or "nothing"
        raise InputError(f"the archive has no {CARD} at its root, as a .charx must; it has {names}")
    if len(found) > 1:
        raise InputError(f"the archive has {len(found)} entries named {CARD}; expected one")
    return found[0]


def _unpacked(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, most: int) -> bytes:
    """The bytes of an entry, of which no more than `most` are ever unpacked."""
    name = entry.filename[:60]
    if entry.flag_bits & 0x1:
        raise InputError(f"{name} in the archive is encrypted; save it without a password")
    if entry.compress_type not in _METHODS:
        raise InputError(f"{name} in the archive is packed by a method other than deflate")
    with archive.open(entry) as stream:
        body = stream.read(most + 1)
    if len(body) > most:
        raise LimitError(f"{name} in the archive unpacks to more than {most:,} bytes")
    return body
