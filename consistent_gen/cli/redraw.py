"""`consistent-gen redraw`: draw a part of a finished picture again and keep the rest."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from consistent_gen.cli.replay import recipe_named
from consistent_gen.cli.story import value_of
from consistent_gen.draw_settings import MAX_SEED, SettingFacts
from consistent_gen.errors import InputError
from consistent_gen.inputs import open_picture
from consistent_gen.runtime import DTYPES

if TYPE_CHECKING:
    import numpy as np

SEED = SettingFacts(kind=int, about="of what is drawn anew", high=MAX_SEED)
AROUND = 1 / 16  # of a picture's side: how far beyond a character's edge is drawn again


def add_command(commands: Any) -> None:
    """Add `redraw` to the commands of `consistent-gen`."""
    parser = commands.add_parser(
        "redraw",
        help="draw a part of a picture again and keep the rest",
        description="Draw a part of a picture that this program drew again, with the same "
        "characters and from another seed. Outside of what is marked every pixel stays as it is.",
    )
    parser.add_argument("picture", metavar="FRAME.png", help="a picture drawn by this program")
    parser.add_argument("--out", required=True, metavar="NEW.png", help="where the new one goes")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--mask", metavar="FILE", help="a picture that is light where it shall be drawn again"
    )
    what.add_argument(
        "--box", nargs=4, type=float, metavar=("X0", "Y0", "X1", "Y1"),
        help="a rectangle, in shares of the picture: 0.5 0 1 1 is its right half",
    )  # fmt: skip
    what.add_argument("--character", type=int, metavar="N", help="the N-th character from the left")
    parser.add_argument("--prompt", help="other words than the picture was drawn from")
    parser.add_argument("--seed", type=value_of(SEED), default=1, metavar="N", help=SEED.about)
    parser.add_argument("--model", metavar="DIR", help="a model folder (default: the shipped one)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Redraw one picture."""
    from consistent_gen.engine.metadata import read_png, write_png

    if mistake := SEED.mistake("--seed", options.seed):
        raise mistake
    image, metadata = read_png(options.picture)
    mask = marked(image, options)
    from consistent_gen.cli.progress import load_model, waiting
    from consistent_gen.engine.replaying import redraw

    named = metadata.get("dtype")
    backbone = load_model(options.model, None, named if named in DTYPES else None)
    with waiting("drawing it again"):
        done = redraw(
            image, metadata, backbone, mask, seed=options.seed, prompt=options.prompt,
            recipe_of=partial(recipe_named, backbone),
        )  # fmt: skip
    write_png(options.out, done.image, done.metadata)
    print(f"{mask.mean():.0%} of the picture drawn again: {options.out}")
    return 0


def marked(image: np.ndarray, options: argparse.Namespace) -> np.ndarray:
    """What of a picture [h w 3] shall be drawn again, bool [h w].

    Raises:
        InputError: a mask of another size, a box that is none, or no such character.
    """
    import numpy as np

    height, width = image.shape[:2]
    if options.mask is not None:
        try:
            given = open_picture(Path(options.mask)).convert("L")
        except InputError as error:
            raise InputError(f"the mask {error.message}", source=options.mask) from None
        if given.size != (width, height):
            raise InputError(
                f"the mask has {given.width}x{given.height} pixels; expected the picture's size, "
                f"{width}x{height}", source=options.mask,
            )  # fmt: skip
        return np.asarray(given) > 127
    if options.box is not None:
        x0, y0, x1, y1 = options.box
        if not (0.0 <= x0 < x1 <= 1.0 and 0.0 <= y0 < y1 <= 1.0):
            raise InputError(
                f"--box {x0:g} {y0:g} {x1:g} {y1:g} is no rectangle; expected shares from 0 to 1, "
                "left before right and top before bottom"
            )
        mask = np.zeros((height, width), np.bool_)
        mask[round(y0 * height) : round(y1 * height), round(x0 * width) : round(x1 * width)] = True
        return mask
    return _character(image, options.character)


def _character(image: np.ndarray, number: int) -> np.ndarray:
    """Where the `number`-th character from the left is, and a little around it."""
    import numpy as np
    from PIL import Image, ImageFilter

    from consistent_gen.encoders.face_story import StoryFaces

    seen = sorted(StoryFaces().subjects(image), key=lambda one: one.box[0])
    if not 1 <= number <= len(seen):
        raise InputError(
            f"--character {number}: the picture shows {len(seen)}; expected 1 to {len(seen)}"
            if seen
            else "--character: nobody is found in the picture; mark a --box or a --mask instead"
        )
    own = Image.fromarray((seen[number - 1].mask > 0.5).astype(np.uint8) * 255)
    reach = 2 * round(AROUND * min(own.size) / 2) + 1
    mask = np.asarray(own.filter(ImageFilter.MaxFilter(reach))) > 127
    others = [one.mask > 0.5 for i, one in enumerate(seen) if i != number - 1]
    return mask & ~np.logical_or.reduce(others) if others else mask
