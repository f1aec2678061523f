"""/internal: leases for drawing processes. They show the worker's token and are trusted."""

from __future__ import annotations

import base64
import binascii
import json
import math
import time
from dataclasses import asdict
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from consistent_gen.client.types import Problem
from services.errors import NotFound, Refusal, StorageFull
from services.jobs import Lease
from services.web.events import happened
from services.web.intake import form_of, sniff
from services.web.routes.access import ItemId, State
from services.web.state import ServerState

router = APIRouter(prefix="/internal", include_in_schema=False)
MAX_WAIT_S = 30.0
MAX_LEASES = 64
MAX_PREVIEW_CHARACTERS = 8 << 20
WorkerName = Annotated[str, StringConstraints(pattern=r"^[\w.:-]{1,120}$")]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class LeaseIn(_Body):
    """A worker asks for frames and will wait for them; `newcomers` as in `JobStore.lease`."""

    worker: WorkerName
    instance: WorkerName
    count: int = Field(ge=0, le=MAX_LEASES)
    newcomers: int = Field(default=0, ge=0, le=MAX_LEASES)
    prefer_stories: list[str] = Field(default_factory=list, max_length=1000)
    wait_s: float = Field(default=0.0, ge=0.0, le=MAX_WAIT_S)


class RenewIn(_Body):
    """Progress: steps that are done, and perhaps a preview."""

    step: int = Field(ge=0)
    preview_png_base64: str | None = Field(default=None, max_length=MAX_PREVIEW_CHARACTERS)


class FailIn(_Body):
    """A frame could not be drawn."""

    problem: Problem
    retryable: bool
    alone: bool = True


class WorkerIn(BaseModel):
    """A worker says how it is; what else it says describes it."""

    model_config = ConfigDict(extra="allow")
    worker: WorkerName
    instance: WorkerName
    ready: bool
    starts: bool = False


@router.post("/workers", status_code=204)
async def report_worker(body: WorkerIn, state: State) -> None:
    """Readiness of a worker; to be repeated several times per lease time."""

    def take_note() -> None:
        if body.starts:
            state.jobs.started(body.worker, body.instance)
        state.workers.report(
            body.worker, ready=body.ready, info=body.model_extra, instance=body.instance
        )

    await state.for_workers(take_note)


@router.delete("/workers/{worker}", status_code=204)
async def worker_leaves(worker: str, state: State) -> None:
    """A worker stops."""
    await state.for_workers(lambda: state.workers.gone(worker))


@router.post("/leases")
async def lease(body: LeaseIn, state: State, request: Request) -> list[dict[str, Any]]:
    """Frames to draw. With `wait_s` the answer comes when there are some, or empty after it."""
    state.workers.heard(body.worker)

    def take() -> list[Lease]:
        return state.jobs.lease(
            body.worker,
            body.count,
            instance=body.instance,
            newcomers=body.newcomers,
            prefer_stories=body.prefer_stories,
        )

    loop_end = time.monotonic() + body.wait_s
    with state.feed.watch(None) as changed:
        while True:
            changed.clear()
            leases = await state.for_workers(take)
            left_s = loop_end - time.monotonic()
            if leases or left_s <= 0 or state.feed.closed:
                break
            if await request.is_disconnected():
                return []
            await happened(changed, min(left_s, 1.0))
    if leases and await request.is_disconnected():
        # Nobody would draw them until the leases lapse.
        for one in leases:
            await state.for_workers(partial(state.jobs.release, one))
        return []
    return [asdict(one) for one in leases]


@router.post("/leases/{lease}/renew")
async def renew(lease: ItemId, body: RenewIn, state: State) -> dict[str, bool]:
    """Progress; `go` tells whether to go on."""
    return {"go": await state.for_workers(lambda: _renewed(state, lease, body))}


def _renewed(state: ServerState, lease: str, body: RenewIn) -> bool:
    preview = None
    owner = owner_of_lease(state, lease)
    if body.preview_png_base64 and owner is not None:
        try:
            data = base64.b64decode(body.preview_png_base64, validate=True)
        except (binascii.Error, ValueError):
            raise Refusal(422, "invalid", "preview_png_base64 is not base64") from None
        _check_png(data)
        try:
            if state.safety.withheld(owner, data) is not None:
                return state.jobs.renew(lease, step=body.step)
            preview = state.artifacts.put(owner, data, "image/png", temporary=True).id
        except StorageFull:
            preview = None  # a preview is not worth a drawing
    return state.jobs.renew(lease, step=body.step, preview=preview)


@router.post("/leases/{lease}/finish")
async def finish(lease: ItemId, state: State, request: Request) -> dict[str, bool]:
    """The drawing: a form with the file `png` and the JSON text `scores`."""
    data, texts = await form_of(request, field="png")
    _check_png(data)
    scores = _scores(texts.get("scores") or "{}")

    def accept() -> bool:
        owner = owner_of_lease(state, lease)
        if owner is None:
            return False
        if problem := state.safety.withheld(owner, data):
            state.jobs.fail(lease, problem, retryable=False)
            return False
        artifact = state.artifacts.put(owner, data, "image/png", temporary=True)
        return state.jobs.finish(lease, artifact=artifact.id, scores=scores)

    return {"accepted": await state.for_workers(accept)}


@router.post("/leases/{lease}/fail", status_code=204)
async def fail(lease: ItemId, body: FailIn, state: State) -> None:
    """The frame could not be drawn."""
    await state.for_workers(
        lambda: state.jobs.fail(lease, body.problem, retryable=body.retryable, alone=body.alone)
    )


@router.post("/leases/{lease}/release", status_code=204)
async def release(lease: ItemId, state: State) -> None:
    """Back into the queue undrawn; the attempt does not count."""
    await state.for_workers(lambda: state.jobs.release(lease))


@router.get("/artifacts/{artifact}")
async def artifact_bytes(artifact: ItemId, state: State) -> Response:
    """The bytes of a reference picture, whoever's it is."""
    return await state.for_workers(lambda: _picture(state, artifact))


def _picture(state: ServerState, artifact: str) -> Response:
    row = state.database.rows("SELECT owner FROM artifacts WHERE id = ?", (artifact,))
    if not row:
        raise NotFound("there is no such artifact")
    owner = row[0]["owner"]
    found, _ = state.artifacts.open(owner, artifact)
    return Response(state.artifacts.read(owner, artifact), media_type=found.media_type)


def owner_of_lease(state: ServerState, lease: str) -> str | None:
    """Whose frame a lease is about; None for a lease that never was, or whose job is gone."""
    rows = state.database.rows(
        "SELECT j.owner FROM attempts a JOIN jobs j ON j.id = a.job WHERE a.lease = ?", (lease,)
    )
    return rows[0]["owner"] if rows else None


def _check_png(data: bytes) -> None:
    if sniff(data) != "PNG":
        raise Refusal(415, "unsupported_media", "expected a PNG file")


def _scores(text: str) -> dict[str, float]:
    try:
        found = json.loads(text)
        scores = {str(name)[:60]: float(value) for name, value in dict(found).items()}
    except (ValueError, TypeError):
        raise Refusal(422, "invalid", "scores is not a JSON object of numbers") from None
    return {name: value for name, value in scores.items() if math.isfinite(value)}
