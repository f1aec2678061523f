"""What all models of the HTTP API have in common: bounds, names, and how strict they are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from consistent_gen.draw_settings import GONE, MAX_SEED, SETTINGS, without_gone
from consistent_gen.registry import nearest

Id = Annotated[str, StringConstraints(pattern=r"^[a-z]+_[0-9a-z]{16,40}$")]
Name = Annotated[str, StringConstraints(min_length=1, max_length=40, strip_whitespace=True)]
Prompt = Annotated[str, StringConstraints(min_length=1, max_length=800)]
Words = Annotated[str, StringConstraints(max_length=600)]
Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]


class Input(BaseModel):
    """Base of what clients send: unknown fields are errors that name the nearest known one."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="wrap")
    @classmethod
    def _hint(cls, value: Any, read: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return read(without_gone(value) if isinstance(value, Mapping) else value)
        except ValidationError as error:
            found = error.errors(include_url=False)
            if not any(_is_unknown(problem) for problem in found):
                raise
            lines = [_hinted(problem, cls.model_fields) for problem in found]
        raise ValidationError.from_exception_data(cls.__name__, lines)


class Output(BaseModel):
    """Base of what the server sends; clients ignore fields that they do not know."""

    model_config = ConfigDict(extra="ignore")


def _is_unknown(problem: ErrorDetails) -> bool:
    return problem["type"] == "extra_forbidden" and len(problem["loc"]) == 1


def _hinted(problem: ErrorDetails, known: Iterable[str]) -> InitErrorDetails:
    said = problem["msg"]
    if _is_unknown(problem):
        name = str(problem["loc"][0])[:60]
        close = nearest(name, known)
        said = "there is no such field" + (f"; did you mean {close!r}?" if close else "")
        said = GONE[name].mistake(name).message if name in GONE else said
    kind = "unknown_field" if _is_unknown(problem) else problem["type"]
    told = PydanticCustomError(kind, said)
    return {"type": told, "loc": problem["loc"], "input": problem["input"]}


def setting(name: str) -> Any:
    """A field for a setting of `draw_settings`, with its meaning and range; None says nothing."""
    facts = SETTINGS[name]
    bounds: dict[str, Any] = {"max_length": 60}
    if facts.kind in (int, float):
        bounds = {"ge": facts.kind(facts.low), "le": facts.kind(facts.high)}
    if facts.kind is tuple:
        bounds = {"pattern": r"^\d{1,5}x\d{1,5}$"}
    return Field(default=None, description=facts.about, **bounds)
