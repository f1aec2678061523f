"""`consistent-gen import`: a story of another program becomes a story file."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from consistent_gen.errors import InputError
from consistent_gen.story.script import STORY_SUFFIXES, dump_story, parse_story
from consistent_gen.story.types import Story


def add_command(commands: Any) -> None:
    """Add `import` to the commands of `consistent-gen`."""
    parser = commands.add_parser(
        "import",
        help="make a story file of another program's prompts",
        description="Read ConsiStory+ YAML, a ViStoryBench story.json, T2IS JSON lines, a prompt "
        "list ([Name] before each line), a ComfyUI workflow or a prompt with weights, and write "
        "it as a story file.",
    )
    parser.add_argument("file", metavar="FILE", help="the file to read")
    parser.add_argument("--out", metavar="STORY", help="the story file (default: standard output)")
    parser.add_argument(
        "--number", metavar="N", type=int, default=1, help="which story, where there are several"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Read, and write by rename; what was left behind goes to stderr."""
    from consistent_gen.story.foreign import import_story

    out = new_story_file(options.out)
    imported = import_story(options.file, number=options.number)
    put_story(imported.story, imported.notes, out, imported.format)
    return 0


def new_story_file(name: str | None) -> Path | None:
    """The story file that --out names, which is not there yet; None for standard output.

    Raises:
        InputError: it is there, or no name of a story file.
    """
    out = None if name is None else Path(name)
    if out is not None and (out.exists() or out.suffix.lower() not in STORY_SUFFIXES):
        why = "is there already" if out.exists() else "is no name of a .yaml file"
        raise InputError(f"{out} {why}; choose another", source="--out")
    return out


def put_story(story: Story, notes: Iterable[str], out: Path | None, by: str) -> None:
    """Write a story file by rename, or print it; the notes, and where it is, are told."""
    from consistent_gen.checkpoints import atomic_file

    text = dump_story(story)
    parse_story(text, source=by)  # what is written can be read
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    if out is None:
        print(text, end="")
        return
    with atomic_file(out) as temporary:
        Path(temporary).write_text(text, encoding="utf-8")
    frames, characters = (
        f"{len(of)} {name}{'' if len(of) == 1 else 's'}"
        for of, name in ((story.frames, "frame"), (story.characters, "character"))
    )
    print(f"{by}: {frames}, {characters}: {out}")
