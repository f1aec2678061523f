"""An application that is mounted before it exists: it is built when its service starts."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from types import ModuleType

from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

from services.settings import load_settings
from services.web.app import build_app
from services.web.state import ServerState, open_state

SETTINGS_VARIABLE = "CONSISTENT_GEN_SETTINGS"


class LateApp:
    """ASGI application; `open`, `start`, requests, `stop`. only: modules of routes, None for all.

    BentoML enters the lifespan of Starlette applications alone, so this one is entered by hand.
    """

    def __init__(self, only: Sequence[ModuleType] | None = None) -> None:
        self._only = only
        self._app: FastAPI | None = None
        self._state: ServerState | None = None
        self._running = AsyncExitStack()

    @property
    def state(self) -> ServerState:
        """What the application serves; only after `open`."""
        assert self._state is not None, "the service has not started"
        return self._state

    def open(self, file: str | None, environ: Mapping[str, str]) -> None:
        """Read the settings and open the stores. Raises ``InputError`` for settings of no use."""
        self._state = open_state(load_settings(file, environ))
        self._app = build_app(self._state.settings, state=self._state, only=self._only)

    async def start(self) -> None:
        """Enter the application's lifespan."""
        assert self._app is not None, "the service has not been opened"
        await self._running.enter_async_context(self._app.router.lifespan_context(self._app))

    async def stop(self) -> None:
        """Leave the lifespan and close the stores."""
        await self._running.aclose()
        if self._state is not None:
            await asyncio.to_thread(self._state.close)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        assert self._app is not None, "the service has not been opened"
        await self._app(scope, receive, send)
