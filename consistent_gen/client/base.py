"""What all models of the HTTP API have in common: bounds, names, and how strict they are."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Id = Annotated[str, StringConstraints(pattern=r"^[a-z]+_[0-9a-z]{16,40}$")]
Name = Annotated[str, StringConstraints(min_length=1, max_length=40, strip_whitespace=True)]
Prompt = Annotated[str, StringConstraints(min_length=1, max_length=800)]
Words = Annotated[str, StringConstraints(max_length=600)]
Seed = Annotated[int, Field(ge=0, le=2**63 - 1)]


class Input(BaseModel):
    """Base of what clients send: unknown fields are errors."""

    model_config = ConfigDict(extra="forbid")


class Output(BaseModel):
    """Base of what the server sends; clients ignore fields that they do not know."""

    model_config = ConfigDict(extra="ignore")
