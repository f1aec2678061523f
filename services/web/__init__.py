"""The HTTP side: an application behind a gate, over the parts that one gateway holds.

`app` puts the `routes` behind the gate of `security`; `state` holds
the stores; `problems` is every refusal, `intake` judges what comes in, `events` streams what
happens. Nothing here paints: the gateway loads no torch.
"""

from __future__ import annotations

from services.web.app import build_app
from services.web.state import ServerState, open_state

__all__ = ["ServerState", "build_app", "open_state"]
