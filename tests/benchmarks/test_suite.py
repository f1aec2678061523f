"""The offline benchmark: tasks and their artifacts, kills, sets, reports and rankings."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import suite, suite_ranking, suite_report
from benchmarks.suite_sets import read_set, world_entry
from benchmarks.suite_tasks import DrawnSystem, SetEntry, SuitePlan, artifact, tasks
from consistent_gen.bulk import Here, run
from consistent_gen.checkpoints import weights_root
from consistent_gen.errors import InputError
from consistent_gen.models.tiny import build_tiny
from consistent_gen.story.plan import plan_story
from consistent_gen.story.script import parse_story

pytestmark = pytest.mark.skipif(
    not all((weights_root() / name).is_dir() for name in ("reader", "judge", "pair_reward")),
    reason="the shipped networks are not here",
)
ROOT = Path(__file__).resolve().parents[2]
STORY = """\
title: x
size: 64x64
characters:
  Mia: a girl with a red hat
frames:
  - "{Mia} reading in the forest"
  - "{Mia} walking"
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(build_tiny(tmp_path_factory.mktemp("models") / "tiny"))


def plan_of(model: str, *systems: str, stories: int = 2) -> SuitePlan:
    entries = [SetEntry(name=f"s{n}", number=n, text=STORY) for n in range(stories)]
    return SuitePlan(sets={"mine": entries}, systems=systems, steps=2, model=model)


