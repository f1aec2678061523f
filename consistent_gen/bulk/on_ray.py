"""Workers that Ray finds: on this machine, or on all machines of a cluster.

What Ray brings: tasks of a machine that is gone run elsewhere, and machines come and go. Every
machine has this program and the weights, and sees the folder of the artifacts under the same path.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from consistent_gen.bulk import TRIES, BulkTask, attempt
from consistent_gen.errors import InputError, MissingExtraError

LOCAL = "local"
STARTS = 3  # Ray gives its own processes 30 seconds, which are too few on a busy machine


class RayWorkers:
    """Tasks of a Ray cluster, each with a core, or with a GPU where the cluster has some.

    address: of the cluster ("auto", "host:6379", "ray://host:10001"), or "local" for one of this
    machine that ends with the run. count: most tasks at a time; by default what there is room for.
    """

    def __init__(self, address: str = LOCAL, count: int | None = None) -> None:
        self.capacity = 1  # until the cluster says how large it is
        self._address, self._count = address, count
        self._ray: Any = None
        self._work: Any = None
        self._running: dict[Any, str] = {}

    def __enter__(self) -> RayWorkers:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # reports its use unless told not to
        try:
            import ray
        except ImportError:
            raise MissingExtraError("ray", extra="ray") from None
        self._begin(ray)
        there = ray.cluster_resources()
        gpus, cpus = int(there.get("GPU", 0)), int(there.get("CPU", 0))
        self.capacity = max(1, min(gpus or cpus, self._count or gpus or cpus))
        need = {"num_gpus": 1, "num_cpus": 0} if gpus else {"num_cpus": 1}
        self._ray, self._work = ray, ray.remote(max_retries=TRIES - 1, **need)(_work)
        return self

    def _begin(self, ray: Any) -> None:
        here = self._address == LOCAL
        cores = {"num_cpus": self._count, "include_dashboard": False} if here else {}
        for left in reversed(range(STARTS if here else 1)):
            try:
                ray.init(address=self._address, logging_level="error", log_to_driver=True, **cores)
                return
            except Exception as error:  # Ray raises bare ones, too
                ray.shutdown()
                if not left:
                    message = f"no Ray cluster at {self._address!r}: {str(error).splitlines()[0]}"
                    raise InputError(message, source="--ray") from None

    def __exit__(self, *_: object) -> None:
        self._running.clear()
        self._ray.shutdown()  # ends what this run has begun, on every machine

    def submit(self, task: BulkTask, root: Path) -> None:
        """Let Ray choose where."""
        self._running[self._work.remote(task, root.absolute())] = task.key

    def wait(self) -> list[tuple[str, str]]:
        """Wait for one; Ray itself tries it again when its process or its machine is lost."""
        (ready,), _ = self._ray.wait(list(self._running), num_returns=1)
        key = self._running.pop(ready)
        try:
            return [(key, str(self._ray.get(ready)))]
        except self._ray.exceptions.RayError as error:
            told = str(error).strip().splitlines()
            return [(key, f"its worker was lost: {told[0] if told else type(error).__name__}")]


def _work(task: BulkTask, root: Path) -> str:
    import torch

    torch.set_num_threads(1)  # bytes depend on it; elsewhere Ray says how many there are
    return attempt(task, root)
