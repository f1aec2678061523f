"""`consistent-gen import`: a story of another program becomes a story file."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from consistent_gen.errors import InputError


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
    from consistent_gen.checkpoints import atomic_file
    from consistent_gen.story.foreign import import_story
    from consistent_gen.story.script import dump_story, parse_story

    out = None if options.out is None else Path(options.out)
    if out is not None and (out.exists() or out.suffix.lower() not in (".yaml", ".yml")):
        why = "is there already" if out.exists() else "is no name of a .yaml file"
        raise InputError(f"{out} {why}; choose another", source="--out")
    imported = import_story(options.file, number=options.number)
    text = dump_story(imported.story)
    parse_story(text, source=str(options.file))  # what is written can be read
    for note in imported.notes:
        print(f"note: {note}", file=sys.stderr)
    if out is None:
        print(text, end="")
        return 0
    with atomic_file(out) as temporary:
        Path(temporary).write_text(text, encoding="utf-8")
    frames = len(imported.story.frames)
    print(f"{imported.format}: {frames} frames, {len(imported.story.characters)} characters: {out}")
    return 0
