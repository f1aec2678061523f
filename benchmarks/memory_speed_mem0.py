"""The half of `benchmarks.memory_speed` that runs inside mem0's own environment.

    python memory_speed_mem0.py FOLDER

Reads ``work.json`` and ``vectors.npy`` from the folder and writes ``result.json`` there. It
imports nothing of this project, because mem0's dependencies are not ours.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np


class Known:
    """What mem0 calls an embedding model, over vectors made beforehand."""

    def __init__(self, vectors: dict[str, list[float]]) -> None:
        self._vectors = vectors

    def embed(self, text: str, memory_action: str | None = None) -> list[float]:
        """The vector of one text."""
        return self._vectors[text]


def memory_in(folder: Path, vectors: dict[str, list[float]], size: int) -> Any:
    """mem0 with its default vector store kept on disk in ``folder``."""
    from mem0 import Memory  # type: ignore[import-not-found, unused-ignore]

    memory = Memory.from_config(
        {
            "vector_store": {
                "provider": "qdrant",
                "config": {
                    "path": str(folder / "qdrant"),
                    "on_disk": True,
                    "embedding_model_dims": size,
                    "collection_name": "speed",
                },
            },
            "history_db_path": str(folder / "history.db"),
        }
    )
    memory.embedding_model = Known(vectors)
    return memory


def timed(calls: list[Callable[[], object]]) -> dict[str, float]:
    """Milliseconds of each call: median, 95th percentile, and how many there were."""
    spent = []
    for call in calls:
        started = time.perf_counter()
        call()
        spent.append((time.perf_counter() - started) * 1000)
    p50, p95 = np.quantile(spent, [0.5, 0.95])
    return {"p50": round(float(p50), 3), "p95": round(float(p95), 3), "calls": len(spent)}


def main(folder: Path) -> None:
    """Add every text, then search every query."""
    work = json.loads((folder / "work.json").read_text())
    texts, queries = work["texts"], work["queries"]
    rows = np.load(folder / "vectors.npy")
    vectors = {t: row.tolist() for t, row in zip([*texts, *queries], rows, strict=True)}
    memory = memory_in(folder, vectors, rows.shape[1])

    def add(text: str) -> None:
        memory.add(text, user_id="speed", infer=False)

    def search(query: str) -> None:
        found = memory.search(query, filters={"user_id": "speed"}, top_k=10, threshold=0.0)
        assert found["results"]

    result = {
        "add": timed([partial(add, text) for text in texts]),
        "search": timed([partial(search, query) for query in queries]),
    }
    (folder / "result.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
