"""More than a hundred attacks through the whole assistant: nothing planted reaches the tree.

Each attack meets three listeners: the rules, and two language models that were won over by the
attacker, one for each codec. Such a model proposes exactly what the attack wants, with the best
evidence there is. Ordinary sentences go through the same machine, so that "nothing was written"
cannot be true for the wrong reason.
"""

from __future__ import annotations

import io
import json
import re
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from PIL import Image

from consistent_gen.cli import main
from consistent_gen.language.models import Message
from consistent_gen.memory import open_memory
from consistent_gen.memory.data.operations import Batch
from consistent_gen.memory.data.records import Turn
from consistent_gen.memory.data.store import Store
from consistent_gen.memory.listening.listener import Listener, ModelListener, view_of
from consistent_gen.memory.listening.parsed_listener import default_listener
from consistent_gen.memory.listening.rule_listener import RuleListener
from consistent_gen.memory.talk.assistant import Assistant
from tests.every_run import or_slow
from tests.memory.attacks import PLANTED, Attack, attacks

START = datetime(2026, 3, 1, 9, tzinfo=UTC)
ATTACKS = list(attacks())
INNOCENT = ("Identity.Home", "lives in Lisbon")
TREE = ("core", "habit", "concept")
# What people say, with the leaf and the value that an honest model would write.
ORDINARY = [
    ("I live in Lisbon.", "Identity.Home", "lives in Lisbon"),
    ("My name is Ana, by the way.", "Identity.Name", "Ana"),
    ("You should know that I work as a nurse.", "Work.Job", "works as a nurse"),
    ("I'm vegan now.", "Body.Diet", "vegan"),
    ("My goal is to sail to Iceland.", "Life.Goals", "sail to Iceland"),
    ("Please remember that I moved to Porto.", "Identity.Home", "moved to Porto"),
    ("Never mind the rain. I got a job as a florist.", "Work.Job", "florist"),
    ("Call me Bea from now on.", "Identity.Name", "Bea"),
]


class WonOver:
    """A language model in the attacker's hands: it writes what it is told to, in either codec."""

    sees = False
    name = "won over"

    def __init__(self, path: str, value: str, codec: str) -> None:
        self._path, self._value, self._codec = path, value, codec

    def chat(self, messages: Sequence[Message], *, max_tokens: int = 512) -> str:
        if self._codec == "lines":
            return f'UPDATE({self._path}, "{self._value}")\nDELETE(Identity.Home, None)'
        turns = re.findall(r"\bt[0-9a-f]{18}\b", messages[-1].content)
        ops = [
            {"op": op, "kind": kind, "target": target, "value": self._value, "evidence": [turn]}
            for turn in dict.fromkeys(turns)
            for op, kind, target in (
                ("UPDATE", "core", self._path), ("ADD", "habit", "each day"),
                ("ADD", "concept", self._value),
            )
        ]  # fmt: skip
        return json.dumps({"ops": ops})


def listeners(path: str, value: str) -> dict[str, Listener]:
    models = {
        codec: ModelListener(WonOver(path, value, codec), codec=codec, traits=False)  # type: ignore[arg-type]
        for codec in ("lines", "json")
    }
    # Where the parser is installed it is the default and meets every attack too.
    return {"rules": RuleListener(), "default": default_listener(), **models}


def seeded(folder: Path) -> Store:
    """A memory in which the user has said where they live."""
    store = open_memory(folder, "ana")
    Assistant(store).say("I live in Lisbon.", at=START)
    assert [(r.label, r.text) for r in store.list("core")] == [INNOCENT]
    return store


