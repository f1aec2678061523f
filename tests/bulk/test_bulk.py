"""Who runs the tasks of bulk work: this process, or others that may die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from consistent_gen.bulk import NEEDS_FAILED, Here, Workers, claimed, run
from consistent_gen.bulk.processes import Processes
from consistent_gen.errors import InputError
from tests.bulk.toy import Toy, starts_of

ROOT = Path(__file__).resolve().parents[2]


def results(root: Path) -> dict[str, str]:
    return {place.parent.name: place.read_text() for place in sorted(root.glob("*/result"))}


@pytest.mark.parametrize("workers", [Here(), Processes(2)], ids=["here", "processes"])
def test_failures_cost_the_others_nothing(workers: Workers, tmp_path: Path) -> None:
    tasks = [
        Toy("a"), Toy("bad", does="refuse"), Toy("ours", does="break"), Toy("b"),
        Toy("after", ("a", "b")), Toy("lost", ("a", "bad")),
    ]  # fmt: skip
    told: list[tuple[str, int, int]] = []
    failed = run(tasks, tmp_path, workers, tell=lambda task, n, of: told.append((task.key, n, of)))
    assert results(tmp_path).keys() == {"a", "b", "after"}
    assert failed.keys() == {"bad", "ours", "lost"}
    assert failed["bad"] == "bad: no such colour" and failed["lost"] == NEEDS_FAILED
    assert "RuntimeError: not thought of" in failed["ours"]
    assert [n for _, n, _ in told] == [1, 2, 3, 4, 5, 6] and {of for *_, of in told} == {6}
    assert not list(tmp_path.glob(".*"))  # nothing half made is left
    assert run(tasks[:1], tmp_path, workers) == {} and len(starts_of(tmp_path, "a")) == 1


def test_a_process_that_dies_loses_no_task_and_costs_only_its_own_a_try(tmp_path: Path) -> None:
    good = [Toy(f"good{n}", seconds=0.2) for n in range(4)]
    tasks = [Toy("once", does="die once"), Toy("always", does="die"), *good]
    failed = run(tasks, tmp_path, Processes(2))
    assert failed.keys() == {"always"} and "died 3 times (killed" in failed["always"]
    assert results(tmp_path).keys() == {"once", *(task.key for task in good)}
    assert len(starts_of(tmp_path, "once")) == 2 and len(starts_of(tmp_path, "always")) == 3
    assert all(len(starts_of(tmp_path, task.key)) == 1 for task in good)


def test_an_interrupt_ends_the_processes_and_leaves_what_is_made(tmp_path: Path) -> None:
    tasks = [Toy("quick"), *(Toy(f"slow{n}", seconds=60.0) for n in range(3))]

    def interrupt() -> None:
        while len(list(tmp_path.glob(".slow*"))) < 2:  # both processes are at work
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    # Whoever runs tests in several processes ignores Ctrl-C in them.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=interrupt, daemon=True).start()
    try:
        with pytest.raises(KeyboardInterrupt):
            run(tasks, tmp_path, Processes(2))
    finally:
        signal.signal(signal.SIGINT, before)
    assert results(tmp_path).keys() == {"quick"}
    assert not list(tmp_path.glob(".*"))
    for pid in {pid for n in range(3) for pid in starts_of(tmp_path, f"slow{n}")}:
        assert not Path(f"/proc/{pid}").exists()


def test_processes_end_with_who_began_them(tmp_path: Path) -> None:
    program = (
        "from pathlib import Path; from tests.bulk.toy import Toy; import sys\n"
        "from consistent_gen.bulk import run; from consistent_gen.bulk.processes import Processes\n"
        "if __name__ == '__main__':\n"
        "    run([Toy('slow', seconds=600.0)], Path(sys.argv[1]), Processes(1))\n"
    )
    (tmp_path / "program.py").write_text(program)
    begun = subprocess.Popen(
        [sys.executable, str(tmp_path / "program.py"), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    while not starts_of(tmp_path, "slow"):
        assert begun.poll() is None
        time.sleep(0.05)
    begun.kill()
    begun.wait()
    (pid,) = starts_of(tmp_path, "slow")
    end = time.monotonic() + 60.0
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < end, "it goes on without its parent"
        time.sleep(0.1)


def test_two_runs_do_not_fill_one_folder(tmp_path: Path) -> None:
    refused = pytest.raises(InputError, match="another run fills")
    with claimed(tmp_path / "new"), refused, claimed(tmp_path / "new"):
        pass
    with claimed(tmp_path / "new"):
        pass
