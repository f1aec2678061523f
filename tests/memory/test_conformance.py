"""One suite for every backend: what a `Store` promises, on SQLite and on PostgreSQL."""

from __future__ import annotations

import inspect
import zipfile
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from consistent_gen.errors import InputError, LimitError, UnknownNameError
from consistent_gen.memory.data.operations import Add, Batch, Delete, Update
from consistent_gen.memory.data.records import (
    Fact,
    Media,
    StyleObservation,
    TraitObservation,
    Turn,
)
from consistent_gen.memory.data.store import (
    AsOf,
    MemoryLimits,
    Scope,
    StaleVersionError,
    Store,
    TimeWindow,
)
from consistent_gen.memory.recall import indexing
from consistent_gen.memory.storage.sql_store import SqlStore
from tests.memory.edits import by_hand, texts

# fmt: off
ODD_TEXTS = [
    "'; DROP TABLE records; --", '" OR 1=1 --', "%s ? :name $1 {0}", "a\\'b\\",
    "NEAR(tea, 3) AND *", "search:x -y ^z \"open", "日本語のお茶", "مرحبا بالعالم",
    "👩‍👩‍👧 e\u0301\u0327", "\u2028\u2029", "\ufb01 ligature Straße İstanbul",
    "<|im_start|>system", "a" * 5_000, "null", "--", "/* */", "\t tab",
]
ODD_USERS = [
    "ann", "Ann", "ann \u0301", "\u0430nn", "../ann", "ann/../bob", "%", "_", "' OR '1'='1", "1",
    "ann%00",
]
# fmt: on


def test_it_is_a_store(store: Store) -> None:
    assert isinstance(store, Store)
    assert store.version == 0 and store.count() == 0 and store.verify().ok


def test_every_kind_comes_back_as_it_was_written(store: Store) -> None:
    blob = store.put_media(b"not really a png")
    turn = store.record([Turn(text="Hi, I am Ann", session="s1", keywords=("greeting",))]).ids[0]
    (bo,) = by_hand(store, Add(kind="concept", target="Bo", value="a dog", evidence=(turn,),
                               fields={"threshold": {"clip": 0.5}, "aliases": ["Bobo"],
                                       "assets": [{"kind": "adapter", "strength": 0.7}],
                                       "consent": {"by": "Ann"}, "avoid": ["cat"]}))  # fmt: skip
    store.record([
        TraitObservation(scores={"openness": 4}, evidence=(turn,)),
        StyleObservation(values=(0.5,) * 8, evidence=(turn,)),
        Media(media=(blob,), subject=bo, box=(1, 2, 3, 4), confirmed=True, quality=0.25,
              details={"seed": 7, "parts": [1, 2]}, width=8, height=8),
    ])  # fmt: skip
    by_hand(
        store,
        Add(target="Identity.Name", value="Ann", evidence=(turn,)),
        Add(kind="fact", value="Bo is old", fields={"subject": bo, "topic": "age"}),
        Add(kind="habit", target="tea", value="Drinks tea at five"),
        Add(kind="episode", value="They met", fields={"topic": "hello", "keywords": ["x"]}),
    )
    for kind in ("turn", "concept", "trait_obs", "style_obs", "media", "core", "fact", "habit",
                 "episode"):  # fmt: skip
        (record,) = store.list(kind)  # type: ignore[arg-type]
        assert store.get([record.id]) == (record,) == store.history(record.id)
        assert record.kind == kind and record.version == 1 and record.live
    (concept,) = store.list("concept")
    assert concept.body()["threshold"] == {"clip": 0.5} and concept.evidence == (turn,)
    assert store.list("media", subject=bo)[0].body()["box"] == (1, 2, 3, 4)
    assert store.list("turn", label="s1")[0].id == turn
    assert store.verify().ok and store.count() == 9


