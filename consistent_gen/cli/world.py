"""`consistent-gen world`: pictures of the procedural story world, and the words for them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from consistent_gen.errors import InputError

MAX_PICTURES = 400


def add_command(commands: Any) -> None:
    """Add `world` to the commands of `consistent-gen`."""
    parser = commands.add_parser(
        "world",
        help="pictures of the procedural story world",
        description="The procedural world that the story-world model was trained on.",
    )
    actions = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    sheet = actions.add_parser(
        "sheet",
        help="write a contact sheet of random pictures",
        description="Write a contact sheet of random pictures. The same seed gives the same sheet.",
    )
    sheet.add_argument("--seed", metavar="N", type=int, default=1, help="default: 1")
    sheet.add_argument("--rows", metavar="N", type=int, default=8, help="default: 8")
    sheet.add_argument("--columns", metavar="N", type=int, default=8, help="default: 8")
    sheet.add_argument("--out", metavar="FILE", default="sheet.png", help="default: sheet.png")
    sheet.set_defaults(run=run_sheet)
    words = actions.add_parser(
        "words",
        help="list all that can be drawn, with a picture of each",
        description="List all that the story world can draw, by kind of word. With --out, write a "
        "web page that shows a picture of each.",
    )
    words.add_argument("--out", metavar="FILE", help="a .html file (default: a list of words)")
    words.set_defaults(run=run_words)


def run_sheet(options: argparse.Namespace) -> int:
    """Draw the sheet and write it by rename."""
    for name in ("rows", "columns"):
        if not 1 <= getattr(options, name) <= MAX_PICTURES:
            message = f"{getattr(options, name)} is out of range; expected 1 to {MAX_PICTURES}"
            raise InputError(message, source=f"--{name}")
    if options.rows * options.columns > MAX_PICTURES:
        message = f"{options.rows} x {options.columns} pictures; at most {MAX_PICTURES} on a sheet"
        raise InputError(message, source="--rows")
    out = Path(options.out)
    if out.suffix.lower() != ".png" or out.is_dir():
        raise InputError(f"{options.out!r}; expected the name of a .png file", source="--out")

    from PIL import Image

    from consistent_gen.checkpoints import atomic_file
    from consistent_gen.world.scene import contact_sheet

    sheet = contact_sheet(options.seed, rows=options.rows, columns=options.columns)
    with atomic_file(out) as temporary:
        Image.fromarray(sheet).save(temporary, format="PNG")
    print(f"{options.rows * options.columns} pictures: {out}")
    return 0


def run_words(options: argparse.Namespace) -> int:
    """Print the vocabulary, or write the page."""
    from consistent_gen.cli.world_words import listed, page

    if options.out is None:
        print("\n".join(listed()))
        return 0
    out = Path(options.out)
    if out.suffix.lower() not in (".html", ".htm") or out.is_dir():
        raise InputError(f"{options.out!r}; expected the name of a .html file", source="--out")

    from consistent_gen.checkpoints import atomic_file

    text, count = page()
    with atomic_file(out) as temporary:
        Path(temporary).write_text(text, encoding="utf-8")
    print(f"{count} words with pictures: {out}")
    return 0
