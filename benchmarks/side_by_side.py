"""A story drawn by several methods, one row each: the picture of the README.

    python -m benchmarks.side_by_side examples/two_friends.yaml --out docs/images/two_friends.png \\
        --row "vanilla=Each frame alone (vanilla)" \\
        --row "head_start=Frames that read the first one of both (head_start)"
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from consistent_gen import draw_story, load_backbone, load_story, plan_story
from consistent_gen.models.backbone import Backbone
from consistent_gen.story.plan import Overrides

SIDE, GAP, TITLE = 256, 12, 32  # pixels
PAPER, INK = (250, 245, 238), (58, 54, 48)


def draw_row(story: Path, method: str, backbone: Backbone) -> list[Image.Image]:
    """The frames of `story` drawn by `method`, at one size."""
    plan = plan_story(load_story(str(story)), backbone, Overrides(method=method), story.parent)
    with tempfile.TemporaryDirectory() as folder:
        draw_story(plan, backbone, folder)
        frames = [Image.open(path).convert("RGB") for path in sorted(Path(folder).glob("frames/*"))]
        return [frame.resize((SIDE, SIDE), Image.Resampling.BICUBIC) for frame in frames]


def arrange(rows: Sequence[tuple[str, Sequence[Image.Image]]]) -> Image.Image:
    """Rows of pictures below each other, each under its title."""
    width = max(sum(frame.width + GAP for frame in frames) for _, frames in rows) + GAP
    heights = [TITLE + max(frame.height for frame in frames) + GAP for _, frames in rows]
    page = Image.new("RGB", (width, sum(heights) + GAP), PAPER)
    font = ImageFont.load_default(22)
    top = GAP
    for (title, frames), height in zip(rows, heights, strict=True):
        ImageDraw.Draw(page).text((GAP, top), title, INK, font)
        left = GAP
        for frame in frames:
            page.paste(frame, (left, top + TITLE))
            left += frame.width + GAP
        top += height
    return page


def main(argv: Sequence[str] | None = None) -> int:
    """Draw and write the picture."""
    parser = argparse.ArgumentParser(description="A story drawn by several methods.")
    parser.add_argument("story", type=Path)
    parser.add_argument("--row", action="append", required=True, metavar="METHOD=TITLE")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(argv)
    backbone = load_backbone()
    rows = []
    for row in options.row:
        method, _, title = row.partition("=")
        rows.append((title or method, draw_row(options.story, method, backbone)))
    arrange(rows).save(options.out, optimize=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
