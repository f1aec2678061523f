"""Who goes first when there are more frames than rows, over frames that are never denoised."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field

import hypothesis.strategies as st
import torch
from hypothesis import given, settings

from consistent_gen.draw_settings import DrawSettings
from consistent_gen.engine import FrameRequest, Group
from consistent_gen.engine.graph import check_choice
from consistent_gen.engine.state import FrameState
from services.painting.ordering_rules import PATIENCE, CallChoice, Standing

ROWS = 8  # four frames with guidance
SMALL, WIDE = (4, 8, 8), (4, 8, 16)


@dataclass
class Line:
    """Frames that wait for calls and leave after their last step."""

    rows: int = ROWS
    ready: list[Group] = field(default_factory=list)
    standing: dict[Group, Standing] = field(default_factory=dict)
    passed: dict[Group, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.choice = CallChoice(self.standing.__getitem__)

    def add(
        self, user: str, count: int = 1, *, steps: int = 4, shape: tuple[int, int, int] = SMALL,
        owner: str = "school", bulk: bool = False,
    ) -> list[Group]:  # fmt: skip
        """Frames of a user, as young as can be."""
        found = []
        for _ in range(count):
            request = FrameRequest(
                prompt="", seed=0, settings=DrawSettings(steps=steps, guidance=2.0)
            )
            group = Group((FrameState(f"{user}{len(self.standing)}", request, shape),))
            self.standing[group] = Standing(owner, user, bulk)
            self.ready.append(group)
            found.append(group)
        return found

    def call(self) -> list[Group]:
        """Make a call; returns who was in it."""
        chosen = self.choice(self.ready, self.rows)
        check_choice(chosen, self.ready, self.rows)
        for group in self.ready:
            self.passed[group] = 0 if group in chosen else self.passed.get(group, 0) + 1
        for group in chosen:
            (state,) = group.frames
            state.latent = torch.zeros(state.latent_shape)
            state.index += 1
        self.ready = [group for group in self.ready if not group.frames[0].finished]
        return chosen

    def users(self) -> str:
        """Make a call; returns its users in order of the alphabet."""
        return "".join(sorted(self.standing[group].user for group in self.call()))


def test_a_user_without_a_row_gets_one_from_who_has_most() -> None:
    line = Line()
    line.add("a", 3, steps=9)
    line.add("b", 1, steps=9)
    assert line.users() == "aaab"
    line.add("c")
    assert [line.users() for _ in range(5)] == ["aabc"] * 4 + ["aaab"]


def test_nobody_who_has_one_row_gives_it_up() -> None:
    line = Line()
    for user in "abcd":
        line.add(user, steps=5)
    assert line.users() == "abcd"
    line.add("e")
    assert [line.users() for _ in range(5)] == ["abcd"] * 4 + ["e"]


def test_new_frames_of_a_user_wait_for_those_that_have_begun() -> None:
    line = Line()
    begun = line.add("a", 4)
    line.call()
    line.add("a", 3)
    assert line.call() == begun


def test_frames_of_one_user_sit_out_by_turns_and_end_together() -> None:
    line = Line()
    frames = line.add("a", 4, steps=8)
    line.call()
    line.add("b", steps=8)
    for _ in range(8):
        line.call()
        steps = [group.frames[0].index for group in frames]
        assert max(steps) - min(steps) <= 1, steps
        assert max(line.passed[group] for group in frames) <= 1


def test_an_owner_gets_no_more_rows_for_having_many_users() -> None:
    line = Line()
    line.add("a", 4, steps=9, owner="alone")
    line.call()
    for user in "cdefg":
        line.add(user, steps=9, owner="crowd")
    assert line.users() == "aacd"


def test_bulk_frames_have_what_is_left() -> None:
    line = Line()
    line.add("a", 4, steps=3, bulk=True)
    line.call()
    line.add("b", 3, steps=2)
    assert [line.users() for _ in range(4)] == ["abbb", "abbb", "aaaa", "aa"]


def test_pictures_of_two_sizes_take_turns_between_users() -> None:
    line = Line()
    line.add("a", 4, steps=6)
    line.call()
    line.add("b", steps=3, shape=WIDE)
    assert [line.users() for _ in range(6)] == ["aaaa", "b", "aaaa", "b", "aaaa", "b"]


def test_another_size_of_the_same_user_begins_though_others_begin_again_and_again() -> None:
    line = Line()
    line.add("a", 2, steps=3)
    line.call()
    (wide,) = line.add("a", steps=2, shape=WIDE)
    calls = 0
    while wide in line.ready:
        line.add("a", steps=3)
        line.call()
        calls += 1
        assert line.passed[wide] <= PATIENCE
    assert calls > PATIENCE, "there was always an older one that had begun"


ARRIVALS = st.lists(
    st.tuples(
        st.integers(0, 3),  # calls since the one before
        st.sampled_from(["school", "alone", "firm"]),
        st.sampled_from("abcdef"),
        st.integers(1, 30),
        st.sampled_from([SMALL, SMALL, SMALL, WIDE]),
        st.sampled_from([False, False, False, True]),
    ),
    min_size=8,
    max_size=60,
)


@settings(max_examples=60, deadline=None)
@given(arrivals=ARRIVALS, most=st.integers(2, 15), rows=st.sampled_from([2, 4, 8]))
def test_nobody_waits_for_ever(
    arrivals: list[tuple[int, str, str, int, tuple[int, int, int], bool]], most: int, rows: int
) -> None:
    """With at most so many frames at once, each sits out a bounded number of calls in a row."""
    line = Line(rows)
    waiting: Iterator[tuple[int, str, str, int, tuple[int, int, int], bool]] = iter(arrivals)
    pause = 0
    following = next(waiting, None)
    while following is not None or line.ready:
        while following is not None and len(line.ready) < most and (not pause or not line.ready):
            pause, owner, user, steps, shape, bulk = following
            line.add(user, owner=owner, steps=steps, shape=shape, bulk=bulk)
            following = next(waiting, None)
        pause = max(0, pause - 1)
        line.call()
        for group in line.ready:
            if not line.standing[group].bulk:
                # After that only those go before it that have waited as long, each of them once:
                # among its user's frames, among its owner's users, among owners, among sizes.
                assert line.passed[group] <= 4 * (PATIENCE + most)


def test_a_large_user_goes_on_while_small_ones_come_and_go() -> None:
    """In every call it has a row at least, whoever comes, and no frame of its stands still."""
    dice = random.Random(0)
    line = Line()
    frames = line.add("a", 4, steps=40)
    line.call()
    while any(group in line.ready for group in frames):
        while sum(line.standing[group].user != "a" for group in line.ready) < 5:
            line.add(dice.choice("bcdefgh"), steps=dice.randint(1, 6))
        assert "a" in line.users()
        assert all(line.passed[group] <= len(frames) for group in frames if group in line.ready)
