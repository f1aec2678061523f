"""Edits in OpenAI's shape: a picture and a prompt come in, and what is refused on the way."""

from __future__ import annotations

import base64
import io
import json
import time
from typing import Any

import httpx
import pytest
from PIL import Image

from consistent_gen.client import Client
from services.jobs.housekeeping import Housekeeper
from tests.services.web.answers import problem
from tests.services.web.hand import Hand, Server, until, world_png
from tests.services.web.test_intake import moving, png_of_size, saved

PROMPT = {"prompt": "a small fox dancing in a forest", "steps": "2"}
EDITS = "/v1/images/edits"


def edit(raw: httpx.Client, picture: bytes | None = None, **fields: str) -> httpx.Response:
    data = world_png(3) if picture is None else picture
    return raw.post(EDITS, files={"image": ("me.png", data)}, data=PROMPT | fields)


def refused(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """A problem that OpenAI's clients understand as well; returns their part of it."""
    said = problem(answer, status, code)
    error = said["error"]
    assert isinstance(error, dict)
    assert error.keys() >= {"message", "type", "code"}
    assert (error["message"], error["code"]) == (said["detail"], code)
    assert error["type"] == ("server_error" if status >= 500 else "invalid_request_error")
    return error


def test_a_picture_comes_out_of_a_picture(raw: httpx.Client, alice: Client, hand: Hand) -> None:
    hand.seen_references.clear()
    answer = edit(raw, n="2", strength="0.7")
    assert answer.status_code == 200, answer.text
    body = answer.json()
    drawn = [base64.b64decode(item["b64_json"]) for item in body["data"]]
    assert len(drawn) == 2
    assert all(Image.open(io.BytesIO(data)).size == (128, 128) for data in drawn)
    # The worker got the picture for every frame: the pixels of the upload, drawn anew.
    assert len(hand.seen_references) == 2
    for (kept,) in hand.seen_references:
        with Image.open(io.BytesIO(kept)) as one, Image.open(io.BytesIO(world_png(3))) as other:
            assert one.tobytes() == other.convert("RGB").tobytes()
    shown = alice.story(body["story"])
    assert shown.frames[0].prompt == "{Subject} dancing in a forest"
    assert shown.request.method == "consistory"
    character = shown.request.characters["Subject"]
    assert (character.description, character.strength) == ("a small fox", 0.7)


def test_the_fields_that_openais_clients_send(raw: httpx.Client, hand: Hand) -> None:
    fields = {
        "model": "storyworld", "size": "128x128", "quality": "auto", "background": "auto",
        "input_fidelity": "high", "output_format": "png", "user": "ann", "response_format": "url",
    }  # fmt: skip
    files = {"image[]": ("me.png", world_png(3), "image/png")}
    answer = raw.post(EDITS, files=files, data=PROMPT | fields)
    assert answer.status_code == 200, answer.text
    assert raw.get(answer.json()["data"][0]["url"]).content.startswith(b"\x89PNG")


def test_the_words_for_the_character_may_be_said(
    raw: httpx.Client, alice: Client, hand: Hand
) -> None:
    answer = edit(
        raw, prompt="A red bear and a fox", character="a RED bear", method="style_aligned"
    )
    assert answer.status_code == 200, answer.text
    shown = alice.story(answer.json()["story"])
    assert shown.frames[0].prompt == "{Subject} and a fox"
    assert shown.request.method == "style_aligned"


def test_edits_are_streamed(raw: httpx.Client, hand: Hand) -> None:
    fields = PROMPT | {"stream": "true", "partial_images": "1", "steps": "4"}
    with raw.stream("POST", EDITS, files={"image": world_png(3)}, data=fields) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        found = [json.loads(x[5:]) for x in answer.iter_lines() if x.startswith("data:")]
    assert found[-1]["type"] == "image_edit.completed"
    assert {event["type"] for event in found[:-1]} <= {"image_edit.partial_image"}
    assert base64.b64decode(found[-1]["b64_json"]).startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (png_of_size(20_000, 10_000), 413, "too_many_pixels"),
        (png_of_size(500, 500), 422, "damaged"),
        (saved("GIF"), 415, "unsupported_media"),
        (moving("WEBP"), 415, "unsupported_media"),
        (b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>", 415, "unsupported_media"),
        (b"https://example.org/a.png", 415, "unsupported_media"),
        (b"", 415, "unsupported_media"),
    ],
    ids=lambda value: value[:12].hex() if isinstance(value, bytes) else None,
)
def test_what_is_no_honest_picture(
    raw: httpx.Client, server: Server, data: bytes, status: int, code: str
) -> None:
    before = artifacts(server)
    refused(edit(raw, data), status, code)
    assert artifacts(server) == before


