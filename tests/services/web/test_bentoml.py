"""The BentoML services, started as documented: `bentoml serve services.X:Y`."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import torch

from consistent_gen.client import Client
from consistent_gen.client.types import JobState, StoryIn
from consistent_gen.encoders.reader import Reader
from consistent_gen.models.tiny import build_tiny
from consistent_gen.training.truth import schema
from services.scores import LocalScorer, RemoteScorer
from tests.services.web.hand import TOKEN, Hand, Server, settings_in, until, world_png

ROOT = Path(__file__).resolve().parents[3]
START_S = 600.0

pytestmark = pytest.mark.slow


@contextlib.contextmanager
def served(service: str, folder: Path, *, cwd: Path = ROOT, **environ: str) -> Iterator[str]:
    """The address of a service of ours under `bentoml serve`."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    log = folder / f"{service.replace(':', '-')}.log"
    command = [
        sys.executable, "-m", "bentoml", "serve", service, "--host", "127.0.0.1",
        "--port", str(port), "--timeout-graceful-shutdown", "3",
    ]  # fmt: skip
    home = {"BENTOML_HOME": str(folder / "bentoml"), "PROMETHEUS_MULTIPROC_DIR": str(folder / "pm")}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=cwd, env={**os.environ, **home, **environ}, stdout=output,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        url = f"http://127.0.0.1:{port}"
        try:

            def answers() -> bool:
                assert process.poll() is None, log.read_text()[-3000:]
                with contextlib.suppress(httpx.TransportError):
                    return httpx.get(f"{url}/livez", timeout=5).status_code == 200
                return False

            until(answers, f"the start of {service}", START_S)
            yield url
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def test_the_gateway_as_a_bentoml_service(tmp_path: Path) -> None:
    environ = {
        "CONSISTENT_GEN_STORAGE_DATA_DIR": str(tmp_path / "data"),
        "CONSISTENT_GEN_AUTH_WORKER_TOKEN": TOKEN,
    }
    story = StoryIn.model_validate(
        {"title": "x", "frames": [{"prompt": "a fox in a forest"}] * 3, "steps": 2}
    )
    with served("services.gateway:Gateway", tmp_path, **environ) as url, Client(url) as client:
        assert httpx.get(f"{url}/readyz").status_code == 503
        hand = Hand(url).start()
        until(client.ready, "readiness")
        accepted = client.create_story(story)
        assert [event.type for event in client.events(accepted.job)][-1] == "done"
        assert client.job(accepted.job).state is JobState.succeeded
        # Many open streams do not keep others out.
        hand.pause()
        waiting = client.create_story(story).job
        streams = [client.events(waiting) for _ in range(20)]
        for stream in streams:
            next(stream)
        assert client.limits().frames == 64
        for stream in streams:
            stream.close()  # type: ignore[attr-defined]
        text = httpx.get(f"{url}/metrics").text
        assert "consistent_gen_queue_frames" in text
        refused = httpx.post(f"{url}/v1/stories", json={"title": "x"})
        assert (refused.status_code, refused.json()["code"]) == (422, "invalid")
        assert httpx.get(f"{url}/v1/limits", headers={"Host": "evil.example"}).status_code == 403
        hand.stop()
    log = (tmp_path / "services.gateway-Gateway.log").read_text()
    assert "a fox in a forest" not in log
    assert "Traceback" not in log


def test_scoring_collects_the_pictures_of_many_callers(tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        Reader(schema(), width=16).save(weights / "reader")
    with served("services.scoring:Scoring", tmp_path, CONSISTENT_GEN_WEIGHTS=str(weights)) as url:
        assert httpx.get(f"{url}/readyz").status_code == 200
        local = LocalScorer(weights / "reader")
        wanted = [local.score([world_png(n), world_png(n + 1)], None) for n in range(4)]
        found: dict[int, object] = {}

        def ask(number: int) -> None:
            scorer = RemoteScorer(url)
            found[number] = scorer.score([world_png(number), world_png(number + 1)], None)
            scorer.close()

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [found[number] for number in range(4)] == wanted
        # One that cannot be read does not spoil the others of its batch.
        answer = httpx.post(f"{url}/read", json={"pictures": ["bm90aGluZw=="]}, timeout=60)
        assert answer.json()[0]["present"] is False
        answer = httpx.post(f"{url}/look", json={"pictures": ["bm90aGluZw=="]}, timeout=60)
        assert [sight["present"] for sight in answer.json()[0]] == [False]
        for pictures in ([], ["bm90aGluZw=="] * 65):
            answer = httpx.post(f"{url}/look", json={"pictures": pictures}, timeout=60)
            assert answer.status_code == 400 and "pictures" in answer.text
        scorer = RemoteScorer(url)
        assert scorer.look([world_png(1)]) == local.look([world_png(1)])
        scorer.close()


def test_personas_in_a_process_of_their_own(tmp_path: Path) -> None:
    environ = {"CONSISTENT_GEN_STORAGE_DATA_DIR": str(tmp_path / "data")}
    with served("services.memory:Memory", tmp_path, **environ) as url, Client(url) as client:
        persona = client.create_persona("Ann").id
        client.say(persona, "I live in Oslo.")
        assert any("Oslo" in memory.text for memory in client.memories(persona).memories)
        assert httpx.get(f"{url}/v1/stories").status_code == 404


def test_workers_of_one_service_have_a_device_each_and_draw(tmp_path: Path) -> None:
    """Two BentoML workers of the generation service: one card each, one queue, nothing twice."""
    server = Server(settings_in(tmp_path / "data")).start()
    build_tiny(tmp_path / "model")
    environ = {
        "CONSISTENT_GEN_GATEWAY_URL": server.url,
        "CONSISTENT_GEN_AUTH_WORKER_TOKEN": TOKEN,
        "CONSISTENT_GEN_ENGINE_MODEL": str(tmp_path / "model"),
        "CONSISTENT_GEN_ENGINE_BUCKET": "2",
        "CONSISTENT_GEN_ENGINE_MAX_FRAMES": "1",
        "CONSISTENT_GEN_STORAGE_DATA_DIR": str(tmp_path / "worker"),
        "CUDA_VISIBLE_DEVICES": "3,5",
        "BENTOML_CONFIG_OPTIONS": "services.generation.workers=2",
        "OMP_NUM_THREADS": "1",
    }
    story = {"title": "x", "words": "as_written", "steps": 3, "frames": [{"prompt": "a fox"}] * 6}
    with (
        served("services.generation:Generation", tmp_path, **environ),
        Client(server.url) as client,
    ):
        until(lambda: sum(server.state.workers.states().values()) == 2, "both workers", START_S)
        cards = {report.info["cards"] for report in server.state.workers.all().values()}
        assert cards == {"3", "5"}
        job = client.wait(client.create_story(StoryIn.model_validate(story)).job)
        assert job.state is JobState.succeeded
        rows = server.state.database.rows("SELECT worker, frame FROM attempts")
        assert sorted(row["frame"] for row in rows) == list(range(6))
        assert len({row["worker"] for row in rows}) == 2
    server.stop()
