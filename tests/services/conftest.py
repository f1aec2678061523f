"""A store on a clock of its own, and the tiny model; torch is loaded by who asks for the model."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from consistent_gen.client.types import StoryIn
from services.jobs import Lease
from services.plans import FrameOrder, validate_story
from tests.services.shop import Shop
from tests.services.small_model import MakeLease

if TYPE_CHECKING:
    from consistent_gen.models.backbone import Backbone
    from consistent_gen.story.plan import StoryPlan


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder in memory where there is one: these tests wait for the disk at every commit."""
    memory = Path("/dev/shm")
    path = Path(tempfile.mkdtemp(prefix="store", dir=memory if memory.is_dir() else None))
    yield path
    shutil.rmtree(path, ignore_errors=True)


_schemas = itertools.count(1)


@pytest.fixture
def postgres_url(postgres_server: str) -> str:
    """An empty store on PostgreSQL: a schema of its own."""
    import psycopg

    name = f"store_{next(_schemas)}"
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {name}")
    return with_schema(postgres_server, name)


def with_schema(address: str, name: str) -> str:
    """The address of a store in a schema of its own."""
    return f"{address}{'&' if '?' in address else '?'}options=-csearch_path%3D{name}"


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.slow)])
def shop(request: pytest.FixtureRequest, folder: Path) -> Iterator[Shop]:
    """On both databases; what of PostgreSQL must be known every time is in `test_postgres`."""
    url = request.getfixturevalue("postgres_url") if request.param == "postgres" else None
    shop = Shop(folder, url=url)
    yield shop
    shop.db.close()


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from consistent_gen.models.tiny import build_tiny

    return build_tiny(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def tiny(tiny_folder: Path) -> Backbone:
    import torch

    from consistent_gen.models import load_backbone

    torch.set_num_threads(1)  # two threads in a test process cost more than they bring
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
        user: str = "",
        **order: Any,
    ) -> Lease:
        plan: StoryPlan = validate_story(request, tiny)
        chosen = plan.frames[frame].seed if seed is None else seed
        own = FrameOrder(
            story=request, frame=frame, version=1, seed=chosen, prompt=prompt,
            preview_every=request.preview_every, **order,
        )  # fmt: skip
        number = next(numbers)
        return Lease(
            id=f"lea_{number}", job="job_1", story=name, frame=frame, version=1, attempt=1,
            owner=owner, user=user, order=own.to_json(), deadline_at=None,
            bulk=request.bulk,
        )  # fmt: skip

    return make
