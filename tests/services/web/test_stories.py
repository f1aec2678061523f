"""Stories, jobs and artifacts through a real server, drawn by a real worker over HTTP."""

from __future__ import annotations

import io
import json
import threading
import zipfile

import httpx
import pytest
from PIL import Image

from consistent_gen.client import ApiError, Client
from consistent_gen.client.types import (
    Bubble,
    EventType,
    FramePatch,
    ImageIn,
    Job,
    JobFrameState,
    JobState,
    RerollIn,
    StoryIn,
    StoryPatch,
)
from tests.services.web.hand import Hand, Server


def refused(problem: pytest.ExceptionInfo[ApiError], status: int, code: str) -> None:
    assert (problem.value.status, problem.value.code) == (status, code), problem.value


def test_a_story_is_drawn_told_shown_and_deleted(alice: Client, hand: Hand, story: StoryIn) -> None:
    accepted = alice.create_story(story)
    events = list(alice.events(accepted.job))
    job = alice.wait(accepted.job)
    assert job.state is JobState.succeeded
    assert [frame.index for frame in job.frames] == [0, 1, 2]

    assert [e.id for e in events] == sorted({e.id for e in events})
    assert events[-1].type is EventType.done
    kinds = {event.type for event in events}
    assert {EventType.queued, EventType.started, EventType.frame, EventType.done} <= kinds
    drawn = {event.frame: event.data["artifact"] for event in events if event.type == "frame"}
    assert drawn == {frame.index: frame.artifact for frame in job.frames}

    shown = alice.story(accepted.story)
    assert shown.title == "Two friends"
    assert [len(frame.versions) for frame in shown.frames] == [1, 1, 1]
    assert shown.frames[0].caption == "Mia sets out."
    assert shown.frames[0].versions[0].scores == {"identity": 0.5}
    pictures = [alice.artifact(str(frame.artifact)) for frame in job.frames]
    assert all(Image.open(io.BytesIO(data)).size == (128, 128) for data in pictures)
    # What the worker wrote into the file is served as it is: it says how to draw it again.
    assert all(Image.open(io.BytesIO(data)).info["consistent_gen"] for data in pictures)

    assert accepted.story in {line.id for line in alice.stories().stories}
    assert accepted.job in {line.id for line in alice.jobs(state="succeeded").jobs}
    alice.delete_story(accepted.story)
    for gone in (
        lambda: alice.story(accepted.story),
        lambda: alice.job(accepted.job),
        lambda: alice.artifact(str(job.frames[0].artifact)),
    ):
        with pytest.raises(ApiError) as problem:
            gone()
        refused(problem, 404, "not_found")


def test_a_reroll_leaves_the_other_drawings_alone(
    alice: Client, hand: Hand, story: StoryIn
) -> None:
    first = alice.create_story(story.model_copy(update={"words": "strict"}))
    alice.wait(first.job)
    before = alice.story(first.story)
    again = alice.reroll(first.story, 1, RerollIn(prompt="{Bo} in a city", caption="Lost."))
    job = alice.wait(again.job)
    assert job.kind == "reroll"
    assert [(frame.index, frame.version) for frame in job.frames] == [(1, 2)]
    after = alice.story(first.story)
    assert [f.versions for f in after.frames[::2]] == [f.versions for f in before.frames[::2]]
    changed = after.frames[1]
    assert [version.version for version in changed.versions] == [1, 2]
    assert changed.current == 2
    assert changed.versions[0].seed != changed.versions[1].seed
    assert changed.caption == "Lost."
    assert changed.prompt == "{Bo} in a city"

    # The changed prompt stays for the next re-roll, and a seed can be asked for.
    third = alice.wait(alice.reroll(first.story, 1, RerollIn(seed=99)).job)
    assert third.frames[0].seed == 99
    assert alice.story(first.story).frames[1].prompt == "{Bo} in a city"

    with pytest.raises(ApiError) as problem:
        alice.reroll(first.story, 3)
    refused(problem, 404, "not_found")
    with pytest.raises(ApiError) as problem:
        alice.reroll(first.story, 0, RerollIn(prompt="a wombat"))
    refused(problem, 422, "invalid")
    assert "wombat" in problem.value.message


