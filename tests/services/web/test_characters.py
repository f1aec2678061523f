"""The library, references in stories and in OpenAI's shape, scores of uploads."""

from __future__ import annotations

import base64
import io
import json
import zipfile

import httpx
import numpy as np
import pytest
from PIL import Image

from consistent_gen.client import ApiError, Client
from consistent_gen.client.types import (
    CharacterIn,
    LibraryCharacterIn,
    LibraryCharacterPatch,
    StoryIn,
)
from tests.services.web.hand import Hand, Server, world_png


def fox(name: str) -> LibraryCharacterIn:
    return LibraryCharacterIn(name=name, description="a fox with a blue scarf", strength=0.7)


def test_a_character_from_birth_to_archive_and_back(alice: Client, bob: Client) -> None:
    made = alice.create_character(fox("Rusty"))
    assert alice.character(made.id) == made
    with pytest.raises(ApiError) as problem:
        alice.create_character(fox("rusty"))
    assert problem.value.status == 409
    reference = alice.add_reference(made.id, world_png(2))
    assert reference.quality.width == 128
    assert reference.quality.verdict in ("good", "usable", "poor")
    assert alice.artifact(reference.artifact).startswith(b"\x89PNG")
    changed = alice.patch_character(made.id, LibraryCharacterPatch(description="a grey fox"))
    assert changed.description == "a grey fox"
    assert made.id in {character.id for character in alice.characters().characters}

    archive = alice.export_character(made.id)
    assert zipfile.ZipFile(io.BytesIO(archive)).testzip() is None
    copy = bob.import_character(archive)
    assert (copy.name, copy.description) == ("Rusty", "a grey fox")
    assert len(copy.references) == 1
    kept = bob.artifact(copy.references[0].artifact)
    first = Image.open(io.BytesIO(alice.artifact(reference.artifact)))
    assert Image.open(io.BytesIO(kept)).tobytes() == first.tobytes()

    alice.delete_reference(made.id, reference.id)
    assert alice.character(made.id).references == []
    alice.delete_character(made.id)
    for gone in (lambda: alice.character(made.id), lambda: alice.artifact(reference.artifact)):
        with pytest.raises(ApiError) as problem:
            gone()
        assert problem.value.status == 404


def test_archives_that_are_none(raw: httpx.Client) -> None:
    def send(data: bytes) -> int:
        files = {"file": ("a.zip", data, "application/zip")}
        return raw.post("/v1/characters/import", files=files).status_code

    hostile = io.BytesIO()
    with zipfile.ZipFile(hostile, "w") as archive:
        archive.writestr("../../evil.txt", "x")
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("manifest.json", b"0" * (64 << 20))
    for data in (b"", b"PK\x03\x04", b"no zip", hostile.getvalue(), bomb.getvalue()):
        assert send(data) == 422


def test_library_references_reach_the_worker(alice: Client, hand: Hand) -> None:
    made = alice.create_character(fox("Ember"))
    picture = world_png(5)
    kept = alice.artifact(alice.add_reference(made.id, picture).artifact)
    story = StoryIn.model_validate({"title": "x", "frames": [{"prompt": "{Ember} in a forest"}]})
    story.characters["Ember"] = CharacterIn(description=made.description, library=made.id)
    hand.seen_references.clear()
    job = alice.wait(alice.create_story(story).job)
    assert hand.seen_references == [[kept]]
    # A re-roll goes on without a character that is deleted by then.
    alice.delete_character(made.id)
    alice.wait(alice.reroll(job.story, 0).job)
    assert hand.seen_references[1:] == [[]]


@pytest.mark.slow
def test_a_large_character_goes_out_and_comes_in(alice: Client, server: Server) -> None:
    """Larger than any other request may be."""
    rng = np.random.default_rng(0)
    made = alice.create_character(LibraryCharacterIn(name="Large", description="a fox"))
    for _ in range(3):
        buffer = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (1700, 1700, 3), np.uint8)).save(buffer, "PNG")
        alice.add_reference(made.id, buffer.getvalue())
    archive = alice.export_character(made.id)
    assert len(archive) > server.settings.limits.body_bytes
    back = alice.import_character(archive)
    assert len(back.references) == 3 and back.name == "Large 2"
    for one in (made.id, back.id):
        alice.delete_character(one)


def test_what_could_not_be_imported_again_is_not_taken(
    monkeypatch: pytest.MonkeyPatch, alice: Client
) -> None:
    monkeypatch.setattr("services.store.archive.MAX_PICTURES_BYTES", 60_000)
    monkeypatch.setattr("services.store.archive.MAX_PICTURE_BYTES", 50_000)
    made = alice.create_character(LibraryCharacterIn(name="Bound", description="a fox"))
    rng = np.random.default_rng(0)

    def noise(side: int) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (side, side, 3), np.uint8)).save(buffer, "PNG")
        return buffer.getvalue()

    with pytest.raises(ApiError, match="scale it down"):
        alice.add_reference(made.id, noise(140))
    alice.add_reference(made.id, noise(115))
    with pytest.raises(ApiError, match="together"):
        alice.add_reference(made.id, noise(116))
    alice.delete_character(made.id)