@pytest.mark.parametrize(
    ("fields", "status", "code", "param"),
    [
        ({"n": "11"}, 422, "invalid", "n"),
        ({"n": "many"}, 422, "invalid", "n"),
        ({"prompt": ""}, 422, "invalid", "prompt"),
        ({"strength": "2"}, 422, "invalid", "strength"),
        ({"wings": "two"}, 422, "invalid", "wings"),
        ({"output_format": "webp"}, 422, "invalid", "output_format"),
        ({"prompt": "a \u0007 fox"}, 422, "invalid", None),
        ({"prompt": "a wombat"}, 422, "character_not_named", None),
        ({"prompt": "a fox and a bear"}, 422, "character_not_named", None),
        ({"character": "a bear"}, 422, "character_not_named", None),
        ({"prompt": "a fox eating a wombat"}, 422, "invalid", None),
        ({"method": "vanilla"}, 422, "method_reads_no_pictures", None),
        ({"method": "magic"}, 422, "unknown_name", None),
        ({"steps": "151"}, 422, "limit", None),
        ({"size": "9999x9999"}, 422, "limit", None),
        ({"model": "dall-e-2"}, 404, "model_not_found", None),
        ({"prompt": "a fox " + "in a forest " * 66}, 422, "invalid", None),
    ],
)
def test_what_cannot_be_asked(
    raw: httpx.Client, server: Server, fields: dict[str, str], status: int, code: str,
    param: str | None,
) -> None:  # fmt: skip
    before = artifacts(server)
    error = refused(edit(raw, **fields), status, code)
    assert param is None or error["param"] == param
    assert artifacts(server) == before, "a refused request leaves its picture behind"


def test_what_is_no_form(raw: httpx.Client) -> None:
    refused(raw.post(EDITS, json=PROMPT), 415, "unsupported_media")
    none = raw.post(EDITS, files={"other": b"x"}, data=PROMPT)
    refused(none, 422, "no_file")
    address = raw.post(
        EDITS, data={**PROMPT, "image": "https://example.org/a.png"}, files={"other": b"x"}
    )
    assert "never" not in refused(address, 422, "no_file")["message"]
    two = [("image[]", ("a.png", world_png(1))), ("image[]", ("b.png", world_png(2)))]
    refused(raw.post(EDITS, files=two, data=PROMPT), 422, "no_file")
    masked = {"image": ("a.png", world_png(1)), "mask": ("b.png", world_png(1))}
    refused(raw.post(EDITS, files=masked, data=PROMPT), 422, "mask_not_supported")
    torn = raw.post(
        EDITS,
        content=b"--x\r\nnothing",
        headers={"Content-Type": "multipart/form-data; boundary=x"},
    )
    assert torn.status_code in (400, 422) and torn.json()["error"]["message"]


def test_generations_refuse_in_the_same_shape(raw: httpx.Client) -> None:
    answer = raw.post("/v1/images/generations", json={"prompt": "a fox", "n": 11})
    assert refused(answer, 422, "invalid")["param"] == "n"
    bare = httpx.post(str(raw.base_url.join("/v1/images/generations")), json={"prompt": "a fox"})
    assert bare.json()["error"]["type"] == "authentication_error"
    # Elsewhere a problem is a problem.
    assert "error" not in raw.post("/v1/images", json={"prompt": ""}).json()


def test_what_goes_wrong_later_is_told(raw: httpx.Client, hand: Hand) -> None:
    hand.spoil = lambda lease: True
    refused(edit(raw), 502, "spoilt")


def test_the_picture_stays_while_it_is_needed_and_no_longer(
    raw: httpx.Client, server: Server, hand: Hand
) -> None:
    """A picture whose drawing waits outlives every sweep; afterwards nothing of it is kept."""
    state = server.state
    before = artifacts(server)
    later = time.time() + 3600.0
    keeper = Housekeeper(state.database, state.jobs, state.artifacts)
    hand.pause()
    fields = PROMPT | {"stream": "true"}
    with raw.stream("POST", EDITS, files={"image": world_png(9)}, data=fields) as answer:
        waiting = artifacts(server) - before
        assert len(waiting) == 1
        keeper.round()
        state.artifacts._clock, clock = (lambda: later), state.artifacts._clock
        try:
            state.artifacts.sweep()
            assert waiting <= artifacts(server)
            hand.go()
            found = [json.loads(x[5:]) for x in answer.iter_lines() if x.startswith("data:")]
            assert found[-1]["type"] == "image_edit.completed"
            until(lambda: state.artifacts.sweep() >= 0, "it is swept")
        finally:
            state.artifacts._clock = clock
    assert not waiting & artifacts(server)


def artifacts(server: Server) -> set[str]:
    return {row["id"] for row in server.state.database.rows("SELECT id FROM artifacts")}


def test_the_schema_says_what_the_form_takes(server: Server) -> None:
    operation = server.app.openapi()["paths"][EDITS]["post"]
    form = operation["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert form["required"] == ["image", "prompt"]
    assert form["properties"]["image"] == {"type": "string", "format": "binary"}
    assert form["properties"]["strength"]["maximum"] == 1.0
    refusal = operation["responses"]["422"]["content"]["application/problem+json"]["schema"]
    assert refusal == {"$ref": "#/components/schemas/OpenAIProblem"}
    assert "501" not in operation["responses"]
