"""Scores: words to factors against the world's truth, agreement, the reader here and over HTTP."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import torch

from consistent_gen.encoders.reader import Reader
from consistent_gen.training.reader import schema
from consistent_gen.world.dataset import StoryWorld
from services.agreement import Sight, agreement, alignment
from services.prompt_factors import named_factors
from services.scorers import LocalScorer, RemoteScorer, small
from tests.services.gateway.hand import world_png

WORLD = StoryWorld("train")


def truth(number: int) -> Sight:
    """What a perfect reader would see of picture `number`."""
    frame = WORLD.frame(number)
    names, subject = schema(), frame.subjects[0]
    values = subject.identity.to_dict() | {
        "action": subject.action,
        "expression": subject.expression,
    }
    return Sight(
        present=True,
        subject={
            name: {c: float(c == values[name]) for c in classes}
            for name, classes in names.subject.items()
        },
        hues={name: values[name] for name in names.hues},
        scalars={name: values[name] for name in names.scalars},
        scene={
            name: {c: float(c == getattr(frame, name)) for c in classes}
            for name, classes in names.scene.items()
        },
    )


def test_words_are_read_as_they_were_written() -> None:
    """Captions of the world know what they say: nothing else is read out of them, and most is."""
    said = read = 0
    for number in range(400):
        frame, caption = WORLD.frame(number), WORLD.caption(number)
        found = named_factors(caption.text)
        if len(frame.subjects) > 1:
            assert found.items() <= caption.scene.items(), caption.text
            continue
        told = caption.named[0] | caption.scene
        wrong = {k: v for k, v in found.items() if told.get(k, v) != v}
        assert not wrong, (caption.text, wrong, told)
        said += len(told)
        read += len(found.keys() & told.keys())
    assert read / said > 0.95


@pytest.mark.parametrize("text", ["", "{Mia} and {Bo}", "nothing we know", "a fox and a bear"])
def test_words_that_name_nothing(text: str) -> None:
    assert named_factors(text) == {}
    assert alignment(truth(0), text) is None


def test_agreement_knows_who_is_who() -> None:
    sights = [truth(number) for number in range(30)]
    for a in sights:
        assert agreement(a, a) == 1.0
        for b in sights:
            value = agreement(a, b)
            assert value == agreement(b, a)
            assert value is not None and 0.0 <= value <= 1.0
            assert a is b or value < 0.95
    nobody = sights[0].model_copy(update={"present": False})
    assert agreement(nobody, sights[1]) is None
    # What a character does is not who it is.
    subject = sights[0].subject | {"action": sights[1].subject["action"]}
    assert agreement(sights[0], sights[0].model_copy(update={"subject": subject})) == 1.0


def test_alignment_is_the_share_that_is_seen() -> None:
    numbers = [n for n in range(60) if len(WORLD.frame(n).subjects) == 1]
    for number in numbers:
        text = WORLD.caption(number).text
        found = named_factors(text)
        if not found:
            continue
        assert alignment(truth(number), text) == 1.0
    sight = truth(numbers[0])
    kind = WORLD.frame(numbers[0]).subjects[0].identity.kind
    other = "fox" if kind != "fox" else "bear"
    assert alignment(sight, f"a {other}") == 0.0


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of chance: what they see is wrong, but always the same."""
    folder = tmp_path_factory.mktemp("weights") / "reader"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        Reader(schema(), width=16).save(folder)
    return folder


def test_the_reader_scores_pictures(reader: Path) -> None:
    scorer = LocalScorer(reader)
    pictures = [world_png(1), world_png(2), world_png(1, side=256)]
    scores = scorer.score(pictures, ["a fox in a forest", "nothing", "a bear"])
    assert len(scores.identity) == 3 and all(len(row) == 3 for row in scores.identity)
    for i in range(3):
        for j in range(3):
            assert scores.identity[i][j] == scores.identity[j][i]
    assert scores.alignment[1] is None
    assert scores.scorer.startswith("story-world reader")
    assert scorer.score(pictures, None).alignment == [None] * 3
    # More pictures than one batch holds, each read as it is read alone.
    many = scorer.score([world_png(n % 5) for n in range(70)], None)
    assert many.identity[0] == many.identity[65]


def test_scores_over_http_are_the_same(reader: Path) -> None:
    local = LocalScorer(reader)

    def serve(request: httpx.Request) -> httpx.Response:
        import numpy as np

        files = [base64.b64decode(text) for text in json.loads(request.content)["pictures"]]
        seen, name = local.see(np.stack([small(data) for data in files]))
        return httpx.Response(200, json=[replace_reader(s, name) for s in seen])

    def replace_reader(sight: Sight, name: str) -> dict[str, object]:
        return sight.model_copy(update={"reader": name}).model_dump()

    remote = RemoteScorer("http://scoring", httpx.MockTransport(serve))
    pictures, prompts = [world_png(1), world_png(2)], ["a fox", "a bear"]
    assert remote.score(pictures, prompts) == local.score(pictures, prompts)
    remote.close()


@pytest.mark.parametrize("answer", [httpx.Response(500), httpx.Response(200, json=[{}])])
def test_a_scoring_service_in_trouble_is_a_503(answer: httpx.Response) -> None:
    from services.problems import Refusal

    remote = RemoteScorer("http://scoring", httpx.MockTransport(lambda request: answer))
    with pytest.raises(Refusal) as refusal:
        remote.score([world_png(1)], None)
    assert refusal.value.status == 503


@pytest.mark.weights
def test_the_shipped_reader_knows_its_world() -> None:
    """The same character in two scenes agrees more than two characters do."""
    from consistent_gen.checkpoints import weights_root
    from consistent_gen.world.scene import render
    from services.scorers import png

    if not (weights_root() / "reader").is_dir():
        pytest.skip("the reader's weights are not here")
    frames = [f for f in map(WORLD.frame, range(3000, 3200)) if len(f.subjects) == 1][:24]
    same, other = [], []
    scorer = LocalScorer()
    for a, b in zip(frames[::2], frames[1::2], strict=True):
        moved = replace(b, subjects=(replace(b.subjects[0], identity=a.subjects[0].identity),))
        pictures = [png(render(frame, 128).rgb) for frame in (a, moved, b)]
        scores = scorer.score(pictures, None).identity
        same.append(scores[0][1] or 0.0)
        other.append(scores[0][2] or 0.0)
    assert sum(same) / len(same) > sum(other) / len(other) + 0.1
