"""A drawn story becomes another one: only what looks different is drawn again, the rest is kept."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from consistent_gen.client import ApiError, Client
from consistent_gen.client.types import (
    Bubble,
    FramePatch,
    JobState,
    RerollIn,
    StoryChange,
    StoryIn,
    StoryOut,
    StoryPatch,
)
from consistent_gen.runtime import frame_seed
from tests.services.web.hand import Hand, Server, until

FRAMES = [
    {"prompt": "{Mia} walking in a forest", "caption": "Mia sets out."},
    {"prompt": "{Mia} sitting in a meadow"},
    {"prompt": "{Bo} sitting in a meadow"},
    {"prompt": "a fox in a forest"},
]


@pytest.fixture
def drawn(alice: Client, hand: Hand, story: StoryIn) -> StoryOut:
    told = StoryIn.model_validate(story.model_dump() | {"frames": FRAMES, "words": "own"})
    accepted = alice.create_story(told)
    alice.wait(accepted.job)
    return alice.story(accepted.story)


def change(drawn: StoryOut, origins: list[int | None] | None = None, **fields: Any) -> StoryChange:
    told = StoryIn.model_validate(drawn.request.model_dump() | fields)
    kept = list(range(len(drawn.frames))) if origins is None else origins
    return StoryChange(revision=drawn.revision, story=told, origins=kept)


def counted(story: StoryOut) -> list[int | None]:
    return [frame.current for frame in story.frames]


def test_an_edited_character_is_drawn_again_where_it_is(alice: Client, drawn: StoryOut) -> None:
    bubble = Bubble(text="Hm.", x=0.5, y=0.2)
    patch = StoryPatch(revision=drawn.revision, frames=[FramePatch(index=2, bubbles=[bubble])])
    drawn = alice.patch_story(drawn.id, patch)
    cast = drawn.request.model_dump()["characters"]
    cast["Bo"]["description"] = "a black dog with a red scarf"
    changed = alice.change_story(drawn.id, change(drawn, characters=cast))
    assert changed.drawn == [2]
    assert changed.job is not None
    job = alice.wait(changed.job)
    assert (job.kind, [frame.seed for frame in job.frames]) == ("changes", [frame_seed(7, 2)])
    after = alice.story(drawn.id)
    assert after.revision == changed.revision
    assert counted(after) == [1, 1, 2, 1]
    assert after.frames[2].bubbles == [bubble]
    assert after.frames[0] == drawn.frames[0]
    again = alice.change_story(drawn.id, change(after))
    assert (again.drawn, again.job) == ([], None)


def test_added_moved_and_removed_scenes(alice: Client, drawn: StoryOut) -> None:
    reroll = alice.reroll(drawn.id, 1, RerollIn(seed=99))
    alice.wait(reroll.job)
    drawn = alice.story(drawn.id)
    frames = drawn.request.model_dump()["frames"]
    added = {"prompt": "a fox on a beach"}
    told = [frames[3], added, frames[0], frames[1]]
    changed = alice.change_story(drawn.id, change(drawn, [3, None, 0, 1], frames=told))
    assert changed.drawn == [1]
    assert changed.job is not None
    alice.wait(changed.job)
    after = alice.story(drawn.id)
    was = drawn.frames
    assert [f.versions[0].artifact for f in after.frames if f.index != 1] == [
        was[i].versions[0].artifact for i in (3, 0, 1)
    ]
    assert [f.caption for f in after.frames] == ["", "", "Mia sets out.", ""]
    assert after.frames[3].current == 2  # the re-roll
    seeds = [frame.seed for frame in after.request.frames]
    assert seeds[0] == frame_seed(7, 3)
    assert seeds[2:] == [frame_seed(7, 0), frame_seed(7, 1)]
    assert seeds[1] not in {frame_seed(7, i) for i in range(4)}
    gone = was[2].versions[0].artifact
    with pytest.raises(ApiError, match="artifact"):
        alice.artifact(gone)
    old = was[0].versions[0].job
    with pytest.raises(ApiError, match="changed since"):
        alice.retry(old)


def test_a_reroll_keeps_its_words_and_its_seed(alice: Client, drawn: StoryOut) -> None:
    reroll = alice.reroll(drawn.id, 2, RerollIn(prompt="{Bo} on a beach", seed=99))
    alice.wait(reroll.job)
    drawn = alice.story(drawn.id)
    frames = [
        {"prompt": frame.prompt, "caption": frame.caption or None} for frame in drawn.frames
    ]  # as the desk shows them
    frames[0]["prompt"] = "{Mia} walking on a beach"
    changed = alice.change_story(drawn.id, change(drawn, frames=frames))
    assert 0 in changed.drawn and not {2, 3} & {*changed.drawn}
    alice.wait(str(changed.job))
    drawn = alice.story(drawn.id)
    assert drawn.frames[2].prompt == "{Bo} on a beach"
    cast = drawn.request.model_dump()["characters"]
    cast["Bo"]["description"] = "a black dog"
    frames = [{"prompt": frame.prompt} for frame in drawn.frames]
    changed = alice.change_story(drawn.id, change(drawn, characters=cast, frames=frames))
    assert changed.drawn == [2]
    job = alice.wait(str(changed.job))
    assert job.frames[0].seed == 99
    assert alice.story(drawn.id).frames[2].prompt == "{Bo} on a beach"


def test_what_was_stopped_is_drawn_the_next_time(
    alice: Client, hand: Hand, drawn: StoryOut
) -> None:
    frames = drawn.request.model_dump()["frames"]
    frames[3]["prompt"] = "a fox on a beach"
    hand.pause()
    changed = alice.change_story(drawn.id, change(drawn, frames=frames))
    assert changed.drawn == [3]
    stored = alice.story(drawn.id)
    with pytest.raises(ApiError, match="being drawn") as problem:
        alice.change_story(drawn.id, change(stored))
    assert problem.value.status == 409
    alice.cancel(str(changed.job))
    until(lambda: alice.job(str(changed.job)).state is JobState.cancelled)
    hand.go()
    again = alice.change_story(drawn.id, change(alice.story(drawn.id)))
    assert again.drawn == [3]
    assert alice.wait(str(again.job)).state is JobState.succeeded


def test_a_reference_that_came_changes_who_reads_it(
    alice: Client, hand: Hand, story: StoryIn, server: Server
) -> None:
    from consistent_gen.client.types import LibraryCharacterIn
    from tests.services.web.hand import world_png

    library = alice.create_character(LibraryCharacterIn(name="Changed Bo", description="a dog"))
    cast = story.model_dump()["characters"]
    cast["Bo"]["library"] = library.id
    told = story.model_copy(update={"frames": story.frames, "words": "own"})
    told = StoryIn.model_validate(told.model_dump() | {"characters": cast, "frames": FRAMES})
    accepted = alice.create_story(told)
    alice.wait(accepted.job)
    drawn = alice.story(accepted.story)
    assert alice.change_story(drawn.id, change(drawn)).drawn == []
    alice.add_reference(library.id, world_png(5))
    changed = alice.change_story(drawn.id, change(alice.story(drawn.id)))
    assert changed.drawn == [2]
    alice.wait(str(changed.job))


@pytest.mark.parametrize("origins", [[0], [0, 1, 2, 4], [0, 0, 1, 2], [0, 1, 2, 3, None]])
def test_origins_that_fit_nothing_are_refused(
    alice: Client, drawn: StoryOut, origins: list[int | None]
) -> None:
    with pytest.raises(ApiError, match="origins") as problem:
        alice.change_story(drawn.id, change(drawn, origins))
    assert problem.value.status == 422
    assert alice.story(drawn.id) == drawn


def test_a_change_of_another_revision_or_user_is_refused(
    alice: Client, bob: Client, raw: httpx.Client, drawn: StoryOut
) -> None:
    wish = change(drawn)
    stale = wish.model_copy(update={"revision": drawn.revision + 5})
    for client, asked, status in ((alice, stale, 409), (bob, wish, 404)):
        with pytest.raises(ApiError) as problem:
            client.change_story(drawn.id, asked)
        assert problem.value.status == status
    body = wish.model_dump(mode="json") | {"story": {"title": "x", "frames": []}}
    assert raw.post(f"/v1/stories/{drawn.id}/changes", json=body).status_code == 422
