"""What all models of the HTTP API have in common: bounds, names, and how strict they are."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from consistent_gen.draw_settings import MAX_SEED, SETTINGS

Id = Annotated[str, StringConstraints(pattern=r"^[a-z]+_[0-9a-z]{16,40}$")]
Name = Annotated[str, StringConstraints(min_length=1, max_length=40, strip_whitespace=True)]
Prompt = Annotated[str, StringConstraints(min_length=1, max_length=800)]
Words = Annotated[str, StringConstraints(max_length=600)]
Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]


class Input(BaseModel):
    """Base of what clients send: unknown fields are errors."""

    model_config = ConfigDict(extra="forbid")


class Output(BaseModel):
    """Base of what the server sends; clients ignore fields that they do not know."""

    model_config = ConfigDict(extra="ignore")


def setting(name: str) -> Any:
    """A field for a setting of `draw_settings`, with its meaning and range; None says nothing."""
    facts = SETTINGS[name]
    bounds: dict[str, Any] = {"max_length": 60}
    if facts.kind in (int, float):
        bounds = {"ge": facts.kind(facts.low), "le": facts.kind(facts.high)}
    if facts.kind is tuple:
        bounds = {"pattern": r"^\d{1,5}x\d{1,5}$"}
    return Field(default=None, description=facts.about, **bounds)
