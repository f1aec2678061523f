from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from consistent_gen.client.types import StoryIn
from consistent_gen.models import load_backbone
from consistent_gen.models.backbone import Backbone
from consistent_gen.models.tiny import build_tiny
from consistent_gen.story.plan import StoryPlan
from services.frame_orders import FrameOrder
from services.job_records import Lease
from services.planning import validate_story

torch.set_num_threads(1)  # two threads in a test process cost more than they bring

CHARACTERS = {
    "Mia": {"description": "a girl with a red hat"},
    "Bo": {"description": "a small bear"},
}
PROMPTS = (
    "{Mia} and {Bo}",
    "{Mia} reading in the forest",
    "{Bo} walking",
    "a green fox",
    "{Mia} sitting",
)

MakeLease = Callable[..., Lease]


def story(method: str = "vanilla", *, steps: int = 2, **fields: Any) -> StoryIn:
    """A small story with two characters."""
    said: dict[str, Any] = {
        "title": "x",
        "characters": CHARACTERS,
        "frames": [{"prompt": prompt} for prompt in PROMPTS],
        "method": method,
        "steps": steps,
        "preview_every": 0,
    }
    return StoryIn.model_validate(said | fields)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def tiny(tiny_folder: Path) -> Backbone:
    return load_backbone(tiny_folder, device="cpu")


@pytest.fixture
def make_lease(tiny: Backbone) -> MakeLease:
    """Makes leases as a job store would: one frame of a story, drawn the first time or again."""
    numbers = itertools.count(1)

    def make(
        request: StoryIn,
        frame: int,
        *,
        seed: int | None = None,
        prompt: str | None = None,
        name: str = "sto_1",
        owner: str = "anonymous",
        **order: Any,
    ) -> Lease:
        plan: StoryPlan = validate_story(request, tiny)
        chosen = plan.frames[frame].seed if seed is None else seed
        task = FrameOrder(
            story=request, frame=frame, version=1, seed=chosen, prompt=prompt,
            preview_every=request.preview_every, **order,
        )  # fmt: skip
        number = next(numbers)
        return Lease(
            id=f"lea_{number}", job="job_1", story=name, frame=frame, version=1, attempt=1,
            owner=owner, user="", task=task.to_json(), expires_at=0.0, deadline_at=None,
            bulk=request.bulk,
        )  # fmt: skip

    return make
