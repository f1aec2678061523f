"""Random histories of two users with hostile ids: neither ever reads or touches the other one's.

Both work on one place at once, with equal texts, keys and ids offered crosswise. A plain model of
each history says what each store must hold; PostgreSQL works as a role that owns nothing.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest

from consistent_gen.errors import ConsistentGenError, InputError
from consistent_gen.memory.data.operations import Add, Batch
from consistent_gen.memory.data.records import Media, Turn
from consistent_gen.memory.data.store import Scope, Store
from tests.every_run import or_slow

PAIRS = [
    ("ann", "Ann"),
    ("ann", "\u0430nn"),
    ("ann", "ann%"),
    ("../ann", "ann/../ann"),
    ("' OR '1'='1", "' OR '1'='1' --"),
    ("_", "%"),
]
WORDS = ("tea", "river", "violin", "Lisbon")
EAST = np.array([1, 0], np.float32)


class History:
    """One user's store beside what it should hold."""

    def __init__(self, store: Store, name: str) -> None:
        self.store, self.name = store, name
        self.turns: dict[str, str] = {}
        self.facts: dict[str, str] = {}
        self.media: dict[str, str] = {}
        self.batches: list[str] = []
        self.writes = 0
        store.create_space("s", 2)

    def say(self, rng: random.Random) -> None:
        text = f"{rng.choice(WORDS)} {rng.randint(0, 3)}"
        done = self.store.record([Turn(text=text)], key=f"key {self.writes}")
        assert not done.duplicate, "another user's key"
        self.writes += 1
        self.turns[done.ids[0]] = text
        self.store.put_vector(done.ids[0], "s", EAST)

    def learn(self, rng: random.Random) -> None:
        value = f"likes {rng.choice(WORDS)} {self.writes}"
        done = self.store.apply(Batch(ops=(Add(kind="fact", value=value),), author="user"))
        self.writes += 1
        self.facts[done.outcomes[0].record] = value
        self.batches.append(done.batch)

    def show(self, rng: random.Random) -> None:
        data = f"picture {rng.randint(0, 2)}".encode()
        name = self.store.put_media(data)
        self.media[self.store.record([Media(media=(name,))]).ids[0]] = name
        self.writes += 1

    def forget(self, rng: random.Random) -> None:
        known = [*self.turns, *self.facts, *self.media]
        if known:
            id = rng.choice(known)
            self.store.purge(Scope(ids=(id,)))
            self.writes += 1
            for kept in (self.turns, self.facts, self.media):
                kept.pop(id, None)

    def check(self) -> None:
        store = self.store
        assert {r.id: r.text for r in store.list("turn")} == self.turns
        assert {r.id: r.text for r in store.list("fact")} == self.facts
        assert {r.id: r.media[0] for r in store.list("media")} == self.media
        assert store.count() == len(self.turns) + len(self.facts) + len(self.media)
        assert store.version == self.writes
        hits = store.full_text(" ".join(WORDS), limit=500)
        assert {hit.id for hit in hits} == {*self.turns, *self.facts}
        near = store.nearest("s", EAST, limit=500)
        assert {hit.id for hit in near} == set(self.turns)

    def reach_for(self, other: History) -> None:
        """Every call that takes an id, with ids of the other user: nothing comes back."""
        theirs = [id for id in (*other.turns, *other.facts, *other.media) if not self.owns(id)]
        assert self.store.get(theirs) == () and self.store.vectors("s", theirs) == {}
        assert self.store.outdated(theirs) == frozenset()
        for id in theirs[:3]:
            assert self.store.history(id) == ()
            for touch in (
                lambda id=id: self.store.purge(Scope(ids=(id,))),
                lambda id=id: self.store.put_vector(id, "s", EAST),
                lambda id=id: self.store.record([Media(evidence=(id,))]),
            ):
                with pytest.raises(InputError):
                    touch()
        for name in set(other.media.values()) - set(self.media.values()):
            with pytest.raises(InputError):
                self.store.get_media(name)
        for batch in [b for b in other.batches if b not in self.batches][:2]:
            with pytest.raises(ConsistentGenError):
                self.store.undo(batch)

    def owns(self, id: str) -> bool:
        return id in self.turns or id in self.facts or id in self.media


@pytest.mark.parametrize("pair", or_slow(PAIRS, PAIRS[::2]), ids=range(len(PAIRS)))
def test_random_histories_stay_apart(
    place: str, opened: Callable[..., Store], clock: Callable, pair: tuple[str, str]
) -> None:
    rng = random.Random(f"{pair}")
    one, other = (History(opened(place, user), user) for user in pair)
    for _ in range(24):
        # Unequal clocks, so that the ids of one user are not those of the other by chance.
        clock.advance(seconds=rng.randint(1, 9))
        mine, theirs = (one, other) if rng.random() < 0.5 else (other, one)
        step = rng.choice([mine.say, mine.say, mine.learn, mine.show, mine.forget])
        step(rng)
        mine.check()
        theirs.check()
    one.reach_for(other)
    other.reach_for(one)
    one.store.purge(Scope(everything=True))
    assert one.store.count() == 0
    other.check()
    assert one.store.verify().ok and other.store.verify().ok
