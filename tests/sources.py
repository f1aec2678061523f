"""Sources of the repository for tests that read them, each parsed once in a process."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterable, Iterator


@functools.cache
def parsed(text: str) -> ast.Module:
    """The syntax tree of a file."""
    return ast.parse(text)


def statements(body: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """The statements of a file, those inside others too, without their expressions, which are many
    and hold no import, class or function.
    """
    for node in body:
        yield node
        for field in ("body", "orelse", "finalbody", "handlers", "cases"):
            yield from statements(getattr(node, field, ()))
