"""The parser: what can be typed. Commands live in the modules beside it."""

from __future__ import annotations

import argparse
import re
from typing import Any, NoReturn

from consistent_gen.cli import (
    chat,
    check,
    export,
    importing,
    memory,
    models,
    persona,
    redraw,
    replay,
    score,
    serve,
    story,
    train,
    weights,
    world,
    write,
)
from consistent_gen.draw_settings import GONE
from consistent_gen.errors import InputError
from consistent_gen.registry import nearest, unknown_name
from consistent_gen.story.yaml_tree import shown


class Parser(argparse.ArgumentParser):
    """argparse that raises `InputError` (one line, nearest name) instead of printing its usage."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """As the base, but what is left over is an error here, where the options are known."""
        found, extra = super().parse_known_args(args, namespace)
        if extra:
            option = extra[0].partition("=")[0]
            name = option.removeprefix("--").replace("-", "_")
            if name in GONE:
                self.error(GONE[name].mistake(option).message)
            close = nearest(option, self._option_string_actions)
            hint = f"; did you mean {close}?" if close else ""
            self.error(f"there is no argument {shown(extra[0])}{hint}")
        return found, extra

    def error(self, message: str) -> NoReturn:
        """Raise `InputError` with argparse's words and, for a wrong command, the nearest one."""
        choice = re.search(r"invalid choice: '([^']*)' \(choose from ([^)]*)\)", message)
        if choice is not None:
            raise unknown_name(
                "command", choice[1], re.findall(r"[\w-]+", choice[2]), source=self.prog
            )
        raise InputError(f"{message} (see {self.prog} --help)", source=self.prog)


def build_parser() -> Parser:
    """The parser of `consistent-gen` with all its commands; imports no torch."""
    parser = Parser(
        prog="consistent-gen",
        description="Stories in pictures whose characters stay the same from frame to frame.",
        allow_abbrev=False,
        formatter_class=_Formatter,
    )
    commands = parser.add_subparsers(
        title="commands", metavar="COMMAND", required=True, parser_class=_CommandParser
    )
    story.add_command(commands)
    write.add_command(commands)
    check.add_command(commands)
    importing.add_command(commands)
    export.add_command(commands)
    replay.add_command(commands)
    redraw.add_command(commands)
    score.add_command(commands)
    world.add_command(commands)
    train.add_command(commands)
    weights.add_command(commands)
    memory.add_command(commands)
    chat.add_command(commands)
    persona.add_command(commands)
    serve.add_command(commands)
    models.add_commands(commands)
    return parser


class _Formatter(argparse.HelpFormatter):
    """Help of one width everywhere, so that docs/cli.md can hold it."""

    def __init__(self, prog: str, **_: object) -> None:
        super().__init__(prog, max_help_position=26, width=96)


class _CommandParser(Parser):
    """The parser of one command, with the settings of `build_parser`."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"allow_abbrev": False, "formatter_class": _Formatter, **options})
