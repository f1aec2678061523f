"""What the server is: limits, models, health, readiness, metrics."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from consistent_gen import __version__
from consistent_gen.client.types import Limits, ModelInfo
from consistent_gen.story.layouts import LAYOUTS
from services.errors import Refusal, StorageFull
from services.web.metrics import CONTENT_TYPE
from services.web.problems import problem_responses
from services.web.routes.access import State

router = APIRouter(tags=["server"])


class Health(BaseModel):
    """The server answers."""

    status: Literal["ok"] = "ok"
    version: str


class Readiness(BaseModel):
    """The server can draw now; `workers` of them are ready."""

    status: Literal["ready"] = "ready"
    workers: int


class ModelEntry(ModelInfo):
    """A model as OpenAI's clients list it, with all that ours know."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = "consistent-gen"


class ModelList(BaseModel):
    """The models of this server: one."""

    object: Literal["list"] = "list"
    data: list[ModelEntry]


@router.get("/v1/limits", operation_id="get_limits")
def get_limits(state: State) -> Limits:
    """What this server accepts."""
    limits = state.settings.limits
    return Limits(**{name: getattr(limits, name) for name in Limits.model_fields})


@router.get("/v1/models", operation_id="list_models", responses=problem_responses(503))
def list_models(state: State) -> ModelList:
    """The model that draws, and the names that a story may use."""
    info = state.planner.model_info(LAYOUTS)
    return ModelList(data=[ModelEntry(id=info.name, **info.model_dump())])


@router.get("/healthz", operation_id="healthz")
async def healthz() -> Health:
    """Answers whenever the server runs."""
    return Health(version=__version__)


@router.get("/livez", operation_id="livez")
async def livez() -> Health:
    """Answers whenever the server runs, also when it is not ready: starting it again would help
    neither with a full disk nor with workers that are away.
    """
    return Health(version=__version__)


@router.get("/readyz", operation_id="readyz", responses=problem_responses(503))
async def readyz(state: State, of: Literal["server", "gateway"] = "server") -> Readiness:
    """200 when a frame that is asked for now can be drawn and kept: a worker was heard of within
    its lease, and there is room on the disk. `of=gateway`: when this gateway can answer callers and
    workers, which takes its database alone.
    """
    if of == "gateway":
        await state.for_workers(lambda: state.database.rows("SELECT 1 AS one"))
        return Readiness(workers=sum(state.workers.states().values()))
    try:
        return Readiness(workers=await state.for_workers(state.check_ready))
    except StorageFull as full:
        raise Refusal(503, full.code, full.message, retry_after=60.0) from None


@router.get(
    "/metrics",
    operation_id="metrics",
    response_class=Response,
    responses={200: {"description": "Prometheus text", "content": {"text/plain": {}}}},
)
async def metrics(state: State) -> Response:
    """Metrics for Prometheus."""
    return Response(await run_in_threadpool(state.metrics.text), media_type=CONTENT_TYPE)
