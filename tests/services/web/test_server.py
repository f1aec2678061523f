"""Limits, metrics, readiness, the worker's routes, and the application by itself."""

from __future__ import annotations

import os
import re
import socket
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from starlette.testclient import TestClient

from consistent_gen.client import ApiError, Client
from consistent_gen.client.types import StoryIn
from consistent_gen.draw_settings import USUAL_MEND
from services.jobs import WorkerBoard
from services.settings import EngineSettings, LimitSettings
from services.web import build_app, open_state
from tests.services.web.hand import TOKEN, Hand, Server, settings_in, until, world_png

WORKER = {"Authorization": f"Bearer {TOKEN}"}


def test_limits_are_those_in_force(alice: Client, server: Server) -> None:
    limits = alice.limits()
    assert limits.body_bytes == server.settings.limits.body_bytes
    assert limits.frames == server.settings.limits.frames


def metric(text: str, name: str) -> float:
    found = re.search(rf"^{re.escape(name)} ([0-9.e+]+)$", text, re.MULTILINE)
    assert found, f"{name} is not in\n{text}"
    return float(found[1])


def test_what_a_caller_makes_up_is_no_label(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2]))) as caller:
        caller.settimeout(30)
        for number in range(20):
            caller.sendall(b"M%d /x%d HTTP/1.1\r\nHost: localhost\r\n\r\n" % (number, number))
            assert caller.recv(1 << 16)
    text = httpx.get(f"{server.url}/metrics").text
    assert 'method="(other)"' in text and "M1" not in text and "x1" not in text


def test_metrics_count_what_happens(
    alice: Client, server: Server, hand: Hand, story: StoryIn
) -> None:
    def read() -> str:
        return httpx.get(f"{server.url}/metrics").text

    hand.pause()
    # Whatever earlier tests left in the queue counts too.
    before = metric(read(), 'consistent_gen_queue_frames{state="queued"}')
    job = alice.create_story(story).job
    text = read()
    assert metric(text, 'consistent_gen_queue_frames{state="queued"}') == before + 3
    assert metric(text, "consistent_gen_queue_oldest_seconds") >= 0
    hand.go()
    alice.wait(job)
    text = read()
    assert metric(text, 'consistent_gen_frames{state="succeeded"}') >= 3
    assert metric(text, 'consistent_gen_leases{outcome="succeeded"}') >= 3
    assert metric(text, 'consistent_gen_workers{state="ready"}') == 1
    assert metric(text, "consistent_gen_storage_bytes") > 0
    name = 'consistent_gen_requests_total{method="GET",route="/v1/jobs/{job}",status="200"}'
    assert metric(text, name) >= 1
    assert 'consistent_gen_request_seconds_bucket{le="0.1",route="/v1/jobs/{job}"}' in text
    httpx.get(f"{server.url}/v1/{'x' * 50}")
    text = read()
    assert "x" * 50 not in text
    assert metric(text, 'consistent_gen_refusals_total{status="401"}') >= 1
    assert "alice" not in text


def test_metrics_have_the_memory_that_workers_tell_and_the_room_of_disks(server: Server) -> None:
    told = {"memory_used": 3, "memory_total": 8, "model": "secret"}
    server.state.workers.report("w:1", ready=True, info=told)
    server.state.workers.report("older", ready=True, info={"memory_used": "much"})
    text = httpx.get(f"{server.url}/metrics").text
    for name in ("w:1", "older"):
        server.state.workers.gone(name)
    name = 'consistent_gen_worker_memory_bytes{kind="%s",worker="w:1"}'
    assert [metric(text, name % kind) for kind in ("used", "total")] == [3, 8]
    assert "secret" not in text and "much" not in text and 'worker="older"' not in text
    for name in ('free_bytes{place="data"}', 'free_bytes{place="tmp"}', "storage_quota_bytes"):
        assert metric(text, f"consistent_gen_{name}") > 1 << 20
    assert metric(text, "consistent_gen_wal_bytes") > 0


