"""The HTTP application: routes behind the gate, over one `ServerState`."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from types import ModuleType
from typing import Any

import anyio.to_thread
from fastapi import FastAPI
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match, Mount, Route
from starlette.types import Receive, Scope, Send

from consistent_gen import __version__
from consistent_gen.client.types import Problem
from consistent_gen.errors import ConsistentGenError
from services.jobs.housekeeping import Housekeeper
from services.settings import Settings
from services.web import problems
from services.web.openai.shapes import PATHS as OPENAI_PATHS
from services.web.openai.shapes import OpenAIError, OpenAIProblem
from services.web.routes import (
    artifacts,
    characters,
    edits,
    generations,
    images,
    internal,
    jobs,
    persona_lab,
    personas,
    score,
    stories,
    system,
)
from services.web.security import METHODS, Gate
from services.web.state import ServerState, open_state

__all__ = ["ServerState", "build_app", "open_state"]
ROUTERS = (
    stories,
    images,
    generations,
    edits,
    jobs,
    artifacts,
    characters,
    personas,
    persona_lab,
    score,
    system,
    internal,
)
HOUSEKEEPING_S = 1.0
LISTENING_TICK_S = 0.1
THREADS = 96
# What any call of /v1 may be answered with; routes add their own.
SHARED_PROBLEMS = (400, 401, 403, 408, 413, 415, 422, 429)
_log = logging.getLogger("services.app")


def build_app(
    settings: Settings,
    *,
    state: ServerState | None = None,
    only: Sequence[ModuleType] | None = None,
) -> FastAPI:
    """The application over `state`, or over stores opened here and closed when it stops.

    only: modules of routes, None for all. `app.state.server` is the state; other applications may
    be mounted beside the routes.

    Raises:
        InputError: settings that do not fit together. StorageFull, StorageError: no usable store.
    """
    owned = state is None
    server = state or open_state(settings)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        # Most of them wait for the disk or for each other.
        anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
        beside = [asyncio.create_task(task) for task in (_listen(server), _keep_house(server))]
        try:
            yield
        finally:
            server.stop_streams()
            for task in beside:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
            if owned:
                await asyncio.to_thread(server.close)

    app = FastAPI(
        title="consistent_gen",
        version=__version__,
        summary="Stories in pictures whose characters stay the same from frame to frame",
        lifespan=lifespan,
        # Their pages load scripts from the network; the schema itself is at /openapi.json.
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.server = server
    problems.install(app)
    app.add_middleware(
        Gate,
        settings=server.settings,
        keys=server.keys,
        metrics=server.metrics,
        worker_token=server.worker_token,
        traces=server.traces,
    )
    for module in ROUTERS if only is None else only:
        app.include_router(module.router)
    # Below these nothing of another application that is mounted later shows through.
    for path in ("/v1", "/internal"):
        app.router.routes += [
            Route(path, NoSuchPlace()),
            Route(path + "/{rest:path}", NoSuchPlace()),
        ]
    app.openapi = lambda: _schema(app)  # type: ignore[method-assign]
    return app


class NoSuchPlace:
    """Answers whatever no route of the interface takes: 404, or 405 where the path is one of ours
    and the method is not.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse. Raises ``HTTPException``."""
        # One of ours would have come first, if it took the method.
        ours = [r for r in scope["app"].routes if not isinstance(r, Mount) and not _is_last(r)]
        allowed = [
            method
            for method in sorted(METHODS)
            if any(r.matches({**scope, "method": method})[0] is Match.FULL for r in ours)
        ]
        if allowed:
            raise HTTPException(405, headers={"Allow": ", ".join(allowed)})
        raise HTTPException(404)


def _is_last(route: BaseRoute) -> bool:
    return isinstance(route, Route) and isinstance(route.endpoint, NoSuchPlace)


async def _listen(server: ServerState) -> None:
    """Let the time run in which workers can be heard: while this loop goes round."""
    while True:
        server.listening.tick()
        await asyncio.sleep(LISTENING_TICK_S)


async def _keep_house(server: ServerState) -> None:
    """Lapsed leases and forgotten files, every second; a failing round is followed by another."""
    keeper = Housekeeper(
        server.database,
        server.jobs,
        server.artifacts,
        server.workers,
        retention_days=server.settings.storage.retention_days,
    )
    while True:
        try:
            await asyncio.to_thread(keeper.round)
        except ConsistentGenError as error:
            _log.warning("housekeeping: %s", type(error).__name__)
        except Exception as error:
            problems.log_fault(error, "housekeeping")
        await asyncio.sleep(min(HOUSEKEEPING_S, server.settings.engine.lease_s / 4))


def _shape(model: type[BaseModel]) -> dict[str, Any]:
    """A model as one of the schema's components."""
    found = model.model_json_schema(ref_template="#/components/schemas/{model}")
    found.pop("$defs", None)
    return found


def _schema(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI schema: problems for every refusal, the key, a server address."""
    if app.openapi_schema is not None:
        return app.openapi_schema
    schema = FastAPI.openapi(app)
    components = schema.setdefault("components", {})
    shapes = components.setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        shapes.pop(name, None)
    for shape in (Problem, OpenAIProblem, OpenAIError):
        shapes[shape.__name__] = _shape(shape)
    components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    shared = {str(k): v for k, v in problems.problem_responses(*SHARED_PROBLEMS).items()}
    openai = {str(k): v for k, v in problems.openai_responses(*SHARED_PROBLEMS, 404).items()}
    for path, operations in schema["paths"].items():
        if path.startswith("/v1/"):
            for operation in operations.values():
                operation["security"] = [{"key": []}, {}]
                own = {k: v for k, v in operation["responses"].items() if k != "422"}
                operation["responses"] = {**own, **(openai if path in OPENAI_PATHS else shared)}
    public = app.state.server.settings.server.public_url
    if public:
        schema["servers"] = [{"url": public}]
    app.openapi_schema = schema
    return schema
