"""A real server on loopback, and a hand that draws: a worker over HTTP with the world's painter."""

from __future__ import annotations

import base64
import functools
import io
import json
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from PIL import Image, PngImagePlugin

from consistent_gen.language.embedders import HashedNgrams
from consistent_gen.persona.evaluate.pair_scorer import LexicalPairs
from consistent_gen.world.dataset import StoryWorld
from services.launch.server import Server as OurUvicorn
from services.persona_lab import PersonaLab
from services.personas import OpenPersonas
from services.settings import AuthSettings, EngineSettings, LimitSettings, Settings, StorageSettings
from services.web import build_app, open_state

TOKEN = "token-of-the-drawing-hand-0123456789"
WORLD = StoryWorld("validation")
PATIENCE_S = 60.0


def settings_in(folder: Path, *, limits: LimitSettings | None = None, **auth: Any) -> Settings:
    return Settings(
        auth=AuthSettings(worker_token=TOKEN, **auth),
        limits=limits or LimitSettings(),
        engine=EngineSettings(lease_s=3.0),
        storage=StorageSettings(data_dir=folder, reserve_bytes=0),
    )


@functools.cache
def world_picture(number: int) -> Image.Image:
    """A picture of the story world, drawn once."""
    return Image.fromarray(WORLD.picture(number).rgb)


def world_png(number: int, side: int = 128, text: str | None = None) -> bytes:
    """A picture of the story world as a file; `text` goes into a chunk as metadata does."""
    picture = world_picture(number)
    if side != 128:
        picture = picture.resize((side, side))
    chunks = PngImagePlugin.PngInfo()
    if text is not None:
        chunks.add_itxt("consistent_gen", text)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", pnginfo=chunks)
    return buffer.getvalue()


def until(condition: Callable[[], Any], what: str = "it", patience_s: float = PATIENCE_S) -> Any:
    """Poll until `condition` holds."""
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"{what} did not happen within {patience_s} s")


class Server:
    """Uvicorn in a thread, on a free port of loopback."""

    def __init__(self, settings: Settings, port: int | None = None) -> None:
        self.settings = settings
        self.state = open_state(settings)
        # What searches by meaning takes seconds to load, and is tested with the memory.
        folder = settings.storage.data_dir / "personas"
        self.state.personas = OpenPersonas(folder, HashedNgrams)
        self.state.persona_lab = PersonaLab(
            folder.with_name("persona-lab"), settings.language, embedder=HashedNgrams,
            scorer=LexicalPairs,
        )  # fmt: skip
        self.app = build_app(settings, state=self.state)
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(("127.0.0.1", port or 0))
        self.port: int = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        config = uvicorn.Config(
            self.app, log_config=None, timeout_graceful_shutdown=2, lifespan="on"
        )
        self._uvicorn = OurUvicorn(config)
        self._thread = threading.Thread(
            target=self._uvicorn.run, kwargs={"sockets": [self._socket]}, daemon=True
        )

    def start(self) -> Server:
        self._thread.start()
        until(lambda: self._uvicorn.started, "the start of the server")
        return self

    def stop(self) -> None:
        self.state.stop_streams()
        self._uvicorn.should_exit = True
        self._thread.join(PATIENCE_S)
        self._socket.close()
        self.state.close()
        assert not self._thread.is_alive()


class Hand:
    """Draws what the queue holds. `pause` and `go` stop and start it; `spoil` fails a frame,
    `picture` is what is drawn for an order.
    """

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(
            base_url=url, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=30.0
        )
        self._stop = threading.Event()
        self._run = threading.Event()
        self._idle = threading.Event()
        self.spoil: Callable[[dict[str, Any]], bool] = lambda lease: False
        self.picture: Callable[[dict[str, Any]], bytes] = lambda order: world_png(
            order["seed"] % 40, text=json.dumps({"seed": order["seed"]})
        )
        self.drawn: list[tuple[str, int, int]] = []
        self.seen_references: list[list[bytes]] = []
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._run.set()

    def start(self) -> Hand:
        self._thread.start()
        return self

    def pause(self) -> None:
        """Take no more frames; returns when nothing is being drawn."""
        self._idle.clear()
        self._run.clear()
        assert self._idle.wait(PATIENCE_S)

    def go(self) -> None:
        self._run.set()

    def stop(self) -> None:
        self._stop.set()
        self._run.set()
        self._thread.join(PATIENCE_S)
        self._http.close()
        assert not self._thread.is_alive()

    def _work(self) -> None:
        while not self._stop.is_set():
            if not self._run.is_set():
                self._idle.set()
                self._run.wait(0.05)
                continue
            try:
                self._report()
                asked = {"worker": "hand", "instance": "1", "count": 4, "wait_s": 0.1}
                answer = self._http.post("/internal/leases", json=asked)
                for lease in answer.raise_for_status().json():
                    self._draw(lease)
            except httpx.HTTPError:
                time.sleep(0.05)  # the server is away

    def _report(self) -> None:
        body = {"worker": "hand", "instance": "1", "ready": True, "device": "cpu"}
        self._http.post("/internal/workers", json=body).raise_for_status()

    def _draw(self, lease: dict[str, Any]) -> None:
        path = f"/internal/leases/{lease['id']}"
        order = lease["order"]
        if self.spoil(lease):
            problem = {"title": "x", "status": 500, "detail": "spoilt", "code": "spoilt"}
            self._http.post(f"{path}/fail", json={"problem": problem, "retryable": False})
            return
        pictures = [
            self._http.get(f"/internal/artifacts/{id}").raise_for_status().content
            for ids in order["references"].values()
            for id in ids
        ]
        self.seen_references.append(pictures)
        data = self.picture(order)
        for step in (1, 2):
            body: dict[str, Any] = {"step": step}
            if order["preview_every"]:
                body["preview_png_base64"] = base64.b64encode(data).decode()
            if not self._http.post(f"{path}/renew", json=body).raise_for_status().json()["go"]:
                return
        answer = self._http.post(
            f"{path}/finish",
            files={"png": ("f.png", data, "image/png")},
            data={"scores": json.dumps({"identity": 0.5})},
        )
        if answer.raise_for_status().json()["accepted"]:
            self.drawn.append((lease["story"], lease["frame"], lease["version"]))
