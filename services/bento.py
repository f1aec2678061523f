"""What our BentoML services have in common. Imported before `bentoml`, which reports its use unless
it was told not to by then.
"""

from __future__ import annotations

import os

os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")

import bentoml


def choose_card() -> None:
    """Let each of several BentoML workers see one GPU of those that the service has."""
    index = bentoml.server_context.worker_index
    cards = [card for card in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if card]
    if index is not None and len(cards) > 1:
        os.environ["CUDA_VISIBLE_DEVICES"] = cards[(index - 1) % len(cards)]
