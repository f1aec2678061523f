"""What the gate refuses: callers, bodies, pictures, names, headers; and what the log keeps out."""

from __future__ import annotations

import dataclasses
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from consistent_gen.client import Client
from consistent_gen.client.types import StoryIn
from consistent_gen.errors import InputError
from services.settings import LimitSettings
from services.web import build_app
from services.web.security import WRONG_KEYS_PER_MINUTE, KeyCheck
from tests.services.web.answers import problem, upload
from tests.services.web.hand import TOKEN, Hand, Server, settings_in, world_png


# Callers ----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "path", ["/v1/stories", "/v1/limits", "/v1/nothing", "/v1", "/v1/artifacts/art_" + "0" * 24]
)
@pytest.mark.parametrize(
    "authorization",
    [None, "Bearer", "Bearer wrong", "Basic YTpi", "Bearer cg-alice-wrong", f"Bearer {TOKEN}"],
)
def test_no_key_no_answer(server: Server, path: str, authorization: str | None) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    # Not over the network, so that each has an address of its own; the server is running already.
    client = TestClient(server.app, base_url="http://127.0.0.1", client=(authorization or "-", 1))
    answer = client.get(path, headers=headers)
    problem(answer, 401, "unauthorized")
    assert answer.headers["www-authenticate"] == "Bearer"


def test_health_needs_no_key(server: Server) -> None:
    for path in ("/healthz", "/livez", "/metrics", "/openapi.json"):
        assert httpx.get(server.url + path).status_code == 200
        head = httpx.head(server.url + path)
        assert head.status_code == 200 and not head.content


