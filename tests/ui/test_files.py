"""Projects, pictures and uploads: nothing is lost, nothing is read that was not meant."""

from __future__ import annotations

import json
from pathlib import Path

import gradio as gr
import pytest
from gradio.utils import get_upload_folder
from pydantic import ValidationError

from consistent_gen.client.types import FrameIn
from consistent_gen.errors import InputError
from tests.services.web.hand import world_png
from tests.ui.conftest import Place
from ui.messages import guarded, readable, warn
from ui.pictures import PictureFiles
from ui.projects import MAX_MESSAGES, Projects
from ui.wiring import uploaded


def test_a_project_is_kept_and_others_are_not_touched(tmp_path: Path) -> None:
    projects = Projects(tmp_path)
    one, other = projects.new(), projects.new()
    projects.change(one.id, story="sto_1", draft={"title": "Ü"})
    projects.change(other.id, story="sto_2")
    kept = Projects(tmp_path).open(one.id)
    assert kept is not None
    assert (kept.story, kept.draft) == ("sto_1", {"title": "Ü"})
    long = projects.change(one.id, chat=[{"n": n} for n in range(500)])
    assert len(long.chat) == MAX_MESSAGES and long.chat[-1] == {"n": 499}
    assert long.story == "sto_1"


@pytest.mark.parametrize(
    "known", [None, 3, "", "prj_", "../../etc/passwd", "prj_" + "g" * 32, "prj_" + "0" * 32, ["x"]]
)
def test_an_id_that_is_none_opens_nothing(known: object, tmp_path: Path) -> None:
    assert Projects(tmp_path).open(known) is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["", "[]", "{", '{"story": 3, "chat": {}, "other": 1}'])
def test_a_damaged_project_is_no_fault(text: str, tmp_path: Path) -> None:
    projects = Projects(tmp_path)
    one = projects.new().id
    (tmp_path / f"{one}.json").write_text(text, encoding="utf-8")
    found = projects.open(one)
    assert found is None or (found.id, found.story, found.chat) == (one, "", [])
    assert json.loads(json.dumps(projects.change(one, story="sto_1").story)) == "sto_1"


def test_the_secret_is_made_once_and_for_this_user_only(tmp_path: Path) -> None:
    first = Projects(tmp_path).secret()
    assert Projects(tmp_path).secret() == first and len(first) >= 24
    assert (tmp_path / "secret").stat().st_mode & 0o077 == 0


def test_a_picture_is_fetched_once_and_keeps_its_bytes(place: Place, tmp_path: Path) -> None:
    files = PictureFiles(tmp_path)
    artifact = place.client.upload(world_png(3)).id
    path = files.path(place.client, artifact)
    assert path.read_bytes() == place.client.artifact(artifact)
    assert path.suffix == ".png"
    before = path.stat().st_mtime_ns
    assert files.path(place.client, artifact) == path and path.stat().st_mtime_ns == before
    odd = files.export("../../x:\0 y", "pdf", b"%PDF-")
    assert odd.parent.parent == tmp_path / "exports" and odd.name == "x_y.pdf"


def test_only_the_oldest_files_are_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    monkeypatch.setattr("ui.pictures.MAX_FILES", 3)
    for number in range(6):
        (tmp_path / f"{number}.png").write_bytes(b"x")
        os.utime(tmp_path / f"{number}.png", (number, number))
    PictureFiles(tmp_path).trim()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["3.png", "4.png", "5.png"]


def test_only_uploads_are_read(tmp_path: Path) -> None:
    folder = Path(get_upload_folder()) / "test_only_uploads"
    folder.mkdir(parents=True, exist_ok=True)
    picture = folder / "a.png"
    picture.write_bytes(world_png(1))
    assert uploaded(str(picture)) == (world_png(1), "image/png")
    outside = tmp_path / "b.png"
    outside.write_bytes(world_png(1))
    for path in (outside, folder / ".." / ".." / "b.png", "/etc/passwd", folder, None):
        with pytest.raises(InputError):
            uploaded(path)
    link = folder / "link.png"
    link.unlink(missing_ok=True)
    link.symlink_to(outside)
    with pytest.raises(InputError, match="did not arrive"):
        uploaded(link)
    (folder / "c.svg").write_text("<svg/>", encoding="utf-8")
    with pytest.raises(InputError, match="PNG, JPEG and WebP"):
        uploaded(folder / "c.svg")


def test_errors_become_escaped_warnings_and_faults_do_not() -> None:
    @guarded
    def wrong() -> str:
        raise InputError("frames[1].prompt: <b>nobody</b>")

    @guarded
    def stream() -> object:
        yield 1
        raise InputError("later")

    with pytest.warns(
        UserWarning, match="Scene 2: <b>nobody</b>".replace("<", "&lt;").replace(">", "&gt;")
    ):
        assert wrong() == gr.skip()
    seen = []
    with pytest.warns(UserWarning, match="later"):
        seen = list(stream())  # type: ignore[call-overload]
    assert seen == [1, gr.skip()]

    @guarded
    def fault() -> None:
        raise KeyError("ours")

    with pytest.raises(KeyError):
        fault()
    with pytest.warns(UserWarning, match="a<br>b"):
        warn("a\nb")


def test_what_somebody_typed_is_not_repeated_in_a_message() -> None:
    with pytest.raises(ValidationError) as caught:
        FrameIn.model_validate({"prompt": "", "secret words": "secret words"})
    message = readable(caught.value)
    assert "prompt" in message and "at least 1 character" in message
    assert message.count("secret words") == 1  # the name of the field, not what stood in it
