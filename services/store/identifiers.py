"""Ids that cannot be guessed, moments as whole microseconds, and cursors of lists."""

from __future__ import annotations

import re
import secrets
from typing import Any

from consistent_gen.errors import InputError

_CURSOR = re.compile(r"([0-9]{1,18})-([a-z]+_[0-9a-z]{16,40})")


def new_id(kind: str) -> str:
    """``kind`` and 96 random bits, such as ``job_0f3c...``."""
    return f"{kind}_{secrets.token_hex(12)}"


def micros(seconds: float) -> int:
    """Seconds since 1970 as whole microseconds."""
    return round(seconds * 1_000_000)


def cursor(row: Any) -> str:
    """Where a list ordered by (created_at, id) stopped."""
    return f"{row['created_at']}-{row['id']}"


def read_cursor(text: str | None) -> tuple[int, str]:
    """The place a list goes on from, counted downwards; for None the very beginning.

    Raises:
        InputError: ``text`` is not what :func:`cursor` made.
    """
    if text is None:
        return 10**18, ""
    match = _CURSOR.fullmatch(text)
    if match is None:
        raise InputError("after is not the next of an earlier page; leave it out to begin")
    return int(match[1]), match[2]


def check_limit(limit: int) -> int:
    """``limit`` if it is in [1, 500]. Raises InputError."""
    if not 1 <= limit <= 500:
        raise InputError(f"limit is {limit}; expected 1 to 500")
    return limit
