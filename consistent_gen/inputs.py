"""Checks of single values that come in from outside, with errors that say what was expected."""

from __future__ import annotations

from datetime import datetime

from consistent_gen.errors import InputError, LimitError, UnknownNameError
from consistent_gen.registry import nearest


def check_choice(value: object, options: tuple[str, ...] | list[str], what: str) -> None:
    """Raise ``UnknownNameError`` with the nearest name unless ``value`` is one of ``options``."""
    if value in options:
        return
    close = nearest(value, options) if isinstance(value, str) else None
    hint = f"; did you mean {close!r}?" if close else ""
    raise UnknownNameError(f"unknown {what} {value!r}; expected one of {', '.join(options)}{hint}")


def check_text(value: object, what: str, limit: int) -> None:
    """Raise unless ``value`` is a string that every backend can hold: UTF-8, no NUL, not long."""
    if not isinstance(value, str):
        raise InputError(f"{what} is a {type(value).__name__}; expected a string")
    if len(value) > limit:
        raise LimitError(f"{what} has {len(value):,} characters; the limit is {limit:,}")
    if "\x00" in value:
        raise InputError(f"{what} contains a NUL character; remove it")
    if value.isascii():
        return
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"{what} holds a lone surrogate at character {error.start}; send valid Unicode"
        ) from None


def check_time(value: datetime | None, what: str) -> None:
    """Raise unless ``value`` is ``None`` or carries a time zone."""
    if value is not None and (not isinstance(value, datetime) or value.utcoffset() is None):
        raise InputError(f"{what} is {value!r}; expected a datetime with a time zone (UTC is safe)")
