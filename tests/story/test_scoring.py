"""Scores of report.json: the shipped reader on pictures whose truth is known."""

from __future__ import annotations

import io
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from consistent_gen.checkpoints import weights_root
from consistent_gen.encoders.reader import Reader
from consistent_gen.errors import CheckpointError
from consistent_gen.models.backbone import Backbone
from consistent_gen.rewards.looking import Looker, stacked
from consistent_gen.rewards.sight import Sight
from consistent_gen.story.plan import StoryPlan, plan_story
from consistent_gen.story.report import Drawing, DrawnFrame, build_report, score
from consistent_gen.story.scoring import LIKENESS, FrameScorer, missing, reader_scorers
from consistent_gen.story.script import parse_story
from consistent_gen.training.truth import schema
from consistent_gen.world import captions, phrases
from consistent_gen.world.dataset import StoryWorld
from consistent_gen.world.scene import render
from consistent_gen.world.spec import FrameSpec, Identity

WORLD = StoryWorld("train")
SINGLE = [f for f in map(WORLD.frame, range(3000, 3200)) if len(f.subjects) == 1]
DOUBLE = [f for f in map(WORLD.frame, range(3000, 3200)) if len(f.subjects) == 2]
MIA, BO = SINGLE[0].subjects[0].identity, SINGLE[5].subjects[0].identity
FRAMES = [(SINGLE[1], (MIA,)), (SINGLE[2], (MIA,)), (DOUBLE[0], (MIA, BO)), (SINGLE[3], (BO,))]
NAMES = {MIA: "Mia", BO: "Bo"}


def drawn(frame: FrameSpec, identities: tuple[Identity, ...]) -> np.ndarray:
    subjects = zip(frame.subjects, identities, strict=True)
    cast = tuple(replace(subject, identity=identity) for subject, identity in subjects)
    return np.asarray(render(replace(frame, subjects=cast), 128).rgb)


def plan_of(model: Backbone) -> StoryPlan:
    """The story that the pictures show, told in words of the world."""
    lines = ["title: x", "characters:"]
    for identity, name in NAMES.items():
        words, _ = captions.describe(identity, random.Random(0), share=0.9)
        lines.append(f'  {name}: "{words}"')
    lines.append("frames:")
    for frame, identities in FRAMES:
        who = " and ".join(f"{{{NAMES[i]}}}" for i in identities)
        place = phrases.PLACE_PHRASES[frame.place][0]
        lines.append(f'  - "{who} {place}"')
    return plan_story(parse_story("\n".join(lines), source="s.yaml"), model)


def report(model: Backbone, pictures: list[np.ndarray], looker: Looker | None = None) -> dict:
    plan = plan_of(model)
    drawing = Drawing(
        plan=plan,
        frames=tuple(DrawnFrame(picture=picture, steps=1) for picture in pictures),
        model_name="m",
        model_sha256="0",
        seconds_total=1.0,
        scores=score(reader_scorers(model, looker), pictures, plan),
    )
    return build_report(drawing)


@pytest.mark.weights
def test_a_story_that_is_kept_scores_higher_than_one_that_is_not(worldly: Backbone) -> None:
    if not (weights_root() / "reader").is_dir():
        pytest.skip("the reader's weights are not here")
    good = [drawn(frame, identities) for frame, identities in FRAMES]
    kept = report(worldly, good)
    assert kept["scores"].keys() == {"alignment", "consistency"}
    assert kept["scores"]["alignment"] > 0.6 and kept["scores"]["consistency"] > 0.7
    assert all(f["scores"].keys() == {"alignment", "consistency"} for f in kept["frames"])
    assert kept["characters"].keys() == {"Mia", "Bo"}

    stranger = SINGLE[9].subjects[0].identity
    mixed = report(worldly, [good[0], drawn(SINGLE[2], (stranger,)), *good[2:]])
    before, after = kept["characters"], mixed["characters"]
    assert after["Mia"]["scores"]["consistency"] < before["Mia"]["scores"]["consistency"] - 0.05
    assert after["Bo"] == before["Bo"]  # who is not in the picture is not affected
    assert mixed["frames"][1]["scores"]["alignment"] < kept["frames"][1]["scores"]["alignment"]

    # An empty scene shows nobody: what was named is missing, and who is consistent is unknown.
    nobody = np.full((128, 128, 3), 255, np.uint8)
    empty = report(worldly, [nobody, *good[1:]])
    assert "consistency" not in empty["frames"][0]["scores"]
    assert empty["frames"][0]["scores"]["alignment"] < 0.5
    assert empty["characters"]["Bo"] == before["Bo"]