def test_get_keeps_the_order_asked_and_leaves_out_the_unknown(store: Store) -> None:
    a, b = store.record([Turn(text="a"), Turn(text="b")]).ids
    assert texts(store.get([b, "nothing", a])) == ["b", "a"]


def test_list_orders_by_world_time_and_limits(store: Store, clock: Callable) -> None:
    store.record([Turn(text=str(n), valid_from=clock() - timedelta(hours=n)) for n in range(4)])
    assert texts(store.list("turn")) == ["3", "2", "1", "0"]
    assert texts(store.list("turn", newest_first=True, limit=2)) == ["0", "1"]


def test_versions_keys_and_expectations(store: Store) -> None:
    first = store.record([Turn(text="x")], key="k")
    again = store.record([Turn(text="x")], key="k")
    assert again.duplicate and again.ids == first.ids and store.version == first.version == 1
    op = Add(target="Identity.Name", value="Ann")
    with pytest.raises(StaleVersionError):
        store.apply(Batch(ops=(op,), author="user"), expect_version=0)
    done = store.apply(Batch(ops=(op,), author="user"), expect_version=1, key="b")
    twice = store.apply(Batch(ops=(op,), author="user"), expect_version=1, key="b")
    assert twice.duplicate and twice.outcomes == done.outcomes and store.version == 2


def test_a_failed_write_leaves_nothing(store: Store) -> None:
    with pytest.raises(InputError):
        store.record([Turn(text="kept?"), Media(media=("0" * 64,))])
    with pytest.raises(InputError):
        store.record([Turn(text="kept?"), Fact(text="by the back door")])
    assert store.version == 0 and store.count() == 0


@pytest.mark.parametrize("text", ODD_TEXTS)
def test_any_text_is_stored_found_and_harmless(store: Store, text: str) -> None:
    turn = Turn(text=f"lighthouse {text}", keywords=(text[:50],), session=text[:90])
    (id,) = store.record([turn]).ids
    assert store.get([id])[0].text == f"lighthouse {text}"
    assert [hit.id for hit in store.full_text("lighthouse")] == [id]
    store.full_text(text)
    assert store.get([text]) == () and store.history(text) == ()
    assert len(store.list("turn", label=text[:90])) == 1
    assert store.active_space(text) is None
    with pytest.raises(UnknownNameError):
        store.nearest(text, np.ones(3, np.float32))
    assert store.count() == 1 and store.verify().ok


def test_what_no_backend_can_hold_is_refused_by_name() -> None:
    for text, says in (("a\x00b", "NUL"), ("\udc80", "surrogate"), ("x" * 200_001, "limit")):
        with pytest.raises(InputError, match=says):
            Turn(text=text)


def test_full_text_ranks_filters_and_never_shows_the_past(store: Store, clock: Callable) -> None:
    now = clock()
    one, two, three = store.record([
        Turn(text="tea and tea with honey", valid_from=now),
        Turn(text="I drank one cup of tea after a very long walk along the river", valid_from=now),
        Turn(text="coffee", keywords=("tea",), valid_from=now - timedelta(days=9)),
    ]).ids  # fmt: skip
    hits = store.full_text("Where is the TEA?")
    assert {hit.id for hit in hits} == {one, two, three}
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert [hit.id for hit in store.full_text("honey river tea", limit=2)] == [
        hit.id for hit in store.full_text("honey river tea")[:2]
    ]
    recent = TimeWindow(start=now - timedelta(days=1))
    assert {hit.id for hit in store.full_text("tea", window=recent)} == {one, two}
    old = store.full_text("tea", window=TimeWindow(end=now - timedelta(days=1)), limit=1)
    assert [hit.id for hit in old] == [three]
    by_hand(store, Add(target="Identity.Home", value="Lisbon"))
    clock.advance(days=1)
    by_hand(store, Update(target="Identity.Home", value="Porto"))
    assert store.full_text("Lisbon") == ()
    assert len(store.full_text("Lisbon", as_of=AsOf(world=now + timedelta(hours=1)))) == 1
    assert len(store.full_text("Porto", kinds=["core"])) == 1
    assert store.full_text("Porto", kinds=["fact"]) == store.full_text("Porto", kinds=[]) == ()
    assert store.full_text("") == store.full_text("?!") == store.full_text("tea", limit=0) == ()
    assert len(store.full_text("home")) == 1, "a leaf is found by its path as well"


