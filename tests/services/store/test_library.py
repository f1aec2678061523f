"""The character library and its archives, honest and hostile."""

from __future__ import annotations

import hashlib
import io
import json
import stat
import struct
import zipfile
from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from PIL import Image

from consistent_gen.client.types import (
    LibraryCharacter,
    LibraryCharacterIn,
    LibraryCharacterPatch,
)
from consistent_gen.errors import ConsistentGenError, InputError, LimitError
from services.errors import Conflict, StorageFull
from services.settings import StorageSettings
from services.store import Library, archive
from services.store.library import MAX_REFERENCES
from services.store.pictures import read_picture
from tests.services.shop import Shop

MIA = LibraryCharacterIn(name="Mia", description="a red fox", strength=0.75)


def png(shade: int = 0, size: int = 32) -> bytes:
    buffer = io.BytesIO()
    picture = Image.effect_noise((size, size), 40).convert("RGB")
    picture.putpixel((0, 0), (shade, 0, 0))
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def with_references(shop: Shop, count: int, owner: str = "alice") -> LibraryCharacter:
    made = shop.library.create(owner, MIA)
    for shade in range(count):
        picture = read_picture(png(shade))
        kept = shop.artifacts.put(owner, picture.data, picture.media_type)
        shop.library.add_reference(owner, made.id, kept.id, picture.quality)
    return shop.library.get(owner, made.id)


def test_characters_are_listed_by_name_and_changed_in_part(shop: Shop) -> None:
    for name in ("zoe", "Ähren", "adam"):
        shop.library.create("alice", LibraryCharacterIn(name=name, description="somebody"))
    names = [c.name for c in shop.library.list("alice").characters]
    assert names == ["adam", "zoe", "Ähren"]
    mia = shop.library.create("alice", MIA)
    shop.clock.advance(5)
    after = shop.library.patch("alice", mia.id, LibraryCharacterPatch(description="a blue fox"))
    assert (after.name, after.description, after.strength) == ("Mia", "a blue fox", 0.75)
    assert after.updated_at > after.created_at == mia.created_at


def test_a_name_is_taken_in_any_case(shop: Shop) -> None:
    shop.library.create("alice", MIA)
    other = shop.library.create("alice", LibraryCharacterIn(name="Leo", description="a lion"))
    with pytest.raises(Conflict, match="MIA"):
        shop.library.create("alice", MIA.model_copy(update={"name": "MIA"}))
    with pytest.raises(Conflict):
        shop.library.patch("alice", other.id, LibraryCharacterPatch(name="mia"))
    assert shop.library.patch("alice", other.id, LibraryCharacterPatch(name="LEO")).name == "LEO"
    assert shop.library.create("bob", MIA).name == "Mia"


def test_references_keep_their_order_and_their_pictures(shop: Shop) -> None:
    mia = with_references(shop, 3)
    first, second, third = mia.references
    with pytest.raises(Conflict, match="already"):
        shop.library.add_reference("alice", mia.id, first.artifact, first.quality)
    shop.library.remove_reference("alice", mia.id, second.id)
    assert shop.library.get("alice", mia.id).references == [first, third]
    shop.artifacts.sweep(0)
    left = {path.name for path in (shop.folder / "artifacts").glob("??/*")}
    assert left == {
        shop.artifacts.open("alice", reference.artifact)[0].sha256 for reference in (first, third)
    }
    shop.library.delete("alice", mia.id)
    shop.artifacts.sweep(0)
    assert shop.artifacts.used_bytes() == 0 and shop.library.list("alice").characters == []


def test_a_drawing_that_a_character_shows_outlives_its_story(shop: Shop) -> None:
    job = shop.submit("alice", frames=1)
    shop.draw_all()
    drawn = shop.jobs.get("alice", job.id).frames[0].artifact
    assert drawn is not None
    mia = shop.library.create("alice", MIA)
    quality = read_picture(png()).quality
    shop.library.add_reference("alice", mia.id, drawn, quality)
    shop.stories.delete("alice", job.story)
    shop.clock.advance(10_000)
    shop.artifacts.sweep(0)
    assert shop.artifacts.read("alice", drawn)


