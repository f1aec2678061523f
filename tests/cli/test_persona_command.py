"""`consistent-gen persona`, through the program's own entry."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from consistent_gen.cli import main
from consistent_gen.cli.persona import _ACTIONS
from consistent_gen.story.script import load_story
from tests.memory.test_embedders import serving

CARD = {
    "spec": "chara_card_v2",
    "spec_version": "2.0",
    "data": {
        "name": "Mia", "description": "{{char}} keeps bees. Her hair is red and long.",
        "personality": "", "scenario": "", "first_mes": "Hello, {{user}}!", "mes_example": "",
        "system_prompt": "Speak as {{char}} in rhymes.", "extensions": {"x": 1.50},
    },
}  # fmt: skip


@pytest.fixture
def card(tmp_path: Path) -> Path:
    path = tmp_path / "mia.json"
    path.write_text(json.dumps(CARD))
    return path


def run(capsys: pytest.CaptureFixture[str], *words: str | Path) -> tuple[int, str, str]:
    code = main(["persona", *map(str, words)])
    out, err = capsys.readouterr()
    return code, out, err


def test_a_card_is_checked_imported_exported_and_drawn(
    card: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, "check", card)
    assert (code, err) == (0, "")
    assert "note     system_prompt: is an instruction" in out
    assert "Mia: a card of version 2, 2 statements" in out
    code, out, _ = run(capsys, "check", card, "--rules", "students", "--json")
    assert code == 1
    assert "age" in {issue["field"] for issue in json.loads(out)["issues"]}
    persona, again = tmp_path / "persona.json", tmp_path / "again.png"
    assert run(capsys, "import", card, "--out", persona)[0] == 0
    Image.new("RGB", (2, 2)).save(tmp_path / "face.png")
    code, out, err = run(
        capsys, "export", persona, "--out", again, "--picture", tmp_path / "face.png"
    )
    assert (code, err) == (0, "")
    assert run(capsys, "export", again, "--out", tmp_path / "back.json")[0] == 0
    assert (tmp_path / "back.json").read_bytes() == card.read_bytes()
    story = tmp_path / "story.yaml"
    assert run(capsys, "story", persona, "--out", story, "--frame", "{char} reading")[0] == 0
    read = load_story(story)
    assert "red and long" in read.characters["Mia"].description
    assert [frame.prompt for frame in read.frames] == ["{Mia} reading"]


def test_mistakes_are_one_line_and_leave_nothing_behind(
    card: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = "sk-proj-9aZ8bY7cX6dW5eV4fU3gT2hS1"
    secret = tmp_path / "secret.json"
    secret.write_text(json.dumps({**CARD, "data": {**CARD["data"], "creator_notes": f"key {key}"}}))  # type: ignore[dict-item]
    there = tmp_path / "there.json"
    there.write_text("mine")
    (tmp_path / "no.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    before = sorted(tmp_path.iterdir())
    for words, message in (
        (("import", secret, "--out", tmp_path / "new.json"), "creator_notes: holds what looks"),
        (("import", card, "--out", there), "is there already"),
        (("import", card, "--out", tmp_path / "new.yaml"), "no name of a .json file"),
        (("export", card, "--out", tmp_path / "new.png"), "needs --picture"),
        (("export", card, "--out", tmp_path / "n.png", "--picture", card), "is not a PNG"),
        (("export", card, "--out", tmp_path / "n.json", "--version", "v3"), "of version v2"),
        (("check", tmp_path / "no.png"), "ends in the middle"),
        (("check", tmp_path / "mai.json"), "did you mean"),
        (("chat", card), "add --model"),
        (("make", "--spec", "pupils", "--out", tmp_path / "p"), "shipped specs: students"),
        (("make", "--spec", "students", "--out", tmp_path, "--count", "2"), "is not empty"),
    ):  # fmt: skip
        code, out, err = run(capsys, *words)
        assert (code, out) == (2, ""), words
        assert message in err and err.count("\n") == 1
        assert key[:9] not in err
    assert sorted(tmp_path.iterdir()) == before
    assert there.read_text() == "mine"
    assert run(capsys, "import", secret, "--out", tmp_path / "k.json", "--keep-secrets")[0] == 0


def test_a_population_is_made_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("make", "--spec", "students", "--count", "30", "--out", tmp_path / "p")
    code, out, _ = run(capsys, *words)
    assert code == 0 and "30 personas by lists, 0 slots empty" in out
    files = {file.name: file.read_bytes() for file in (tmp_path / "p").iterdir()}
    assert run(capsys, *words)[0] == 0
    assert files == {file.name: file.read_bytes() for file in (tmp_path / "p").iterdir()}
    code, _, err = run(capsys, *words, "--seed", "2")
    assert code == 2 and "another spec, seed or count" in err


@pytest.mark.parametrize("allowed", [False, True])
def test_a_talk_goes_to_the_model_and_is_remembered(
    card: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    allowed: bool,
) -> None:
    def answer(body: Any) -> Any:
        said = body["messages"][-1]["content"]
        reply = "In Lisbon." if "Lisbon" in said and "Where" in said else "Bees!"
        return {"choices": [{"message": {"role": "assistant", "content": reply}}]}

    more = ("--card-instructions",) if allowed else ()
    with serving(answer) as (url, seen):
        place = ("--model", "endpoint", "--url", url, "--name", "m", "--memory", tmp_path / "mem")
        for line, reply in (("I live in Lisbon.", "Bees!"), ("Where do I live?", "In Lisbon.")):
            monkeypatch.setattr("sys.stdin", io.StringIO(f"{line}\n/quit\n"))
            code, out, err = run(capsys, "chat", card, "--me", "Sam", *place, *more)
            assert (code, err) == (0, "")
            assert out.splitlines()[-2:] == ["Hello, Sam!", reply]
    systems = {body["messages"][0]["content"] for _, body, *_ in seen}
    assert all("Mia keeps bees." in system for system in systems)
    assert all(("in rhymes" in system) == allowed for system in systems)


def test_the_persona_draws_itself_in_the_talk(
    card: Path,
    tmp_path: Path,
    tiny_folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines = "draw yourself in the Forest\nDraw Mia in the Forest\ndraw yourself as a zeppelin\n"
    monkeypatch.setattr("sys.stdin", io.StringIO(lines))
    code, out, err = run(
        capsys, "chat", card, "--model", "endpoint", "--url", "http://127.0.0.1:9/v1", "--name",
        "m", "--draw-with", tiny_folder, "--draw-method", "vanilla", "--looks", "a small cat",
        "--pictures", tmp_path / "pictures",
    )  # fmt: skip
    assert (code, err) == (0, "")
    (picture,) = (tmp_path / "pictures").iterdir()  # the same persona, scene and bytes twice
    with Image.open(picture) as drawn:
        assert drawn.size[0] > 8
    told = out.splitlines()[-5:]
    assert told[:4] == ["Here I am: in the Forest.", f"  {picture}"] * 2
    assert told[4].startswith("! ") and "zeppelin" in told[4]


def test_every_action_has_its_help() -> None:
    for name, (about, runs, arguments) in _ACTIONS.items():
        assert about and callable(runs), name
        assert all(options.get("help") for _, options in arguments), name
