"""Pictures that a request names: always artifacts of the caller, never addresses or paths."""

from __future__ import annotations

import re

from services.errors import NotFound, Refusal
from services.web.state import ServerState

_ID = re.compile(r"[a-z]+_[0-9a-z]{16,40}")


def picture_bytes(state: ServerState, owner: str, artifact: str) -> bytes:
    """The bytes of a picture. Raises ``Refusal`` (422) for what is no artifact of the owner."""
    if not _ID.fullmatch(artifact):
        detail = "a picture is named by the id of an artifact (art_...); addresses and paths are "
        raise Refusal(422, "not_an_artifact", detail + "never fetched: POST /v1/artifacts first")
    try:
        return state.artifacts.read(owner, artifact)
    except NotFound:
        raise Refusal(422, "unknown_artifact", "there is no such artifact of yours") from None
