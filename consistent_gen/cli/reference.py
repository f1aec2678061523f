"""docs/cli.md from the parser: `python -m consistent_gen.cli.reference > docs/cli.md`."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from consistent_gen.cli.parser import build_parser

HEAD = """\
# Command line

Made from the program's own help by `python -m consistent_gen.cli.reference > docs/cli.md`; a test
holds the two together.

Every mistake is one line on stderr that names the place and the remedy. Exit codes: 0 done, 1 the
answer is no (`replay` found another picture), some of many failed, or the result could not be
written, 2 something given was wrong, 130 interrupted. Nothing is left half-written.
"""


def reference() -> str:
    """The text of docs/cli.md."""
    sections = [f"## `{p.prog}`\n\n```text\n{p.format_help()}```\n" for p in _walk(build_parser())]
    return "\n".join([HEAD, *sections])


def _walk(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _walk(command)


if __name__ == "__main__":
    print(reference(), end="")
