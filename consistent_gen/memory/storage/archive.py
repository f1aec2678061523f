"""Export and import of a whole memory as one zip file.

Layout: ``manifest.json`` (format, SHA-256 of every member), ``records.jsonl`` (every version),
``batches.jsonl``, ``log.jsonl``, ``vectors.json``, ``vectors/N.f32``, ``media/<sha256>``.
The same memory gives the same bytes. An import is checked before anything is written: names,
sizes, hashes and counts, so a hostile archive is refused as a whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from consistent_gen.errors import ConsistentGenError, InputError, LimitError, OutputError
from consistent_gen.inputs import BROKEN_ZIP, check_choice
from consistent_gen.memory.data.records import KINDS, Record, build
from consistent_gen.memory.storage.database import UserDatabase
from consistent_gen.memory.storage.media import BlobStore
from consistent_gen.memory.storage.rows import (
    Condition,
    broken_rules,
    insert,
    load,
    open_micros,
    open_moment,
)
from consistent_gen.memory.storage.vectors import VectorTable, create_space
from consistent_gen.memory.storage.writes import read_meta, recount_versions, write_meta

FORMAT = "consistent-gen-memory"
FORMAT_VERSION = 1
MAX_MEMBERS = 200_000
MAX_BYTES = 8 * 1024**3
MAX_RATIO = 200
_MEMBER = re.compile(
    r"manifest\.json|records\.jsonl|batches\.jsonl|log\.jsonl|vectors\.json"
    r"|vectors/\d{1,4}\.f32|media/[0-9a-f]{64}"
)
_TIMES = ("valid_from", "valid_to", "recorded_at", "retired_at")
_BATCH = ("id", "key_hash", "version", "recorded_at", "action", "ids", "purged")
_LOG = ("id", "batch", "op_key", "op", "persona", "status", "rule", "reason", "record")


def export(db: UserDatabase, blobs: BlobStore, vectors: VectorTable, path: Path) -> Path:
    """Write everything to ``path``. Raises ``OutputError`` if it exists or cannot be written."""
    if path.exists():
        raise OutputError(f"{path} exists; an export never overwrites")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with db.snapshot(), zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
            hashes = {}
            for name, data in _members(db, blobs, vectors):
                hashes[name] = hashlib.sha256(data).hexdigest()
                archive.writestr(_entry(name), data)
            manifest = {"format": FORMAT, "version": FORMAT_VERSION, "members": hashes}
            archive.writestr(_entry("manifest.json"), _json(manifest))
        # A hard link, unlike a rename, fails when somebody made the file meanwhile.
        os.link(temporary, path)
    except OSError as error:
        raise OutputError(f"cannot export to {path}: {error.strerror or error}") from None
    finally:
        temporary.unlink(missing_ok=True)
    return path


def restore(db: UserDatabase, blobs: BlobStore, vectors: VectorTable, path: Path, now: int) -> int:
    """Read an export into an empty memory, all or nothing; returns the record versions read.

    Raises ``InputError`` for a file that is not a sound export, ``LimitError`` for one too large.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            hashes = _checked(archive, path)
            with db.transaction():
                if db.rows("SELECT 1 FROM records LIMIT 1") or db.rows(
                    "SELECT 1 FROM batches LIMIT 1"
                ):
                    raise InputError(
                        "an export is read into an empty memory; this one is not empty"
                    )
                return _fill(db, blobs, vectors, _Archive(archive, hashes, path), now)
    except FileNotFoundError:
        raise InputError("no such file", source=path) from None
    except BROKEN_ZIP as error:
        raise InputError(f"not a readable zip file: {error}", source=path) from None
    except ConsistentGenError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise InputError(f"not a sound export: {type(error).__name__}", source=path) from None


