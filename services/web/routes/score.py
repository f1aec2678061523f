"""/v1/score: do pictures show one character, and what their prompts name?"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body
from pydantic import AfterValidator

from consistent_gen.client.types import ScoreIn, ScoreOut
from services.errors import Refusal
from services.web.intake import readable
from services.web.problems import problem_responses
from services.web.routes.access import State, Who

router = APIRouter(prefix="/v1/score", tags=["score"])


@router.post("", operation_id="score", responses=problem_responses(503))
def score(
    body: Annotated[ScoreIn, Body(), AfterValidator(readable)], state: State, who: Who
) -> ScoreOut:
    """Pairwise agreement of pictures, and their alignment with prompts."""
    if body.prompts is not None and len(body.prompts) != len(body.artifacts):
        detail = f"{len(body.prompts)} prompts for {len(body.artifacts)} pictures; give one each"
        raise Refusal(422, "invalid", detail)
    pictures = [state.picture(who.owner, artifact) for artifact in body.artifacts]
    return state.scorer.score(pictures, body.prompts)
