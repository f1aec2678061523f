"""`consistent-gen story --many` and `score --many`: folders in, folders out, whatever dies."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from consistent_gen.bulk import Here, claimed
from consistent_gen.checkpoints import clear_leftovers
from consistent_gen.cli import main

ROOT = Path(__file__).resolve().parents[2]
STORY = """\
title: Story {n}
seed: {n}
size: 64x64
characters:
  Mia: a girl with a red hat
frames:
  - "{{Mia}} reading in the forest"
  - "{{Mia}} walking"
"""
HAS_RAY = importlib.util.find_spec("ray") is not None
needs_ray = pytest.mark.skipif(not HAS_RAY, reason="ray is not installed: the extra `ray`")


def stories(folder: Path, count: int) -> Path:
    folder.mkdir()
    for n in range(count):
        (folder / f"s{n}.yaml").write_text(STORY.format(n=n))
    return folder


def words(files: Path, out: Path, model: Path, *more: str) -> list[str]:
    return ["story", "--many", str(files), "--out", str(out), "--model", str(model), "--steps", "2",
            "--processes", "2", *more]  # fmt: skip


def pictures(out: Path) -> dict[str, bytes]:
    """All that is drawn; a report tells seconds, which differ."""
    found = [*out.glob("*/frames/*.png"), *out.glob("*/page.png"), *out.glob("*/index.html")]
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in sorted(found)}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Path:
    """A folder with `in` and `out`: three stories drawn, and one that cannot be."""
    folder = tmp_path_factory.mktemp("many")
    stories(folder / "in", 3)
    (folder / "in" / "bad.yml").write_text(STORY.format(n=9).replace("frames:", "frmes:"))
    (folder / "in" / "notes.txt").write_text("no story")
    with pytest.MonkeyPatch.context() as patch:
        in_this_process(patch)
        assert main(words(folder / "in", folder / "out", tiny_folder)) == 1
    return folder


def in_this_process(patch: pytest.MonkeyPatch) -> None:
    """No others, which import torch anew; the slow tests, which kill them, have them."""
    patch.setattr("consistent_gen.cli.many._workers", lambda options: Here())


@pytest.fixture
def copied(drawn: Path, tmp_path: Path) -> Path:
    """The same, for tests that change something."""
    return shutil.copytree(drawn, tmp_path / "copy")


def test_a_folder_of_stories_becomes_a_folder_of_finished_ones(
    drawn: Path, tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = sorted(p.name for p in (drawn / "out").iterdir() if not p.name.startswith("."))
    assert shown == ["s0", "s1", "s2"]
    before = pictures(drawn / "out")
    assert main(words(drawn / "in", drawn / "out", tiny_folder)) == 1
    told = capsys.readouterr().err
    assert "3 of 3 are there already" in told and "3 of 4 stories are in" in told
    assert "failed: bad: " in told and "frmes" in told and "Traceback" not in told
    assert pictures(drawn / "out") == before
    alone = ["--model", str(tiny_folder), "--steps", "2"]
    assert (
        main(["story", str(drawn / "in" / "s1.yaml"), "--out", str(tmp_path / "s1"), *alone]) == 0
    )
    one = {path: data for path, data in before.items() if path.startswith("s1/")}
    assert pictures(tmp_path) == one


@pytest.mark.slow
def test_what_changed_is_drawn_anew_and_what_a_hand_changed_is_left(
    copied: Path, tiny_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files, out = copied / "in", copied / "out"
    (files / "bad.yml").unlink()
    (files / "s0.yaml").write_text(STORY.format(n=0).replace("walking", "dancing"))
    (out / "s0" / "mine.txt").write_text("kept")
    (out / "s1" / "page.png").unlink()
    shutil.copy(out / "s2" / "frames" / "00.png", out / "s2" / "frames" / "01.png")
    by_hand = (out / "s2" / "frames" / "01.png").read_bytes()
    before = pictures(out)
    assert main(words(files, out, tiny_folder)) == 0
    told = capsys.readouterr().err
    assert "1 of 3 are there already" in told and "2 of 2: " in told
    assert "note: s2 was changed since it was drawn; left so" in told
    after = pictures(out)
    assert after["s0/frames/01.png"] != before["s0/frames/01.png"]
    assert after["s0/frames/00.png"] == before["s0/frames/00.png"] and "s1/page.png" in after
    assert (out / "s0" / "mine.txt").read_text() == "kept"
    # With another option all are other pictures; one that a hand changed is not ours to replace.
    assert main(words(files, out, tiny_folder, "--seed", "7")) == 1
    told = capsys.readouterr().err
    assert "failed: s2: " in told and "was changed since it was drawn" in told
    assert (out / "s2" / "frames" / "01.png").read_bytes() == by_hand
    assert pictures(out)["s1/frames/00.png"] != after["s1/frames/00.png"]


def test_a_strangers_folder_is_not_replaced(
    tmp_path: Path, tiny_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = stories(tmp_path / "in", 1)
    (tmp_path / "out" / "s0").mkdir(parents=True)
    (tmp_path / "out" / "s0" / "thesis.txt").write_text("mine")
    assert main(words(files, tmp_path / "out", tiny_folder)) == 1
    assert "was not drawn by --many" in capsys.readouterr().err
    assert [p.name for p in (tmp_path / "out" / "s0").iterdir()] == ["thesis.txt"]


def test_leftovers_of_killed_writers_are_put_right(tmp_path: Path) -> None:
    (tmp_path / ".s0.abcd1234" / "frames").mkdir(parents=True)
    (tmp_path / ".s1.old.abcd1234" / "old").mkdir(parents=True)
    (tmp_path / ".s1.old.abcd1234" / "old" / "page.png").write_text("earlier")
    (tmp_path / ".s2.old.abcd1234" / "old").mkdir(parents=True)
    (tmp_path / "s2").mkdir()
    (tmp_path / ".s2.abcd1234.json").write_text("{")
    (tmp_path / ".s9.abcd1234").mkdir()
    clear_leftovers(tmp_path, {"s0", "s1", "s2"})
    assert sorted(p.name for p in tmp_path.iterdir()) == [".s9.abcd1234", "s1", "s2"]
    assert (tmp_path / "s1" / "page.png").read_text() == "earlier"


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["story", "--out", "o"], "a story file or --many"),
        (["story", "a.yaml", "--many", "in", "--out", "o"], "not both"),
        (["story", "a.yaml", "--out", "o", "--processes", "2"], "with --many only"),
        (["story", "a.yaml", "--out", "o", "--ray", "local"], "with --many only"),
        (["story", "--many", "absent", "--out", "o"], "no such folder"),
        (["story", "--many", "empty", "--out", "o"], "no story files"),
        (["story", "--many", "in", "--out", "o", "--method", "vanila"], "did you mean 'vanilla'"),
        (["story", "--many", "in", "--out", "o", "--processes", "0"], "processes"),
        (["story", "--many", "twice", "--out", "o"], "two story files are called 's0'"),
        (["story", "--many", "in", "--out", "in/s0.yaml"], "cannot be written"),
        (["story", "--many", "in", "--out", "o", "--model", "absent"], "absent"),
        (["score", "--many", "in"], "--out"),
        (["score", "in", "--out", "o"], "--out"),
        (["score", "--many", "in", "--out", "o"], "no folders in it"),
    ],
)
def test_mistakes_are_told_before_anything_is_made(
    argv: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    stories(tmp_path / "in", 1)
    (tmp_path / "empty").mkdir()
    (stories(tmp_path / "twice", 1) / "s0.yml").write_text(STORY.format(n=1))
    monkeypatch.chdir(tmp_path)
    assert main(argv) == 2
    told = capsys.readouterr().err
    assert said in told and told.count("\n") == 1
    assert not (tmp_path / "o").exists()


def test_a_second_run_of_a_folder_is_refused(
    tmp_path: Path, tiny_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = stories(tmp_path / "in", 1)
    with claimed(tmp_path / "out"):
        assert main(words(files, tmp_path / "out", tiny_folder)) == 2
    assert "another run fills" in capsys.readouterr().err


@pytest.mark.skipif(HAS_RAY, reason="ray is installed")
def test_without_ray_the_extra_is_named(
    tmp_path: Path, tiny_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = stories(tmp_path / "in", 1)
    assert main(words(files, tmp_path / "out", tiny_folder, "--ray", "local")) == 2
    assert "consistent-gen[ray]" in capsys.readouterr().err


def test_folders_are_scored_and_not_twice(
    copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    in_this_process(monkeypatch)
    folders, out = copied / "out", tmp_path / "scores"
    (folders / "empty").mkdir()
    asked = ["score", "--many", str(folders), "--out", str(out), "--backend", "colors"]
    assert main(asked) == 1
    found = capsys.readouterr()
    assert [line.split(":")[0] for line in found.out.splitlines()] == ["s0", "s1", "s2"]
    assert "(backend colors)" in found.out and "failed: empty: " in found.err
    before = {path.name: path.stat().st_mtime_ns for path in out.glob("*.json")}
    (folders / "empty").rmdir()
    (folders / "s1" / "frames" / "00.png").unlink()
    assert main([*asked, "--json"]) == 0
    again = capsys.readouterr()
    assert "2 of 3 are there already" in again.err and "1 of 1: s1" in again.err
    after = {path.name: path.stat().st_mtime_ns for path in out.glob("*.json")}
    assert {name for name in after if after[name] != before[name]} == {"s1.json"}
    told = json.loads(again.out)["folders"]
    assert told["s0"]["names"] == ["00.png", "01.png"] and told["s1"]["names"] == ["01.png"]
    assert main(["score", str(folders / "s0" / "frames"), "--backend", "colors", "--json"]) == 0
    alone = json.loads(capsys.readouterr().out)
    assert {k: v for k, v in told["s0"].items() if k != "key"} == alone


# Deaths -------------------------------------------------------------------------------------------


def begun(argv: list[str], errors: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with errors.open("ab") as told:
        return subprocess.Popen(
            [sys.executable, "-m", "consistent_gen.cli", *argv],
            cwd=ROOT, env=environment, stderr=told, start_new_session=True,
        )  # fmt: skip


def at_work(command: subprocess.Popen[bytes], mark: str) -> Iterator[psutil.Process]:
    for process in psutil.Process(command.pid).children(recursive=True):
        try:
            if mark in " ".join(process.cmdline()):
                yield process
        except psutil.Error:
            continue


def one_at_work(command: subprocess.Popen[bytes], mark: str, out: Path) -> psutil.Process:
    """A process that draws, once something is half drawn."""
    while True:
        assert command.poll() is None, "it ended before anything could be killed"
        found = list(at_work(command, mark))
        if found and list(out.glob(".s*")):
            return found[0]
        time.sleep(0.02)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    argv = words(stories(folder / "in", 3), folder / "out", tiny_folder, "--steps", "24")
    assert main([*argv, "--processes", "1"]) == 0
    return folder


KINDS = [
    pytest.param([], "spawn_main", id="processes"),
    pytest.param(["--ray", "local"], "ray::_work", id="ray", marks=needs_ray),
]


@pytest.mark.slow
@pytest.mark.parametrize(("more", "mark"), KINDS)
def test_a_killed_worker_loses_nothing(
    more: list[str], mark: str, undisturbed: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    out, errors = tmp_path / "out", tmp_path / "errors"
    argv = words(undisturbed / "in", out, tiny_folder, "--steps", "24", *more)
    command = begun(argv, errors)
    one_at_work(command, mark, out).kill()
    assert command.wait() == 0, errors.read_text()
    assert pictures(out) == pictures(undisturbed / "out")
    assert "3 of 3 stories" in errors.read_text()


@pytest.mark.slow
@pytest.mark.parametrize(("more", "mark"), KINDS)
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL], ids=["interrupt", "kill"])
def test_a_run_that_was_stopped_goes_on(
    more: list[str], mark: str, how: signal.Signals, undisturbed: Path, tiny_folder: Path,
    tmp_path: Path,
) -> None:  # fmt: skip
    out, errors = tmp_path / "out", tmp_path / "errors"
    argv = words(undisturbed / "in", out, tiny_folder, "--steps", "24", *more)
    command = begun(argv, errors)
    while not list(out.glob("s*")):
        assert command.poll() is None, errors.read_text()
        time.sleep(0.02)
    workers = list(at_work(command, mark))
    # As a terminal does it: to all of them.
    (os.killpg if how is signal.SIGINT and not more else os.kill)(command.pid, how)
    assert command.wait() == (130 if how is signal.SIGINT else -signal.SIGKILL)
    psutil.wait_procs(workers, timeout=60)
    assert not any(process.is_running() for process in workers)
    if how is signal.SIGINT:
        told = errors.read_text()
        assert "interrupted; " in told and "goes on" in told and "Traceback" not in told
    kept = {path: path.stat().st_mtime_ns for path in out.glob("s*/report.json")}
    assert 1 <= len(kept) <= 3
    assert begun(argv, errors).wait() == 0, errors.read_text()
    assert pictures(out) == pictures(undisturbed / "out")
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert not list(out.glob(".s*"))
