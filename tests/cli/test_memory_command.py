"""`consistent-gen memory` and `consistent-gen chat`, through the program's own entry."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from consistent_gen.cli import main

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Run:
    def call(*words: str, stdin: str = "", user: str = "ana") -> tuple[int, str, str]:
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        place = ["--memory", str(tmp_path / "memory"), "--user", user]
        code = main([*words, *place])
        out, err = capsys.readouterr()
        return code, out, err

    return call


def chat(run: Run, *lines: str, options: tuple[str, ...] = ()) -> str:
    code, out, err = run("chat", "--embedder", "ngrams", *options, stdin="\n".join(lines))
    assert (code, err) == (0, "")
    return out


def identifier(out: str, words: str) -> str:
    return next(line.split()[0] for line in out.splitlines() if words in line)


def test_chat_works_offline_and_says_what_it_is(run: Run) -> None:
    out = chat(run, "/at 2026-03-01T09:00", "I live in Lisbon.", "Where do I live?",
               options=("--changes",))  # fmt: skip
    assert "no language model" in out and "matches spelling, not meaning" in out
    assert "+ core Identity.Home: lives in Lisbon" in out
    assert 'you said on 2026-03-01: "I live in Lisbon."' in out


def test_a_mistake_does_not_end_the_talk(run: Run) -> None:
    out = chat(run, "/dance", "/picture nowhere.png hello", "/at tomorrow", "I live in Oslo.",
               "/quit", "I live in Rome.")  # fmt: skip
    assert out.count("! ") == 3
    _, listed, _ = run("memory", "list")
    assert "lives in Oslo" in listed and "Rome" not in listed


def test_list_show_search_correct_undo_history(run: Run) -> None:
    chat(run, "/at 2026-03-01T09:00", "I live in Lisbon. I love sardines.")
    code, listed, _ = run("memory", "list", "--kind", "core")
    assert code == 0 and "sardines" not in listed
    id = identifier(listed, "lives in Lisbon")
    assert '"lives in Lisbon"' in run("memory", "show", id)[1]
    code, out, _ = run("memory", "correct", id, "lives in Porto")
    assert code == 0 and "applied" in out
    found = run("memory", "search", "Porto")[1]
    assert found.splitlines()[0].startswith(id) or id in found
    assert "words: rank 1" in found
    batch = out.split("memory undo ")[1].split()[0]
    history = run("memory", "history", id)[1]
    assert "version 1" in history and "lives in Porto" in history
    assert run("memory", "undo", batch)[0] == 0
    assert "lives in Lisbon" in run("memory", "list", "--kind", "core")[1]
    assert "applied" in run("memory", "history")[1]


def test_search_within_dates(run: Run) -> None:
    # What is told would be a fact, and a fact holds in the time after it, too; a question is not.
    chat(
        run,
        "/at 2026-03-01T09:00",
        "Who broke the violin?",
        "/at 2026-04-01T09:00",
        "Who says that the violin works?",
    )
    out = run("memory", "search", "violin", "--since", "2026-03-15")[1]
    assert "works" in out and "broke" not in out
    assert run("memory", "search", "violin", "--since", "soon")[0] == 2


def test_a_search_that_finds_nothing_says_so(run: Run) -> None:
    code, out, _ = run("memory", "search", "zebra")
    assert code == 0 and "nothing that is remembered fits 'zebra'" in out
    chat(run, "/at 2026-03-01T09:00", "Who broke the violin?")
    out = run("memory", "search", "violin", "--since", "2027-01-01")[1]
    assert "nothing that is remembered in this time fits 'violin'" in out


def test_forgetting_shows_first_and_erases_with_yes(run: Run) -> None:
    chat(run, "I'm allergic to peanuts.")
    code, out, _ = run("memory", "forget", "my allergies")
    assert code == 1 and "peanuts" in out and "--yes" in out
    assert "peanuts" in run("memory", "list")[1]
    code, out, _ = run("memory", "forget", "my allergies", "--yes")
    assert code == 0 and "no byte is left" in out
    assert "peanuts" not in run("memory", "list")[1]
    assert run("memory", "forget", "my allergies")[0] == 1
    assert run("memory", "verify", "--compact")[0] == 0


def test_purge_needs_a_scope_and_a_yes(run: Run) -> None:
    chat(run, "I live in Lisbon.")
    assert run("memory", "purge", "--everything")[0] == 2
    assert run("memory", "purge", "--yes")[0] == 2
    assert run("memory", "purge", "--everything", "--yes")[0] == 0
    assert run("memory", "list")[1] == ""


def test_export_and_import(run: Run, tmp_path: Path) -> None:
    chat(run, "I live in Lisbon.")
    file = str(tmp_path / "ana.zip")
    assert run("memory", "export", file)[0] == 0
    assert run("memory", "export", file)[0] != 0  # never overwrites
    assert run("memory", "import", file, user="copy")[0] == 0
    assert "Lisbon" in run("memory", "list", user="copy")[1]
    (tmp_path / "bad.zip").write_bytes(b"PK nonsense")
    code, _, err = run("memory", "import", str(tmp_path / "bad.zip"), user="third")
    assert code != 0 and err.count("\n") == 1


def test_users_are_apart(run: Run) -> None:
    chat(run, "I live in Lisbon.")
    assert run("memory", "list", user="eve")[1] == ""


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("memory", "lsit"), "list"),
        (("memory", "list", "--kind", "cor"), "core"),
        (("memory", "show", "nothing"), "memory list"),
        (("chat", "--model", "rulez"), "rules"),
        (("chat", "--model", "endpoint"), "--url"),
        (("chat", "--embedder", "mini"), "minilm"),
        (("chat", "--style", "mirror"), "hybrid"),
        (("chat", "--listener", "ear"), "rules"),
    ],
)
def test_mistakes_are_one_helpful_line(run: Run, words: tuple[str, ...], hint: str) -> None:
    code, _, err = run(*words)
    assert code == 2 and err.count("\n") == 1 and hint in err


def test_teaching_with_a_picture_file(run: Run, tmp_path: Path) -> None:
    from PIL import Image

    from consistent_gen.world.scene import render
    from consistent_gen.world.spec import sample_frame, sample_identity

    rng = random.Random(1)
    frame = replace(sample_frame(rng, identities=(sample_identity(rng),)), style="flat")
    Image.fromarray(render(frame).rgb).save(tmp_path / "bo.png")
    out = chat(
        run, f"/picture {tmp_path / 'bo.png'} This is my dog Bo", "yes", "Draw Bo at the beach"
    )
    assert "I will recognise Bo" in out and "I would draw: a dog at the beach" in out
    listed = run("memory", "list", "--kind", "media")[1]
    assert len(listed.splitlines()) == 2
    assert "concept Bo" in run("memory", "forget", "Bo", "--yes")[1]
    assert run("memory", "list", "--kind", "media")[1] == ""