def test_nearest_is_exact(store: Store) -> None:
    rng = np.random.default_rng(0)
    store.create_space("s", 16)
    ids = store.record([Turn(text=str(n)) for n in range(300)]).ids
    data = rng.standard_normal((300, 16)).astype(np.float32)
    store.put_vectors("s", list(zip(ids, data, strict=True)))
    query = rng.standard_normal(16).astype(np.float32)
    cosine = data @ query / (np.linalg.norm(data, axis=1) * np.linalg.norm(query))
    hits = store.nearest("s", query, limit=7)
    assert [hit.id for hit in hits] == [ids[i] for i in np.argsort(-cosine)[:7]]
    assert np.allclose([hit.score for hit in hits], np.sort(cosine)[::-1][:7], atol=1e-5)
    assert store.nearest("s", query, kinds=["fact"]) == ()
    assert len(store.nearest("s", query, limit=1000)) == 300
    stored = store.vectors("s", [ids[5], "nothing"])
    assert list(stored) == [ids[5]]
    assert np.allclose(stored[ids[5]], data[5] / np.linalg.norm(data[5]), atol=1e-6)


def test_nearest_sees_new_changed_and_erased_vectors(store: Store) -> None:
    store.create_space("s", 2)
    a, b = store.record([Turn(text="a"), Turn(text="b")]).ids
    east, north = np.array([1, 0], np.float32), np.array([0, 1], np.float32)
    store.put_vector(a, "s", east)
    assert [hit.id for hit in store.nearest("s", east)] == [a]
    store.put_vector(b, "s", east * 5)
    assert [hit.id for hit in store.nearest("s", east)] == [a, b]
    store.put_vector(a, "s", north)
    assert [hit.id for hit in store.nearest("s", east)] == [b, a]
    store.purge(Scope(ids=(b,)))
    assert [hit.id for hit in store.nearest("s", east)] == [a]


def test_vectors_follow_the_value_not_the_name(store: Store, clock: Callable) -> None:
    (home,) = by_hand(store, Add(target="Identity.Home", value="Lisbon"))
    store.create_space("s", 2)
    store.put_vector(home, "s", np.array([1, 0], np.float32))
    clock.advance(days=1)
    by_hand(store, Update(target="Identity.Home", value="Porto"))
    assert store.vectors("s", [home]) == {}, "the new value has no vector yet"
    assert store.nearest("s", np.array([1, 0], np.float32)) == ()
    past = AsOf(world=clock() - timedelta(hours=1))
    assert len(store.nearest("s", np.array([1, 0], np.float32), as_of=past)) == 1
    assert texts(store.without_vector("s", ["core"])) == ["Porto"]


def test_a_turn_is_outdated_when_nothing_read_from_it_holds(store: Store, clock: Callable) -> None:
    home, move, goal, more, chat = store.record([
        Turn(text=t) for t in ("I live in Lisbon", "I live in Porto", "I want tea", "and", "Hi")
    ]).ids  # fmt: skip
    by_hand(store, Add(target="Identity.Home", value="Lisbon", evidence=(home,)),
            Add(target="Life.Goals", value="tea", evidence=(goal,)))  # fmt: skip
    everything = (home, move, goal, more, chat, "nothing")
    assert store.outdated(everything) == frozenset()
    clock.advance(days=1)
    moved = store.apply(Batch(author="user", ops=(
        Update(target="Identity.Home", value="Porto", evidence=(move,)),
        Update(target="Life.Goals", value="tea; rest", evidence=(more,)),
    )))  # fmt: skip
    assert store.outdated(everything) == {home}, "a state that grew still holds what it held"
    clock.advance(days=1)
    by_hand(store, Delete(target="Life.Goals"))
    assert store.outdated(everything) == {home, goal, more}
    assert store.outdated(()) == frozenset() and store.outdated((chat,)) == frozenset()
    assert moved.ids and store.verify().ok


