"""Uploads to the page: bounded, cleared and refused as problems, against Gradio itself."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import gradio as gr
import pytest
from fastapi import FastAPI
from starlette.routing import Mount
from starlette.testclient import TestClient

from ui import uploads
from ui.app import _in_a_loop
from ui.uploads import UploadGate


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    monkeypatch.setattr(uploads, "MAX_FILE_BYTES", 40_000)
    monkeypatch.setattr(uploads, "MAX_BODY_BYTES", 50_000)
    monkeypatch.setattr(uploads, "FOLDER_BYTES", 100_000)
    return tmp_path / "uploads"


@pytest.fixture
def page(folder: Path) -> Iterator[TestClient]:
    app = FastAPI()

    def mount() -> None:
        with gr.Blocks() as blocks:
            gr.File()
        gr.mount_gradio_app(app, blocks, path="/", max_file_size=40_000)

    _in_a_loop(mount)
    mounted = app.router.routes[-1]
    assert isinstance(mounted, Mount)
    mounted.app = UploadGate(mounted.app, folder)
    with TestClient(app) as client:
        yield client


def upload(page: TestClient, number: int, size: int) -> int:
    data = bytes([number]) * size
    answer = page.post("/gradio_api/upload", files={"files": (f"{number}.png", data)})
    if answer.status_code != 200:
        problem = answer.json()
        assert answer.headers["content-type"] == "application/problem+json"
        assert problem["status"] == answer.status_code and problem["detail"]
        assert problem["code"] == {413: "too_large", 507: "storage_full"}[answer.status_code]
    return answer.status_code


def used(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def test_a_folder_takes_so_much_and_no_more(page: TestClient, folder: Path) -> None:
    found = [upload(page, number, 20_000) for number in range(8)]
    assert found == [200] * 4 + [507] * 4
    assert used(folder) <= 100_000


def test_old_uploads_make_room(page: TestClient, folder: Path) -> None:
    assert [upload(page, number, 20_000) for number in range(5)][-1] == 507
    long_ago = time.time() - uploads.QUIET_S - 60
    oldest = next(file for file in folder.rglob("0.png"))
    for age, file in ((1.0, oldest), (0.0, next(folder.rglob("1.png")))):
        os.utime(file, (long_ago - age, long_ago - age))
    assert upload(page, 9, 20_000) == 200
    assert not oldest.exists() and len(list(folder.rglob("1.png"))) == 1, "no more than needed"


@pytest.mark.parametrize("size", [45_000, 60_000, 500_000])
def test_what_is_too_large_is_a_413(page: TestClient, folder: Path, size: int) -> None:
    assert upload(page, 1, size) == 413
    assert upload(page, 2, 10_000) == 200


def test_a_body_that_grows_beyond_what_it_may_is_cut(page: TestClient, folder: Path) -> None:
    head = (
        b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n'
        b"Content-Type: image/png\r\n\r\n"
    )

    def endless() -> Iterator[bytes]:
        yield head
        for _ in range(100):
            yield bytes(10_000)

    answer = page.post(
        "/gradio_api/upload",
        content=endless(),
        headers={"Content-Type": "multipart/form-data; boundary=x"},
    )
    assert answer.status_code == 413 and answer.json()["code"] == "too_large"
    assert used(folder) < 100_000


def test_a_full_disk_is_a_507(
    page: TestClient, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "FREE_BYTES", 1 << 60)
    assert upload(page, 1, 1000) == 507


def test_other_requests_pass(page: TestClient) -> None:
    assert page.get("/config").status_code == 200
    assert page.post("/gradio_api/queue/join", json={"data": []}).status_code == 400
