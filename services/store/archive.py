"""A character as one zip file: ``manifest.json`` and ``references/NNN.png|jpg|webp``.

Written so that equal characters give equal bytes. Read with suspicion: every name, size and hash is
checked against bounds and against the manifest before it is believed, and nothing is ever unpacked
into a folder, so neither names nor sizes in an archive can do harm.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import stat
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from consistent_gen.client.types import LibraryCharacterIn
from consistent_gen.errors import InputError, LimitError
from consistent_gen.inputs import BROKEN_ZIP

FORMAT = "consistent-gen-character"
VERSION = 1
MAX_REFERENCES = 16
MAX_ARCHIVE_BYTES = 64 << 20
MAX_PICTURE_BYTES = 20 << 20
MAX_MANIFEST_BYTES = 64 << 10
# What the pictures of one character may take, so that whatever is exported can be imported.
MAX_PICTURES_BYTES = MAX_ARCHIVE_BYTES - (1 << 20)
SUFFIXES = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp"}
_MANIFEST = "manifest.json"
_PICTURE = re.compile(r"references/[0-9]{3}\.(png|jpg|webp)")
_EPOCH = (1980, 1, 1, 0, 0, 0)
_BROKEN = (*BROKEN_ZIP, OSError, ValueError, KeyError, IndexError, OverflowError)


class _Listed(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    file: Annotated[str, StringConstraints(pattern=f"^{_PICTURE.pattern}$")]
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class _Manifest(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    format: Literal["consistent-gen-character"]
    version: Literal[1]
    character: LibraryCharacterIn
    references: list[_Listed] = Field(max_length=MAX_REFERENCES)


@dataclass(frozen=True)
class Archived:
    """A character and the bytes of its pictures, not yet judged as pictures."""

    character: LibraryCharacterIn
    pictures: tuple[bytes, ...]


def pack(character: LibraryCharacterIn, pictures: Sequence[tuple[bytes, str]]) -> bytes:
    """The archive of a character; ``pictures`` are bytes and media types."""
    members = {
        f"references/{number:03d}.{SUFFIXES[media_type]}": data
        for number, (data, media_type) in enumerate(pictures, start=1)
    }
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "character": character.model_dump(mode="json"),
        "references": [
            {"file": name, "sha256": hashlib.sha256(data).hexdigest()}
            for name, data in members.items()
        ],
    }
    text = json.dumps(manifest, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in {_MANIFEST: text.encode(), **members}.items():
            archive.writestr(_entry(name), data)
    return buffer.getvalue()


def unpack(data: bytes) -> Archived:
    """What is in the archive of a character.

    Raises:
        InputError: not such an archive, or one that contradicts itself.
        LimitError: it is, or would unpack to, more than the bounds of this module.
    """
    if len(data) > MAX_ARCHIVE_BYTES:
        raise LimitError(
            f"the archive has {len(data):,} bytes; at most {MAX_ARCHIVE_BYTES:,} are read"
        )
    if not data.startswith(b"PK\x03\x04"):
        raise InputError("not a zip file; expected one made by exporting a character")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = _members(archive)
            manifest = _manifest(_read(archive, members[_MANIFEST], MAX_MANIFEST_BYTES))
            return Archived(manifest.character, _pictures(archive, members, manifest))
    except (InputError, LimitError):
        raise
    except _BROKEN:
        raise InputError("the zip file is damaged; export the character again") from None


def _members(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    found = archive.infolist()
    if len(found) > MAX_REFERENCES + 1:
        raise LimitError(f"the archive has {len(found)} files; at most {MAX_REFERENCES + 1}")
    if found and min(info.header_offset for info in found) != 0:
        raise InputError("the archive has something before its first file")
    members = {info.filename: info for info in found}
    if len(members) != len(found) or _MANIFEST not in members:
        raise InputError(f"the archive needs one {_MANIFEST} and no name twice")
    for name, info in members.items():
        if name != _MANIFEST and not _PICTURE.fullmatch(name):
            raise InputError(f"the archive has a file that is neither {_MANIFEST} nor a reference")
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG) or info.is_dir():
            raise InputError("the archive has a link or a folder; only plain files are read")
        if info.flag_bits & 0x1:
            raise InputError("the archive is encrypted; export it without a password")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise InputError("the archive is packed in a way that is not read; use plain zip")
    return members


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo, limit: int) -> bytes:
    # The size that is stated may be a lie, so no more than the limit is ever unpacked.
    too_large = LimitError(f"a file in the archive unpacks to more than {limit:,} bytes")
    if info.file_size > limit:
        raise too_large
    with archive.open(info) as stream:
        data = stream.read(limit + 1)
        if len(data) > limit or stream.read(1):
            raise too_large
    if len(data) != info.file_size:
        raise InputError("a file in the archive has another size than it states")
    return data


def _manifest(text: bytes) -> _Manifest:
    try:
        return _Manifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise InputError(
            f"{_MANIFEST} is not as expected: {place or 'it'}: {first['msg']}"
        ) from None


def _pictures(
    archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], manifest: _Manifest
) -> tuple[bytes, ...]:
    names = [listed.file for listed in manifest.references]
    if sorted(names) != sorted(members.keys() - {_MANIFEST}):
        raise InputError(f"the files in the archive are not those that {_MANIFEST} lists")
    pictures = []
    left = MAX_ARCHIVE_BYTES
    for listed in manifest.references:
        data = _read(archive, members[listed.file], min(MAX_PICTURE_BYTES, left))
        if hashlib.sha256(data).hexdigest() != listed.sha256:
            raise InputError(f"{listed.file} is not the file that {_MANIFEST} describes")
        left -= len(data)
        pictures.append(data)
    return tuple(pictures)


def _entry(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, _EPOCH)
    info.external_attr = (stat.S_IFREG | 0o644) << 16
    info.create_system = 3  # as on Unix, wherever it is written
    return info
