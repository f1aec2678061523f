"""`bentoml serve services.gateway:Gateway`: the HTTP API as a BentoML service.

BentoML's own limit on concurrent requests stays off, since it counts event streams and answers
without Retry-After; the gate of the application has limits of its own. BentoML imports this module
in processes that serve nothing, so the stores are opened when the service itself starts. Settings
come from the file in ``CONSISTENT_GEN_SETTINGS`` and from the environment.
"""

from __future__ import annotations

import os

os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")  # read when bentoml is imported

import bentoml

from services.errors import Refusal, ServiceError
from services.web.mounting import SETTINGS_VARIABLE, LateApp

late = LateApp()


@bentoml.service(
    name="gateway",
    workers=1,
    # The time to the first byte; the longest wait that a request can ask for is shorter.
    traffic={"timeout": 900},
)
@bentoml.asgi_app(late, path="/")
class Gateway:
    """Stories, jobs, characters, personas, scores and images over HTTP; workers pull leases."""

    def __init__(self) -> None:
        late.open(os.environ.get(SETTINGS_VARIABLE), os.environ)

    @bentoml.on_startup
    async def start(self) -> None:
        """Start what runs beside the requests."""
        await late.start()

    @bentoml.on_shutdown
    async def stop(self) -> None:
        """End streams and close the stores."""
        await late.stop()

    def __is_ready__(self) -> bool:
        try:
            return late.state.check_ready() > 0
        except (Refusal, ServiceError):
            return False

    def __metrics__(self, content: str) -> str:
        return content + late.state.metrics.text().decode()
