"""`consistent-gen write`: a story file from an idea in a sentence."""

from __future__ import annotations

import argparse
from typing import Any

from consistent_gen.cli.chat import add_model_options, build_model
from consistent_gen.cli.importing import new_story_file, put_story
from consistent_gen.cli.story import value_of
from consistent_gen.story.ideas.plots import FEWEST_FRAMES, MOST_FRAMES
from consistent_gen.story.types import SEED

DEFAULT_FRAMES = 6


def add_command(commands: Any) -> None:
    """Add `write` to the commands of `consistent-gen`."""
    parser = commands.add_parser(
        "write",
        help="write a story file from an idea",
        description="Make a story file of an idea: characters, prompts that the model can draw "
        "word for word, and captions, to be edited and drawn. Without options it works by "
        "templates, needs no model and sends nothing anywhere. The same idea and seed give the "
        "same story.",
    )
    parser.add_argument(
        "idea", metavar="IDEA", help='a sentence, such as "a shy fox finds a balloon"'
    )
    parser.add_argument(
        "--frames", metavar="N", type=int, default=DEFAULT_FRAMES,
        help=f"{FEWEST_FRAMES} to {MOST_FRAMES} (default: {DEFAULT_FRAMES})",
    )  # fmt: skip
    parser.add_argument("--out", metavar="STORY", help="the story file (default: standard output)")
    parser.add_argument(
        "--seed", metavar="N", type=value_of(SEED), default=0,
        help="another number, another story (default: 0)",
    )  # fmt: skip
    add_model_options(parser, "templates")
    parser.add_argument(
        "--draw-with", metavar="DIR",
        help="the model that will draw it, whose words are used (default: the shipped one)",
    )  # fmt: skip
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Write it, and say what cannot be drawn as it was said."""
    from consistent_gen.language.models import LANGUAGE_MODELS
    from consistent_gen.story.ideas.writing import TEMPLATES, write_story
    from consistent_gen.story.wording import read_vocabulary

    out = new_story_file(options.out)
    offered = {TEMPLATES: "", **LANGUAGE_MODELS}
    model = None if options.model == TEMPLATES else build_model(options, offered)
    written = write_story(
        options.idea, read_vocabulary(options.draw_with), frames=options.frames,
        seed=options.seed, model=model,
    )  # fmt: skip
    put_story(written.story, written.notices, out, written.by)
    return 0