@pytest.fixture(scope="module")
def finished(model: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[SuitePlan, Path]:
    plan, root = plan_of(model, "vanilla", "head_start"), tmp_path_factory.mktemp("suite")
    assert run(tasks(plan), root, Here()) == {}
    return plan, root


def test_a_plan_becomes_drawings_and_then_scores(finished: tuple[SuitePlan, Path]) -> None:
    plan, root = finished
    found = tasks(plan)
    assert [task.kind for task in found] == ["draw"] * 8 + ["score"] * 4
    assert all(task.done(root) for task in found)
    assert {key for task in found[8:] for key in task.needs} == {task.key for task in found[:8]}
    assert len({task.key for task in found}) == len(found)


def test_what_is_there_is_not_made_again_and_more_costs_only_itself(
    finished: tuple[SuitePlan, Path], model: str
) -> None:
    _, root = finished
    before = {path.name: path.stat().st_mtime_ns for path in (root / "artifacts").iterdir()}
    told: list[str] = []
    more = plan_of(model, "vanilla", "head_start", "vanilla best_of=2", stories=1)
    run(tasks(more), root, Here(), tell=lambda task, n, of: told.append(f"{task.kind} {n} {of}"))
    assert told == ["draw 1 3", "draw 2 3", "score 3 3"]
    after = {path.name: path.stat().st_mtime_ns for path in (root / "artifacts").iterdir()}
    assert before.items() <= after.items()


@pytest.mark.slow
def test_two_runs_give_equal_results(finished: tuple[SuitePlan, Path], tmp_path: Path) -> None:
    plan, root = finished
    run(tasks(plan), tmp_path, Here())
    first, second = (suite_report.results(plan, tasks(plan), at, {}) for at in (root, tmp_path))
    assert json.dumps(first) == json.dumps(second)


def test_the_page_stands_alone(finished: tuple[SuitePlan, Path]) -> None:
    plan, root = finished
    found = suite_report.results(plan, tasks(plan), root, {})
    entry = found["sets"]["mine"]["systems"]
    assert entry["head_start"]["pair_network"]["over_first"] is not None
    assert "over_first" not in entry["vanilla"]["pair_network"]
    page = suite_report.html(found, tasks(plan), root)
    assert page.count("data:image/jpeg;base64,") == 2 * 8
    assert "http" not in page.replace("http-equiv", "") and "<svg" in page
    text = suite_report.markdown(found)
    assert "| metric | vanilla | head_start |" in text and "mine: 2 stories" in text


def test_a_story_that_cannot_be_drawn_costs_the_others_nothing(model: str, tmp_path: Path) -> None:
    bad = SetEntry(name="bad", number=1, text=STORY.replace("walking", "xylophoning"))
    good = SetEntry(name="good", number=0, text=STORY)
    plan = SuitePlan(sets={"mine": [bad, good]}, systems=("vanilla",), steps=2, model=model)
    found = tasks(plan)
    failed = run(found, tmp_path, Here())
    assert len(failed) == 3 and any("xylophoning" in why for why in failed.values())
    results = suite_report.results(plan, found, tmp_path, failed)
    assert results["sets"]["mine"]["stories"] == ["good"] and len(results["failed"]) == 3
    assert not list((tmp_path / "artifacts").glob(".*"))  # nothing half made is left


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on(
    finished: tuple[SuitePlan, Path], model: str, tmp_path: Path
) -> None:
    (tmp_path / "my.yaml").write_text(STORY)
    out = tmp_path / "out"
    command = [
        sys.executable, "-m", "benchmarks.suite", "--set", str(tmp_path / "my.yaml"), "--system",
        "vanilla", "--system", "head_start", "--steps", "40", "--model", model, "--out", str(out),
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, cwd=ROOT, env=environment)
    kept: list[Path] = []
    end = time.monotonic() + 240
    while not kept and time.monotonic() < end:
        kept = list((out / "artifacts").glob("draw-*"))
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert kept and not (out / "results.json").exists()
    before = {path.name: path.stat().st_mtime_ns for path in kept}
    time.sleep(3.0)  # its processes end with it, and nothing grows any more
    assert subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode == 0
    after = {path.name: path.stat().st_mtime_ns for path in (out / "artifacts").glob("draw-*")}
    assert before.items() <= after.items() and len(after) == 4
    whole = tmp_path / "whole"
    again = [*command[:-1], str(whole), "--processes", "1"]
    assert subprocess.run(again, cwd=ROOT, env=environment, check=False).returncode == 0
    assert (out / "results.json").read_bytes() == (whole / "results.json").read_bytes()


# Sets ---------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_processes_of_accelerate_share_the_tasks(model: str, tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text(STORY)
    told = ["--set", str(tmp_path / "my.yaml"), "--system", "vanilla", "--system", "head_start",
            "--steps", "2", "--model", model]  # fmt: skip
    shared, alone = tmp_path / "shared", tmp_path / "alone"
    subprocess.run(
        [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2",
         "--main_process_port", "0", "-m", "benchmarks.suite", *told, "--out", str(shared)],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        check=True, capture_output=True, timeout=500,
    )  # fmt: skip
    assert suite.main([*told, "--processes", "1", "--out", str(alone)]) == 0
    for name in ("results.json", "results.md"):
        assert (shared / name).read_bytes() == (alone / name).read_bytes()
    assert len(list((shared / "artifacts").iterdir())) == 6


def test_stories_of_the_world_are_those_of_the_consistency_benchmark() -> None:
    from benchmarks.consistency_stories import make_story
    from consistent_gen.runtime import frame_seed
    from services.plans.planner import ModelOutline

    made = make_story(3, style_diverse=False)
    plan = plan_story(parse_story(world_entry(3, 4, False).text), ModelOutline())
    asked = [made.request(i, frame_seed(1, 3), 8, 5.0) for i in range(4)]
    assert [frame.prompt for frame in plan.frames] == [request.prompt for request in asked]
    assert [f.subjects[0].tokens for f in plan.frames] == [r.subjects[0].tokens for r in asked]
    entries, told = read_set("world:3x4")
    assert [entry.number for entry in entries] == [0, 1, 2] and not told
    with pytest.raises(InputError, match="2 to 5 frames"):
        read_set("world:3x9")


def test_foreign_formats_are_sets(tmp_path: Path) -> None:
    (tmp_path / "plus.yaml").write_text(
        "animals:\n- subject: a red fox\n  style: A watercolor painting of\n  settings:\n"
        "  - sitting in a forest\n  - running on a beach\n"
        "- subject: a brown bear\n  style: A photo of\n  settings: [walking, sitting]\n"
    )
    entries, _ = read_set(f"{tmp_path / 'plus.yaml'}")
    assert [len(parse_story(entry.text).frames) for entry in entries] == [2, 2]
    assert len(read_set(f"{tmp_path / 'plus.yaml'}:1")[0]) == 1
    (tmp_path / "mine.yaml").write_text(STORY)
    assert parse_story(read_set(str(tmp_path / "mine.yaml"))[0][0].text).title == "x"
    (tmp_path / "wrong.yaml").write_text(STORY + "stpes: 3\n")
    with pytest.raises(InputError, match="did you mean 'steps'"):
        read_set(str(tmp_path / "wrong.yaml"))
    with pytest.raises(InputError):
        read_set(str(tmp_path / "absent.yaml"))


def noise(path: Path, seed: int) -> str:
    pixels = np.random.default_rng(seed).integers(0, 255, (32, 32, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path.name


def test_pictures_of_a_manifest_are_scored_and_not_drawn(tmp_path: Path) -> None:
    names = [noise(tmp_path / f"{n}.png", n) for n in range(4)]
    story = {
        "name": "fox", "prompts": ["a fox in a forest", "a fox on a beach"],
        "pictures": {"mine": {"1": names[:2]}, "theirs": {"1": names[2:]}},
    }  # fmt: skip
    (tmp_path / "manifest.json").write_text(json.dumps({"stories": [story]}))
    entries, _ = read_set(str(tmp_path))
    plan = SuitePlan(sets={"pictures": entries}, systems=())
    found = tasks(plan)
    assert [task.kind for task in found] == ["pictures"] * 2
    assert run(found, tmp_path / "out", Here()) == {}
    table = suite_report.results(plan, found, tmp_path / "out", {})["sets"]["pictures"]
    assert table["systems"].keys() == {"mine", "theirs"}
    assert (artifact(tmp_path / "out", found[0].key) / "scores.json").is_file()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"pictures": {"mine": {"1": ["../x.png"]}}}, "outside"),
        ({"pictures": {"mine": {"1": ["none.png"]}}}, "no file"),
        ({"pictures": {"mine": {"1": []}}}, "list of files"),
        ({"pictures": {"mine": ["a.png"]}}, "mapping"),
        ({"pictures": []}, "expected"),
        ({"prompts": [1]}, "texts"),
        ({"prompts": ["a", "b"]}, "2 prompts"),
    ],
)
def test_a_manifest_that_says_something_else_is_refused(
    tmp_path: Path, change: dict[str, object], said: str
) -> None:
    noise(tmp_path / "a.png", 0)
    story = {"pictures": {"mine": {"1": ["a.png"]}}} | change
    (tmp_path / "manifest.json").write_text(json.dumps({"stories": [story]}))
    with pytest.raises(InputError, match=said):
        read_set(str(tmp_path))


