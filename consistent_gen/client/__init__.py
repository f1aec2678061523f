"""A typed client of the HTTP API. `Client` and `ApiError` load httpx when they are first used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from consistent_gen.client.connection import ApiError
    from consistent_gen.client.http import Client

__all__ = ["ApiError", "Client"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from consistent_gen.client import http

    return getattr(http, name)