def test_the_same_key_is_the_same_job(alice: Client, bob: Client, story: StoryIn) -> None:
    accepted = [alice.create_story(story, idempotency_key="once") for _ in range(2)]
    assert accepted[0].job == accepted[1].job
    assert accepted[0].story == accepted[1].story
    assert bob.create_story(story, idempotency_key="once").job != accepted[0].job
    other = story.model_copy(update={"title": "Another"})
    with pytest.raises(ApiError) as problem:
        alice.create_story(other, idempotency_key="once")
    refused(problem, 409, "conflict")
    # A picture without a seed is given one, which must not make it another request.
    image = ImageIn(prompt="a fox in a forest", steps=2)
    jobs = {alice.image(image, idempotency_key="picture").job for _ in range(3)}  # type: ignore[union-attr]
    assert len(jobs) == 1
    rerolls = {
        alice.reroll(accepted[0].story, 0, RerollIn(seed=5), idempotency_key="roll").job
        for _ in range(2)
    }
    assert len(rerolls) == 1


def test_the_same_key_at_once_is_one_job(alice: Client, story: StoryIn) -> None:
    found: list[str] = []

    def create() -> None:
        found.append(alice.create_story(story, idempotency_key="at-once").job)

    threads = [threading.Thread(target=create) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6
    assert len(set(found)) == 1


@pytest.mark.parametrize("key", ["", "two words", "x" * 256, "caf\u00e9"])
def test_a_useless_key_is_refused(raw: httpx.Client, key: str, story: StoryIn) -> None:
    headers = {"Idempotency-Key": key.encode("latin-1")}
    answer = raw.post("/v1/stories", json=story.model_dump(), headers=headers)  # type: ignore[arg-type]
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"


def test_cancel_and_retry(alice: Client, hand: Hand, story: StoryIn) -> None:
    hand.pause()
    accepted = alice.create_story(story)
    assert alice.job(accepted.job).queue_position is not None
    for _ in range(2):
        assert alice.cancel(accepted.job).state is JobState.cancelled
    events = list(alice.events(accepted.job))
    assert events[-1].data["state"] == "cancelled"
    hand.go()
    alice.retry(accepted.job)
    assert alice.wait(accepted.job).state is JobState.succeeded
    assert alice.retry(accepted.job).state is JobState.succeeded
    # The stream of a job that was tried again goes on after its first end.
    assert [e.type for e in alice.events(accepted.job)].count(EventType.done) >= 1
    assert list(alice.events(accepted.job, after=events[-1].id))[-1].data["state"] == "succeeded"


def test_a_spoilt_frame_is_told_and_the_rest_is_kept(
    alice: Client, hand: Hand, story: StoryIn
) -> None:
    hand.spoil = lambda lease: lease["frame"] == 1
    accepted = alice.create_story(story)
    job = alice.wait(accepted.job)
    assert job.state is JobState.partial
    assert [frame.state for frame in job.frames] == [
        JobFrameState.succeeded, JobFrameState.failed, JobFrameState.succeeded
    ]  # fmt: skip
    assert job.frames[1].error is not None
    assert job.frames[1].error.code == "spoilt"
    assert any(event.type is EventType.error for event in alice.events(accepted.job))
    assert zip_names(alice.export(accepted.story, "cbz"))
    hand.spoil = lambda lease: False
    alice.retry(accepted.job)
    assert alice.wait(accepted.job).state is JobState.succeeded


def zip_names(data: bytes) -> list[str]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        return archive.namelist()


def test_editing_needs_the_revision(alice: Client, hand: Hand, story: StoryIn) -> None:
    accepted = alice.create_story(story)
    alice.wait(accepted.job)
    stored = alice.story(accepted.story)
    bubble = Bubble(text="Hello!", x=0.3, y=0.2, tail_x=0.5, tail_y=0.5)
    patch = StoryPatch(
        revision=stored.revision,
        title="Renamed",
        layout="comic4",
        frames=[FramePatch(index=0, caption="New words", bubbles=[bubble])],
    )
    changed = alice.patch_story(accepted.story, patch)
    assert (changed.title, changed.layout) == ("Renamed", "comic4")
    assert changed.frames[0].bubbles == [bubble]
    with pytest.raises(ApiError) as problem:
        alice.patch_story(accepted.story, patch)
    refused(problem, 409, "conflict")
    bad = StoryPatch(revision=changed.revision, layout="no-such-layout")
    with pytest.raises(ApiError) as problem:
        alice.patch_story(accepted.story, bad)
    refused(problem, 422, "unknown_name")


@pytest.mark.parametrize(
    ("format", "start"),
    [
        ("pdf", b"%PDF"),
        ("cbz", b"PK"),
        ("zip", b"PK"),
        ("png", b"\x89PNG"),
        pytest.param("gif", b"GIF8", marks=pytest.mark.slow),
    ],
)
def test_exports(
    alice: Client, raw: httpx.Client, hand: Hand, story: StoryIn, format: str, start: bytes
) -> None:
    accepted = alice.create_story(story, idempotency_key="for-exports")
    alice.wait(accepted.job)
    data = alice.export(accepted.story, format, layout="comic4")
    assert data.startswith(start)
    assert data == alice.export(accepted.story, format, layout="comic4")
    path = f"/v1/stories/{accepted.story}/export"
    answer = raw.get(path, params={"format": format})
    assert f'.{format}"' in answer.headers["content-disposition"]
    assert raw.get(path, params={"format": "exe"}).status_code == 422
    assert raw.get(path, params={"layout": "nope"}).status_code == 422
    assert raw.get(path, params={"enlarge": 3}).status_code == 422
    if format == "zip":
        large = alice.export(accepted.story, "zip", enlarge=2)
        assert "frames/00.large.png" in zip_names(large)


def test_nothing_drawn_is_nothing_to_export(alice: Client, hand: Hand, story: StoryIn) -> None:
    hand.pause()
    accepted = alice.create_story(story)
    with pytest.raises(ApiError) as problem:
        alice.export(accepted.story)
    refused(problem, 409, "not_drawn")
    alice.cancel(accepted.job)


def test_an_image_can_be_waited_for(alice: Client, raw: httpx.Client, hand: Hand) -> None:
    done = alice.image(ImageIn(prompt="a fox in a forest", steps=2), wait_s=30)
    assert isinstance(done, Job)
    assert done.state is JobState.succeeded
    assert done.kind == "image"
    hand.pause()
    answer = raw.post(
        "/v1/images", json={"prompt": "a fox"}, headers={"Prefer": "respond-async, wait=1"}
    )
    assert answer.status_code == 202
    assert answer.headers["preference-applied"] == "wait=1"
    assert answer.headers["location"] == f"/v1/jobs/{answer.json()['job']}"
    alice.cancel(answer.json()["job"])


def test_a_client_that_leaves_while_it_waits_cancels(
    alice: Client, raw: httpx.Client, hand: Hand
) -> None:
    from tests.services.web.hand import until

    hand.pause()
    with pytest.raises(httpx.ReadTimeout):
        raw.post(
            "/v1/images", json={"prompt": "a bear"}, headers={"Prefer": "wait=60"}, timeout=1.0
        )
    newest = alice.jobs(limit=1).jobs[0]
    assert newest.kind == "image"
    until(lambda: alice.job(newest.id).state is JobState.cancelled, "the cancelling")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"method": "nope"}, "method"),
        ({"steps": 151}, "150"),
        ({"size": "4096x4096"}, "2048"),
        ({"size": "100x100"}, "multiple"),
        ({"style": "nope", "words": "strict"}, "style"),
        ({"frames": [{"prompt": "a fox"}] * 65}, "64"),
        ({"frames": [{"prompt": "{Nobody} in a forest"}]}, "Nobody"),
        ({"characters": {"Mia": {"description": "a wombat"}}, "words": "strict"}, "wombat"),
        ({"characters": {"A": {"description": "a girl", "library": "chr_" + "0" * 24}}}, "library"),
        ({"title": ""}, "title"),
        ({"unknown": 1}, "unknown"),
    ],
)  # fmt: skip
def test_what_cannot_be_drawn_is_said(
    raw: httpx.Client, change: dict[str, object], says: str
) -> None:
    body = {"title": "x", "frames": [{"prompt": "a fox in a forest"}]} | change
    answer = raw.post("/v1/stories", json=body)
    assert answer.status_code == 422, answer.text
    assert says in answer.json()["detail"]