def test_a_character_has_a_bounded_number_of_references(shop: Shop) -> None:
    mia = with_references(shop, MAX_REFERENCES)
    one_more = shop.artifacts.put("alice", png(200), "image/png")
    with pytest.raises(LimitError):
        shop.library.add_reference("alice", mia.id, one_more.id, mia.references[0].quality)


def test_an_export_comes_back_the_same_elsewhere(shop: Shop) -> None:
    mia = with_references(shop, 3)
    data = shop.library.export("alice", mia.id)
    assert data == shop.library.export("alice", mia.id)
    copy = shop.library.import_archive("bob", data)
    assert (copy.name, copy.description, copy.strength) == (mia.name, mia.description, 0.75)
    assert [r.quality for r in copy.references] == [r.quality for r in mia.references]
    for ours, theirs in zip(mia.references, copy.references, strict=True):
        assert shop.artifacts.read("alice", ours.artifact) == shop.artifacts.read(
            "bob", theirs.artifact
        )
    assert shop.library.export("bob", copy.id) == data
    with zipfile.ZipFile(io.BytesIO(data)) as opened:
        assert opened.testzip() is None
        assert opened.namelist() == [
            "manifest.json",
            *(f"references/{i:03}.png" for i in (1, 2, 3)),
        ]


def test_an_import_beside_the_original_gets_a_free_name(shop: Shop) -> None:
    mia = with_references(shop, 1)
    data = shop.library.export("alice", mia.id)
    names = [shop.library.import_archive("alice", data).name for _ in range(3)]
    assert names == ["Mia 2", "Mia 3", "Mia 4"]
    long = MIA.model_copy(update={"name": "M" * 40})
    shop.library.create("alice", long)
    assert shop.library.import_archive("alice", archive.pack(long, [])).name == "M" * 38 + " 2"


# Hostile archives ---------------------------------------------------------------------------------
def forged(
    files: dict[str, bytes] | None = None,
    change: Callable[[dict[str, Any]], None] | None = None,
    info: Callable[[zipfile.ZipInfo], None] | None = None,
    method: int = zipfile.ZIP_STORED,
) -> bytes:
    """An archive whose manifest fits its files, unless ``change`` or ``info`` spoil it."""
    files = {"references/001.png": png()} if files is None else files
    manifest: dict[str, Any] = {
        "format": archive.FORMAT,
        "version": 1,
        "character": MIA.model_dump(),
        "references": [
            {"file": name, "sha256": hashlib.sha256(data).hexdigest()}
            for name, data in files.items()
        ],
    }
    if change is not None:
        change(manifest)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as made:
        for name, data in {"manifest.json": json.dumps(manifest).encode(), **files}.items():
            entry = zipfile.ZipInfo(name)
            entry.compress_type = method
            if info is not None and name != "manifest.json":
                info(entry)
            made.writestr(entry, data)
    return buffer.getvalue()


def mark(**fields: int) -> Callable[[zipfile.ZipInfo], None]:
    return lambda entry: [setattr(entry, k, v) for k, v in fields.items()] and None


def smaller_than_it_is() -> bytes:
    """A member whose headers state one byte and whose stream holds many."""
    honest = forged({"references/001.png": bytes(50_000)}, method=zipfile.ZIP_DEFLATED)
    return honest.replace(struct.pack("<L", 50_000), struct.pack("<L", 1))


