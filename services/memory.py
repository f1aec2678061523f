"""`bentoml serve services.memory:Memory`: the personas in a process of their own.

It serves /v1/personas (and /v1/artifacts, for pictures in a talk) over the same data folder and the
same keys as the gateway; a proxy before both sends those paths here. "Draw ..." puts a job into the
shared queue, which the gateway's workers see.
"""

from __future__ import annotations

import os

os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")  # read when bentoml is imported

import bentoml

from services.web.mounting import SETTINGS_VARIABLE, LateApp
from services.web.routes import artifacts, personas, system

late = LateApp(only=(personas, artifacts, system))


@bentoml.service(name="memory", workers=1, traffic={"timeout": 900})
@bentoml.asgi_app(late, path="/")
class Memory:
    """Assistants that remember, and what they remember."""

    def __init__(self) -> None:
        late.open(os.environ.get(SETTINGS_VARIABLE), os.environ)

    @bentoml.on_startup
    async def start(self) -> None:
        """Start what runs beside the requests."""
        await late.start()

    @bentoml.on_shutdown
    async def stop(self) -> None:
        """End waits and close the memories."""
        await late.stop()

    def __metrics__(self, content: str) -> str:
        return content + late.state.metrics.text().decode()
