"""`consistent-gen check`: what would be drawn of a story, without drawing it."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from consistent_gen.errors import InputError

SCHEMA = "consistent_gen.check/1"


def add_command(commands: Any) -> None:
    """Add `check` to the commands of `consistent-gen`."""
    parser = commands.add_parser(
        "check",
        help="say what would be drawn of a story file",
        description="Read a story file and say what the model would be told: which words are drawn "
        "as something else, which are left out, and what everybody looks like. No model is loaded. "
        "Exit code 0 if the story draws, 2 if not.",
    )
    parser.add_argument("file", metavar="STORY", help="a story file (YAML; see docs/story_file.md)")
    parser.add_argument("--model", metavar="DIR", help="a model folder (default: the shipped one)")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    add_wording_options(parser)
    parser.set_defaults(run=run)


def add_wording_options(parser: argparse.ArgumentParser) -> None:
    """Options on words that `check` and `story` have in common."""
    parser.add_argument(
        "--strict",
        action="store_true",
        help="refuse a story of which a word would be drawn as something else or left out",
    )
    parser.add_argument(
        "--as-written",
        action="store_true",
        help="leave all words as they are: a word that the model never saw is refused",
    )
    parser.add_argument(
        "--sheets",
        action="store_true",
        help="complete the looks of every character, also of those in the model's own words",
    )


def run(options: argparse.Namespace) -> int:
    """Check, print, and leave with 0 or 2."""
    try:
        report = _report(options)
    except InputError as error:
        if not options.json:
            raise
        problem = {"line": error.line, "message": error.message}
        report = {"schema": SCHEMA, "draws": False, "problems": [problem], "wording": None}
    if options.json:
        print(json.dumps(report, ensure_ascii=False, indent=2))
    return 0 if report["draws"] else InputError.exit_code


def _report(options: argparse.Namespace) -> dict[str, Any]:
    from consistent_gen.story.script import load_story
    from consistent_gen.story.wording import read_vocabulary, telling, word_story

    story = load_story(options.file)
    vocabulary = read_vocabulary(options.model)
    if options.as_written:
        found = telling.unknown(story, vocabulary)
        wording = None
    else:
        wording = word_story(story, vocabulary, sheets=options.sheets)
        found = telling.problems(wording, vocabulary, strict=options.strict)
    if not options.json:
        if wording is not None:
            print("\n".join([*telling.full(wording), telling.summary(wording)]))
        for error in found:
            print(error, file=sys.stderr)
    return {
        "schema": SCHEMA,
        "draws": not found,
        "problems": [{"line": error.line, "message": error.message} for error in found],
        "wording": None if wording is None else wording.to_json(),
    }