@pytest.mark.weights
def test_who_is_not_in_the_picture_is_missing(worldly: Backbone) -> None:
    if not (weights_root() / "reader").is_dir():
        pytest.skip("the reader's weights are not here")
    plan, looker = plan_of(worldly), Looker()
    both = plan.frames[2]
    nobody = np.full((128, 128, 3), 255, np.uint8)
    pictures = [drawn(frame, identities) for frame, identities in FRAMES]
    seen = looker.all(stacked([*pictures, nobody]))
    assert [missing(*one) for one in zip(seen, plan.frames, strict=False)] == [[]] * 4
    assert missing(seen[0], both) == ["Bo"]
    assert missing(seen[3], both) == ["Mia"]
    assert missing(seen[4], both) == ["Mia", "Bo"]
    assert missing(seen[2], plan.frames[0]) == []


def test_scores_are_bounded_whatever_the_reader_sees(worldly: Backbone, tmp_path: Path) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        Reader(schema(), width=16).save(tmp_path / "reader")
    noise = np.random.default_rng(0)
    pictures = [noise.integers(0, 256, (96, 160, 3), np.uint8) for _ in FRAMES]
    found = report(worldly, pictures, Looker(tmp_path / "reader"))
    numbers = [
        *found["scores"].values(),
        *(v for f in found["frames"] for v in f["scores"].values()),
    ]
    assert numbers and all(0.0 <= value <= 1.0 for value in numbers)


def test_without_the_readers_weights_nothing_is_scored(
    worldly: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONSISTENT_GEN_WEIGHTS", str(tmp_path))
    assert reader_scorers(worldly) == {}
    (tmp_path / "reader").mkdir()
    (tmp_path / "reader" / "config.json").write_text("{}")
    with pytest.raises(CheckpointError):
        reader_scorers(worldly)


def test_pictures_of_another_world_are_not_scored(worldly: Backbone) -> None:
    class Open:
        """A model that can spell any word."""

        name, readers, default_size, size_multiple = "open", worldly.readers, (64, 64), 8
        recommended: dict[str, float] = {}  # noqa: RUF012
        unable: dict[str, str] = {}  # noqa: RUF012

        def vocabulary(self) -> frozenset[str] | None:
            return None

        def unknown_words(self, prompt: str) -> list[str]:
            return []

    assert reader_scorers(Open()) == {}


def with_pictures(plan: StoryPlan, pictures: dict[str, np.ndarray]) -> StoryPlan:
    """The plan with a reference picture of each of these characters."""

    def png(picture: np.ndarray) -> bytes:
        stream = io.BytesIO()
        Image.fromarray(picture).save(stream, "PNG")
        return stream.getvalue()

    files = {name: (png(picture),) for name, picture in pictures.items()}
    frames = [
        replace(f, members=tuple(replace(m, references=files.get(m.name, ())) for m in f.members))
        for f in plan.frames
    ]
    return replace(plan, frames=tuple(frames))


def test_likeness_to_the_pictures_comes_with_every_frame(worldly: Backbone) -> None:
    pictures = [drawn(frame, identities) for frame, identities in FRAMES]
    own = drawn(SINGLE[4], (MIA,))
    plan = with_pictures(plan_of(worldly), {"Mia": own})
    other = with_pictures(plan_of(worldly), {"Mia": drawn(SINGLE[4], (BO,))})
    (score_of,) = [s for name, s in reader_scorers(worldly).items() if name == LIKENESS]
    like, unlike = score_of(pictures, plan), score_of(pictures, other)
    assert [value is None for value in like.frames] == [False, False, False, True]
    assert like.shown[2].keys() == {"Mia"}
    assert like.story is not None and unlike.story is not None
    assert like.story > unlike.story + 0.1
    assert 0.0 <= unlike.story < like.story <= 1.0
    drawing = Drawing(
        plan=plan, frames=tuple(DrawnFrame(picture=p, steps=1) for p in pictures),
        model_name="m", model_sha256="0", seconds_total=1.0, scores={LIKENESS: like},
    )  # fmt: skip
    told = build_report(drawing)
    assert told["frames"][0]["characters"] == {"Mia": {LIKENESS: round(like.shown[0]["Mia"], 6)}}
    assert "characters" not in told["frames"][3]
    assert told["characters"]["Mia"]["scores"][LIKENESS] == pytest.approx(like.story, abs=1e-5)
    # The same with single frames, as a server scores them.
    scorer = FrameScorer(pair=Nobody())  # type: ignore[arg-type]
    (scores,) = scorer(pictures[:1], plan.frames[0])
    assert scores[LIKENESS] == scores[f"{LIKENESS}/Mia"] == pytest.approx(like.frames[0])
    assert LIKENESS not in scorer(pictures[3:], plan.frames[3])[0]


def test_without_pictures_nothing_is_read(worldly: Backbone) -> None:
    class Blind(Looker):
        def all(self, pictures: np.ndarray) -> list[list[Sight]]:
            raise AssertionError("looked at")

    scorer = reader_scorers(worldly, Blind())[LIKENESS]
    pictures = [drawn(frame, identities) for frame, identities in FRAMES]
    assert scorer(pictures, plan_of(worldly)).frames == (None,) * 4


class Nobody:
    """A pair network that is not asked."""
