"""A method with the settings that fit a model.

What a paper chose for SDXL need not suit a model of 20 million weights, and the other way round. So
a model folder may say, under `methods` of its `recommended.json`, with which settings a method acts
best on it. Methods without an entry, and models without the file, keep the published ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from consistent_gen.config import from_mapping
from consistent_gen.methods import METHODS
from consistent_gen.registry import resolve


class Recommending(Protocol):
    """Of a model (`models.backbone.Backbone`): its folder, and what that recommends."""

    @property
    def path(self) -> Path:
        """The folder."""

    @property
    def method_settings(self) -> Mapping[str, Mapping[str, Any]]:
        """Settings of methods, by their names."""


def tuned(name: str, model: Recommending, overrides: Iterable[str] = ()) -> Any:
    """The method `name` of `METHODS` with the settings that the model's folder recommends for it.

    overrides: further settings, "key=value" (see `config.from_mapping`); they win.

    Raises:
        UnknownNameError, InputError: no such method or setting, or a value of another type; one in
            the folder is named with its file.
    """
    method = resolve(METHODS, name, kind="method")
    settings = model.method_settings.get(name, {})
    source = model.path / "recommended.json" if settings else None
    return from_mapping(method, settings, overrides, source=source)
