"""Hostile and broken input through the command line: one clear line, an exit code, nothing lost."""

from __future__ import annotations

import io
import os
import sqlite3
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from consistent_gen.cli import main
from consistent_gen.memory.storage.keys import new_key

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)

    def call(*words: str, said: bytes = b"", place: str = "m") -> tuple[int, str, str]:
        # As Python opens a pipe: bytes that are no UTF-8 come through as lone surrogates.
        stdin = io.TextIOWrapper(io.BytesIO(said), "utf-8", "surrogateescape")
        monkeypatch.setattr("sys.stdin", stdin)
        code = main([*words, "--memory", place])
        out, err = capsys.readouterr()
        return code, out, err

    return call


@pytest.fixture
def database(run: Run) -> Path:
    """The file of a memory that knows where its user lives."""
    code, _, err = run("chat", "--embedder", "none", said=b"I live in Lisbon.\n")
    assert (code, err) == (0, "")
    assert run("memory", "verify", "--compact")[0] == 0
    return next(Path("m").rglob("memory.db"))


def knows_lisbon(run: Run, place: str = "m") -> bool:
    return "lives in Lisbon" in run("memory", "list", "--kind", "core", place=place)[1]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b"I live in \xff\xfe Oslo", "lone surrogate"),
        (b"I live in \x00 Oslo", "NUL"),
        (b"I live in " + b"Oslo" * 2_500_000, "the limit is 200,000"),
        (b"/document big.txt read this", "larger than"),
        (b"/picture big.txt this is my dog Bo", "larger than"),
        (b"/picture small.txt this is my dog Bo", "not a PNG"),
    ],
    ids=["bad unicode", "nul", "10 MB", "large document", "large picture", "no picture"],
)
def test_a_bad_line_is_told_and_the_talk_goes_on(
    run: Run, database: Path, line: bytes, says: str
) -> None:
    with Path("big.txt").open("wb") as file:
        file.truncate(40_000_000)
    Path("small.txt").write_text("no picture")
    code, out, err = run("chat", "--embedder", "none", said=line + b"\nI love tea.\n")
    told = [text for text in out.splitlines() if text.startswith("! ")]
    assert code == 0 and err == "" and len(told) == 1 and says in told[0]
    assert len(told[0]) < 200, "the input itself is not repeated"
    assert "likes tea" in out and "Oslo" not in run("memory", "list")[1]
    assert knows_lisbon(run) and run("memory", "verify")[0] == 0


def garbled(path: Path) -> None:
    path.write_bytes(b"garbage!" + path.read_bytes()[8:])


def torn(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:16_384] + os.urandom(12_288) + data[28_672:])


def cut(path: Path) -> None:
    os.truncate(path, 5_000)


def newer(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("INSERT INTO migrations VALUES ('9999_later', 0)")
    connection.close()


@pytest.mark.parametrize(
    ("harm", "says"),
    [(garbled, "damaged"), (torn, "damaged"), (cut, "damaged"), (newer, "newer version")],
)
@pytest.mark.parametrize("words", [("memory", "verify"), ("memory", "list"), ("chat",)])
def test_a_database_that_cannot_be_read_is_named_and_left_alone(
    run: Run, database: Path, harm: Callable[[Path], None], says: str, words: tuple[str, ...]
) -> None:
    harm(database)
    before = database.read_bytes()
    options = ("--embedder", "none") if words == ("chat",) else ()
    code, _, err = run(*words, *options, said=b"I love tea.\n")
    assert code != 0 and err.count("\n") == 1 and says in err
    assert database.read_bytes() == before


def test_the_wrong_key_and_no_key_open_nothing(run: Run) -> None:
    for name in ("right", "wrong"):
        new_key(Path(name))
    said = b"I live in Lisbon.\n"
    assert run("chat", "--embedder", "none", "--memory-key", "right", said=said)[0] == 0
    files = {path: path.read_bytes() for path in Path("m").rglob("*") if path.is_file()}
    Path("short").write_text("1234\n")
    for key, says in (("wrong", "does not open"), ("short", "64 hexadecimal"), ("no", "read"),
                      (None, "encrypted")):  # fmt: skip
        code, out, err = run("memory", "list", *(("--memory-key", key) if key else ()))
        assert code != 0 and out == "" and err.count("\n") == 1 and says in err
    assert {path: path.read_bytes() for path in files} == files
    assert "Lisbon" in run("memory", "list", "--memory-key", "right")[1]


def test_a_bomb_and_other_files_are_not_imported(run: Run, database: Path) -> None:
    assert run("memory", "export", "good.zip")[0] == 0
    with zipfile.ZipFile("good.zip") as good, zipfile.ZipFile("bomb.zip", "w", 8) as bomb:
        for name in good.namelist():
            bomb.writestr(name, b"\n" * 80_000_000 if name == "log.jsonl" else good.read(name))
    Path("text.zip").write_text("not a zip")
    for file, says in (("bomb.zip", "unpack"), ("text.zip", "zip"), ("none.zip", "no such file")):
        code, out, err = run("memory", "import", file, place="fresh")
        assert code != 0 and out == "" and err.count("\n") == 1 and says in err
    assert run("memory", "list", place="fresh")[1] == ""
    assert run("memory", "import", "good.zip", place="fresh")[0] == 0
    assert knows_lisbon(run, "fresh") and run("memory", "import", "good.zip")[0] != 0
    assert knows_lisbon(run)


@pytest.mark.parametrize("words", [("--limit", "0"), ("--limit", "-3"), ("--limit", "x")])
def test_a_limit_is_a_count(run: Run, database: Path, words: tuple[str, ...]) -> None:
    code, out, err = run("memory", "list", *words)
    assert code == 2 and out == "" and err.count("\n") == 1 and "--limit" in err


def test_a_place_that_is_no_folder(run: Run) -> None:
    Path("file").write_text("x")
    code, _, err = run("memory", "list", place="file")
    assert code != 0 and err.count("\n") == 1 and Path("file").read_text() == "x"
