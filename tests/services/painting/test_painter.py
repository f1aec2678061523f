"""The painter: any frame of any story, alone or in company, has the same bytes."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from consistent_gen.client.types import StoryIn
from consistent_gen.engine import Engine, FrameDone
from consistent_gen.errors import InputError, LimitError
from consistent_gen.methods import FOR_EVERY_MODEL
from consistent_gen.models.backbone import Backbone
from consistent_gen.story.cast import Cast
from services.jobs import Lease
from services.painting.anchor_cache import IDLE_SHARE
from services.painting.painter import Painter
from services.painting.reports import Drawn, Failed, Report, Stepped
from services.plans import validate_story
from tests.every_run import or_slow
from tests.services.small_model import MakeLease, story

BUCKET = 4  # rows per call: small, so that these tests are quick


def painter_of(backbone: Backbone, **options: Any) -> Painter:
    return Painter(backbone, **{"bucket": BUCKET, **options})


def drive(painter: Painter) -> list[Report]:
    found = []
    while not painter.idle:
        found += painter.step()
    return found


def pictures(reports: list[Report]) -> dict[str, np.ndarray]:
    assert not [r for r in reports if isinstance(r, Failed)], reports
    return {r.lease: r.image for r in reports if isinstance(r, Drawn)}


def draw_file(backbone: Backbone, request: StoryIn, bucket: int = BUCKET) -> dict[int, np.ndarray]:
    """The story as `consistent-gen story` draws it: all frames at once, nothing else there."""
    plan = validate_story(request, backbone)
    engine = Engine(backbone, bucket=bucket)
    cast = Cast(plan, engine)
    for frame in plan.frames:
        cast.draw(frame)
    found = {}
    while not engine.idle:
        for event in engine.step():
            if isinstance(event, FrameDone):
                found[int(event.id)] = event.image
    return found


@contextmanager
def poisoned(backbone: Backbone, word: str, error: type[Exception] = RuntimeError) -> Iterator[Any]:
    """Every denoiser call with a row whose prompt is `word` fails."""
    tokens = backbone.encode_prompt([word])[0]
    calls = []

    def look(_module: Any, args: tuple[torch.Tensor, ...]) -> None:
        calls.append(len(args[0]))
        if any(torch.equal(row, tokens) for row in args[2]):
            raise error("the kernel failed")

    hook = backbone.denoiser.register_forward_pre_hook(look)
    try:
        yield calls
    finally:
        hook.remove()


@pytest.mark.parametrize("method", or_slow(FOR_EVERY_MODEL, ["head_start"]))
def test_each_frame_alone_is_the_frame_of_the_whole_story(
    tiny: Backbone, make_lease: MakeLease, method: str
) -> None:
    request = story(method)
    expected = draw_file(tiny, request)
    painter = painter_of(tiny)
    order = [4, 0, 2, 3, 1]
    for index in order:  # one at a time: anchors are drawn when first needed, then kept
        lease = make_lease(request, index)
        painter.submit(lease)
        assert np.array_equal(pictures(drive(painter))[lease.id], expected[index]), index
    fresh = painter_of(tiny)
    lease = make_lease(request, 4)
    fresh.submit(lease)
    assert np.array_equal(pictures(drive(fresh))[lease.id], expected[4])


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_bytes_do_not_depend_on_company(tiny: Backbone, make_lease: MakeLease, seed: int) -> None:
    """Several stories and users, joining late, some cancelled, in random order."""
    dice = random.Random(seed)
    methods = dice.sample(sorted(FOR_EVERY_MODEL), 2)
    requests = {f"sto_{m}": story(m, seed=seed, steps=dice.choice((2, 3))) for m in methods} | {
        "sto_wide": story("vanilla", seed=seed, size="192x96")
    }
    expected = {name: draw_file(tiny, request) for name, request in requests.items()}
    waiting = [(name, index) for name in requests for index in range(5)]
    dice.shuffle(waiting)
    painter = painter_of(tiny, max_frames=6)
    leases: dict[str, tuple[str, int]] = {}
    cancelled = set()
    checked = 0
    while waiting or not painter.idle:
        while waiting and painter.room and (painter.idle or dice.random() < 0.7):
            name, index = waiting.pop()
            lease = make_lease(requests[name], index, name=name)
            leases[lease.id] = name, index
            painter.submit(lease)
        if painter.active and dice.random() < 0.1:
            victim = dice.choice(sorted(painter.active))
            painter.cancel(victim)
            cancelled.add(victim)
        for lease_id, image in pictures(painter.step()).items():
            name, index = leases[lease_id]
            assert lease_id not in cancelled
            assert np.array_equal(image, expected[name][index]), (name, index)
            checked += 1
    assert checked == len(leases) - len(cancelled)
    assert not hasattr(tiny.denoiser, "_consistent_gen_patch")


def test_a_reroll_reads_the_same_anchors(tiny: Backbone, make_lease: MakeLease) -> None:
    """Another seed or prompt changes that frame, and no other one, whatever is drawn first."""
    request = story("consistory")
    expected = draw_file(tiny, request)
    again, words = make_lease(request, 1, seed=5), make_lease(request, 1, prompt="{Mia} walking")
    results = []
    for order in ([again, words], [words, again]):
        painter = painter_of(tiny)
        found: dict[str, np.ndarray] = {}
        for lease in order:
            painter.submit(lease)
            found |= pictures(drive(painter))
        other = make_lease(request, 4)
        painter.submit(other)
        assert np.array_equal(pictures(drive(painter))[other.id], expected[4])
        results.append(found)
    for lease in (again, words):
        assert np.array_equal(results[0][lease.id], results[1][lease.id])
        assert not np.array_equal(results[0][lease.id], expected[1])


def test_a_character_that_only_a_reroll_shows(tiny: Backbone, make_lease: MakeLease) -> None:
    request = story("consistory", frames=[{"prompt": "{Mia} reading"}, {"prompt": "a fox"}])
    lease = make_lease(request, 1, prompt="{Bo} and a fox")
    painter = painter_of(tiny)
    painter.submit(lease)
    assert pictures(drive(painter)).keys() == {lease.id}


def test_cancel_takes_effect_before_the_next_call(tiny: Backbone, make_lease: MakeLease) -> None:
    request = story(steps=6)
    painter = painter_of(tiny)
    leases = [make_lease(request, index) for index in range(3)]
    for lease in leases:
        painter.submit(lease)
    painter.step()
    painter.cancel(leases[1].id)
    steps = [r.lease for r in painter.step() if isinstance(r, Stepped)]
    assert steps == [leases[0].id, leases[2].id]
    assert pictures(drive(painter)).keys() == {leases[0].id, leases[2].id}


@pytest.mark.parametrize("method", or_slow(["consistory", "style_aligned"], ["style_aligned"]))
def test_cancelling_all_stops_the_anchors_too(
    tiny: Backbone, make_lease: MakeLease, method: str
) -> None:
    request = story(method, steps=4)
    painter = painter_of(tiny)
    leases = [make_lease(request, index) for index in (0, 1)]
    for lease in leases:
        painter.submit(lease)
    painter.step()
    painter.cancel(leases[0].id)
    painter.step()
    assert painter.active == {leases[1].id}
    painter.cancel(leases[1].id)
    painter.step()
    assert painter.idle
    again = make_lease(request, 0)
    painter.submit(again)
    assert np.array_equal(pictures(drive(painter))[again.id], draw_file(tiny, request)[0])


def test_cancelling_an_anchor_does_not_disturb_its_readers(
    tiny: Backbone, make_lease: MakeLease
) -> None:
    request = story("consistory", steps=3)
    painter = painter_of(tiny)
    anchor, reader = make_lease(request, 1), make_lease(request, 4)
    painter.submit(anchor)
    painter.submit(reader)
    painter.step()
    painter.cancel(anchor.id)
    found = pictures(drive(painter))
    assert found.keys() == {reader.id}
    assert np.array_equal(found[reader.id], draw_file(tiny, request)[4])


def test_bulk_frames_wait_between_two_steps(tiny: Backbone, make_lease: MakeLease) -> None:
    painter = painter_of(tiny, bucket=2)
    bulk = make_lease(story(steps=4, bulk=True), 3)
    painter.submit(bulk)
    painter.step()
    urgent = make_lease(story(steps=2), 3, name="sto_2")
    painter.submit(urgent)
    order = [r.lease for r in drive(painter) if isinstance(r, Drawn)]
    assert order == [urgent.id, bulk.id]


def test_only_the_frame_at_fault_fails(tiny: Backbone, make_lease: MakeLease) -> None:
    request = story(
        frames=[{"prompt": p} for p in ("a cat", "a fox", "a bear", "the city", "a hat")]
    )
    expected = draw_file(tiny, request, 8)
    with poisoned(tiny, "a bear") as calls:
        painter = painter_of(tiny, bucket=8)
        leases = [make_lease(request, index) for index in range(5)]
        for lease in leases:
            painter.submit(lease)
        reports = drive(painter)
    failed = [r for r in reports if isinstance(r, Failed)]
    assert [r.lease for r in failed] == [leases[2].id]
    assert failed[0].retryable and "the kernel failed" in str(failed[0].error)
    drawn = {r.lease: r.image for r in reports if isinstance(r, Drawn)}
    for index in (0, 1, 3, 4):
        assert np.array_equal(drawn[leases[index].id], expected[index])
    assert set(calls) == {8}


def test_a_poisoned_stranger_does_not_harm_a_story(tiny: Backbone, make_lease: MakeLease) -> None:
    request = story("consistory")
    expected = draw_file(tiny, request, 8)
    with poisoned(tiny, "the old city"):
        painter = painter_of(tiny, bucket=8)
        leases = [make_lease(request, index) for index in range(5)]
        bad = make_lease(story(frames=[{"prompt": "the old city"}]), 0, name="sto_2")
        for lease in (leases[1], bad, *leases[2:], leases[0]):
            painter.submit(lease)
        reports = drive(painter)
    assert [r.lease for r in reports if isinstance(r, Failed)] == [bad.id]
    drawn = {r.lease: r.image for r in reports if isinstance(r, Drawn)}
    for index, lease in enumerate(leases):
        assert np.array_equal(drawn[lease.id], expected[index]), index


def test_a_character_that_cannot_be_drawn_fails_its_own_frames(
    tiny: Backbone, make_lease: MakeLease
) -> None:
    request = story("style_aligned")
    with poisoned(tiny, "a small bear walking in a meadow"):
        painter = painter_of(tiny, bucket=8)
        leases = [make_lease(request, index) for index in range(5)]
        for lease in leases:
            painter.submit(lease)
        reports = drive(painter)
    failed = {r.lease for r in reports if isinstance(r, Failed)}
    assert failed == {leases[0].id, leases[2].id}
    assert {r.lease for r in reports if isinstance(r, Drawn)} == {leases[i].id for i in (1, 3, 4)}


def test_without_memory_a_frame_fails_with_advice(tiny: Backbone, make_lease: MakeLease) -> None:
    with poisoned(tiny, "a green fox", torch.OutOfMemoryError):
        painter = painter_of(tiny)
        lease = make_lease(story(), 3)
        painter.submit(lease)
        (failed,) = [r for r in drive(painter) if isinstance(r, Failed)]
    assert "draw smaller pictures" in str(failed.error)


def test_in_throughput_mode_a_call_that_is_too_large_becomes_smaller(
    tiny: Backbone, make_lease: MakeLease
) -> None:
    limit, sizes = 4, []

    def look(_module: Any, args: tuple[torch.Tensor, ...]) -> None:
        sizes.append(len(args[0]))
        if len(args[0]) > limit:
            raise torch.OutOfMemoryError("too large")

    hook = tiny.denoiser.register_forward_pre_hook(look)
    try:
        painter = painter_of(tiny, bucket=8, exact=False)
        for index in range(4):
            painter.submit(make_lease(story(steps=3), index))
        assert len(pictures(drive(painter))) == 4
        assert sizes[0] == 8 and max(sizes[1:]) <= limit
        sizes.clear()
        for index in range(4):  # the size is remembered
            painter.submit(make_lease(story(steps=3), index))
        assert len(pictures(drive(painter))) == 4
        assert max(sizes) <= limit
    finally:
        hook.remove()


def test_anchors_are_kept_within_their_bytes(tiny: Backbone, make_lease: MakeLease) -> None:
    request = story("style_aligned")
    probe = painter_of(tiny)
    probe.submit(make_lease(request, 4))
    drive(probe)
    one = probe._cache.bytes
    painter = painter_of(tiny, anchor_bytes=int(one * 1.5))
    for number in range(4):  # two stories never fit at once, so one waits for the other
        painter.submit(make_lease(request, 4, name=f"sto_{number}"))
    peak, found = 0, {}
    while not painter.idle:
        found |= pictures(painter.step())
        peak = max(peak, painter._cache.bytes)
    assert len(found) == 4 and len({image.tobytes() for image in found.values()}) == 1
    assert peak <= one * 1.5
    with pytest.raises(LimitError, match="anchors' bank"):
        painter_of(tiny, anchor_bytes=one // 2).submit(make_lease(request, 4))


@pytest.mark.parametrize(
    ("idle_stories", "kept"), [(3.5, 3), (0.5, 1), pytest.param(99, 16, marks=pytest.mark.slow)]
)
def test_of_stories_that_nobody_draws_the_last_ones_stay(
    tiny: Backbone, make_lease: MakeLease, idle_stories: float, kept: int
) -> None:
    request = story("story_diffusion")
    probe = painter_of(tiny)
    probe.submit(make_lease(request, 1))
    drive(probe)
    painter = painter_of(tiny, anchor_bytes=int(probe._cache.bytes * idle_stories / IDLE_SHARE))
    names = [f"sto_{number}" for number in range(kept + 2)]
    for name in names:
        painter.submit(make_lease(request, 1, name=name))
        drive(painter)
    assert painter.stories == tuple(names[-kept:])


def test_references_of_the_library_are_anchors(
    tiny: Backbone, make_lease: MakeLease, tmp_path: Path
) -> None:
    for colour in ("red", "blue"):
        Image.new("RGB", (90, 60), colour).save(tmp_path / f"art_{colour}", "PNG")
    request = story("style_aligned")
    found = []
    for colour in ("red", "blue", "red"):
        painter = painter_of(tiny)
        leases = [make_lease(request, i, references={"Bo": [f"art_{colour}"]}) for i in (1, 2)]
        for lease in leases:
            painter.submit(lease, tmp_path)
        found.append([pictures(drive(painter))[leases[1].id]])
    assert np.array_equal(found[0][0], found[2][0])
    assert not np.array_equal(found[0][0], found[1][0])


@pytest.mark.parametrize("method", ["vanilla", "consistory", "style_aligned"])
def test_progress_never_stands_still_or_goes_back(
    tiny: Backbone, make_lease: MakeLease, method: str
) -> None:
    painter = painter_of(tiny)
    lease = make_lease(story(method, steps=6), 1)
    painter.submit(lease)
    told = [r.step for r in drive(painter) if isinstance(r, Stepped)]
    assert told == sorted(told) and told[0] <= 1 and told[-1] == 6
    assert set(range(1, 7)) <= set(told)


def test_previews_come_as_often_as_asked_for(tiny: Backbone, make_lease: MakeLease) -> None:
    for method in ("vanilla", "consistory"):
        painter = painter_of(tiny)
        lease = make_lease(story(method, steps=7, preview_every=3), 1)
        painter.submit(lease)
        shown = [r.step for r in drive(painter) if isinstance(r, Stepped) and r.preview is not None]
        assert shown == ([3, 6] if method == "vanilla" else [5, 6])


def bad_task(lease: Lease, **changes: Any) -> Lease:
    from dataclasses import replace

    return replace(lease, order=lease.order | changes)


def test_a_task_that_cannot_be_read_is_refused(tiny: Backbone, make_lease: MakeLease) -> None:
    painter = painter_of(tiny)
    lease = make_lease(story(), 0)
    for changes, words in (
        ({"schema": 2}, "one version"),
        ({"frame": 9}, "5 frames"),
        ({"seed": "x"}, "wrong kind"),
        ({"prompt": "a dragon"}, "never saw"),
    ):
        with pytest.raises(InputError, match=words):
            painter.submit(bad_task(lease, **changes))
    assert painter.idle
