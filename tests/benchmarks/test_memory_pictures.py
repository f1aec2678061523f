"""Pictures as memories, on one case: what must hold whatever the embedder sees."""

from __future__ import annotations

from pathlib import Path

from benchmarks.memory_pictures import STEPS, judged, world_cases


def test_somebody_is_taught_known_again_and_forgotten(tmp_path: Path) -> None:
    (case,) = world_cases(1, seed=30)
    found = judged(case, tmp_path)
    assert set(found) == set(STEPS)
    for step in ("taught", "recognised", "asked", "drawn", "nothing left", "others kept"):
        assert found[step], step
