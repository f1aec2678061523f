"""Times as the stores keep them: whole microseconds since 1970 in UTC, with one value for "open".

An open end is the largest 64-bit integer, so that every interval test is two comparisons and no
``NULL`` logic.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

FOREVER = 2**63 - 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def micros(moment: datetime) -> int:
    """Microseconds since 1970 of a timezone-aware moment."""
    return (moment - _EPOCH) // _MICROSECOND


def open_micros(moment: datetime | None) -> int:
    """As `micros`; ``None`` is `FOREVER`."""
    return FOREVER if moment is None else micros(moment)


def moment(value: int) -> datetime:
    """The UTC datetime of microseconds since 1970."""
    return _EPOCH + timedelta(microseconds=value)


def open_moment(value: int) -> datetime | None:
    """As `moment`; `FOREVER` is ``None``."""
    return None if value == FOREVER else moment(value)
