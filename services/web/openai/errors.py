"""Problems that OpenAI's clients can read: the same object with a member `error`."""

from __future__ import annotations

from consistent_gen.client.types import Problem
from services.web.openai.shapes import OpenAIError

PATHS = frozenset({"/v1/images/generations", "/v1/images/edits"})
_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


class OpenAIProblem(Problem):
    """A problem (RFC 9457) that is an error of OpenAI's API as well."""

    error: OpenAIError


def with_error(problem: Problem, param: str | None = None) -> OpenAIProblem:
    """The problem with what OpenAI's clients look for. param: the field at fault."""
    kind = "server_error" if problem.status >= 500 else "invalid_request_error"
    error = OpenAIError(
        message=problem.detail,
        type=_TYPES.get(problem.status, kind),
        param=param,
        code=problem.code,
    )
    return OpenAIProblem(**problem.model_dump(), error=error)