def test_lists_have_pages(alice: Client, raw: httpx.Client, story: StoryIn) -> None:
    made = [alice.create_story(story).job for _ in range(3)]
    first = alice.jobs(limit=2)
    assert first.next is not None
    seen = [job.id for job in first.jobs] + [job.id for job in alice.jobs(after=first.next).jobs]
    assert len(seen) == len(set(seen))
    assert set(made) <= set(seen)
    for bad in (
        "/v1/jobs?after=zzz",
        "/v1/stories?after=0",
        "/v1/jobs?limit=0",
        "/v1/jobs?state=x",
    ):
        assert raw.get(bad).status_code == 422
    for job in made:
        alice.cancel(job)


def test_uploads_come_back_and_go(alice: Client, raw: httpx.Client, server: Server) -> None:
    from tests.services.web.hand import world_png

    stored = alice.upload(world_png(3))
    assert stored.media_type == "image/png"
    answer = raw.get(f"/v1/artifacts/{stored.id}")
    assert answer.headers["cache-control"].startswith("private")
    assert len(answer.content) == stored.bytes
    known = raw.get(f"/v1/artifacts/{stored.id}", headers={"If-None-Match": answer.headers["etag"]})
    assert known.status_code == 304
    alice.delete_artifact(stored.id)
    assert raw.get(f"/v1/artifacts/{stored.id}").status_code == 404


