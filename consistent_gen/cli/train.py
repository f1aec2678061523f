"""`consistent-gen train`: run a recipe with its defaults, a file, or single settings changed."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from consistent_gen.training import RECIPES


def add_command(commands: Any) -> None:
    """Add `train` to the parser's commands."""
    parser = commands.add_parser(
        "train",
        help="run a training recipe",
        description="Run a training recipe. It resumes from its checkpoint when there is one.",
    )
    parser.add_argument("recipe", metavar="RECIPE", help=f"one of: {', '.join(RECIPES)}")
    parser.add_argument("--config", type=Path, metavar="FILE", help="YAML file with settings")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides",
        help="change one setting; may be given again",
    )  # fmt: skip
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the recipe; settings are checked before anything else happens."""
    from typing import get_type_hints

    from consistent_gen.config import from_mapping, load
    from consistent_gen.registry import resolve

    main = resolve(RECIPES, options.recipe, kind="recipe")
    cls = get_type_hints(main)["config"]
    if options.config is None:
        config = from_mapping(cls, {}, options.overrides)
    else:
        config = load(cls, options.config, options.overrides)
    main(config)
    return 0
