"""Scores of pictures that users have: the reader in this process and over HTTP."""

from __future__ import annotations

import base64
import json
from dataclasses import asdict, replace
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch

from consistent_gen.encoders.reader import Reader
from consistent_gen.training.truth import schema
from consistent_gen.world.dataset import StoryWorld
from services.errors import Refusal
from services.scores import LocalScorer, RemoteScorer
from services.scores.scorer import png, small
from tests.services.web.hand import world_png

WORLD = StoryWorld("train")


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
    told = scorer.score(pictures, ["a fox and a purple dragon", "", "a bear"])
    assert told.unread == [["purple", "dragon"], [], []]
    # More pictures than one batch holds, each read as it is read alone.
    many = scorer.score([world_png(n % 5) for n in range(70)], None)
    assert many.identity[0] == many.identity[65]


def test_scores_over_http_are_the_same(reader: Path) -> None:
    local = LocalScorer(reader)

    def serve(request: httpx.Request) -> httpx.Response:
        files = [base64.b64decode(text) for text in json.loads(request.content)["pictures"]]
        if request.url.path == "/look":
            return httpx.Response(200, json=[[asdict(s) for s in one] for one in local.look(files)])
        seen = local.see(np.stack([small(data) for data in files]))
        return httpx.Response(200, json=[asdict(sight) for sight in seen])

    remote = RemoteScorer("http://scoring", httpx.MockTransport(serve))
    pictures, prompts = [world_png(1), world_png(2)], ["a fox", "a bear"]
    assert remote.score(pictures, prompts) == local.score(pictures, prompts)
    assert remote.look(pictures) == local.look(pictures)
    remote.close()


@pytest.mark.parametrize("answer", [httpx.Response(500), httpx.Response(200, json=[{}])])
def test_a_scoring_service_in_trouble_is_a_503(answer: httpx.Response) -> None:
    remote = RemoteScorer("http://scoring", httpx.MockTransport(lambda request: answer))
    with pytest.raises(Refusal) as refusal:
        remote.score([world_png(1)], None)
    assert refusal.value.status == 503


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what bentoml imports
def test_none_and_too_many_pictures_are_refused_by_name() -> None:
    from pydantic import ValidationError

    from services.scoring import Scoring

    for name in ("read", "look"):
        asked = Scoring.apis[name].input_spec
        assert asked.model_validate({"pictures": ["x"] * 64})
        for pictures in ([], ["x"] * 65):
            with pytest.raises(ValidationError, match="pictures"):
                asked.model_validate({"pictures": pictures})


def test_more_pictures_than_the_service_takes_at_once_go_in_parts(reader: Path) -> None:
    local, sizes = LocalScorer(reader), []

    def serve(request: httpx.Request) -> httpx.Response:
        files = [base64.b64decode(text) for text in json.loads(request.content)["pictures"]]
        sizes.append(len(files))
        return httpx.Response(200, json=[[asdict(s) for s in one] for one in local.look(files)])

    remote = RemoteScorer("http://scoring", httpx.MockTransport(serve))
    pictures = [world_png(n % 3) for n in range(70)]
    assert remote.look(pictures) == local.look(pictures)
    assert sizes == [64, 6]
    remote.close()


@pytest.mark.weights
def test_the_shipped_reader_knows_its_world() -> None:
    """The same character in two scenes agrees more than two characters do."""
    from consistent_gen.checkpoints import weights_root
    from consistent_gen.world.scene import render

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
