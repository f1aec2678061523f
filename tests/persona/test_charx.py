"""Cards in archives: in, back to the byte, and archives that mean harm."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consistent_gen.errors import InputError, LimitError
from consistent_gen.persona.cards import card_text_of, charx, parse_card, persona_of
from consistent_gen.persona.cards.files import read_persona, write_card

TEXT = (
    '{"spec": "chara_card_v3",  "spec_version": "3.0", "data": {"name": "Mia", "description": '
    '"Mia keeps bees.", "first_mes": "Hello.", "group_only_greetings": [], "extensions": {"x":'
    ' 1.0}, "assets": [{"type": "icon", "uri": "embeded://assets/icon/images/main.png", "name": '
    '"main", "ext": "png"}]}}'
)


def archive(
    *entries: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED, comment: bytes = b""
) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as made:
        made.comment = comment
        for name, body in entries:
            made.writestr(zipfile.ZipInfo(name, (2024, 2, 3, 4, 5, 6)), body, method)
    return out.getvalue()


MIA = archive(
    ("assets/icon/images/main.png", b"\x89PNG..."), ("card.json", TEXT.encode()),
    ("module.json", b"{ }"), comment=b"by somebody",
)  # fmt: skip


def contents(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as read:
        return {entry.filename: read.read(entry) for entry in read.infolist()}


def test_an_archive_becomes_a_persona_and_the_same_archive_again(tmp_path: Path) -> None:
    source, out = tmp_path / "mia.charx", tmp_path / "again.charx"
    source.write_bytes(MIA)
    persona, card = read_persona(source)
    assert card is not None and (card.spec, card.text) == ("v3", TEXT)
    assert any("holds 2 files beside the card" in note for note in card.notes)
    assert write_card(persona, out, picture=source) == "v3"
    assert out.read_bytes() == MIA
    # Somebody else's name: the card changes, and nothing else in the archive.
    told = persona.as_json() | {"name": "Ada"}
    renamed = type(persona).from_json(told)
    write_card(renamed, tmp_path / "ada.charx", picture=source)
    made = contents((tmp_path / "ada.charx").read_bytes())
    assert made.pop("card.json").decode() == TEXT.replace('"Mia"', '"Ada"')
    assert made.items() <= contents(MIA).items() and len(made) == 2
    # Without an archive: one that holds the card alone, the same each time.
    write_card(persona, tmp_path / "bare.charx")
    assert contents((tmp_path / "bare.charx").read_bytes()) == {"card.json": TEXT.encode()}
    assert charx.with_card(None, TEXT) == (tmp_path / "bare.charx").read_bytes()
    assert parse_card(charx.with_card(None, TEXT)).notes == ()


def test_a_persona_that_was_no_card_gets_version_3_and_older_cards_are_refused(
    tmp_path: Path,
) -> None:
    plain, _ = read_persona(_written(tmp_path / "mia.txt", b"I keep bees.\n"))
    assert write_card(plain, tmp_path / "mia.charx") == "v3"
    assert parse_card((tmp_path / "mia.charx").read_bytes()).name == "mia"
    old = persona_of(parse_card(b'{"name": "Mia", "description": "Mia keeps bees."}'))
    with pytest.raises(InputError, match=r"version 3, and this one is of v1; write it as \.json"):
        write_card(old, tmp_path / "old.charx")
    assert not (tmp_path / "old.charx").exists()
    assert card_text_of(old)[1] == "v1"


def _written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def _encrypted() -> bytes:
    data = bytearray(archive(("card.json", b"{}")))
    data[6] |= 1  # the entry's own header
    data[data.index(b"PK\x01\x02") + 8] |= 1  # and the directory's
    return bytes(data)


def _lies() -> bytes:
    """An entry of 30 MiB whose headers state 2 bytes."""
    data = bytearray(archive(("card.json", b" " * (30 << 20))))
    place = data.index(b"PK\x01\x02") + 24
    data[place : place + 4] = (2).to_bytes(4, "little")
    return bytes(data)


@pytest.mark.parametrize(
    ("made", "kind", "message"),
    [
        (lambda: archive(("card.json", b" " * (30 << 20))), LimitError, "unpacks to more than"),
        (_lies, InputError, "damaged|unpacks to more|not JSON"),
        (lambda: archive(*((f"f{n}", b"") for n in range(10_001))), LimitError, "10,000 entries"),
        (lambda: archive(*((f"{n}" + "f" * 3000, b"") for n in range(800))), LimitError, "2 MiB"),
        (lambda: archive(("a/card.json", b"{}")), InputError, r"no card\.json at its root.*a/card"),
        (lambda: archive(("card.json", b"\xff\xfe")), InputError, "no UTF-8"),
        (lambda: archive(("card.json", b"{}"), method=zipfile.ZIP_BZIP2), InputError, "deflate"),
        (_encrypted, InputError, "encrypted; save it without"),
        (lambda: MIA[:-40], InputError, "copied whole"),
        (lambda: b"PK, and no archive", InputError, "copied whole"),
        (lambda: b"PK\x03\x04", InputError, "copied whole"),
    ],
    ids=[
        "bomb",
        "lies",
        "many",
        "directory",
        "root",
        "bytes",
        "bzip2",
        "encrypted",
        "cut",
        "words",
        "head",
    ],
)
def test_archives_that_are_not_read_say_why(
    made: Callable[[], bytes], kind: type[InputError], message: str
) -> None:
    with pytest.raises(kind, match=message):
        parse_card(made())


def test_an_archive_is_written_anew_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(charx, "MAX_UNPACKED", 1_000_000)
    bomb = archive(("card.json", TEXT.encode()), ("a", b"0" * 600_000), ("b", b"0" * 600_000))
    with pytest.raises(LimitError, match="b in the archive unpacks to more than 400,000"):
        charx.with_card(bomb, "{}")
    with pytest.raises(InputError, match=r"is no archive \(ZIP\)"):
        charx.with_card(b'{"name": "Mia"}', TEXT)


@given(st.integers(0, len(MIA) - 1), st.integers(0, 255))
def test_any_damage_is_told_in_words(place: int, byte: int) -> None:
    data = MIA[:place] + bytes([byte]) + MIA[place + 1 :]
    try:
        parse_card(data)
        charx.with_card(data, "{}")
    except InputError as error:
        assert str(error)
