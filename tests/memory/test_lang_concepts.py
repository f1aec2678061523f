"""Visual concepts: mentions, teaching, recognising, drawing with a check, forgetting."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from consistent_gen.errors import InputError, LimitError
from consistent_gen.language.embedders import HashedNgrams, Vectors, unit
from consistent_gen.memory import open_memory
from consistent_gen.memory.data.operations import Add, Batch
from consistent_gen.memory.data.records import Concept, Media
from consistent_gen.memory.data.store import Store
from consistent_gen.memory.recall.concepts import ConceptBook, derived_threshold, reembed_pictures
from consistent_gen.memory.recall.mentions import find_mentions
from consistent_gen.memory.recall.pictures import (
    ColourLayout,
    Picture,
    crop,
    grow,
    png_bytes,
    propose_box,
    read_picture,
)
from consistent_gen.world.scene import render
from consistent_gen.world.spec import Identity, sample_frame, sample_identity


class MeanColour:
    """An embedder of pictures that is not ours: the mean colour at unit length."""

    space, dimensions, description = "mean-colour/3", 3, "mean colour"

    def image(self, pictures: Sequence[Picture]) -> Vectors:
        return unit(np.stack([picture.reshape(-1, 3).mean(0) for picture in pictures]))


BO, MIA = (sample_identity(random.Random(seed)) for seed in (11, 29))


def shot(identity: Identity, seed: int) -> np.ndarray:
    frame = sample_frame(random.Random(seed), identities=(identity,))
    return render(replace(frame, style="flat")).rgb


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_memory(tmp_path, "ana") as opened:
        yield opened


@pytest.fixture
def book(store: Store) -> ConceptBook:
    return ConceptBook(store, ColourLayout())


def teach(book: ConceptBook, name: str, identity: Identity, seeds: range) -> Concept:
    for seed in seeds:
        proposal = book.propose(name, "child", png_bytes(shot(identity, seed)))
        concept = book.confirm(proposal, consent={"by": "Ana"}).concept
    return concept


def concept(name: str, id: str, class_name: str = "dog", *aliases: str) -> Concept:
    return Concept(name=name, id=id, class_name=class_name, aliases=aliases)


def names(text: str, *known: Concept) -> list[list[str]]:
    return [[c.name for c in m.candidates] for m in find_mentions(text, known)]


def test_mentions_go_from_certain_to_vague() -> None:
    bo, rex = concept("Bo", "1", "dog", "Bobo"), concept("Rex", "2", "dog")
    mia = concept("Charlotte", "3", "cat")
    assert names("Draw Bo at the beach", bo, rex) == [["Bo"]]
    assert names("draw bobo and REX", bo, rex) == [["Bo"], ["Rex"]]
    assert names("my cat in the snow", bo, mia) == [["Charlotte"]]
    assert names("Draw Charlote", bo, mia) == [["Charlotte"]]
    assert names("Bored of the robot", bo) == []
    (tie,) = find_mentions("draw my dog", (bo, rex))
    assert tie.tie and "Bo the dog or Rex the dog" in tie.question
    assert names("Sam", concept("Sam", "1"), concept("Samuel", "2", "dog", "Sam")) == [
        ["Sam", "Samuel"]
    ]
    assert names("Bo Junior", concept("Bo", "1"), concept("Bo Junior", "2"))[0] == ["Bo Junior"]


def test_meaning_is_the_last_resort() -> None:
    puppy = Concept(name="Bo", id="1", class_name="dog", text="a small brown spaniel")
    found = find_mentions("the small brown spaniel at the beach", [puppy], HashedNgrams())
    assert found[0].how == "meaning"
    assert find_mentions("a spaceship", [puppy], HashedNgrams()) == ()


def test_nothing_is_stored_before_confirmation(book: ConceptBook, store: Store) -> None:
    proposal = book.propose("Bo", "child", png_bytes(shot(BO, 1)))
    assert store.count() == 0
    left, top, right, bottom = proposal.box
    assert 0 <= left < right <= 128 and 0 <= top < bottom <= 128
    taught = book.confirm(proposal, consent={"by": "Ana", "purpose": "stories"})
    assert taught.concept.consent == {"by": "Ana", "purpose": "stories"}
    (cut,) = book.crops(taught.concept.id)
    assert (cut.role, cut.confirmed, cut.source, cut.box) == (
        "crop", True, taught.photo, proposal.box,
    )  # fmt: skip
    assert store.verify().ok


def test_it_recognises_who_was_taught(book: ConceptBook) -> None:
    bo, mia = teach(book, "Bo", BO, range(4)), teach(book, "Mia", MIA, range(4))
    right = 0
    for identity, expected in ((BO, bo), (MIA, mia)):
        for seed in range(10, 16):
            picture = shot(identity, seed)
            mine = book.similarity(expected.id, picture)
            other = book.similarity(mia.id if expected is bo else bo.id, picture)
            right += mine > other
    assert right >= 10
    seen = book.recognise(crop(shot(BO, 0), propose_box(shot(BO, 0))))
    assert seen and seen[0][0].id == bo.id


def test_an_outlier_is_kept_but_not_averaged_in(book: ConceptBook) -> None:
    bo = teach(book, "Bo", BO, range(4))
    before = book.prototype(bo.id)
    blue = np.zeros((64, 64, 3), np.uint8)
    blue[16:48, 16:48] = (0, 0, 255)
    taught = book.confirm(book.propose("Bo", "child", png_bytes(blue)))
    assert taught.outlier and len(book.crops(bo.id, outliers=True)) == 5
    after = book.prototype(bo.id)
    assert before is not None and after is not None
    assert np.allclose(before.vector, after.vector) and after.crops == 4


def test_forgetting_one_photo_recomputes_the_prototype(book: ConceptBook, store: Store) -> None:
    from consistent_gen.memory.data.store import Scope

    bo = teach(book, "Bo", BO, range(3))
    two = book.crops(bo.id)[:2]
    vectors = store.vectors(book.image_embedder.space, [m.id for m in two])
    mean = np.stack(list(vectors.values())).mean(0)
    last = book.crops(bo.id)[2]
    store.purge(Scope(ids=(last.source,), sources=False))
    prototype = book.prototype(bo.id)
    assert prototype is not None and prototype.crops == 2
    assert np.allclose(prototype.vector, mean / np.linalg.norm(mean), atol=1e-5)


def test_the_threshold_follows_the_spread() -> None:
    tight = np.tile(np.eye(8, dtype=np.float32)[:1], (4, 1))
    assert derived_threshold(tight[:2]) == 0.8
    assert derived_threshold(tight) == pytest.approx(0.92)
    assert derived_threshold(np.eye(8, dtype=np.float32)) == pytest.approx(0.72)


def test_the_identity_carries_words_and_reference_pictures(book: ConceptBook) -> None:
    proposal = book.propose("Bo", "dog", png_bytes(shot(BO, 1)), description="a brown dog")
    bo = book.confirm(proposal, consent={"by": "Ana", "until": "2026-06-30"}).concept
    identity = book.identity(bo, today=datetime(2026, 6, 30, 23, tzinfo=UTC))
    assert (identity.words, identity.noun, identity.version) == ("a brown dog", "dog", bo.version)
    assert np.array_equal(read_picture(identity.references[0]), crop(shot(BO, 1), proposal.box))
    with pytest.raises(InputError, match="consent"):
        book.identity(bo, today=datetime(2026, 7, 1, tzinfo=UTC))


def test_drawing_is_checked_redrawn_and_recorded(book: ConceptBook, store: Store) -> None:
    bo = teach(book, "Bo", BO, range(4))
    tries = [shot(MIA, 50), shot(BO, 0), shot(BO, 1)]
    told = {"prompt": "p"}
    checked, id = book.draw_checked(bo, lambda n: tries[n], budget=3, details=lambda: told)
    assert checked.passed and checked.attempt == 1 and len(checked.scores) == 2
    (drawn,) = store.get([id])
    assert isinstance(drawn, Media) and drawn.role == "generated"
    assert drawn.details["prompt"] == "p" and drawn.details["concept_version"] == bo.version
    failed, _ = book.draw_checked(bo, lambda n: np.full((64, 64, 3), 9 * n, np.uint8), budget=2)
    assert not failed.passed and failed.score == max(failed.scores) and len(failed.scores) == 2
    assert len(book.crops(bo.id)) == 4  # what we drew never becomes a prototype


@pytest.mark.parametrize("generated", ["erase", "keep"])
def test_forgetting_finds_everything(
    book: ConceptBook, store: Store, tmp_path: Path, generated: str
) -> None:
    told: list[str] = []
    book.forgetters = (told.extend,)
    bo, mia = teach(book, "Bo", BO, range(2)), teach(book, "Mia", MIA, range(2))
    fact = Add(kind="fact", value="Bo likes rain", fields={"subject": bo.id})
    store.apply(Batch(ops=(fact,), author="user"))
    book.draw_checked(bo, lambda n: shot(BO, 7), budget=1)
    blobs = {m.media[0] for m in store.list("media", subject=bo.id)}
    receipt = book.forget(bo, generated=generated)  # type: ignore[arg-type]
    assert [c.name for c in book.all()] == ["Mia"]
    assert store.list("fact") == () and store.list("media", subject=bo.id) == ()
    left = 4 + (generated == "keep")
    assert len(store.list("media")) == left and receipt.recheck == 0
    assert set(told) == (blobs if generated == "erase" else set(told)) and len(told) >= 4
    for name in told:
        with pytest.raises(InputError):
            store.get_media(name)
    assert book.prototype(mia.id) is not None and store.verify().ok


def test_another_embedder_moves_the_pictures(book: ConceptBook, store: Store) -> None:
    bo = teach(book, "Bo", BO, range(2))
    mean = MeanColour()
    with pytest.raises(InputError, match="reembed_pictures"):
        ConceptBook(store, mean)
    assert reembed_pictures(store, mean) == 2
    assert ConceptBook(store, mean).prototype(bo.id) is not None
    assert list(store.spaces()) == ["mean-colour/3"]


def test_pictures_are_read_safely() -> None:
    with pytest.raises(InputError):
        read_picture(b"not a picture")
    with pytest.raises(InputError):
        read_picture(png_bytes(shot(BO, 1))[:200])
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n"
    for name, body in ((b"IHDR", header), (b"IDAT", b""), (b"IEND", b"")):
        bomb += struct.pack(">I", len(body)) + name + body
        bomb += struct.pack(">I", zlib.crc32(name + body))
    with pytest.raises(LimitError):
        read_picture(bomb)


def test_pictures_are_read_as_they_are_shown() -> None:
    """A photograph held sideways is upright, and what is transparent is white."""
    turned, upright = io.BytesIO(), shot(BO, 1)
    tag = Image.Exif()
    tag[0x0112] = 6  # to be turned by 90 degrees clockwise
    Image.fromarray(np.rot90(upright).copy()).save(turned, "PNG", exif=tag)
    assert np.array_equal(read_picture(turned.getvalue()), upright)
    clear = io.BytesIO()
    Image.new("RGBA", (8, 8), (200, 0, 0, 0)).save(clear, "PNG")
    assert (read_picture(clear.getvalue()) == 255).all()


def test_boxes() -> None:
    picture = np.full((100, 200, 3), 250, np.uint8)
    picture[30:70, 80:120] = (200, 30, 30)
    assert propose_box(picture) == (80, 30, 120, 70)
    assert grow((80, 30, 120, 70), picture) == (50, 15, 150, 85)
    assert propose_box(np.full((60, 60, 3), 7, np.uint8)) == (10, 10, 50, 50)
    with pytest.raises(InputError):
        crop(picture, (50, 50, 50, 60))