def test_ready_follows_the_workers(server: Server, hand: Hand) -> None:
    until(lambda: httpx.get(f"{server.url}/readyz").status_code == 200, "readiness")
    board = server.state.workers
    assert board.ready
    board.report("slow", ready=False, info={"loading": True})
    assert board.states()["slow"] is False
    assert httpx.delete(f"{server.url}/internal/workers/slow", headers=WORKER).status_code == 204
    assert "slow" not in board.states()


def test_a_silent_worker_does_not_count() -> None:
    now = [0.0]
    board = WorkerBoard(10.0, lambda: now[0])
    assert not board.ready
    board.report("a", ready=True, info={"device": "cpu"})
    now[0] = 9.0
    assert board.ready
    board.heard("a")
    now[0] = 18.0
    assert board.all()["a"].info == {"device": "cpu"}
    now[0] = 20.0
    assert not board.ready
    board.heard("a")  # it must say again what it is
    assert not board.ready


def test_a_full_queue_says_when_to_come_back(tmp_path: Path, story: StoryIn) -> None:
    app = build_app(settings_in(tmp_path, limits=LimitSettings(queue=2, queued_per_key=1)))
    body = story.model_dump(mode="json")
    with TestClient(app, base_url="http://127.0.0.1") as client:
        assert client.post("/v1/stories", json=body).status_code == 202
        refused = client.post("/v1/stories", json=body)
        assert (refused.status_code, refused.json()["code"]) == (429, "quota")
        assert int(refused.headers["retry-after"]) >= 1
        # Nothing of the refused story is left.
        assert len(client.get("/v1/stories").json()["stories"]) == 1


def test_the_server_as_a_whole_can_be_full(
    tmp_path: Path, story: StoryIn, keys: tuple[Path, str, str]
) -> None:
    app = build_app(settings_in(tmp_path, limits=LimitSettings(queue=1), keys_file=keys[0]))
    body = story.model_dump(mode="json")
    with TestClient(app, base_url="http://127.0.0.1") as client:
        codes = []
        for key in keys[1:]:
            headers = {"Authorization": f"Bearer {key}"}
            answer = client.post("/v1/stories", json=body, headers=headers)
            codes.append((answer.status_code, "retry-after" in answer.headers))
    assert codes == [(202, False), (503, True)]


def test_lost_and_unknown_leases(server: Server, alice: Client, hand: Hand, story: StoryIn) -> None:
    lost = f"{server.url}/internal/leases/lea_{'0' * 24}"
    png = {"png": ("a.png", world_png(1), "image/png")}
    assert httpx.post(f"{lost}/renew", json={"step": 1}, headers=WORKER).json() == {"go": False}
    finish = httpx.post(f"{lost}/finish", files=png, data={"scores": "{}"}, headers=WORKER)
    assert finish.json() == {"accepted": False}
    assert httpx.post(f"{lost}/release", headers=WORKER).status_code == 204

    hand.pause()
    job = alice.create_story(story).job
    ask = {"worker": "other", "instance": "1", "count": 1, "wait_s": 5}
    lease = httpx.post(f"{server.url}/internal/leases", json=ask, headers=WORKER).json()[0]
    mine = f"{server.url}/internal/leases/{lease['id']}"
    for bad, status in [
        ({"files": {"png": b"no picture"}, "data": {"scores": "{}"}}, 415),
        ({"files": png, "data": {"scores": "[1]"}}, 422),
        ({"files": {"x": b""}}, 422),
    ]:
        assert httpx.post(f"{mine}/finish", headers=WORKER, **bad).status_code == status  # type: ignore[arg-type]
    preview = {"step": 1, "preview_png_base64": "not base64!"}
    assert httpx.post(f"{mine}/renew", json=preview, headers=WORKER).status_code == 422
    alice.cancel(job)
    stopped = httpx.post(f"{mine}/renew", json={"step": 1}, headers=WORKER)
    assert stopped.json() == {"go": False}