def test_what_is_mounted_beside_the_interface_does_not_answer_for_it(
    tmp_path: Path, keys: tuple[Path, str, str]
) -> None:
    app = build_app(settings_in(tmp_path, keys_file=keys[0]))

    async def page(scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse("the page")(scope, receive, send)

    app.mount("/", page)
    headers = {"Authorization": f"Bearer {keys[1]}"}
    with TestClient(app, base_url="http://127.0.0.1", headers=headers) as client:
        assert client.get("/anything").text == "the page"
        same, other = {"Origin": "http://127.0.0.1"}, {"Origin": "https://elsewhere.example"}
        assert client.get("/anything", headers=same).text == "the page"
        for method in ("GET", "POST"):
            answer = client.request(method, "/queue/data", headers=other)
            problem(answer, 403, "cross_site")
            assert "access-control-allow-origin" not in answer.headers
        # The interface wants a key, which no browser sends by itself.
        assert client.get("/v1/limits", headers=other).status_code == 200
        for path in ("/v1/nothing", "/v1", "/v1/", "/v1/stories/a/b/c/d"):
            for method in ("GET", "POST", "BREW"):
                problem(client.request(method, path), 404)
        wrong = client.request("PATCH", "/v1/limits")
        problem(wrong, 405)
        assert wrong.headers["allow"] == "GET"
        assert "GET" in client.put("/v1/stories", json={}).headers["allow"]


def test_two_worker_tokens_are_taken_while_workers_get_a_new_one(tmp_path: Path) -> None:
    former = "the-token-before-0123456789"
    settings = settings_in(tmp_path)
    auth = dataclasses.replace(settings.auth, former_worker_token=former)
    for tokens, expected in ((auth, [422, 422, 401, 401]), (settings.auth, [422, 401, 401, 401])):
        server = Server(dataclasses.replace(settings, auth=tokens)).start()
        found = [
            httpx.post(
                f"{server.url}/internal/leases", json={},
                headers={"Authorization": f"Bearer {token}"},
            ).status_code
            for token in (TOKEN, former, former + "x", "-")
        ]  # fmt: skip
        server.stop()
        assert found == expected


def test_the_worker_paths_need_the_worker_token(server: Server, raw: httpx.Client) -> None:
    body = {"worker": "w", "count": 1}
    problem(raw.post("/internal/leases", json=body), 401)
    problem(raw.get("/internal/artifacts/art_" + "0" * 24), 401)
    ours = {"Authorization": f"Bearer {TOKEN}"}
    answer = httpx.get(f"{server.url}/internal/artifacts/art_{'0' * 24}", headers=ours)
    problem(answer, 404)


def test_guessing_keys_is_slowed_down_and_good_keys_go_on(keys: tuple[Path, str, str]) -> None:
    from services.keys import KeyRing

    time = [0.0]

    async def guesses() -> None:
        from services.errors import Refusal

        check = KeyCheck(KeyRing(keys[0]), lambda: time[0])
        assert (await check.verify(keys[1], "1.2.3.4")).id == "alice"
        statuses = []
        for number in range(WRONG_KEYS_PER_MINUTE + 2):
            with pytest.raises(Refusal) as refusal:
                await check.verify(f"cg-alice-{number:043d}", "1.2.3.4")
            statuses.append(refusal.value.status)
        assert statuses == [401] * WRONG_KEYS_PER_MINUTE + [429] * 2
        assert (await check.verify(keys[1], "1.2.3.4")).id == "alice"
        # A right key that nobody has used yet is let in from there, too: others may share it.
        assert (await check.verify(keys[2], "1.2.3.4")).id == "bob"
        time[0] = 61.0
        with pytest.raises(Refusal) as refusal:
            await check.verify("cg-alice-" + "0" * 43, "1.2.3.4")
        assert refusal.value.status == 401

    import asyncio

    asyncio.run(guesses())


def test_what_is_anothers_is_not_found(
    alice: Client, bob: Client, hand: Hand, story: StoryIn, keys: tuple[Path, str, str]
) -> None:
    job = alice.wait(alice.create_story(story).job)
    character = alice.create_character(_character("Only mine"))
    persona = alice.create_persona("Mine")
    upload_id = alice.upload(world_png(1)).id
    headers = {"Authorization": f"Bearer {keys[2]}"}
    with httpx.Client(base_url=bob.url, headers=headers) as his:
        for method, path in [
            ("GET", f"/v1/artifacts/{upload_id}"),
            ("DELETE", f"/v1/artifacts/{upload_id}"),
            ("GET", f"/v1/artifacts/{job.frames[0].artifact}"),
            ("GET", f"/v1/jobs/{job.id}"),
            ("GET", f"/v1/jobs/{job.id}/events"),
            ("DELETE", f"/v1/jobs/{job.id}"),
            ("POST", f"/v1/jobs/{job.id}/retry"),
            ("GET", f"/v1/stories/{job.story}"),
            ("GET", f"/v1/stories/{job.story}/export"),
            ("DELETE", f"/v1/stories/{job.story}"),
            ("GET", f"/v1/characters/{character.id}"),
            ("GET", f"/v1/characters/{character.id}/export"),
            ("DELETE", f"/v1/characters/{character.id}"),
            ("GET", f"/v1/personas/{persona.id}"),
            ("GET", f"/v1/personas/{persona.id}/memories"),
            ("DELETE", f"/v1/personas/{persona.id}"),
        ]:
            problem(his.request(method, path), 404, "not_found")
        body = {"title": "x", "frames": [{"prompt": "{A}"}]}
        body["characters"] = {"A": {"description": "a fox", "library": character.id}}
        problem(his.post("/v1/stories", json=body), 422, "unknown_character")
        say = f"/v1/personas/{bob.create_persona('His').id}/say"
        for path, body in [
            ("/v1/score", {"artifacts": [upload_id]}),
            (say, {"text": "hi", "picture": upload_id}),
        ]:
            problem(his.post(path, json=body), 422, "unknown_artifact")
    assert alice.story(job.story).id == job.story


def _character(name: str) -> object:
    from consistent_gen.client.types import LibraryCharacterIn

    return LibraryCharacterIn(name=name, description="a fox with a blue scarf")


# Bodies -----------------------------------------------------------------------------------------
@pytest.fixture
def small_server(tmp_path: Path) -> Iterator[TestClient]:
    """Anyone on this machine may call; bodies of at most 10 kB."""
    app = build_app(
        settings_in(tmp_path, limits=LimitSettings(body_bytes=10_000, image_pixels=100_000))
    )
    with TestClient(app, base_url="http://127.0.0.1:7860") as client:
        yield client


def test_oversized_bodies_announced_or_not(small_server: TestClient) -> None:
    large = json.dumps({"title": "x" * 20_000, "frames": []}).encode()
    headers = {"Content-Type": "application/json"}
    problem(small_server.post("/v1/stories", content=large, headers=headers), 413, "too_large")

    def pieces() -> Iterator[bytes]:
        yield from (large[i : i + 1000] for i in range(0, len(large), 1000))

    answer = small_server.post("/v1/stories", content=pieces(), headers=headers)
    assert "content-length" not in answer.request.headers
    problem(answer, 413, "too_large")
    files = {"file": ("a.png", b"x" * 20_000, "image/png")}
    problem(small_server.post("/v1/artifacts", files=files), 413, "too_large")


def test_an_oversized_body_over_a_socket_is_answered(
    server: Server, keys: tuple[Path, str, str]
) -> None:
    """25 MB announced and sent: the answer arrives, instead of a broken connection."""
    headers = {"Authorization": f"Bearer {keys[1]}", "Content-Type": "application/json"}
    for content in (b"x" * (25 << 20), (b"x" * (1 << 20) for _ in range(25))):
        answer = httpx.post(server.url + "/v1/stories", content=content, headers=headers)
        problem(answer, 413, "too_large")


@pytest.mark.parametrize(
    ("content_type", "content"),
    [
        ("application/vnd.bento+pickle", b"\x80\x04."),
        ("application/octet-stream", b"{}"),
        ("text/plain", b'{"title": "x"}'),
        ("", b"{}"),
        ("multipart/form-data; boundary=x", b"--x--\r\n"),
    ],
)
def test_json_paths_take_json_only(raw: httpx.Client, content_type: str, content: bytes) -> None:
    headers = {"Content-Type": content_type}
    problem(raw.post("/v1/stories", content=content, headers=headers), 415, "unsupported_media")
    problem(raw.post("/v1/artifacts", json={"file": "x"}), 415, "unsupported_media")


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b"[" * 50_000, b'{"title":', b'"\\ud800'])
def test_broken_json_is_malformed(raw: httpx.Client, content: bytes) -> None:
    answer = raw.post("/v1/stories", content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 422)
    problem(answer, answer.status_code)


