"""Fields, answers and errors of OpenAI's images API, with additions of ours."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from consistent_gen.client.base import Input, Output, Prompt, Seed, setting
from consistent_gen.client.types import Problem

MAX_PICTURES = 10
MAX_PARTIAL = 3
Short = Annotated[str, StringConstraints(max_length=64)]


class PicturesIn(Input):
    """What OpenAI's clients send for new pictures, and our additions.

    `quality`, `style`, `background` and `moderation` are taken and change nothing.
    """

    prompt: Prompt
    n: int = Field(default=1, ge=1, le=MAX_PICTURES)
    size: Annotated[str, StringConstraints(pattern=r"^(auto|\d{1,5}x\d{1,5})$")] = "auto"
    response_format: Literal["b64_json", "url"] = "b64_json"
    output_format: Literal["png"] = "png"
    stream: bool = False
    partial_images: int = Field(default=0, ge=0, le=MAX_PARTIAL)
    model: Short | None = None
    quality: Short | None = None
    style: Short | None = None
    background: Short | None = None
    moderation: Short | None = None
    user: Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]{1,64}$")] | None = None
    seed: Seed | None = None
    steps: int | None = setting("steps")
    guidance: float | None = setting("guidance")
    negative: Annotated[str, StringConstraints(max_length=800)] = ""


class GeneratedImage(Input):
    """One picture, by value or by address."""

    b64_json: str | None = None
    url: str | None = None


class PicturesOut(Input):
    """The pictures; `job` and `story` are ours."""

    created: int
    data: list[GeneratedImage]
    output_format: str = "png"
    job: str
    story: str


class OpenAIError(Output):
    """An error as OpenAI's clients read it. `param` is the field at fault, where there is one."""

    message: str
    type: str
    param: str | None = None
    code: str


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
