"""LoRA files as they are named over HTTP: a server's own, by the last part of their paths."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import StringConstraints, model_validator

from consistent_gen.client.base import Input, Output


class LoraIn(Input):
    """A LoRA file that a story is drawn with: one of the server's own, meant by its name."""

    file: Annotated[str, StringConstraints(min_length=1, max_length=400)]
    weight: float = 1.0
    name: Annotated[str, StringConstraints(max_length=80)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _file_alone(cls, value: Any) -> Any:
        return {"file": value} if isinstance(value, str) else value


class LoraOut(Output):
    """A LoRA file that acts in all that a server draws."""

    file: str
    weight: float