def test_forms_have_few_parts(raw: httpx.Client) -> None:
    png = world_png(1)
    many = [("file", (f"{i}.png", png, "image/png")) for i in range(3)]
    problem(raw.post("/v1/artifacts", files=many), 400)
    problem(
        raw.post("/v1/artifacts", data={f"f{i}": "x" for i in range(20)}, files={"file": png}), 400
    )
    big = {"note": "x" * 100_000}
    problem(raw.post("/v1/artifacts", data=big, files={"file": png}), 400)
    problem(raw.post("/v1/artifacts", files={"other": png}), 422, "no_file")
    broken = {"Content-Type": "multipart/form-data; boundary=" + "-" * 70}
    problem(raw.post("/v1/artifacts", content=b"-" * 100_000, headers=broken), 422, "no_file")


def test_an_address_is_not_fetched(raw: httpx.Client, alice: Client) -> None:
    """Neither in a form nor where an artifact is named: a listener hears nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/a.png"
        boundary = b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\n'
        headers = {"Content-Type": "multipart/form-data; boundary=b"}
        body = boundary + url.encode() + b"\r\n--b--\r\n"
        problem(raw.post("/v1/artifacts", content=body, headers=headers), 422, "no_file")
        answer = upload(raw, url.encode())
        assert "never fetched" in str(problem(answer, 415)["detail"])
        persona = alice.create_persona("Reader").id
        for path, content in [
            ("/v1/score", {"artifacts": [url]}),
            (f"/v1/personas/{persona}/say", {"text": "look", "picture": url}),
            (f"/v1/personas/{persona}/search", {"picture": "file:///etc/passwd"}),
            (f"/v1/personas/{persona}/search", {"picture": "../../../etc/passwd"}),
        ]:
            problem(raw.post(path, json=content), 422, "not_an_artifact")
        listener.settimeout(0.2)
        with pytest.raises(TimeoutError):
            listener.accept()


# Names and headers ------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "name", ["a\x00b", "a\nb", "a\u202egpj.exe", "\u200fa", "a\x7f", "a\x85b", "a\u2028b"]
)
def test_names_hide_nothing(raw: httpx.Client, name: str) -> None:
    problem(raw.post("/v1/personas", json={"name": name}), 422)
    problem(raw.post("/v1/characters", json={"name": name, "description": "a fox"}), 422)
    body = {"title": name, "frames": [{"prompt": "a fox"}]}
    problem(raw.post("/v1/stories", json=body), 422)
    body = {
        "title": "x",
        "frames": [{"prompt": "a fox"}],
        "characters": {name: {"description": "a"}},
    }
    problem(raw.post("/v1/stories", json=body), 422)


def test_texts_are_valid_unicode(raw: httpx.Client) -> None:
    body = b'{"title": "x", "frames": [{"prompt": "a fox", "caption": "\\ud800"}]}'
    headers = {"Content-Type": "application/json"}
    problem(raw.post("/v1/stories", content=body, headers=headers), 422)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/artifacts/../../../../etc/passwd",
        "/v1/artifacts/..%2f..%2f..%2fetc%2fpasswd",
        "/v1/artifacts/%2e%2e%2f%2e%2e%2fserver.sqlite",
        "/v1/artifacts/art_%00",
        "/v1/artifacts/%F0%9F%A6%8A",
        "/v1/personas/..%2f..%2fserver.sqlite",
        "/v1/personas/per_000000000000000000000000%2f..%2f..",
        "/v1/stories/' OR 1=1 --/export",
        "/v1/artifacts//etc/passwd",
    ],
)
def test_paths_lead_nowhere_else(server: Server, keys: tuple[Path, str, str], path: str) -> None:
    """Sent as they are: an ordinary client would tidy them up first."""
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        line = f"GET {path.replace(' ', '%20')} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        rest = f"Authorization: Bearer {keys[1]}\r\nConnection: close\r\n\r\n"
        connection.sendall((line + rest).encode())
        answer = connection.makefile("rb").read()
    assert answer.split(b"\r\n")[0].split()[1] in (b"404", b"422"), answer[:300]
    assert b"root:" not in answer
    assert b"SQLite" not in answer


def test_headers_cannot_be_injected(
    raw: httpx.Client, alice: Client, hand: Hand, story: StoryIn
) -> None:
    for given in ("a b", "x" * 65, "<script>", "a%0d%0aSet-Cookie:x"):
        answered = raw.get("/v1/limits", headers={"X-Request-ID": given}).headers["x-request-id"]
        assert answered != given
        assert len(answered) == 16
    assert (
        raw.get("/v1/limits", headers={"X-Request-ID": "ok-1.2"}).headers["x-request-id"]
        == "ok-1.2"
    )
    problem(raw.get("/v1/limits", headers={"X-User": "two words"}), 400)
    titled = story.model_copy(update={"title": 'x"; filename="evil.exe'})
    accepted = alice.create_story(titled)
    alice.wait(accepted.job)
    answer = raw.get(f"/v1/stories/{accepted.story}/export", params={"format": "cbz"})
    assert answer.headers["content-disposition"] == 'attachment; filename="x-filename-evil-exe.cbz"'


def test_a_raw_line_break_in_a_header_is_refused(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(
            b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Request-ID: a\x00b\r\n"
            b"Connection: close\r\n\r\n"
        )
        answer = connection.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 400")


def test_answers_are_not_pages(raw: httpx.Client) -> None:
    headers = raw.get("/v1/limits").headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"
    assert "default-src 'none'" in headers["content-security-policy"]


# Pages of other sites, where no key is needed ---------------------------------------------------
def test_other_sites_cannot_use_a_server_without_keys(small_server: TestClient) -> None:
    ok = {"title": "x", "frames": [{"prompt": "a fox"}]}
    assert small_server.post("/v1/stories", json=ok).status_code == 202
    for headers, code in [
        ({"Host": "evil.example"}, "wrong_host"),
        ({"Host": "127.0.0.1.evil.example"}, "wrong_host"),
        ({"Origin": "https://evil.example"}, "cross_site"),
        ({"Origin": "null"}, "cross_site"),
        ({"Sec-Fetch-Site": "cross-site"}, "cross_site"),
    ]:
        problem(small_server.post("/v1/stories", json=ok, headers=headers), 403, code)
    for host in ("localhost:7860", "127.0.0.1", "[::1]:7860", "studio.localhost"):
        assert small_server.get("/v1/limits", headers={"Host": host}).status_code == 200
    same = {"Origin": "http://127.0.0.1:7860", "Sec-Fetch-Site": "same-origin"}
    assert small_server.post("/v1/stories", json=ok, headers=same).status_code == 202


@pytest.mark.parametrize(
    ("address", "status"), [("127.0.0.1", 200), ("::1", 200), ("10.0.0.7", 403), ("8.8.8.8", 403)]
)
def test_without_keys_other_machines_are_refused_wherever_we_listen(
    small_server: TestClient, address: str, status: int
) -> None:
    client = TestClient(small_server.app, base_url="http://localhost", client=(address, 1))
    answer = client.get("/v1/limits")
    assert answer.status_code == status
    if status == 403:
        problem(answer, 403, "not_local")


def test_no_server_for_the_world_without_keys(tmp_path: Path) -> None:
    from dataclasses import replace

    from services.settings import ServerSettings as Listening

    settings = replace(settings_in(tmp_path), server=Listening(host="0.0.0.0"))
    with pytest.raises(InputError, match="keys_file"):
        build_app(settings)


# Bounds -----------------------------------------------------------------------------------------
def test_one_caller_cannot_hold_all_connections(
    monkeypatch: pytest.MonkeyPatch, alice: Client, bob: Client, hand: Hand, story: StoryIn
) -> None:
    from consistent_gen.client import ApiError
    from tests.services.web.hand import until

    hand.pause()
    job = alice.create_story(story).job
    monkeypatch.setattr("services.web.security.OPEN_PER_KEY", 3)
    streams = [alice.events(job) for _ in range(3)]
    for stream in streams:
        next(stream)
    with pytest.raises(ApiError) as refusal:
        alice.limits()
    assert (refusal.value.status, refusal.value.problem.retry_after) == (429, 1.0)
    assert bob.limits().frames
    for stream in streams:
        stream.close()  # type: ignore[attr-defined]

    def free() -> bool:
        try:
            return bool(alice.limits().frames)
        except ApiError:
            return False

    until(free, "room again")


def test_a_body_that_stops_arriving_is_given_up(
    monkeypatch: pytest.MonkeyPatch, server: Server, keys: tuple[Path, str, str]
) -> None:
    monkeypatch.setattr("services.web.security.BODY_PAUSE_S", 0.2)
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.settimeout(30)
        head = "POST /v1/stories HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        rest = f"Content-Length: 100\r\nAuthorization: Bearer {keys[1]}\r\n\r\n{{"
        connection.sendall((head + rest).encode())
        answer = connection.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 408")
    assert b'"code":"timeout"' in answer