@pytest.mark.parametrize(
    "words",
    [
        ["--set", "world:2"],
        ["--system", "vanilla"],
        ["--set", "world:2", "--system", "vanila"],
        ["--set", "world:2", "--system", "vanilla steps=2"],
        ["--set", "world:2", "--system", "vanilla", "--seeds", "1,one"],
        ["--set", "world:0", "--system", "vanilla"],
    ],
)
def test_mistakes_are_told(
    tmp_path: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert suite.main([*words, "--out", str(tmp_path / "o")]) == 2
    assert capsys.readouterr().err.strip()


def test_systems_are_read() -> None:
    assert DrawnSystem.parse("head_start best_of=4") == DrawnSystem("head_start", 4)
    assert DrawnSystem.parse("vanilla") == DrawnSystem("vanilla")


# Rankings -----------------------------------------------------------------------------------------
def test_candidates_are_ranked_as_their_colours_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, level in (("ref", 200), ("near", 190), ("far", 40), ("middle", 120)):
        Image.new("RGB", (32, 32), (level, 60, 60)).save(tmp_path / f"{name}.png")
    line = {
        "reference": "ref.png", "candidates": ["far.png", "near.png", "middle.png"],
        "ranking": [1, 2, 0],
    }  # fmt: skip
    broken = line | {"candidates": ["far.png", "gone.png", "middle.png"]}
    file = tmp_path / "rank.jsonl"
    file.write_text(f"{json.dumps(line)}\n{json.dumps(broken)}\n")
    assert suite_ranking.truth_of([1, 2, 0]) == [1.0, 3.0, 2.0]
    assert suite_ranking.main([str(file), "--backend", "colors", "--out", str(tmp_path / "o")]) == 0
    told = capsys.readouterr().out
    assert "1 instances" in told and "line 2: gone.png: no such file" in told
    found = json.loads((tmp_path / "o").read_text())
    assert found["means"].keys() >= {"tau", "tau of order lists, as published"}
    file.write_text('{"reference": "ref.png", "candidates": ["a", "b"], "ranking": [0, 0]}')
    assert suite_ranking.main([str(file)]) == 2
