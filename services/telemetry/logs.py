"""Log lines as text or as JSON, without tracebacks: those may quote what somebody typed."""

from __future__ import annotations

import json
import logging
import traceback
from datetime import UTC, datetime
from typing import Any

TEXT = "%(asctime)s %(name)s %(message)s"


class JsonLines(logging.Formatter):
    """One JSON object per line: time, level, logger, message, and the fields of the record.

    Fields are what `fields` gives `logging`; an exception is its class and where it came up.
    """

    def format(self, record: logging.LogRecord) -> str:
        """As text of one line."""
        told: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            told["error"] = type(error).__name__
            frames = traceback.extract_tb(error.__traceback__)[::-1]
            told["at"] = [f"{f.filename.rpartition('/')[2]}:{f.lineno}" for f in frames]
        return json.dumps(told, ensure_ascii=False, default=str)


def fields(**values: Any) -> dict[str, Any]:
    """`extra` of a log call: what a JSON line has beside its message."""
    return {"fields": {name: value for name, value in values.items() if value is not None}}


def write_log(format: str) -> None:
    """Write the log of this process to standard error from now on, unless somebody else has settled
    where it goes. format: "text" or "json".
    """
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if format == "json" else logging.Formatter(TEXT))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.getLogger("httpx").setLevel(logging.WARNING)
