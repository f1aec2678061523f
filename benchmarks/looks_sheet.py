"""Blind sheets: the same prompts drawn the old way, the new way, and by the world itself.

`python -m benchmarks.looks_sheet --out docs/images/blind` writes `sheet_N.jpg`, six prompts each,
three pictures in a row in an order of their own, and `key.json`, which says what each picture is. A
viewer sees the sheets alone and says for every row which of the pictures A, B and C they like best
and least, and whether a face cannot be read.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from benchmarks.consistency_drawing import engine_for
from benchmarks.looks import true_pictures
from benchmarks.model_card import draw, prompt_set
from consistent_gen.checkpoints import write_json
from consistent_gen.draw_settings import chosen
from consistent_gen.models import load_backbone
from consistent_gen.runtime import tune_allocator

# What was drawn before pictures were retouched and refined.
OLD = {"steps": 25, "guidance": 5.0, "guidance_until": 1.0, "retouch": 0.0, "refine": 0}
SIDE, ROWS, MARGIN = 320, 6, 34


def sheet(rows: list[list[np.ndarray]], first: int) -> Image.Image:
    """Rows of three pictures, uint8 h w 3 of any size, with numbers from `first` on and letters."""
    width = 3 * SIDE + MARGIN
    image = Image.new("RGB", (width, len(rows) * SIDE + MARGIN), "white")
    pen = ImageDraw.Draw(image)
    for column, letter in enumerate("ABC"):
        pen.text((MARGIN + column * SIDE + SIDE // 2, 8), letter, fill="black")
    for r, row in enumerate(rows):
        pen.text((8, MARGIN + r * SIDE + SIDE // 2), str(first + r), fill="black")
        for column, pixels in enumerate(row):
            picture = Image.fromarray(pixels).resize((SIDE - 4, SIDE - 4), Image.Resampling.BICUBIC)
            image.paste(picture, (MARGIN + column * SIDE, MARGIN + r * SIDE))
    return image


def main(argv: list[str] | None = None) -> None:
    """Draw the sheets."""
    parser = argparse.ArgumentParser(description="Blind sheets of old, new and true pictures.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", type=Path, default=None)
    parser.add_argument("--prompts", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0, help="of the order")
    options = parser.parse_args(argv)
    tune_allocator()
    backbone = load_backbone(options.model)
    prompts = prompt_set("blind", "held_out", options.prompts, 1)
    pictures = {
        "old": draw(prompts, engine_for(backbone), **OLD),
        "new": draw(prompts, engine_for(backbone), **chosen({}, backbone.recommended)),
        "true": true_pictures(prompts, 256),
    }
    rng = random.Random(options.seed)
    key, rows = {}, []
    for i, caption in enumerate(prompts.captions):
        order = rng.sample(sorted(pictures), 3)
        key[str(i + 1)] = {**dict(zip("ABC", order, strict=True)), "prompt": caption.text}
        rows.append([pictures[name][i] for name in order])
    options.out.mkdir(parents=True, exist_ok=True)
    for start in range(0, len(rows), ROWS):
        path = options.out / f"sheet_{start // ROWS + 1}.jpg"
        sheet(rows[start : start + ROWS], start + 1).save(path, quality=92)
    write_json(options.out / "key.json", key)


if __name__ == "__main__":
    main()