def test_all_that_is_wrong_is_said_at_once(raw: httpx.Client) -> None:
    frames = [{"prompt": "a dragon and a wombat"}, {"prompt": "a fox"}, {"prompt": "a gnu"}]
    answer = raw.post("/v1/stories", json={"title": "x", "frames": frames, "size": "104x104"})
    assert answer.status_code == 422
    said = answer.json()["detail"]
    for words in ("'dragon'", "'wombat'", "frames[2].prompt", "'gnu'", "not a multiple"):
        assert words in said
    strict = {"title": "x", "frames": frames, "words": "strict"}
    said = raw.post("/v1/stories", json=strict).json()["detail"]
    assert "frames[0].prompt" in said and "frames[2].prompt" in said
    unnamed = [{"prompt": "{Bo}"}, {"prompt": "{Bo"}]
    said = raw.post("/v1/stories", json={"title": "x", "frames": unnamed}).json()["detail"]
    assert "'Bo'" in said and "frames[1].prompt" in said


def test_a_check_lists_every_problem_beside_the_words(raw: httpx.Client) -> None:
    frames = [{"prompt": "a dragon"}, {"prompt": "a fox in the garden"}, {"prompt": "a gnu"}]
    body = {"title": "x", "frames": frames, "words": "strict"}
    told = raw.post("/v1/stories/check", json=body).json()
    places = [problem.partition(": ")[0] for problem in told["problems"]]
    assert {"frames[0].prompt", "frames[2].prompt"} <= set(places)
    assert "frames[1].prompt" in [text["place"] for text in told["texts"]]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"title": "x", "frames": [{"promt": "a fox"}]}, "frames[0].promt"),
        ({"title": "x", "frames": [{"promt": "a fox"}]}, "did you mean 'prompt'?"),
        ({"title": "x", "frames": [{"promt": "a fox"}]}, "frames[0].prompt: Field required"),
        ({"titel": "x", "frames": [{"prompt": "a fox"}]}, "did you mean 'title'?"),
        ({"title": "x", "frames": [{"prompt": "a fox"}], "zzzz": 1}, "zzzz: there is no such"),
    ],
)
def test_a_misspelt_field_names_the_nearest(
    raw: httpx.Client, body: dict[str, object], says: str
) -> None:
    answer = raw.post("/v1/stories", json=body)
    assert answer.status_code == 422
    assert says in answer.json()["detail"]


@pytest.mark.parametrize("size", ["1024x1024", "512x512", "2048x64"])
def test_a_size_that_would_stop_the_others_is_refused(raw: httpx.Client, size: str) -> None:
    frames = [{"prompt": "a fox"}]
    answer = raw.post("/v1/stories", json={"title": "x", "frames": frames, "size": size})
    assert answer.status_code == 422
    assert answer.json()["code"] == "limit"
    assert "256x256" in answer.json()["detail"] and "4 times" in answer.json()["detail"]
    assert raw.post("/v1/images", json={"prompt": "a fox", "size": size}).status_code == 422
    fits = {"title": "x", "frames": frames, "size": "256x256"}
    assert raw.post("/v1/stories/check", json=fits).json()["problems"] == []


def test_an_export_tells_what_no_font_can_write(
    alice: Client, raw: httpx.Client, hand: Hand, story: StoryIn
) -> None:
    accepted = alice.create_story(story)
    alice.wait(accepted.job)
    path = f"/v1/stories/{accepted.story}/export"
    assert "x-notices" not in raw.get(path, params={"format": "png"}).headers
    caption = FramePatch(index=1, caption="Mia reads \U00012000.")
    alice.patch_story(accepted.story, StoryPatch(revision=1, frames=[caption]))
    told = raw.get(path, params={"format": "png"}).headers["x-notices"]
    assert json.loads(told) == [
        "1 character of scene 2 has no glyph in any font here: \U00012000"
    ]  # fmt: skip
    assert "x-notices" not in raw.get(path, params={"format": "zip"}).headers


def test_who_is_missing_is_told_by_frame(
    alice: Client, bob: Client, hand: Hand, story: StoryIn
) -> None:
    accepted = alice.create_story(story)
    alice.wait(accepted.job)
    try:
        found = alice.missing(accepted.story).frames
    except ApiError as error:
        assert error.status == 503  # there are no weights of the reader here
        return
    cast = {0: {"Mia"}, 1: {"Mia", "Bo"}, 2: {"Bo"}}
    assert all({*one.names} <= cast[one.index] and one.version == 1 for one in found)
    with pytest.raises(ApiError) as problem:
        bob.missing(accepted.story)
    refused(problem, 404, "not_found")
