"""The way from `make serve` to the first picture, walked by a real browser."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.first_frame import CHROMIUM, measure

pytestmark = [
    pytest.mark.slow,
    pytest.mark.browser,
    pytest.mark.skipif(not Path(CHROMIUM).exists(), reason=f"needs {CHROMIUM}"),
]


def test_every_moment_comes_after_the_one_before() -> None:
    pytest.importorskip("playwright.sync_api", reason="needs playwright")
    found = measure()
    assert found.pop("schema") == 1
    assert list(found) == ["ready_s", "page_s", "preview_s", "first_frame_s", "story_s"]
    assert found["ready_s"] > 0.0 and list(found.values()) == sorted(found.values())
