"""Tasks that cost nothing, for tests of who runs them."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from consistent_gen.checkpoints import atomic_dir
from consistent_gen.errors import InputError


@dataclass(frozen=True)
class Toy:
    """does: "work", "refuse", "break", or "die"/"die once", by the signal for which there is no
    handler. Each start leaves a line in `root`/starts.
    """

    key: str
    needs: tuple[str, ...] = ()
    does: str = "work"
    seconds: float = 0.0

    def done(self, root: Path) -> bool:
        return (root / self.key).is_dir()

    def make(self, root: Path) -> None:
        with (root / "starts").open("a") as starts:
            starts.write(f"{self.key} {os.getpid()}\n")
        with atomic_dir(root / self.key) as place:
            (place / "half").write_text("made")
            if self.does == "refuse":
                raise InputError("no such colour", source=self.key)
            if self.does == "break":
                raise RuntimeError("not thought of")
            if self.does == "die" or (
                self.does == "die once" and len(starts_of(root, self.key)) < 2
            ):
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(self.seconds)
            (place / "result").write_text(f"{self.key} of {self.needs}")


def starts_of(root: Path, key: str) -> list[str]:
    """The processes that began a task, in order."""
    lines = (root / "starts").read_text().splitlines() if (root / "starts").exists() else []
    return [line.split()[1] for line in lines if line.split()[0] == key]
