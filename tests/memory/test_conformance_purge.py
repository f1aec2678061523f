"""What every `Store` promises about erasing: closure, order, refusals and what survives."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from consistent_gen.errors import InputError
from consistent_gen.memory.data.operations import Add, Batch, Delete, Update
from consistent_gen.memory.data.records import Media, TraitObservation, Turn
from consistent_gen.memory.data.store import Scope, Store, TimeWindow
from tests.memory.edits import by_hand, texts


def test_purge_follows_dependencies(store: Store) -> None:
    walk, rain, photo_turn = store.record(
        [Turn(text="Bo loves walks"), Turn(text="It rained"), Turn(text="look, Bo!")]
    ).ids
    photo = store.record([
        Media(media=(store.put_media(b"photo"),), evidence=(photo_turn,)),
    ]).ids[0]  # fmt: skip
    (bo,) = by_hand(store, Add(kind="concept", target="Bo", value="a dog"))
    crop, drawn = store.record([
        Media(media=(store.put_media(b"crop"),), role="crop", subject=bo, source=photo),
        Media(media=(store.put_media(b"drawn"),), role="generated", subject=bo, text="Bo at sea",
              details={"prompt": "Bo at sea"}),
    ]).ids  # fmt: skip
    fact, other, episode = by_hand(
        store,
        Add(kind="fact", value="Bo loves walks", evidence=(walk,), fields={"subject": bo}),
        Add(kind="fact", value="Ann walks daily", evidence=(walk, rain)),
        Add(kind="episode", value="About walks", evidence=(walk, rain)),
    )
    store.record([TraitObservation(scores={"openness": 4}, evidence=(walk,))])
    receipt = store.purge(Scope(ids=(bo,), generated="keep"))
    assert receipt.rows == {
        "concept": 1, "media": 1, "fact": 1, "episode": 1, "trait_obs": 1, "turn": 1,
    }  # fmt: skip
    assert {r.id for r in store.get([bo, crop, fact, episode, walk])} == set()
    left = store.get([rain, photo_turn, photo, drawn, other])
    assert len(left) == 5 and left[4].evidence == (rain,)
    picture = left[3]
    assert (picture.text, picture.subject_id, picture.body()["details"]) == ("", "", {})
    store.purge(Scope(ids=(photo,)))
    assert store.get([photo, photo_turn]) == ()
    assert store.verify().ok


def test_purge_without_sources_keeps_the_turns(store: Store) -> None:
    (turn,) = store.record([Turn(text="I live in Lisbon")]).ids
    (home,) = by_hand(store, Add(target="Identity.Home", value="Lisbon", evidence=(turn,)))
    by_hand(store, Update(target="Identity.Home", value="Porto"))
    store.purge(Scope(paths=("Identity",), sources=False))
    assert store.history(home) == () and texts(store.list("turn")) == ["I live in Lisbon"]
    store.purge(Scope(kinds=("turn",)))
    assert store.count() == 0


def test_purging_turns_takes_what_was_read_from_them(store: Store, clock: Callable) -> None:
    old = clock()
    (early,) = store.record([Turn(text="I live in Lisbon", valid_from=old)]).ids
    clock.advance(days=2)
    (late,) = store.record([Turn(text="I like tea", valid_from=clock())]).ids
    by_hand(
        store,
        Add(target="Identity.Home", value="Lisbon", evidence=(early,)),
        Add(kind="fact", value="Likes tea in Lisbon", evidence=(early, late)),
        Add(kind="fact", value="Likes tea", evidence=(late,)),
    )
    store.purge(Scope(window=TimeWindow(end=old + timedelta(days=1))))
    assert texts(store.list("turn")) == ["I like tea"]
    assert texts(store.list("fact")) == ["Likes tea"] and store.list("core") == ()
    assert store.verify().ok


def test_purge_says_what_it_cannot_do(store: Store) -> None:
    batch = store.apply(Batch(ops=(Add(target="Identity.Home", value="x"),), author="user"))
    for scope in (Scope(), Scope(ids=("c-none",)), Scope(ids=(*batch.ids, "c-none"))):
        with pytest.raises(InputError):
            store.purge(scope)
    assert store.count() == 1
    receipt = store.purge(Scope(ids=batch.ids))
    assert receipt.rows == {"core": 1} and receipt.recheck == 0 and len(receipt.digest) == 64
    assert "x" not in str({**vars(receipt), "digest": "", "pending": ""}.values()).replace("x'", "")
    with pytest.raises(InputError):
        store.undo(batch.batch)


def test_a_key_is_free_again_after_its_records_were_erased(store: Store) -> None:
    first = store.record([Turn(text="x")], key="k")
    store.purge(Scope(ids=first.ids))
    assert not store.record([Turn(text="x")], key="k").duplicate


def test_forgetting_what_has_ended_takes_the_turn_that_ended_it(
    store: Store, clock: Callable
) -> None:
    (said,) = store.record([Turn(text="I like tea")]).ids
    (fact,) = by_hand(store, Add(kind="fact", value="likes tea", evidence=(said,)))
    clock.advance(days=1)
    over, rain = store.record([Turn(text="No tea any more"), Turn(text="It rains")]).ids
    store.apply(Batch(ops=(Delete(kind="fact", target=fact, evidence=(over,)),), turns=(over,)))
    assert store.list("fact") == () and store.outdated((said, over, rain)) == {said, over}
    store.purge(Scope(ids=(fact,)))
    assert texts(store.list("turn")) == ["It rains"] and store.verify().ok


def test_history_survives_a_delete_and_not_a_purge(store: Store) -> None:
    (fact,) = by_hand(store, Add(kind="fact", value="likes tea"))
    by_hand(store, Delete(kind="fact", target=fact))
    assert store.list("fact") == () and len(store.history(fact)) >= 1
    store.purge(Scope(ids=(fact,)))
    assert store.history(fact) == ()
