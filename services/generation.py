"""The worker as a BentoML service: `bentoml serve services.generation:Generation`.

It pulls frames from the gateway that CONSISTENT_GEN_GATEWAY_URL names, with the token in
CONSISTENT_GEN_AUTH_WORKER_TOKEN; the other settings come from CONSISTENT_GEN_* variables too. Its
own port answers health checks and says what it does; nobody sends it work. With several BentoML
workers, worker n uses GPU n - 1.
"""

from __future__ import annotations

import os
from typing import Any

from services.bento import choose_card  # before bentoml, which it keeps from reporting its use

# isort: split
import bentoml
from bentoml.exceptions import BentoMLException

from consistent_gen.story.scoring import FrameScorer
from services.launch.options import TOKEN_VARIABLE, URL_VARIABLE
from services.painting.warm_up import painter_maker
from services.settings import load_settings
from services.worker.leases import HttpLeases
from services.worker.loop import Worker, worker_name

THREADS_VARIABLE = "CONSISTENT_GEN_THREADS"


@bentoml.service(name="generation", workers=1, traffic={"timeout": 60})
class Generation:
    """Draws frames for a gateway. One process per device."""

    def __init__(self) -> None:
        choose_card()
        self._settings = load_settings(None, os.environ)
        self._source = HttpLeases(_gateway(), os.environ.get(TOKEN_VARIABLE, ""), worker_name())
        threads, scorer = int(os.environ.get(THREADS_VARIABLE, "1")), FrameScorer()
        self._worker = Worker(
            painter_maker(self._settings, threads=threads, scorer=scorer),
            self._source,
            lease_s=self._settings.engine.lease_s,
            scorer=scorer,
        )
        self._worker.start()

    @bentoml.on_deployment
    @staticmethod
    def check() -> None:
        """Refuse to begin at all without a gateway, before BentoML starts processes."""
        _gateway()

    @bentoml.api(route="/state")
    def state(self) -> dict[str, Any]:
        """What it draws with, and how much it has drawn."""
        tally = self._worker.tally
        return {
            "ready": self._worker.ready,
            "drawn": tally.drawn,
            "failed": tally.failed,
            **self._worker.info(),
        }

    @bentoml.on_shutdown
    def drain(self) -> None:
        """Give back what is being drawn."""
        self._worker.stop(self._settings.server.drain_s)
        self._source.close()

    async def __is_alive__(self) -> bool:
        return self._worker.healthy

    async def __is_ready__(self) -> bool:
        return self._worker.ready


def _gateway() -> str:
    url = os.environ.get(URL_VARIABLE)
    if not url:
        raise BentoMLException(
            f"no gateway: set {URL_VARIABLE} to its address, or serve "
            "services.drawing:Illustrator, which needs none"
        )
    return url
