"""Stories: what was asked, versions, patches, lists."""

from __future__ import annotations

import threading

import pytest

from consistent_gen.client.types import (
    Bubble,
    CharacterIn,
    FrameIn,
    FramePatch,
    StoryIn,
    StoryPatch,
)
from consistent_gen.errors import InputError
from services.errors import Conflict, NotFound
from services.jobs import OrderedFrame
from tests.services.shop import Shop

BUBBLE = Bubble(text="Hello!", x=0.5, y=0.2, tail_x=0.4, tail_y=0.6)


def reroll(shop: Shop, story: str, index: int, prompt: str | None = None) -> int:
    version = shop.stories.next_version("alice", story, index)
    frame = OrderedFrame(index, version, version, 5, {"frame": index, "prompt": prompt})
    shop.jobs.create(owner="alice", kind="reroll", story=story, frames=[frame])
    return version


def test_a_story_comes_back_as_it_was_asked_for(shop: Shop) -> None:
    request = StoryIn(
        title="Zwölf Füchse 🦊",
        frames=[FrameIn(prompt="{Mia} runs", caption="Run!", seed=2**63 - 1), FrameIn(prompt="b")],
        characters={"Mia": CharacterIn(description="a red fox", strength=0.5)},
        seed=7,
        deadline_s=1.5,
    )
    story = shop.stories.get("alice", shop.stories.create("alice", request, layout="strip"))
    assert story.request == request and story.layout == "strip" and story.revision == 1
    assert [(f.index, f.prompt, f.caption) for f in story.frames] == [
        (0, "{Mia} runs", "Run!"),
        (1, "b", ""),
    ]
    assert all(f.current is None and f.versions == [] for f in story.frames)


def test_a_reroll_adds_a_version_and_touches_no_other_frame(shop: Shop) -> None:
    job = shop.submit("alice", frames=2)
    shop.draw_all()
    before = shop.stories.get("alice", job.story)
    assert reroll(shop, job.story, 1, "scene 1 at night") == 2
    shop.draw_all()
    after = shop.stories.get("alice", job.story)
    assert after.frames[0] == before.frames[0]
    first, second = after.frames[1].versions
    assert first == before.frames[1].versions[0] and after.frames[1].current == 2
    assert (first.prompt, second.prompt) == ("scene 1", "scene 1 at night")
    assert after.frames[1].prompt == "scene 1 at night" and second.artifact != first.artifact
    assert after.revision == before.revision, "drawings do not disturb who is editing"


def test_the_newest_version_counts_whichever_is_drawn_last(shop: Shop) -> None:
    job = shop.submit("alice", frames=1)
    shop.draw_all()
    assert [reroll(shop, job.story, 0), reroll(shop, job.story, 0)] == [2, 3]
    second, third = sorted(shop.jobs.lease("worker", 2), key=lambda lease: lease.version)
    shop.draw(third)
    assert shop.stories.get("alice", job.story).frames[0].current == 3
    shop.draw(second)
    frame = shop.stories.get("alice", job.story).frames[0]
    assert frame.current == 3 and [v.version for v in frame.versions] == [1, 2, 3]