BOMB = {"references/001.png": bytes(archive.MAX_PICTURE_BYTES + 1)}
HOSTILE: dict[str, Callable[[], bytes]] = {
    "not a zip": lambda: b"PK\x03\x04 and then nonsense",
    "empty": lambda: b"",
    "a pickle": lambda: b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x07builtins\x94.",
    "polyglot": lambda: b"GIF89a" + forged(),
    "polyglot that begins like a zip": lambda: b"PK\x03\x04" + forged(),
    "half": lambda: forged()[:-40],
    "climbs up": lambda: forged({"../../etc/cron.d/x": png()}),
    "absolute": lambda: forged({"/etc/passwd": png()}),
    "drive": lambda: forged({"C:\\x.png": png()}),
    "climbs inside": lambda: forged({"references/../../001.png": png()}),
    "other file": lambda: forged({"references/001.svg": b"<svg/>"}),
    "not a picture": lambda: forged({"references/001.png": b"MZ not a picture"}),
    "half a picture": lambda: forged({"references/001.png": png()[:60]}),
    "link": lambda: forged(info=mark(external_attr=(stat.S_IFLNK | 0o777) << 16)),
    "device": lambda: forged(info=mark(external_attr=(stat.S_IFCHR | 0o666) << 16)),
    "bzip2": lambda: forged(method=zipfile.ZIP_BZIP2),
    "bomb": lambda: forged(BOMB, method=zipfile.ZIP_DEFLATED),
    "manifest bomb": lambda: forged(
        change=lambda m: m.update(format=" " * 200_000), method=zipfile.ZIP_DEFLATED
    ),
    "liar about sizes": smaller_than_it_is,
    "too many": lambda: forged({f"references/{i:03}.png": png(i) for i in range(99)}),
    "unlisted": lambda: forged(change=lambda m: m.update(references=[])),
    "missing": lambda: forged({}, lambda m: m.update(references=[
        {"file": "references/001.png", "sha256": "0" * 64}])),
    "other hash": lambda: forged(change=lambda m: m["references"][0].update(sha256="0" * 64)),
    "other format": lambda: forged(change=lambda m: m.update(format="other")),
    "newer": lambda: forged(change=lambda m: m.update(version=2)),
    "more fields": lambda: forged(change=lambda m: m.update(owner="root")),
    "no name": lambda: forged(change=lambda m: m["character"].update(name=" ")),
    "a list": lambda: forged(change=lambda m: m.update(character=[])),
    "infinite": lambda: forged(change=lambda m: m["character"].update(strength=float("nan"))),
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_archive_is_refused_and_leaves_nothing(shop: Shop, kind: str) -> None:
    with pytest.raises((InputError, LimitError)) as refused:
        shop.library.import_archive("alice", HOSTILE[kind]())
    assert len(refused.value.message) < 300
    assert shop.library.list("alice").characters == []
    shop.artifacts.sweep(0)
    assert [path for path in shop.folder.rglob("*.png")] == []
    assert shop.artifacts.used_bytes() == 0


def test_encrypted_and_doubled_members_are_refused(shop: Shop) -> None:
    honest = bytearray(forged())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        honest[honest.rindex(signature) + offset] |= 1
    with pytest.raises(InputError, match="encrypted"):
        shop.library.import_archive("alice", bytes(honest))
    buffer = io.BytesIO(forged())
    with zipfile.ZipFile(buffer, "a") as opened, pytest.warns(UserWarning, match="Duplicate"):
        opened.writestr("references/001.png", png(9))
    with pytest.raises(InputError, match="twice"):
        shop.library.import_archive("alice", buffer.getvalue())


def test_an_archive_that_is_too_large_is_not_even_opened() -> None:
    with pytest.raises(LimitError, match="bytes"):
        archive.unpack(b"PK\x03\x04" + bytes(archive.MAX_ARCHIVE_BYTES))


def test_an_import_without_room_leaves_nothing(shop: Shop) -> None:
    data = shop.library.export("alice", with_references(shop, 2).id)
    storage = StorageSettings(owner_quota_bytes=len(data) // 2, reserve_bytes=0)
    artifacts = type(shop.artifacts)(shop.folder / "artifacts", shop.db, storage)
    with pytest.raises(StorageFull):
        Library(shop.db, artifacts).import_archive("bob", data)
    assert shop.library.list("bob").characters == []
    assert shop.db.rows("SELECT 1 FROM artifacts WHERE owner = 'bob'") == []


@settings(max_examples=80)
@given(place=st.floats(0, 1), change=st.binary(min_size=1, max_size=8), cut=st.booleans())
def test_a_spoilt_archive_is_read_or_refused_and_nothing_else(
    place: float, change: bytes, cut: bool
) -> None:
    data = bytearray(archive.pack(MIA, [(b"one", "image/png"), (b"two", "image/webp")]))
    at = int(place * len(data))
    data[at : at + len(change)] = b"" if cut else change
    try:
        found = archive.unpack(bytes(data))
    except ConsistentGenError:
        return
    assert found.pictures == (b"one", b"two")