class _Archive:
    """Members of an archive, each checked against its hash."""

    def __init__(self, archive: zipfile.ZipFile, hashes: dict[str, str], path: Path) -> None:
        self._archive, self.hashes, self._path = archive, hashes, path

    def read(self, name: str) -> bytes:
        data = self._archive.read(name)
        if hashlib.sha256(data).hexdigest() != self.hashes[name]:
            raise InputError(f"{name} does not match the manifest", source=self._path)
        return data

    def lines(self, name: str) -> Iterator[Any]:
        for line in self.read(name).decode().split("\n"):
            if line:
                yield json.loads(line)


def _members(
    db: UserDatabase, blobs: BlobStore, vectors: VectorTable
) -> Iterator[tuple[str, bytes]]:
    records = load(db, Condition("1 = 1", ()), order="r.row_id")
    yield "records.jsonl", b"".join(_json(_plain(record)) for record in records)
    batches = db.rows(f"SELECT {', '.join(_BATCH)} FROM batches ORDER BY version")
    yield "batches.jsonl", b"".join(_json(dict(zip(_BATCH, row, strict=True))) for row in batches)
    yield "log.jsonl", b"".join(_json(entry) for entry in _log(db))
    spaces = db.rows("SELECT name, dimensions FROM spaces ORDER BY name")
    places = db.rows("SELECT row_id, id, version FROM records ORDER BY row_id")
    index: list[dict[str, Any]] = []
    for number, (name, size) in enumerate(spaces):
        found = vectors.fetch(name, [row for row, _, _ in places])
        kept = [(id, version, found[row]) for row, id, version in places if row in found]
        data = [np.asarray(v, "<f4").tobytes() for _, _, v in kept]
        yield f"vectors/{number}.f32", b"".join(data)
        index.append({"name": name, "dimensions": size, "of": [[i, v] for i, v, _ in kept]})
    roles = {role: space for role, space in db.rows("SELECT role, space FROM roles ORDER BY role")}
    state = {name: read_meta(db, name, "0") for name in ("version", "last_recorded")}
    yield "vectors.json", _json({"spaces": index, "roles": roles, "state": state})
    for (name,) in db.rows("SELECT name FROM blobs ORDER BY name"):
        data_of = blobs.read(name)
        if data_of is None:
            raise OutputError(f"media {name[:12]}... is missing; run verify before an export")
        yield f"media/{name}", data_of


def _checked(archive: zipfile.ZipFile, path: Path) -> dict[str, str]:
    entries = archive.infolist()
    if len(entries) > MAX_MEMBERS:
        raise LimitError(f"{len(entries):,} members; the limit is {MAX_MEMBERS:,}", source=path)
    names = [entry.filename for entry in entries]
    odd = next((n for n in names if not _MEMBER.fullmatch(n)), None)
    if odd is not None or len(set(names)) != len(names):
        raise InputError(f"unexpected member {odd!r}" if odd else "repeated members", source=path)
    total = sum(entry.file_size for entry in entries)
    packed = sum(entry.compress_size for entry in entries) or 1
    # Small archives may compress well by chance; only a large one can do harm.
    if total > MAX_BYTES or (total > 64 * 1024**2 and total / packed > MAX_RATIO):
        raise LimitError(f"it would unpack to {total:,} bytes; that is too much", source=path)
    if "manifest.json" not in names:
        raise InputError("it has no manifest; this is not an export of a memory", source=path)
    manifest = json.loads(archive.read("manifest.json"))
    if manifest.get("format") != FORMAT:
        raise InputError("it is not an export of a memory", source=path)
    if manifest.get("version") != FORMAT_VERSION:
        raise InputError(
            f"it has format version {manifest.get('version')!r}; this release reads "
            f"{FORMAT_VERSION}: upgrade consistent-gen",
            source=path,
        )
    hashes: dict[str, str] = manifest["members"]
    if set(hashes) != set(names) - {"manifest.json"}:
        raise InputError("its members are not those of its manifest", source=path)
    return hashes


