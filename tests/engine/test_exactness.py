"""A frame's bytes depend on the frame alone: not on company, slots, order, cancels or joins."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from consistent_gen.draw_settings import DrawSettings
from consistent_gen.engine import Engine, FrameDone, FrameRequest, FrameState, profile_buckets
from consistent_gen.engine.exactness import PROFILED, best_bucket
from consistent_gen.errors import InputError
from consistent_gen.models import load_backbone
from consistent_gen.models.backbone import Backbone
from tests.every_run import or_slow

REQUESTS = tuple(
    FrameRequest(
        id=f"f{index}",
        prompt=prompt,
        negative=negative,
        seed=index,
        alone_for=alone_for,
        settings=DrawSettings(
            steps=steps,
            guidance=guidance,
            guidance_rescale=rescale,
            scheduler=scheduler,
            contours=contours,
        ),
    )
    for index, (
        prompt,
        negative,
        steps,
        guidance,
        rescale,
        scheduler,
        contours,
        alone_for,
    ) in enumerate(
        (
            ("a red fox in the forest", "", 4, 5.0, 0.0, "ddim", 0.0, 0),
            ("a cat reading", "a bear", 3, 2.0, 0.7, "dpm", 3.0, 0),
            ("the old city .", "", 5, 1.0, 0.0, "dpm", 3.0, 0),
            ("a girl and a boy", "red hat", 2, 9.0, 0.0, "ddim", 0.0, 1),
            ("a bear", "", 1, 3.5, 0.3, "ddim", 0.0, 0),
            ("a blue scarf", "", 4, 1.0, 0.0, "ddim", 0.0, 3),
        )
    )
)
WIDE = replace(REQUESTS[0].with_settings(size=(192, 96)), id="wide")

Result = tuple[torch.Tensor, np.ndarray]


def drive(engine: Engine, states: dict[str, FrameState]) -> dict[str, Result]:
    """Step until idle; final latents and pictures by id."""
    done: dict[str, Result] = {}
    while not engine.idle:
        states.update({state.id: state for state in engine.frames})
        for event in engine.step():
            if isinstance(event, FrameDone):
                latent = states[event.id].latent
                assert latent is not None
                done[event.id] = latent, event.image
    return done


def alone(backbone: Backbone, bucket: int) -> dict[str, Result]:
    results: dict[str, Result] = {}
    for request in (*REQUESTS, WIDE):
        engine = Engine(backbone, bucket=bucket)
        engine.submit(request)
        results |= drive(engine, {})
    return results


@pytest.fixture(scope="module")
def lone(tiny: Backbone) -> dict[int, dict[str, Result]]:
    return {bucket: alone(tiny, bucket) for bucket in (2, 5, 8)}


def assert_same(found: dict[str, Result], expected: dict[str, Result]) -> None:
    for frame_id, (latent, image) in found.items():
        assert torch.equal(latent, expected[frame_id][0]), frame_id
        assert np.array_equal(image, expected[frame_id][1]), frame_id


@given(st.integers(0, 2**32), st.sampled_from((2, 5, 8)))
@settings(max_examples=3)
def test_bytes_do_not_depend_on_company(
    tiny: Backbone, lone: dict[int, dict[str, Result]], seed: int, bucket: int
) -> None:
    draw_in_company(tiny, lone, seed, bucket)


@pytest.mark.slow
@given(st.integers(0, 2**32), st.sampled_from((2, 5, 8)))
@settings(max_examples=50)
def test_bytes_do_not_depend_on_much_company(
    tiny: Backbone, lone: dict[int, dict[str, Result]], seed: int, bucket: int
) -> None:
    draw_in_company(tiny, lone, seed, bucket)


def draw_in_company(
    tiny: Backbone, lone: dict[int, dict[str, Result]], seed: int, bucket: int
) -> None:
    """Random order, choice of groups, late joins and cancels."""
    dice = random.Random(seed)
    waiting = list((*REQUESTS, WIDE))
    dice.shuffle(waiting)

    def choose(ready, rows):  # type: ignore[no-untyped-def]
        groups = dice.sample(list(ready), len(ready))
        chosen, free = [], rows
        for group in groups:
            if group.key == groups[0].key and group.rows <= free:
                chosen.append(group)
                free -= group.rows
        return chosen

    engine = Engine(tiny, bucket=bucket, choose=choose)
    done: dict[str, Result] = {}
    states: dict[str, FrameState] = {}
    cancelled = set()
    while waiting or not engine.idle:
        while waiting and (engine.idle or dice.random() < 0.5):
            engine.submit(waiting.pop())
        states |= {state.id: state for state in engine.frames}
        if states and dice.random() < 0.1:
            victim = dice.choice(sorted(states))
            if engine.cancel(victim):
                cancelled.add(victim)
        for event in engine.step():
            if isinstance(event, FrameDone):
                latent = states[event.id].latent
                assert latent is not None
                done[event.id] = latent, event.image
    assert_same(done, lone[bucket])
    assert done.keys() | cancelled == {request.id for request in (*REQUESTS, WIDE)}


@pytest.mark.slow
def test_bytes_do_not_depend_on_company_in_bfloat16(tiny_folder: Path) -> None:
    backbone = load_backbone(tiny_folder, device="cpu", dtype="bfloat16")
    engine = Engine(backbone, bucket=8)
    for request in (*REQUESTS, WIDE):
        engine.submit(request)
    assert_same(drive(engine, {}), alone(backbone, 8))


def test_another_bucket_is_close_but_a_promise_of_its_own(
    lone: dict[int, dict[str, Result]],
) -> None:
    for frame_id, (latent, _) in lone[8].items():
        torch.testing.assert_close(latent, lone[2][frame_id][0], atol=1e-3, rtol=1e-3)


def test_throughput_mode_pads_nothing_and_comes_close(
    tiny: Backbone, lone: dict[int, dict[str, Result]]
) -> None:
    engine = Engine(tiny, exact=False)
    for request in REQUESTS:
        engine.submit(request)
    found = drive(engine, {})
    assert found.keys() == {request.id for request in REQUESTS}
    for frame_id, (latent, _) in found.items():
        torch.testing.assert_close(latent, lone[8][frame_id][0], atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("threads", or_slow([1, 2], [2]))
def test_bytes_do_not_depend_on_company_with_any_number_of_threads(
    tiny: Backbone, threads: int
) -> None:
    """The number itself may matter: matrix libraries split their sums by it. Metadata hold it."""
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        engine, states = Engine(tiny, bucket=8), dict[str, FrameState]()
        for request in (WIDE, *reversed(REQUESTS)):
            engine.submit(request)
        together = drive(engine, states)
        assert together.keys() == {request.id for request in (*REQUESTS, WIDE)}
        assert_same(together, alone(tiny, 8))
    finally:
        torch.set_num_threads(before)


def test_xl_bytes_do_not_depend_on_company(tiny_xl: Backbone) -> None:
    expected: dict[str, Result] = {}
    for request in REQUESTS[:3]:
        engine = Engine(tiny_xl)
        engine.submit(request)
        expected |= drive(engine, {})
    engine = Engine(tiny_xl)
    for request in reversed(REQUESTS[:3]):
        engine.submit(request)
    assert_same(drive(engine, {}), expected)


def test_buckets_are_profiled_and_bounded(tiny: Backbone) -> None:
    rates = profile_buckets(tiny, (2, 4), repeats=1)
    assert rates.keys() == {2, 4}
    assert all(rate > 0 for rate in rates.values())
    assert best_bucket(tiny) in PROFILED
    assert Engine(tiny, bucket="auto").bucket in PROFILED
    for wrong in (0, 1, 65):
        with pytest.raises(InputError, match="2 to 64"):
            Engine(tiny, bucket=wrong)
