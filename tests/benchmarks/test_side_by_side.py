"""Rows of one story by several methods, below each other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import side_by_side


def test_rows_stand_below_each_other_under_their_titles() -> None:
    rows = [
        (title, [Image.new("RGB", (20, 10), colour) for _ in range(count)])
        for title, colour, count in (("alone", (255, 0, 0), 3), ("together", (0, 0, 255), 2))
    ]
    page = np.asarray(side_by_side.arrange(rows)).astype(int)
    red = (page[..., 0] > 250) & (page[..., 1] < 5)
    blue = (page[..., 2] > 250) & (page[..., 1] < 5)
    assert red.sum() == 3 * 200 and blue.sum() == 2 * 200
    assert np.argwhere(red)[:, 0].max() < np.argwhere(blue)[:, 0].min()


@pytest.mark.slow
def test_a_story_by_two_methods(tmp_path: Path) -> None:
    story = tmp_path / "fox.yaml"
    story.write_text(
        "title: Fox\nsteps: 4\ncharacters:\n  Rusty:\n    description: a fox\nframes:\n"
        '  - prompt: "{Rusty} in the forest"\n  - prompt: "{Rusty} on the beach"\n'
    )
    out = tmp_path / "rows.png"
    rows = ("--row", "vanilla=Alone", "--row", "head_start=Together")
    assert side_by_side.main([str(story), "--out", str(out), *rows]) == 0
    with Image.open(out) as page:
        assert page.size == (2 * 256 + 3 * 12, 2 * (256 + 44) + 12)
