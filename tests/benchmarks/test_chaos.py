"""The chaos run's own parts: processes that end and come back, and what counts as good."""

from __future__ import annotations

import time
from pathlib import Path

from benchmarks.chaos import is_good, keep, stories
from benchmarks.chaos_processes import Doomed, set_clock
from consistent_gen.checkpoints import read_json

GOOD = {
    "store": "sqlite", "gateways": 1, "stories": 2, "states": {"succeeded": 2}, "unequal": 0,
    "disordered_events": 0, "frames": 10, "frames_told": 10,
}  # fmt: skip


def test_a_process_stands_still_goes_on_dies_and_comes_back(tmp_path: Path) -> None:
    count = tmp_path / "count"
    program = (
        "import pathlib, sys, time\nfor n in range(10**6):\n"
        "    pathlib.Path(sys.argv[1]).write_text(str(n)); time.sleep(0.01)"
    )
    doomed = Doomed("d", ["-c", program, str(count)])

    def moves() -> bool:
        before = count.read_text() if count.exists() else ""
        end = time.monotonic() + 30.0
        while time.monotonic() < end:
            now = count.read_text() if count.exists() else ""
            if now and now != before:
                return True
            time.sleep(0.01)
        return False

    doomed.start()
    try:
        assert moves()
        doomed.stop()
        time.sleep(0.3)
        still = count.read_text()
        time.sleep(0.3)
        assert count.read_text() == still and doomed.alive
        doomed.go()
        assert moves()
        doomed.kill()
        assert not doomed.alive
        doomed.start()
        assert moves()
    finally:
        doomed.kill()


def test_every_way_to_fail_is_seen() -> None:
    assert is_good(GOOD)
    for name, value in (
        ("states", {"succeeded": 1, "partial": 1}),
        ("unequal", 1),
        ("disordered_events", 1),
        ("frames_told", 9),
    ):
        assert not is_good({**GOOD, name: value})


def test_runs_of_both_stores_are_kept_side_by_side(tmp_path: Path) -> None:
    file = tmp_path / "chaos.json"
    other = {**GOOD, "store": "postgresql", "gateways": 2}
    for figures in (other, {**GOOD, "stories": 1}, GOOD):
        keep(file, figures)
    assert read_json(file)["runs"] == [GOOD, other]


def test_stories_differ_and_are_small(tmp_path: Path) -> None:
    made = stories(12)
    assert len({(story.method, story.seed) for story in made}) == 12
    assert {(story.steps, story.size, story.refine) for story in made} == {(1, "32x32", 0)}
    set_clock(tmp_path / "clock", -3600.0)
    assert float((tmp_path / "clock").read_text()) == -3600.0