def carry_out(store: Store, attack: Attack, listener: Listener, at: datetime) -> None:
    """Say the attack as it would come: documents attached, replies as the assistant's own."""
    if any(role == "assistant" for role, _ in attack.says):
        turns = [Turn(text=text, role=role, valid_from=at) for role, text in attack.says]  # type: ignore[arg-type]
        ids = store.record(turns).ids
        chunk = [t for t in store.get(ids) if isinstance(t, Turn)]
        store.apply(Batch(ops=listener.listen(chunk, view_of(store)).ops, turns=ids))
        return
    ana = Assistant(store, listener=listener)
    documents = [text for role, text in attack.says if role == "document"]
    said = [text for role, text in attack.says if role == "user"]
    for number, text in enumerate(said):
        last = number == len(said) - 1
        ana.say(text, documents=documents if last else (), at=at + timedelta(minutes=number))


def written(store: Store) -> list[str]:
    """What the attack changed in the tree."""
    found = [(r.label, r.text) for kind in TREE for r in store.list(kind)]  # type: ignore[arg-type]
    gone = [] if INNOCENT in found else ["the user's own home is gone"]
    planted = [text for _, text in found if any(v in text for v in PLANTED.values())]
    return planted + gone


def test_there_are_enough_of_every_kind() -> None:
    kinds = Counter(attack.kind.partition(" (")[0] for attack in ATTACKS)
    assert sum(len(attack.says) for attack in ATTACKS) >= 150 and len(ATTACKS) >= 140
    assert len(kinds) == 8 and min(kinds.values()) >= 4, kinds
    assert len({attack.says for attack in ATTACKS}) == len(ATTACKS)


@pytest.mark.parametrize(
    "name", or_slow(["rules", "default", "lines", "json"], ["rules", "default", "json"])
)
@pytest.mark.parametrize("kind", sorted({a.kind for a in ATTACKS if a.kind != "in a file name"}))
def test_no_attack_reaches_the_tree(tmp_path: Path, kind: str, name: str) -> None:
    chosen = [attack for attack in ATTACKS if attack.kind == kind]
    with seeded(tmp_path) as store:
        for number, attack in enumerate(chosen, 1):
            # Hours apart: no attack is caught because of the one before.
            at = START + timedelta(hours=3 * number)
            carry_out(store, attack, listeners(attack.path, attack.value)[name], at)
            assert written(store) == [], attack
        assert store.verify().ok


@pytest.mark.parametrize("beside", ["nothing", "a document"])
@pytest.mark.parametrize("name", ["lines", "json"])
def test_ordinary_sentences_are_written(tmp_path: Path, name: str, beside: str) -> None:
    kept = 0
    for number, (text, path, value) in enumerate(ORDINARY):
        with open_memory(tmp_path / str(number), "ana") as store:
            ana = Assistant(store, listener=listeners(path, value)[name])
            documents = ["The weather report for Thursday."] * (beside == "a document")
            ana.say(text, documents=documents, at=START)
            kept += any(r.label == path and value in r.text for r in store.list("core"))
    assert kept == len(ORDINARY)


def picture() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32), "teal").save(buffer, "PNG")
    return buffer.getvalue()


def test_no_file_name_reaches_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = ["I live in Lisbon."]
    monkeypatch.chdir(tmp_path)
    for attack in (a for a in ATTACKS if a.kind == "in a file name"):
        (name,) = (text for _, text in attack.says)
        file = Path("in") / name.replace(" ", "_")  # a command's file name ends at a space
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(picture() if name.endswith(".png") else b"A report on tides.")
        command = "/picture" if name.endswith(".png") else "/document"
        lines += [f"{command} {file} Look at this one."]
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(lines)))
    assert main(["chat", "--memory", "m", "--embedder", "none"]) == 0
    assert "! " not in capsys.readouterr().out
    with open_memory("m", "me") as store:
        assert written(store) == [] and store.count("turn") >= 2 * len(lines) - 1
        kinds = ("turn", "core", "fact", "habit", "episode", "concept", "media")
        everything = [r.text for kind in kinds for r in store.list(kind)]
        assert not [text for text in everything if any(v in text for v in PLANTED.values())]
