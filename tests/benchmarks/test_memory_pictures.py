"""Pictures as memories, on one case: what must hold whatever the embedder sees."""

from __future__ import annotations

from pathlib import Path

from benchmarks.memory_pictures import STEPS, judged, world_cases
from consistent_gen.memory.recall.pictures import ColourLayout


def test_somebody_is_taught_corrected_known_again_and_forgotten(tmp_path: Path) -> None:
    (case,) = world_cases(1, seed=30)
    found = judged(case, tmp_path, ColourLayout())
    assert set(found) == set(STEPS)
    known = ("taught", "recognised", "told", "asked", "corrected", "handed over", "kind", "drawn")
    for step in (*known, "nothing left", "others kept"):
        assert found[step], step
    assert not found["worn"]  # colours do not tell a hat