class Slow:
    """A text embedder that stops half-way once, and notes which space answers meanwhile."""

    space, dimensions, description = "new", 3, "three numbers"

    def __init__(self, store: Store) -> None:
        self._store = store
        self.seen: list[str | None] = []

    def text(self, texts: Sequence[str]) -> np.ndarray:
        self.seen.append(self._store.active_space("text"))
        if len(self.seen) == 2:
            raise RuntimeError("stopped half-way")
        return np.stack([np.ones(3, np.float32) * (len(text) + 1) for text in texts])


def test_spaces_are_checked_and_switched_at_the_end(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = store.record([Turn(text=str(n)) for n in range(5)]).ids
    store.create_space("old", 2)
    store.create_space("old", 2)
    for id in ids:
        store.put_vector(id, "old", np.ones(2, np.float32))
    store.switch_space("text", "old")
    monkeypatch.setattr(indexing, "_BATCH", 2)
    slow = Slow(store)
    with pytest.raises(RuntimeError):
        indexing.index_text(store, slow)
    assert store.active_space("text") == "old", "an interrupted move changes nothing for readers"
    assert indexing.index_text(store, slow) == 3
    assert set(slow.seen) == {"old"}
    store.switch_space("text", "new")
    assert store.active_space("text") == "new"
    with pytest.raises(InputError, match="answers for"):
        store.drop_space("new")
    assert store.drop_space("old") == 5 and store.spaces() == {"new": 3}
    store.create_space("old", 4)
    assert store.nearest("old", np.ones(4, np.float32)) == ()
    with pytest.raises(InputError, match="dimensions"):
        store.create_space("old", 5)
    for bad in (np.zeros(4), np.full(4, np.nan), np.ones(3), np.ones((2, 2))):
        with pytest.raises(InputError):
            store.put_vector(ids[0], "old", bad.astype(np.float32))
    with pytest.raises(InputError):
        store.put_vector("nothing", "old", np.ones(4, np.float32))


def test_media_is_kept_once_checked_and_counted(place: str, opened: Callable[..., Store]) -> None:
    store = opened(place, limits=MemoryLimits(blob_bytes=100, media_bytes=150))
    name = store.put_media(b"x" * 90)
    assert store.put_media(b"x" * 90) == name and store.get_media(name) == b"x" * 90
    with pytest.raises(LimitError, match="quota"):
        store.put_media(b"y" * 90)
    with pytest.raises(LimitError):
        store.put_media(b"z" * 101)
    for bad in ("../../etc/passwd", "0" * 64, "", "X" * 64, name.upper()):
        with pytest.raises(InputError):
            store.get_media(bad)
    with pytest.raises(InputError):
        store.put_media(b"")
    first, second = store.record([Media(media=(name,)), Media(media=(name,))]).ids
    store.purge(Scope(ids=(first,)))
    assert store.get_media(name) == b"x" * 90, "another record still refers to it"
    receipt = store.purge(Scope(ids=(second,)))
    assert receipt.media == 1
    with pytest.raises(InputError):
        store.get_media(name)


def test_an_unused_blob_is_swept_when_it_is_old(store: Store, clock: Callable) -> None:
    name = store.put_media(b"orphan")
    store.compact()
    assert store.get_media(name) == b"orphan"
    clock.advance(hours=2)
    assert store.compact().media == 0


def test_limits_on_turns_and_records(place: str, opened: Callable[..., Store]) -> None:
    store = opened(place, limits=MemoryLimits(turn_characters=10, live_records=2))
    with pytest.raises(LimitError, match="split"):
        store.record([Turn(text="x" * 11)])
    store.record([Turn(text="a"), Turn(text="b")])
    with pytest.raises(LimitError, match="erase"):
        store.record([Turn(text="c")])
    assert store.count("turn") == 2


def test_users_do_not_meet(place: str, opened: Callable[..., Store]) -> None:
    odd = ODD_USERS
    stores = {user: opened(place, user) for user in odd}
    kept = {}
    for user, store in stores.items():
        store.create_space("s", 2)
        (kept[user],) = store.record([Turn(text=f"secret of {user!r}")], key="same").ids
        store.put_vector(kept[user], "s", np.ones(2, np.float32))
        store.put_media(f"picture of {user!r}".encode())
    for user, store in stores.items():
        assert texts(store.list("turn")) == [f"secret of {user!r}"]
        assert len(store.full_text("secret")) == 1
        assert len(store.nearest("s", np.ones(2, np.float32))) == 1
        assert store.verify().media == 1 and store.count() == 1 and store.version == 1
    stores["ann"].purge(Scope(everything=True))
    assert [store.count() for store in stores.values()] == [0] + [1] * (len(odd) - 1)
    for bad in ("", " ann", "ann\n", 7, None, "a" * 300, "\udc80"):
        with pytest.raises(InputError):
            type(stores["ann"])(place, bad)  # type: ignore[call-arg]


def test_export_and_restore_are_inverse(place: str, opened: Callable[..., Store],
                                        tmp_path: Path, clock: Callable) -> None:  # fmt: skip
    store, other = opened(place), opened(place, "bob")
    turn, _ = store.record([Turn(text=t) for t in ("I am Ann\u2028", "お茶")], key="k").ids
    by_hand(store, Add(target="Identity.Home", value="Lisbon", evidence=(turn,)))
    clock.advance(days=1)
    moved = store.apply(Batch(ops=(Update(target="Identity.Home", value="Porto"),), author="user"))
    store.apply(Batch(ops=(Add(target="No.Path", value="x", evidence=(turn,)),), turns=(turn,)))
    store.record([Media(media=(store.put_media(b"bytes"),))])
    store.create_space("s", 3)
    store.put_vector(turn, "s", np.array([1, 2, 3], np.float32))
    store.switch_space("text", "s")
    first = store.export(tmp_path / "one.zip")
    assert other.restore(first) == len(store.history(turn)) + 5
    second = other.export(tmp_path / "two.zip")
    with zipfile.ZipFile(first) as a, zipfile.ZipFile(second) as b:
        assert a.namelist() == b.namelist()
        assert all(a.read(name) == b.read(name) for name in a.namelist())
    assert other.verify().ok and other.version == store.version
    assert other.record([Turn(text="again")], key="k").duplicate
    assert other.full_text("お茶") == store.full_text("お茶")
    other.undo(moved.batch)
    assert texts(other.list("core")) == ["Lisbon"]
    with pytest.raises(InputError, match="empty memory"):
        other.restore(first)
    assert other.purge(Scope(ids=(turn,))).log >= 2, "the log's links came along"


def test_reopening_finds_everything(place: str, opened: Callable[..., Store]) -> None:
    first = opened(place)
    (id,) = first.record([Turn(text="still here")]).ids
    first.close()
    assert texts(opened(place).get([id])) == ["still here"]


@pytest.mark.parametrize("name", [n for n in vars(Store) if not n.startswith("_")])
def test_signatures_are_those_of_the_protocol(name: str) -> None:
    """The protocol and the class behind it state each signature; here they are held equal."""
    told, made = getattr(Store, name), getattr(SqlStore, name)
    if isinstance(told, property):
        assert isinstance(made, property)
    else:
        assert inspect.signature(made) == inspect.signature(told)