def test_versions_are_handed_out_once(shop: Shop) -> None:
    story = shop.story("alice", 1)
    got: list[int] = []
    threads = [
        threading.Thread(
            target=lambda: got.extend(
                shop.stories.next_version("alice", story, 0) for _ in range(10)
            )
        )
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert sorted(got) == list(range(1, 41))


def test_a_patch_changes_what_it_names(shop: Shop) -> None:
    job = shop.submit("alice", frames=2)
    shop.draw_all()
    reroll(shop, job.story, 0)
    shop.draw_all()
    patched = shop.stories.patch(
        "alice",
        job.story,
        StoryPatch(
            revision=1,
            title="New",
            frames=[
                FramePatch(index=0, caption="Once", current=1),
                FramePatch(index=1, bubbles=[BUBBLE]),
            ],
        ),
    )
    assert (patched.title, patched.layout, patched.revision) == ("New", "grid", 2)
    assert (patched.frames[0].caption, patched.frames[0].current) == ("Once", 1)
    assert patched.frames[1].bubbles == [BUBBLE] and patched.frames[1].current == 1
    cleared = StoryPatch(revision=2, frames=[FramePatch(index=1, bubbles=[])])
    assert shop.stories.patch("alice", job.story, cleared).frames[1].bubbles == []
    assert shop.stories.get("alice", job.story).frames[0].caption == "Once"


@pytest.mark.parametrize(
    ("patch", "error"),
    [
        (StoryPatch(revision=2, title="x"), Conflict),
        (StoryPatch(revision=1, title="x", frames=[FramePatch(index=9)]), InputError),
        (StoryPatch(revision=1, title="x", frames=[FramePatch(index=0, current=1)]), InputError),
    ],
)
def test_a_patch_that_does_not_fit_changes_nothing(
    shop: Shop, patch: StoryPatch, error: type[Exception]
) -> None:
    story = shop.story("alice", 2)
    before = shop.stories.get("alice", story)
    frames = [FramePatch(index=1, caption="first"), *patch.frames]
    with pytest.raises(error):
        shop.stories.patch("alice", story, patch.model_copy(update={"frames": frames}))
    assert shop.stories.get("alice", story) == before


def test_of_two_editors_one_is_told(shop: Shop) -> None:
    story = shop.story("alice", 1)
    shop.stories.patch("alice", story, StoryPatch(revision=1, title="first"))
    with pytest.raises(Conflict, match="revision 2"):
        shop.stories.patch("alice", story, StoryPatch(revision=1, title="second"))
    assert shop.stories.get("alice", story).title == "first"


def test_a_caption_of_a_reroll_is_an_edit(shop: Shop) -> None:
    story = shop.story("alice", 1)
    shop.stories.next_version("alice", story, 0, caption="New words")
    found = shop.stories.get("alice", story)
    assert found.frames[0].caption == "New words" and found.revision == 2
    with pytest.raises(NotFound):
        shop.stories.next_version("alice", story, 5)


def test_lists_have_covers_and_pages(shop: Shop) -> None:
    made = []
    for number in range(5):
        made.append(shop.story("alice", 2))
        shop.clock.advance(number % 2)
    shop.clock.advance(1)  # equal times are ordered by id, and this one must be the newest
    job = shop.submit("alice", frames=3)
    (lease,) = shop.jobs.lease("worker", 1)
    shop.draw(lease)
    shop.story("bob", 1)
    pages, after = [], None
    for _ in range(10):
        page = shop.stories.list("alice", after=after, limit=2)
        pages.append(page.stories)
        after = page.next
        if after is None:
            break
    seen = [summary for page in pages for summary in page]
    assert [len(page) for page in pages] == [2, 2, 2]
    assert sorted(s.id for s in seen) == sorted([*made, job.story]) and seen[0].id == job.story
    assert (seen[0].frames, seen[0].drawn) == (3, 1)
    assert seen[0].cover == shop.jobs.get("alice", job.id).frames[0].artifact
    assert seen[-1].cover is None
    with pytest.raises(InputError):
        shop.stories.list("alice", after="nonsense")


def test_a_deleted_story_is_gone_with_its_pictures(shop: Shop) -> None:
    job = shop.submit("alice", frames=2)
    shop.draw_all()
    shop.stories.delete("alice", job.story)
    for call in (shop.stories.get, shop.stories.delete):
        with pytest.raises(NotFound):
            call("alice", job.story)
    shop.artifacts.sweep(0)
    assert list((shop.folder / "artifacts").glob("??/*")) == []
    for table in ("stories", "story_frames", "frame_versions", "jobs", "job_frames", "events"):
        assert shop.db.rows(f"SELECT * FROM {table}") == [], table
