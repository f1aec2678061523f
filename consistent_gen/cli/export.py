"""`consistent-gen export`: a drawn story as PDF, comic archive, ZIP, GIF or PNG."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from consistent_gen.cli.provenance import add_provenance_options, provenance_of
from consistent_gen.errors import InputError
from consistent_gen.registry import unknown_name
from consistent_gen.story.enlarge import FACTORS, check_enlarging, enlarged_book
from consistent_gen.story.export import FORMATS
from consistent_gen.story.layouts import LAYOUTS, layout_named


def add_command(commands: Any) -> None:
    """Add `export` to the commands of `consistent-gen`."""
    parser = commands.add_parser(
        "export",
        help="make a PDF, comic archive, ZIP, GIF or PNG of a drawn story",
        description="Make one file of a drawn story, or of an unpacked ZIP export. The same story "
        "gives the same bytes. Prompts and seeds go into a ZIP only.",
    )
    parser.add_argument("folder", metavar="DIR", help="a folder that `story` filled")
    parser.add_argument(
        "--format", metavar="NAME", help=f"one of: {', '.join(FORMATS)} (default: that of --out)"
    )
    parser.add_argument(
        "--layout", metavar="NAME", help=f"of the pages, one of: {', '.join(LAYOUTS)}"
    )
    parser.add_argument(
        "--speech", metavar="FILE", help="speech bubbles to draw (YAML; see docs/exports.md)"
    )
    add_enlarging_option(parser)
    parser.add_argument("--out", metavar="FILE", help="default: DIR/<title>.<format>")
    parser.add_argument(
        "--strip",
        action="store_true",
        help="leave out everything that is not shown: prompts, seeds, model, program, provenance",
    )
    add_provenance_options(parser)
    parser.set_defaults(run=run)


def add_enlarging_option(parser: argparse.ArgumentParser) -> None:
    """Add `--enlarge`."""
    parser.add_argument(
        "--enlarge",
        type=int,
        choices=FACTORS,
        help="times the pictures' size, for printing; the frames' own files stay as they are "
        "(needs the extra `enlarge`)",
    )


def run(options: argparse.Namespace) -> int:
    """Check names and places, then read, draw and write by rename."""
    format = _format(options)
    if options.layout is not None:
        layout_named(options.layout)
    if options.enlarge is not None:
        check_enlarging(options.enlarge)
    out = None if options.out is None else Path(options.out)
    if out is not None and out.is_dir():
        raise InputError(f"{options.out!r} is a folder; expected a file's name", source="--out")

    if options.strip and options.provenance:
        raise InputError("choose one of --strip and --provenance", source="--strip")
    provenance = provenance_of(options)

    from consistent_gen.checkpoints import atomic_file
    from consistent_gen.story.book_folder import read_book
    from consistent_gen.story.export import export_story
    from consistent_gen.story.speech_file import with_speech

    book = read_book(options.folder, layout=options.layout)
    if options.speech is not None:
        book = with_speech(book, options.speech)
    if options.enlarge is not None:
        book = enlarged_book(book, options.enlarge)
    exported = export_story(book.bare() if options.strip else book, format)
    if provenance is not None:
        from consistent_gen.story.provenance import sign_export

        exported = sign_export(exported, book, provenance)
    target = out or Path(options.folder) / exported.filename
    with atomic_file(target) as temporary:
        temporary.write_bytes(exported.data)
    for notice in exported.notices:
        print(f"notice: {notice}", file=sys.stderr)
    print(f"{len(book.panels)} pictures, {len(exported.data) / 1e6:.1f} MB: {target}")
    return 0


def _format(options: argparse.Namespace) -> str:
    """What --format says, else the ending of --out."""
    ending = "" if options.out is None else Path(options.out).suffix.lower().removeprefix(".")
    format: str = options.format or ending
    if not format:
        message = f"say what to make: --format with one of {', '.join(FORMATS)}"
        raise InputError(message, source="--format")
    if format not in FORMATS:
        raise unknown_name("export format", format, FORMATS, source="--format")
    if ending in FORMATS and ending != format:
        message = f"--format says {format!r} and the file's name {ending!r}; leave one out"
        raise InputError(message, source="--out")
    return format
