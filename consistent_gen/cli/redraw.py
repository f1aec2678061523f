"""`consistent-gen redraw`: draw a part of a finished picture again and keep the rest."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from consistent_gen.cli.replay import add_lora_files, lora_files, recipe_named
from consistent_gen.cli.story import add_offload_option, value_of
from consistent_gen.draw_settings import MAX_SEED, SettingFacts
from consistent_gen.errors import InputError
from consistent_gen.inputs import open_picture
from consistent_gen.runtime import DTYPES
from consistent_gen.story.marking import Only
from consistent_gen.story.types import PictureBox

if TYPE_CHECKING:
    import numpy as np

    from consistent_gen.engine.coupling import Identities
    from consistent_gen.models.backbone import Backbone

SEED = SettingFacts(kind=int, about="of what is drawn anew", high=MAX_SEED)


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
    parser.add_argument(
        "--only", choices=get_args(Only), help="of that character: its face and hair, or the rest"
    )
    parser.add_argument(
        "--like", metavar="PICTURE",
        help="what is drawn shall look like whom this picture shows",
    )  # fmt: skip
    parser.add_argument("--prompt", help="other words than the picture was drawn from")
    parser.add_argument("--seed", type=value_of(SEED), default=1, metavar="N", help=SEED.about)
    parser.add_argument("--model", metavar="DIR", help="a model folder (default: the shipped one)")
    add_lora_files(parser)
    add_offload_option(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Redraw one picture."""
    from consistent_gen.engine.metadata import read_png, write_png

    if mistake := SEED.mistake("--seed", options.seed):
        raise mistake
    if options.only is not None and options.character is None:
        raise InputError("it is a part of a character; say which with --character", source="--only")
    image, metadata = read_png(options.picture)
    mask = marked(image, options)
    from consistent_gen.cli.progress import load_model, waiting
    from consistent_gen.engine.replaying import redraw

    named = metadata.get("dtype")
    backbone = load_model(
        options.model, None, named if named in DTYPES else None,
        lora_files(metadata, options.lora), options.offload,
    )  # fmt: skip
    identities = None if options.like is None else like(options.like, backbone)
    with waiting("drawing it again"):
        done = redraw(
            image, metadata, backbone, mask, seed=options.seed, prompt=options.prompt,
            recipe_of=partial(recipe_named, backbone), identities=identities,
        )  # fmt: skip
    write_png(options.out, done.image, done.metadata)
    print(f"{mask.mean():.0%} of the picture drawn again: {options.out}")
    return 0


def marked(image: np.ndarray, options: argparse.Namespace) -> np.ndarray:
    """What of a picture [h w 3] shall be drawn again, bool [h w].

    Raises:
        InputError: a mask of another size, a box that is none, or no such character.
    """
    from consistent_gen.story.marking import box_mask, character_mask, painted_mask

    size = image.shape[1], image.shape[0]
    if options.mask is not None:
        return _at(options.mask, lambda: painted_mask(size, Path(options.mask)))
    if options.box is not None:
        return _at("--box", lambda: box_mask(size, PictureBox(*options.box)))
    number, only = options.character, options.only
    return _at("--character", lambda: character_mask(image, number, only=only))


def like(path: str, backbone: Backbone) -> Identities:
    """What the model's adapter is told of whom a picture shows.

    Raises:
        InputError: it is no picture, shows nobody, or the model has no adapter.
        CheckpointError: the adapter or the reader is damaged.
    """
    import numpy as np

    from consistent_gen.story.identity import story_adapter

    adapter = story_adapter(backbone)
    if adapter is None:
        raise InputError(
            f"no adapter was trained for model {backbone.name!r}; leave it out", source="--like"
        )
    picture = _at("--like", lambda: np.asarray(open_picture(Path(path)), dtype=np.uint8))
    read = adapter.read("its character", [picture])
    shown = adapter.shown([read])
    if shown is None:
        raise InputError(f"{path} shows nobody that the reader finds", source="--like")
    for note in read.notes:
        print(f"note: {note}", file=sys.stderr)
    return shown


def _at(place: str, read: Callable[[], np.ndarray]) -> np.ndarray:
    """What `read` gives; its mistakes name the place."""
    try:
        return read()
    except InputError as error:
        raise error.at(place) from None
