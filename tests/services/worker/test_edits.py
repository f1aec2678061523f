"""Edits by a real worker: the picture that comes in decides what comes out."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from consistent_gen.models.backbone import Backbone
from tests.every_run import COUPLING, or_slow
from tests.services.web.hand import world_png
from tests.services.worker.servers import Gateway, gateway, local_worker, settings_for


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, tiny: Backbone) -> Iterator[Gateway]:
    data = tmp_path_factory.mktemp("data")
    with gateway(settings_for(data, model=tiny.path)) as server, local_worker(server, tiny):
        yield server


def edited(server: Gateway, picture: bytes, **fields: str) -> list[bytes]:
    asked = {"prompt": "a small bear walking", "steps": "2", "seed": "5", **fields}
    answer = httpx.post(
        f"{server.address}/v1/images/edits", files={"image": picture}, data=asked, timeout=120.0
    )
    assert answer.status_code == 200, answer.text
    return [base64.b64decode(item["b64_json"]) for item in answer.json()["data"]]


@pytest.mark.parametrize("method", or_slow(COUPLING, ["head_start"]))
def test_who_is_in_the_picture_is_drawn(served: Gateway, method: str) -> None:
    one = edited(served, world_png(1), method=method)
    assert edited(served, world_png(1), method=method) == one  # nothing but the request counts
    assert edited(served, world_png(2), method=method) != one
    assert edited(served, world_png(1), method=method, strength="0") != one


def test_several_drawings_of_one_picture(served: Gateway) -> None:
    first, second = edited(served, world_png(1), n="2")
    assert first != second
    other_first, other_second = edited(served, world_png(2), n="2")
    assert first != other_first and second != other_second


def test_the_size_of_the_picture_is_its_own_affair(served: Gateway, tmp_path: Path) -> None:
    assert edited(served, world_png(1, side=300), size="128x128")
