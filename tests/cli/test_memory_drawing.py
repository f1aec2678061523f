"""Remembered identities through the real engine, with a tiny untrained model and reader."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from consistent_gen.cli.chat import StoryDrawer
from consistent_gen.cli.recognising import offered, picture_embedder
from consistent_gen.encoders.factors import Schema
from consistent_gen.encoders.reader import Reader
from consistent_gen.encoders.recognition import TRANSIENT, StoryWorldReader
from consistent_gen.errors import CheckpointError, InputError, UnknownNameError
from consistent_gen.memory import open_memory
from consistent_gen.memory.data.records import Media
from consistent_gen.memory.recall.concepts import ConceptBook, RememberedIdentity
from consistent_gen.memory.recall.pictures import ColourLayout, png_bytes
from consistent_gen.memory.talk.assistant import Assistant, DrawJob
from consistent_gen.methods import FOR_EVERY_MODEL, METHODS
from consistent_gen.models import load_backbone
from consistent_gen.registry import resolve
from consistent_gen.story.cast import cast_members, remembered_story
from consistent_gen.story.prompts import render as written
from consistent_gen.world.scene import render
from consistent_gen.world.spec import sample_frame, sample_identity
from tests.every_run import or_slow

STEPS = 2
SHARING = [n for n in FOR_EVERY_MODEL if resolve(METHODS, n).rules]


def plain(colour: tuple[int, int, int]) -> bytes:
    picture = np.full((40, 30, 3), 255, np.uint8)
    picture[8:32, 8:22] = colour
    return png_bytes(picture)


def remembered(*references: bytes, words: str = "a small cat", name: str = "B{o}"):
    return RememberedIdentity(
        concept=f"k-{name}", version=1, name=name, words=words, noun=words.split()[-1],
        references=references, avoid=("old", "unheard-of"),
    )  # fmt: skip


def job(*identities: RememberedIdentity, attempt: int = 0) -> DrawJob:
    words = " and ".join(identity.words for identity in identities)
    return DrawJob(prompt=f"{words} in the Forest", identities=identities, attempt=attempt)


@pytest.fixture
def drawer(tiny_folder: Path) -> Callable[[str], StoryDrawer]:
    return lambda method: StoryDrawer(str(tiny_folder), method=method, steps=STEPS)


@pytest.mark.parametrize("method", or_slow(SHARING, ["head_start"]))
def test_reference_pictures_change_the_drawing(
    drawer: Callable[[str], StoryDrawer], method: str
) -> None:
    red, blue = (remembered(plain(c)) for c in ((220, 20, 20), (20, 20, 220)))
    draw = drawer(method)
    first = draw(job(red))
    assert np.array_equal(first, draw(job(red)))
    assert not np.array_equal(first, draw(job(blue)))
    assert not np.array_equal(first, draw(job(remembered())))
    assert not np.array_equal(first, draw(job(red, attempt=1)))


def test_without_sharing_words_alone_draw(drawer: Callable[[str], StoryDrawer]) -> None:
    draw = drawer("vanilla")
    red, blue = (remembered(plain(c)) for c in ((220, 20, 20), (20, 20, 220)))
    assert np.array_equal(draw(job(red)), draw(job(blue)))
    other = remembered(plain((220, 20, 20)), words="a small bear")
    assert not np.array_equal(draw(job(red)), draw(job(other)))


def test_two_identities_share_a_picture(drawer: Callable[[str], StoryDrawer]) -> None:
    bo, mia = remembered(plain((220, 20, 20))), remembered(plain((9, 90, 9)), name="Mia")
    draw = drawer(SHARING[0])
    both = draw(job(bo, mia))
    assert not np.array_equal(both, draw(job(bo, remembered(plain((9, 9, 200)), name="Mia"))))


def test_words_the_model_never_learned_are_named(drawer: Callable[[str], StoryDrawer]) -> None:
    with pytest.raises(InputError, match="zeppelin"):
        drawer("vanilla")(job(remembered(words="a small zeppelin")))
    with pytest.raises(UnknownNameError, match="consistory"):
        StoryDrawer(None, method="consistori")


def test_prompts_know_where_each_identity_stands(tiny_folder: Path) -> None:
    model, twins = load_backbone(tiny_folder), [remembered(words="a Dog with a dog tag")] * 2
    asked = DrawJob(
        prompt="a Dog with a dog tag and a Dog with a dog tag", identities=tuple(twins), attempt=0
    )
    story = remembered_story(asked, model)
    assert story.frames[0].prompt == "{character 1} and {character 2}"
    assert story.frames[0].negative == "old", "what the model does not know is left out"
    prompt = written(story.frames[0].prompt, cast_members(story), story_world=True)
    assert prompt.text == asked.prompt.lower()
    assert prompt.nouns == (("character 1", 2, 5), ("character 2", 27, 30))
    nobody = remembered_story(
        DrawJob(prompt="nobody {here}", identities=tuple(twins), attempt=0), model
    )
    assert nobody.frames[0].prompt == "nobody  here " and not nobody.characters
    some = (remembered(words="a dog"), remembered(words="a dog with a hat", name="Mia"))
    story = remembered_story(
        DrawJob(prompt="a dog with a hat and a dog", identities=some, attempt=0), model
    )
    assert story.frames[0].prompt == "{Mia} and {character 1}"


@pytest.fixture(scope="session")
def reader_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    schema = Schema(
        subject={"kind": ("cat", "dog", "bear"), "action": ("walking", "sitting")},
        hues=("coat",), scalars=("height", "width"), scene={"place": ("forest", "beach")},
        parts=("skin", "face", "hair", "top", "bottom", "shoes", "accessory", "held"),
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("weights") / "reader"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        Reader(schema, width=8).save(folder)
    return folder


def shot(seed: int) -> np.ndarray:
    who = sample_identity(random.Random(5))
    frame = sample_frame(random.Random(seed), identities=(who,))
    return render(replace(frame, style="flat")).rgb


def test_a_reader_embeds_what_it_reads(reader_folder: Path, tmp_path: Path) -> None:
    embedder = StoryWorldReader(reader_folder)
    assert embedder.dimensions == 3 + 2 + 2 and "action" in TRANSIENT
    pictures = [shot(1), shot(2)[10:90, 20:60], np.zeros((3, 50, 3), np.uint8)]
    rows = embedder.image(pictures)
    assert rows.shape == (3, 7) and rows.dtype == np.float32
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    alone = np.concatenate([StoryWorldReader(reader_folder).image([p]) for p in pictures])
    assert np.allclose(rows, alone, atol=1e-4)
    assert not np.allclose(rows[0], rows[2], atol=1e-3)
    assert embedder.image([]).shape == (0, 7)
    with pytest.raises(CheckpointError):
        StoryWorldReader(tmp_path)


def test_a_memory_keeps_the_embedder_it_began_with(
    reader_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONSISTENT_GEN_WEIGHTS", str(tmp_path))
    assert [type(e) for e in offered()] == [ColourLayout]
    with open_memory(tmp_path / "old", "ana") as store:
        ConceptBook(store, picture_embedder(store))
    monkeypatch.setenv("CONSISTENT_GEN_WEIGHTS", str(reader_folder.parent))
    with open_memory(tmp_path / "old", "ana") as store:
        assert isinstance(picture_embedder(store), ColourLayout)
    with open_memory(tmp_path / "new", "ana") as store:
        assert isinstance(picture_embedder(store), StoryWorldReader)


def test_draw_bo_from_teaching_to_forgetting(
    tiny_folder: Path, reader_folder: Path, tmp_path: Path
) -> None:
    with open_memory(tmp_path, "ana") as store:
        ana = Assistant(
            store, drawer=StoryDrawer(str(tiny_folder), method="consistory", steps=STEPS),
            image_embedder=StoryWorldReader(reader_folder), draw_budget=2,
        )  # fmt: skip
        assert ana.say("This is my small cat Bo", picture=png_bytes(shot(1))).asks
        ana.say("yes")
        said = ana.say("Draw Bo in the forest")
        assert said.drawn is not None and said.drawn.picture.shape == (128, 128, 3)
        (drawn,) = (
            m for m in store.list("media") if isinstance(m, Media) and m.role == "generated"
        )
        assert drawn.details["method"] == "consistory" and drawn.details["seed"] == 1
        assert drawn.details["space"].startswith("story-world-reader/")
        ana.say("forget Bo")
        assert "no byte is left" in ana.say("yes").text and store.list("media") == ()