def _fill(
    db: UserDatabase, blobs: BlobStore, vectors: VectorTable, file: _Archive, now: int
) -> int:
    for name in file.hashes:
        if name.startswith("media/"):
            blob, data = name.removeprefix("media/"), file.read(name)
            if hashlib.sha256(data).hexdigest() != blob:
                raise InputError(f"{name} does not hold the bytes of its name")
            if not db.rows("SELECT 1 FROM blobs WHERE name = ?", (blob,)):
                blobs.write(blob, data)
                db.rows(
                    "INSERT INTO blobs (name, bytes, added_at) VALUES (?, ?, ?)",
                    (blob, len(data), now),
                )
    rows = {}
    for value in file.lines("records.jsonl"):
        record = _record(value)
        rows[record.id, record.version] = insert(db, record)
    _rows(db, "batches", _BATCH, file.lines("batches.jsonl"))
    entries = list(file.lines("log.jsonl"))
    _rows(db, "outcomes", _LOG, entries)
    _rows(db, "outcome_links", ("outcome", "target"), [
        {"outcome": entry["id"], "target": target}
        for entry in entries for target in entry["targets"]
    ])  # fmt: skip
    listing = json.loads(file.read("vectors.json"))
    for number, space in enumerate(listing["spaces"]):
        create_space(db, space["name"], space["dimensions"])
        flat = np.frombuffer(file.read(f"vectors/{number}.f32"), "<f4")
        shaped = flat.reshape(len(space["of"]), space["dimensions"]).astype(np.float32)
        placed = [rows[id, version] for id, version in space["of"]]
        vectors.put(space["name"], list(zip(placed, shaped, strict=True)))
    for role, name in listing["roles"].items():
        db.rows("INSERT INTO roles (role, space) VALUES (?, ?)", (role, name))
    for name, state in listing["state"].items():
        check_choice(name, ("version", "last_recorded"), "state")
        write_meta(db, name, str(int(state)))
    recount_versions(db)
    broken = next(broken_rules(db), None)
    if broken is not None:
        raise InputError(f"not a sound export: {broken}")
    return len(rows)


def _rows(db: UserDatabase, table: str, columns: tuple[str, ...], values: Iterable[Any]) -> None:
    listed, places = ", ".join(columns), ", ".join("?" * len(columns))
    db.many(
        f"INSERT INTO {table} ({listed}) VALUES ({places})",
        [[value[column] for column in columns] for value in values],
    )


def _log(db: UserDatabase) -> Iterator[dict[str, Any]]:
    """Log entries with what each of them mentions, so that a later erasure finds it."""
    targets: dict[str, list[str]] = {}
    for outcome, target in db.rows(
        "SELECT outcome, target FROM outcome_links ORDER BY outcome, target"
    ):
        targets.setdefault(outcome, []).append(target)
    for row in db.rows(f"SELECT {', '.join(_LOG)} FROM outcomes ORDER BY seq"):
        yield {**dict(zip(_LOG, row, strict=True)), "targets": sorted(targets.get(row[0], []))}


def _plain(record: Record) -> dict[str, Any]:
    shared = {
        name: list(value) if isinstance(value, tuple) else value
        for name in ("id", "version", "persona", "origin", "trust", "schema", "text", "keywords",
                     "evidence", "derived_from", "media", "created_by", "retired_by")
        for value in (getattr(record, name),)
    }  # fmt: skip
    times = {name: open_micros(getattr(record, name)) for name in _TIMES}
    return {"kind": record.kind, "body": record.body(), **shared, **times}


def _record(value: dict[str, Any]) -> Record:
    kind, body = value.pop("kind"), value.pop("body")
    check_choice(kind, KINDS, "kind")
    times = {name: open_moment(int(value.pop(name))) for name in _TIMES}
    if times["valid_from"] is None or times["recorded_at"] is None or not value.get("id"):
        raise InputError("a record of the export lacks its id or its times")
    shared = {k: tuple(v) if isinstance(v, list) else v for k, v in value.items()}
    return build(kind, {**shared, **times}, body)


def _json(value: Any) -> bytes:
    return (json.dumps(value, sort_keys=True, ensure_ascii=False) + "\n").encode()


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = 0o600 << 16
    return entry