# OpenAI's shape ---------------------------------------------------------------------------------
def test_pictures_in_openai_shape(raw: httpx.Client, alice: Client, hand: Hand) -> None:
    body = {"prompt": "a fox in a forest", "n": 2, "steps": 2, "model": "storyworld"}
    answer = raw.post("/v1/images/generations", json=body)
    assert answer.status_code == 200, answer.text
    pictures = [base64.b64decode(item["b64_json"]) for item in answer.json()["data"]]
    assert len(pictures) == 2
    assert all(Image.open(io.BytesIO(data)).size == (128, 128) for data in pictures)
    by_url = raw.post("/v1/images/generations", json={**body, "response_format": "url"}).json()
    assert raw.get(by_url["data"][0]["url"]).content.startswith(b"\x89PNG")
    models = raw.get("/v1/models").json()
    assert (models["object"], models["data"][0]["id"]) == ("list", "storyworld")
    assert alice.model().name == "storyworld"


def test_openai_streams_partial_pictures(raw: httpx.Client, hand: Hand) -> None:
    body = {"prompt": "a fox", "steps": 4, "stream": True, "partial_images": 2}
    found = []
    with raw.stream("POST", "/v1/images/generations", json=body) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        for line in answer.iter_lines():
            if line.startswith("data:"):
                found.append(json.loads(line[5:]))
    assert found[-1]["type"] == "image_generation.completed"
    assert {event["type"] for event in found[:-1]} <= {"image_generation.partial_image"}
    assert len(found) <= 3
    assert base64.b64decode(found[-1]["b64_json"]).startswith(b"\x89PNG")


def test_what_a_picture_shows_is_not_made_up(alice: Client) -> None:
    """Casting completes a description that leaves things open, unless there are pictures."""
    made = alice.create_character(LibraryCharacterIn(name="Kid", description="my kid sister"))
    story = StoryIn(
        title="x",
        words="own",
        characters={"Kid": CharacterIn(description=made.description, library=made.id)},
        frames=[{"prompt": "{Kid} reads in the garden."}],
    )

    def drawn() -> str:
        texts = alice.check_story(story).texts
        return next(t.drawn for t in texts if t.place == "characters.Kid.description")

    assert "wearing" in drawn()
    alice.add_reference(made.id, world_png(2))
    assert drawn() == "a girl"


def test_openai_with_characters_of_the_library(
    raw: httpx.Client, alice: Client, hand: Hand
) -> None:
    made = alice.create_character(fox("Zorro"))
    kept = alice.artifact(alice.add_reference(made.id, world_png(6)).artifact)
    hand.seen_references.clear()
    body = {"prompt": "zorro in a forest", "character_ids": [made.id], "steps": 2}
    answer = raw.post("/v1/images/generations", json=body)
    assert answer.status_code == 200, answer.text
    assert hand.seen_references == [[kept]]
    shown = alice.story(answer.json()["story"])
    assert shown.frames[0].prompt == "{Zorro} in a forest"
    body["prompt"] = "a bear in a forest"
    assert raw.post("/v1/images/generations", json=body).json()["code"] == "character_not_named"


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"model": "dall-e-3"}, 404),
        ({"n": 11}, 422),
        ({"size": "1024x1024x3"}, 422),
        ({"prompt": "a wombat"}, 422),
        ({"output_format": "webp"}, 422),
        ({"character_ids": ["chr_" + "0" * 24]}, 422),
    ],
)
def test_openai_refusals(raw: httpx.Client, change: dict[str, object], status: int) -> None:
    answer = raw.post("/v1/images/generations", json={"prompt": "a fox"} | change)
    assert answer.status_code == status, answer.text


def test_openai_tells_what_went_wrong(raw: httpx.Client, hand: Hand) -> None:
    hand.spoil = lambda lease: True
    answer = raw.post("/v1/images/generations", json={"prompt": "a fox"})
    assert (answer.status_code, answer.json()["code"]) == (502, "spoilt")
    body = {"prompt": "a fox", "stream": True}
    with raw.stream("POST", "/v1/images/generations", json=body) as streamed:
        lines = [json.loads(x[5:]) for x in streamed.iter_lines() if x.startswith("data:")]
    assert [line["type"] for line in lines] == ["error"]
    assert lines[0]["error"]["code"] == "spoilt"


def test_a_server_without_a_reader_says_so(raw: httpx.Client, alice: Client) -> None:
    from consistent_gen.checkpoints import weights_root

    stored = alice.upload(world_png(1)).id
    answer = raw.post("/v1/score", json={"artifacts": [stored]})
    if (weights_root() / "reader").is_dir():
        assert answer.status_code == 200
    else:
        assert (answer.status_code, answer.json()["code"]) == (503, "scorer_unavailable")
    assert raw.post("/v1/score", json={"artifacts": []}).status_code == 422
    body = {"artifacts": [stored], "prompts": ["a", "b"]}
    assert raw.post("/v1/score", json=body).status_code == 422
