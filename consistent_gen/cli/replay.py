"""`consistent-gen replay`: draw a picture again and say how near it comes."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from consistent_gen.attention.backends import BACKENDS, check_backend
from consistent_gen.cli.story import add_offload_option
from consistent_gen.errors import InputError
from consistent_gen.models.loras import LoraFile, identified
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
    add_lora_files(parser)
    add_offload_option(parser)
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
    backbone = load_model(
        options.model, options.attention_backend, _dtype(metadata),
        lora_files(metadata, options.lora), options.offload,
    )  # fmt: skip
    with waiting("drawing it again"):
        result = replay(image, metadata, backbone, partial(recipe_named, backbone))
    print(describe(result))
    return 0 if result.verdict == "identical" else EXIT_OTHER


def add_lora_files(parser: argparse.ArgumentParser) -> None:
    """Add `--lora` for the files that a picture was drawn with."""
    parser.add_argument(
        "--lora",
        metavar="FILE",
        action="append",
        default=[],
        help="a LoRA file that the picture was drawn with; it knows the weight; may be repeated",
    )


def lora_files(metadata: Mapping[str, Any], files: Sequence[str]) -> list[LoraFile]:
    """The LoRA files that a picture was drawn with, with its weights, out of `files`.

    Raises:
        InputError: one of its LoRAs is missing, or a file is none of them.
        CheckpointError: a file is missing, or is no .safetensors file.
    """
    from consistent_gen.engine.replaying import loras_of

    was = {lora.sha256: lora for lora in loras_of(metadata)}
    given = {one.sha256: file for file in files for one in identified([LoraFile(path=file)])}
    for sha256, lora in was.items():
        if sha256 not in given:
            raise InputError(
                f"the picture was drawn with a LoRA whose file has SHA-256 {sha256} (weight "
                f"{lora.weight:g}); name the file with --lora"
            )
    for sha256, file in given.items():
        if sha256 not in was:
            known = ", ".join(one[:10] for one in was) or "none"
            raise InputError(
                f"{file} has SHA-256 {sha256[:10]}; the LoRAs of the picture are: {known}",
                source="--lora",
            )
    return [
        LoraFile(path=given[sha256], weight=lora.weight, name=lora.name)
        for sha256, lora in was.items()
    ]


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