def test_a_worker_waits_for_work_and_is_woken(
    server: Server, alice: Client, hand: Hand, story: StoryIn
) -> None:
    import threading

    hand.pause()
    ask = {"worker": "w", "instance": "1", "count": 1, "wait_s": 30.0}
    nothing = {**ask, "wait_s": 0.0}
    url = f"{server.url}/internal/leases"
    until(lambda: httpx.post(url, json=nothing, headers=WORKER).json() == [], "an empty queue")
    got: list[httpx.Response] = []
    worker = threading.Thread(
        target=lambda: got.append(httpx.post(url, json=ask, headers=WORKER, timeout=60))
    )
    worker.start()
    job = alice.create_story(story).job
    worker.join(60)
    (lease,) = got[0].json()
    assert lease["job"] == job
    assert lease["owner"] == "alice"
    httpx.post(f"{url}/{lease['id']}/release", headers=WORKER)
    alice.cancel(job)


def test_a_server_keeps_everything_over_a_restart(tmp_path: Path, story: StoryIn) -> None:
    first = Server(settings_in(tmp_path)).start()
    with Client(first.url) as client:
        accepted = client.create_story(story)
        persona = client.create_persona("Ann").id
        client.say(persona, "I live in Oslo.")
        picture = client.upload(world_png(1)).id
        kept = client.artifact(picture)
        events = [next(client.events(accepted.job))]
    first.stop()
    second = Server(settings_in(tmp_path)).start()
    with Client(second.url) as client:
        # As it was settled when it was begun: whoever draws it later draws it so.
        assert client.story(accepted.story).request == story.model_copy(update={"mend": USUAL_MEND})
        assert any("Oslo" in memory.text for memory in client.memories(persona).memories)
        assert client.artifact(picture) == kept
        assert next(client.events(accepted.job)) == events[0]
    second.stop()


def test_unknown_paths_and_methods_are_problems(raw: httpx.Client) -> None:
    for method, path, status in [
        ("GET", "/v1/nothing", 404),
        ("PUT", "/v1/limits", 405),
        ("GET", "/nothing", 404),
        ("GET", "/v1/stories/", 404),
        ("OPTIONS", "/v1/stories", 405),
    ]:
        answer = raw.request(method, path)
        assert answer.status_code == status, (method, path, answer.status_code)
        assert answer.headers["content-type"] == "application/problem+json"


def test_a_broken_model_folder_is_told(tmp_path: Path, story: StoryIn) -> None:
    from dataclasses import replace

    settings = settings_in(tmp_path / "data")
    broken = replace(settings, engine=replace(settings.engine, model=tmp_path / "nothing"))
    with TestClient(build_app(broken), base_url="http://127.0.0.1") as client:
        answer = client.post("/v1/stories", json=story.model_dump(mode="json"))
        assert (answer.status_code, answer.json()["code"]) == (503, "model_unavailable")
        assert client.get("/v1/models").status_code == 503


def test_export_of_a_stranger_is_not_found(bob: Client) -> None:
    with pytest.raises(ApiError) as problem:
        bob.export("sto_" + "0" * 24)
    assert problem.value.status == 404


@pytest.mark.parametrize(("server_says", "asked", "sent"), [(5, None, 5), (3, 2, 2), (0, 2, 0)])
def test_previews_are_as_the_operator_and_then_the_caller_say(
    tmp_path: Path, server_says: int, asked: int | None, sent: int
) -> None:
    engine = EngineSettings(lease_s=3.0, preview_every=server_says)
    app = build_app(replace(settings_in(tmp_path), engine=engine))
    with TestClient(app, base_url="http://127.0.0.1", client=("127.0.0.1", 1)) as client:
        frames = [{"prompt": "a fox in a forest"}]
        story = {"title": "x", "frames": frames, "preview_every": asked}
        assert client.post("/v1/stories", json=story).status_code == 202
        ask = {"worker": "w", "instance": "1", "count": 1}
        answer = client.post("/internal/leases", json=ask, headers=WORKER)
        (lease,) = answer.json()
    assert lease["order"]["preview_every"] == sent


def test_a_folder_has_one_gateway(tmp_path: Path) -> None:
    from consistent_gen.errors import InputError

    settings = settings_in(tmp_path / "data")
    first = open_state(settings)
    with pytest.raises(InputError, match=rf"process {os.getpid()}\).*storage\.data_dir"):
        open_state(settings)
    first.close()
    again = open_state(settings)
    again.close()
