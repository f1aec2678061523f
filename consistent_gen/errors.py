"""Every error the package raises on purpose, as one tree.

::

    ConsistentGenError              catch this to catch them all; its text is one readable message
    |-- InputError                  what a user typed or handed in is wrong; knows file and line
    |   |-- StoryError              a story file is wrong
    |   |-- UnknownNameError        a name is not in a table (method, model, style, key, ...)
    |   `-- LimitError              right in kind but larger than we accept
    |-- CheckpointError             a weights folder or file is missing, damaged or of another shape
    |-- MissingExtraError           an optional dependency is not installed; names the command
    |-- OutputError                 a result could not be written
    `-- Cancelled                   the work was stopped on request; not a fault

The command line prints the text of any of these as one line and leaves with :attr:`exit_code`.
Everything else that escapes is a mistake of ours and keeps its traceback.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Self, TypeVar

_Read = TypeVar("_Read")
_MOST_TOLD = 20  # mistakes in one message


class ConsistentGenError(Exception):
    """Base of the tree. ``message`` says what was given, what was expected and how to mend it."""

    exit_code = 1

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class InputError(ConsistentGenError):
    """Something a user typed is wrong.

    ``source`` is the file (or option) it stood in and ``line`` its line there, counted from 1;
    both are put before the message, as compilers do, so that editors can jump to the place.
    """

    exit_code = 2

    def __init__(
        self, message: str, *, source: str | Path | None = None, line: int | None = None
    ) -> None:
        super().__init__(message)
        self.source = None if source is None else str(source)
        self.line = line
        self.parts: tuple[InputError, ...] = ()

    @property
    def all(self) -> tuple[InputError, ...]:
        """What `all_of` put together, else this error alone."""
        return self.parts or (self,)

    def at(self, source: str | Path | None, line: int | None = None) -> Self:
        """This error, with the place it is about."""
        self.source, self.line = None if source is None else str(source), line
        return self

    def __str__(self) -> str:
        if self.source is None:
            return self.message if self.line is None else f"line {self.line}: {self.message}"
        place = self.source if self.line is None else f"{self.source}:{self.line}"
        return f"{place}: {self.message}"


class StoryError(InputError):
    """A story file cannot be read as a story."""


class UnknownNameError(InputError):
    """A name is not among the ones on offer; the message lists them and the nearest one."""


class LimitError(InputError):
    """The input exceeds a stated bound (frames, pixels, bytes, characters of text)."""


class CheckpointError(ConsistentGenError):
    """A weights folder or file is missing, damaged, unsafe, or not the one that was asked for."""


class MissingExtraError(ConsistentGenError):
    """An optional dependency is absent.

    >>> str(MissingExtraError("insightface", extra="face", what="the ArcFace encoder"))
    "the ArcFace encoder needs insightface; install it with: pip install 'consistent-gen[face]'"
    """

    exit_code = 2

    def __init__(self, package: str, *, extra: str | None = None, what: str = "this") -> None:
        wanted = package if extra is None else f"'consistent-gen[{extra}]'"
        super().__init__(f"{what} needs {package}; install it with: pip install {wanted}")
        self.package = package
        self.extra = extra


class OutputError(ConsistentGenError):
    """A result could not be written (no room, no permission, the place is taken)."""


class Cancelled(ConsistentGenError):
    """The work was stopped on request before it was finished."""

    exit_code = 130

    def __init__(self, message: str = "cancelled") -> None:
        super().__init__(message)


def all_of(errors: Iterable[InputError]) -> InputError:
    """One error that tells of all, at the place of the first; of their class if they share one."""
    # A mistake of the whole story may have been met in every frame.
    parts = tuple({str(part): part for error in errors for part in error.all}.values())
    first, others = parts[0], parts[1:]
    if not others:
        return first
    kind = type(first) if {type(error) for error in others} <= {type(first)} else InputError
    told = [first.message, *map(str, others[: _MOST_TOLD - 1])]
    if len(parts) > _MOST_TOLD:
        told.append(f"and {len(parts) - _MOST_TOLD} more")
    error = kind("; ".join(told), source=first.source, line=first.line)
    error.parts = parts
    return error


def all_read(readings: Iterable[Callable[[], _Read]]) -> tuple[_Read, ...]:
    """What every reading gives; what is wrong with them is raised all at once, as `all_of`."""
    found: list[_Read] = []
    wrong: list[InputError] = []
    for read in readings:
        try:
            found.append(read())
        except InputError as error:
            wrong.append(error)
    if wrong:
        raise all_of(wrong)
    return tuple(found)
