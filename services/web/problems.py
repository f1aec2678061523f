"""Every refusal as one JSON object (RFC 9457, application/problem+json), and nothing else.

`code` is for programs and never changes; `detail` is for people. What a client sent is never
repeated in a problem, so that a log of problems holds no prompts.
"""

from __future__ import annotations

import logging
import sqlite3
import traceback
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from consistent_gen.client.types import Problem
from consistent_gen.errors import (
    Cancelled,
    CheckpointError,
    ConsistentGenError,
    InputError,
    LimitError,
    MissingExtraError,
    OutputError,
    UnknownNameError,
)
from consistent_gen.memory.data.store import MemoryStoreError, StaleVersionError
from services.errors import Refusal, ServiceError
from services.web.openai import shapes as openai

_log = logging.getLogger("services.faults")
MEDIA_TYPE = "application/problem+json"
# The first class that fits counts: subclasses stand before their bases.
STATUSES: tuple[tuple[type[BaseException], int, str], ...] = (
    (StaleVersionError, 409, "conflict"),
    (OutputError, 507, "storage_failed"),
    (UnknownNameError, 422, "unknown_name"),
    (LimitError, 422, "limit"),
    (InputError, 422, "invalid"),
    (CheckpointError, 503, "model_unavailable"),
    (MemoryStoreError, 503, "memory_unavailable"),
    (MissingExtraError, 501, "not_installed"),
    (Cancelled, 409, "cancelled"),
)
_HTTP_CODES = {
    400: "malformed",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    408: "timeout",
    413: "too_large",
    415: "unsupported_media",
    501: "not_implemented",
}
_HTTP_DETAILS = {
    404: "there is nothing at this path; /openapi.json lists what there is",
    405: "this path does not take this method; /openapi.json lists what it takes",
}
_MOST_TOLD = 10  # mistakes in one answer
_FAULT = "the server made a mistake; tell its operator the request id"
_NO_SPACE = ("full", "readonly", "disk i/o", "unable to open")


def problem_of(error: BaseException, request_id: str | None = None) -> Problem:
    """What is told about `error`. Faults of ours become a 500 without any detail of it."""
    if isinstance(error, Refusal | ServiceError):
        status, code = error.status, error.code
        # The other faults of the stores tell of files, which are the operator's business.
        detail = error.message if status != 500 else _FAULT
    elif isinstance(error, RequestValidationError):
        status, code, detail = _validation(error)
    elif isinstance(error, HTTPException):
        status, code = error.status_code, _HTTP_CODES.get(error.status_code, "refused")
        detail = _HTTP_DETAILS.get(status, str(error.detail))
    elif isinstance(error, sqlite3.OperationalError):
        status, code, detail = _database(error)
    else:
        status, code = 500, "internal"
        detail = _FAULT
        for kind, its_status, its_code in STATUSES:
            if isinstance(error, kind):
                status, code, detail = its_status, its_code, str(error)
                break
    return Problem(
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        code=code,
        retry_after=getattr(error, "retry_after", None),
        request_id=request_id,
    )


def problem_response(
    error: BaseException, request_id: str | None = None, path: str = ""
) -> Response:
    """`problem_of` as a response, with Retry-After where it is known.

    path: of the request; some are for OpenAI's clients, who read their own kind of error.
    """
    problem = problem_of(error, request_id)
    if path in openai.PATHS:
        problem = openai.with_error(problem, _field(error))
    headers = dict(getattr(error, "headers", None) or {})
    if problem.retry_after is not None:
        headers["Retry-After"] = str(max(1, round(problem.retry_after + 0.5)))
    body = problem.model_dump_json(exclude_none=True)
    return Response(body, problem.status, headers, media_type=MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Let `app` answer every error with a problem."""

    async def refuse(request: Request, error: Exception) -> Response:
        request_id = request.scope.get("state", {}).get("request_id")
        response = problem_response(error, request_id, request.scope["path"])
        if response.status_code == 500:
            log_fault(error, request_id)
        return response

    for kind in (RequestValidationError, HTTPException, ConsistentGenError):
        app.add_exception_handler(kind, refuse)
    app.add_exception_handler(sqlite3.OperationalError, refuse)


def log_fault(error: BaseException, request_id: str | None) -> None:
    """Write down where a fault happened, without its message: that may repeat a user's words."""
    frames = traceback.extract_tb(error.__traceback__)[::-1]
    places = " < ".join(f"{f.filename.rpartition('/')[2]}:{f.lineno} {f.name}" for f in frames)
    _log.error("fault in request %s: %s at %s", request_id, type(error).__name__, places)


def openai_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """`problem_responses` for a route of `openai.PATHS`."""
    return problem_responses(*statuses, shape="OpenAIProblem")


def problem_responses(*statuses: int, shape: str = "Problem") -> dict[int | str, dict[str, Any]]:
    """The OpenAPI entries of these statuses, for `responses=` of a route."""
    schema = {"$ref": f"#/components/schemas/{shape}"}
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": {MEDIA_TYPE: {"schema": schema}},
        }
        for status in statuses
    }


def _validation(error: RequestValidationError) -> tuple[int, str, str]:
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return 400, "malformed", "the body is not JSON"
    told = [_sentence(problem) for problem in error.errors()[:_MOST_TOLD]]
    more = len(error.errors()) - len(told)
    return 422, "invalid", "; ".join(told) + (f" (and {more} more)" if more else "")


def _sentence(problem: Mapping[str, Any]) -> str:
    """Messages of pydantic state the expectation and never the value, except for one kind."""
    said = problem["msg"]
    if problem["type"] == "value_error":
        said = said.partition(", ")[2]
    return f"{_place(problem['loc'])}: {said}"


def _field(error: BaseException) -> str | None:
    """Which field of a body is wrong, where that is known."""
    return _place(error.errors()[0]["loc"]) if isinstance(error, RequestValidationError) else None


def _place(location: tuple[Any, ...] | list[Any]) -> str:
    """("body", "frames", 0, "prompt") as "frames[0].prompt"; names of characters are left out."""
    parts = list(location[1:]) if location and location[0] == "body" else list(location)
    if len(parts) > 1 and parts[0] == "characters":
        parts[1] = "(name)"
    text = ""
    for part in parts:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text[:120] or "the body"


def _database(error: sqlite3.OperationalError) -> tuple[int, str, str]:
    said = str(error).lower()
    if any(words in said for words in _NO_SPACE):
        return 507, "storage_full", "the server cannot write to its disk; nothing was changed"
    if "locked" in said or "busy" in said:
        return 503, "busy", "the server's database is busy; try again"
    return 500, "internal", _FAULT
