"""Training processes end with the one that started them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPT = """
import os, sys, time
from pathlib import Path
from consistent_gen.training import parallel

def work(folder, rank):
    (Path(folder) / str(rank)).write_text(str(os.getpid()))
    time.sleep(600)

if __name__ == "__main__":
    parallel.launch(work, sys.argv[1], 2)
"""


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.slow
def test_they_end_when_it_is_asked_to(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    ids = tmp_path / "ids"
    ids.mkdir()
    first = subprocess.Popen([sys.executable, str(script), str(ids)], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while len(found := [p.read_text() for p in ids.iterdir()]) < 2 or not all(found):
        assert time.monotonic() < deadline and first.poll() is None
        time.sleep(0.2)
    first.send_signal(signal.SIGTERM)
    assert first.wait(timeout=120) == 128 + signal.SIGTERM
    while any(map(_is_alive, map(int, found))):
        assert time.monotonic() < deadline
        time.sleep(0.1)
