"""`consistent-gen replay`: draw a picture again and say how near it comes."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from consistent_gen.attention.backends import BACKENDS, check_backend
from consistent_gen.errors import InputError
from consistent_gen.runtime import DTYPES

if TYPE_CHECKING:
    from consistent_gen.attention.settings import Recipe
    from consistent_gen.engine.replaying import ReplayResult
    from consistent_gen.models.backbone import Backbone

EXIT_OTHER = 1


def add_command(commands: Any) -> None:
    """Add `replay` to the commands of `consistent-gen`."""
    parser = commands.add_parser(
        "replay",
        help="draw a frame again from its own metadata",
        description="Draw a picture again from the parameters stored in it and compare. Prints "
        "'identical' and returns 0, or how far off it is and why and returns 1.",
    )
    parser.add_argument("picture", metavar="FRAME.png", help="a picture drawn by this program")
    parser.add_argument("--model", metavar="DIR", help="a model folder (default: the shipped one)")
    parser.add_argument(
        "--attention-backend",
        metavar="NAME",
        help=f"kernel that computes attention, one of: {', '.join(BACKENDS)}",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Replay one picture."""
    from consistent_gen.cli.progress import load_model, waiting
    from consistent_gen.engine import read_png, replay

    if options.attention_backend is not None:
        check_backend(options.attention_backend)
    image, metadata = read_png(options.picture)
    backbone = load_model(options.model, options.attention_backend, _dtype(metadata))
    with waiting("drawing it again"):
        result = replay(image, metadata, backbone, partial(recipe_named, backbone))
    print(describe(result))
    return 0 if result.verdict == "identical" else EXIT_OTHER


def _dtype(metadata: Mapping[str, Any]) -> str | None:
    """The number format the picture was drawn in, if it is one that this machine may have."""
    named = metadata.get("dtype")
    return named if named in DTYPES else None


def recipe_named(backbone: Backbone, method: str) -> Recipe:
    """The recipe of a method as stories are drawn by it on this model.

    Raises:
        InputError: there is no such method, or its frames stand alone.
    """
    from consistent_gen.methods.tuning import tuned

    recipe = tuned(method, backbone)
    if not recipe.anchors:
        raise InputError(f"method {method!r} shares nothing; the picture's record is damaged")
    return recipe


def describe(result: ReplayResult) -> str:
    """The verdict in words: "identical", or one line on the distance and one per reason."""
    if result.verdict == "identical":
        return "identical"
    psnr = "no measure, the sizes differ" if result.psnr == 0 else f"PSNR {result.psnr:.1f} dB"
    assert not math.isinf(result.psnr), "an infinite PSNR is an identical picture"
    lines = [f"{result.verdict}: largest difference {result.max_abs_diff} of 255, {psnr}"]
    lines += [f"- {reason}" for reason in result.reasons]
    return "\n".join(lines)
