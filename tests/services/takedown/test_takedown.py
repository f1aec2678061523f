"""Takedown on a real server's data: somebody's picture in a library, stories, an edit, a talk.

Beside each thing that has to go stands one of somebody else that has to stay.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from consistent_gen.client import ApiError, Client
from consistent_gen.client.types import CharacterIn, FrameIn, LibraryCharacterIn, StoryIn
from services.takedown.__main__ import main
from tests.services.web.hand import Hand, Server, settings_in, world_png

PERSON, OTHER = 8, 21  # pictures of the story world


def as_jpeg(data: bytes) -> bytes:
    """As somebody would save it on the way."""
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(data)) as picture:
        picture.convert("RGB").resize((200, 200)).save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


def unlike_any(order: dict[str, Any]) -> bytes:
    """A drawing that no other order has."""
    digest = hashlib.sha256(json.dumps(order, sort_keys=True).encode()).digest()
    buffer = io.BytesIO()
    pixels = np.random.default_rng(list(digest)).integers(0, 256, (128, 128, 3), np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def story_of(client: Client, picture: bytes, name: str) -> tuple[str, str]:
    """A character with this picture and a story that was drawn with it."""
    made = client.create_character(LibraryCharacterIn(name=name, description="a fox"))
    client.add_reference(made.id, picture)
    story = StoryIn(
        title=f"About {name}",
        preview_every=1,
        characters={name: CharacterIn(description="a fox", library=made.id)},
        frames=[FrameIn(prompt=f"{{{name}}} in a forest")],
    )
    return made.id, client.wait(client.create_story(story).job).story


def edit_of(server: Server, picture: bytes) -> str:
    """The story of an edit whose upload is long gone."""
    answer = httpx.post(
        f"{server.url}/v1/images/edits",
        files={"image": ("p.jpg", picture, "image/jpeg")},
        data={"prompt": "a fox in a forest", "steps": "2"},
        timeout=60.0,
    )
    server.state.artifacts.sweep(0.0)
    return str(answer.raise_for_status().json()["story"])


def teach(client: Client, picture: bytes, name: str) -> tuple[str, str]:
    """A persona that knows somebody by a picture, and the story of a drawing in the talk."""
    persona = client.create_persona("Ann").id
    client.say(persona, f"This is my small brown dog {name}.", picture=client.upload(picture).id)
    client.say(persona, "yes")
    client.say(persona, f"Draw {name} in a forest")
    return persona, client.jobs(limit=1).jobs[0].story


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def made(folder: Path) -> Iterator[dict[str, tuple[str, ...]]]:
    """What the person's and the other one's pictures were used for; the server is stopped then."""
    server = Server(settings_in(folder)).start()
    hand = Hand(server.url)
    hand.picture = unlike_any
    hand.start()
    found: dict[str, tuple[str, ...]] = {}
    with Client(server.url) as client:
        for who, number in (("Mia", PERSON), ("Bo", OTHER)):
            picture = world_png(number)
            character, story = story_of(client, picture, who)
            persona, drawn = teach(client, picture, who)
            edited = edit_of(server, as_jpeg(picture))
            alone = client.upload(as_jpeg(picture)).id
            found[who] = (character, story, persona, drawn, edited, alone)
    hand.stop()
    server.stop()
    for name in ("Mia", "Bo"):
        copy = folder / "studio" / "pictures" / f"{found[name][5]}.png"
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(world_png(PERSON if name == "Mia" else OTHER))
        draft = folder / "studio" / "projects" / f"prj_{name.lower()}.json"
        draft.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(f'{{"story": "{found[name][1]}"}}')
    yield found


def bytes_of(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def test_everything_made_from_a_picture_goes_and_nothing_else(
    folder: Path,
    made: dict[str, tuple[str, ...]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    upload = tmp_path / "uploads" / "x" / "mia.png"
    upload.parent.mkdir(parents=True)
    upload.write_bytes(world_png(PERSON))
    shown = tmp_path / "person.jpg"
    shown.write_bytes(as_jpeg(world_png(PERSON)))
    before = bytes_of(folder)
    arguments = ["--data", str(folder), "--picture", str(shown)]
    assert main(arguments) == 1
    plan = capsys.readouterr().out
    character, story, persona, drawn, edited, alone = made["Mia"]
    for one in made["Mia"]:
        assert one in plan
    for one in made["Bo"]:
        assert not any(line.startswith(one) for line in plan.splitlines())
    assert "nothing was removed" in plan and story.encode() in before

    note = folder / "note.txt"
    note.write_text(f"see {story}")
    assert main([*arguments, "--yes"]) == 3
    told = capsys.readouterr().out
    assert f"STILL THERE:\n  {story} in {note}\nrestart workers" in told
    note.unlink()
    after = bytes_of(folder)
    for one in (character, story, drawn, edited, alone, "Mia"):
        assert one.encode() in before and one.encode() not in after
    assert not upload.exists()

    server = Server(settings_in(folder)).start()
    with Client(server.url) as client:
        kept_character, kept_story, kept_persona, *stories, kept = made["Bo"]
        assert client.character(kept_character).references
        for one in (kept_story, *stories):
            version = client.story(one).frames[0].versions[0]
            assert client.artifact(version.artifact).startswith(b"\x89PNG")
        assert client.artifact(kept)
        assert any("Bo" in m.text for m in client.memories(kept_persona).memories)
        assert not any("Mia" in m.text for m in client.memories(persona).memories)
        with pytest.raises(ApiError):
            client.story(story)
    assert main([*arguments, "--yes"]) == 2  # while the server runs
    assert "in use by another gateway" in capsys.readouterr().err
    server.stop()
    assert (folder / "studio" / "projects" / "prj_bo.json").exists()

    plans = []
    for wanted in (["--character", kept_character], ["--subject", kept_persona, "Bo"]):
        assert main(["--data", str(folder), *wanted]) == 1
        plans.append({line.partition(":")[0] for line in capsys.readouterr().out.splitlines()})
    assert set(made["Bo"]) <= plans[0] == plans[1]
    assert main(["--data", str(folder), "--subject", kept_persona, "Bo", "--yes"]) == 0
    assert "nothing is left" in capsys.readouterr().out
    assert not any(one.encode() in bytes_of(folder) for one in made["Bo"] if "per_" not in one)


def test_what_is_named_wrongly_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for wanted, said in (
        ([], "name a picture"),
        (["--character", "chr_0", "--artifact", "art_0"], "no artifact art_0; there is no char"),
        (["--subject", "per_0", "x"], "no persona per_0"),
        (["--picture", str(tmp_path / "none.png")], "cannot be read"),
        (["--picture", __file__], "is not a PNG"),
    ):
        assert main(["--data", str(tmp_path), *wanted]) == 2
        assert said in capsys.readouterr().err
    picture = tmp_path / "p.png"
    picture.write_bytes(world_png(PERSON))
    assert main(["--data", str(tmp_path), "--picture", str(picture)]) == 1
    assert "nothing here shows them" in capsys.readouterr().out
