from __future__ import annotations

import inspect
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline

from consistent_gen import runtime
from consistent_gen.draw_settings import SETTINGS, DrawSettings
from consistent_gen.engine import (
    Call,
    Coupling,
    Engine,
    Event,
    FrameDone,
    FrameError,
    FrameRequest,
    Started,
    Step,
    Subject,
)
from consistent_gen.errors import Cancelled, ConsistentGenError, InputError, LimitError
from consistent_gen.models.backbone import Backbone
from consistent_gen.models.tiny import SCHEDULER

SMALL = DrawSettings(steps=3, size=(64, 64))
FOX = FrameRequest(id="fox", prompt="a red fox", seed=1, settings=SMALL)
CAT = FrameRequest(id="cat", prompt="a cat reading", seed=2, settings=SMALL)


def changed(request: FrameRequest, **changes: Any) -> FrameRequest:
    """The request with other fields or other settings."""
    own = {name: value for name, value in changes.items() if name not in SETTINGS}
    said = {name: value for name, value in changes.items() if name in SETTINGS}
    return replace(request, **own).with_settings(**said)


class Spy(Coupling):
    """Records what the engine tells a coupling; `fail_at` makes a call fail."""

    def __init__(self, group: object = None, fail_at: int | None = None) -> None:
        self.group = group
        self.fail_at = fail_at
        self.announced: list[Call] = []
        self.ended = 0
        self.released: list[str] = []

    def begin_call(self, call: Call) -> None:
        self.announced.append(call)
        if self.fail_at == len(self.announced):
            raise ValueError("the bank is empty")

    def end_call(self) -> None:
        self.ended += 1

    def release(self, frame: str) -> None:
        self.released.append(frame)

    def calls(self) -> list[dict[str, int]]:
        """Per call: frame -> step."""
        return [{row.frame: row.step for row in call.rows} for call in self.announced]


def drain(engine: Engine) -> list[Event]:
    events: list[Event] = []
    while not engine.idle:
        events += engine.step()
    return events


def errors(events: Iterable[Event]) -> dict[str, ConsistentGenError]:
    return {event.id: event.error for event in events if isinstance(event, FrameError)}


def pictures(events: Iterable[Event]) -> dict[str, np.ndarray]:
    return {event.id: event.image for event in events if isinstance(event, FrameDone)}


def test_events_of_one_frame(tiny: Backbone) -> None:
    events = list(Engine(tiny).run([FOX]))
    assert [type(event) for event in events] == [Started, Step, Step, Step, FrameDone]
    assert [e.step for e in events if isinstance(e, Step)] == [1, 2, 3]
    image = pictures(events)["fox"]
    assert image.shape == (64, 64, 3)
    assert image.dtype == np.uint8


@pytest.mark.parametrize("kind", ["sd", "xl"])
def test_agrees_with_the_stock_pipeline(tiny: Backbone, tiny_xl: Backbone, kind: str) -> None:
    """The whole loop against diffusers: same noise, DDIM, guidance, a non-square picture."""
    backbone = tiny if kind == "sd" else tiny_xl
    family = StableDiffusionPipeline if kind == "sd" else StableDiffusionXLPipeline
    pipeline = family.from_pretrained(backbone.path)
    pipeline.scheduler = DDIMScheduler(**{k: v for k, v in SCHEDULER.items() if k[0] != "_"})
    pipeline.set_progress_bar_config(disable=True)
    noise = torch.randn(backbone.latent_shape(192, 96), generator=runtime.generator(7, "latent"))
    options: dict[str, Any] = {} if kind == "sd" else {"negative_prompt": "a bear"}
    assert set(options) <= set(inspect.signature(pipeline.__call__).parameters)
    stock = pipeline(
        "a red fox", height=96, width=192, num_inference_steps=10, guidance_scale=3.0,
        latents=noise[None], output_type="np", **options,
    ).images[0]  # fmt: skip
    request = FrameRequest(
        prompt="a red fox", negative=options.get("negative_prompt", ""), seed=7,
        settings=DrawSettings(steps=10, guidance=3.0, size=(192, 96)),
    )  # fmt: skip
    (ours,) = pictures(Engine(backbone).run([request])).values()
    assert ours.shape == (96, 192, 3)
    assert np.abs(ours / 255 - stock).max() < 0.6 / 255  # a half is rounding
    assert stock.std() > 0.02, "a flat picture would agree with anything"


def test_guidance_of_one_takes_one_row_and_equals_the_prompt_alone(tiny: Backbone) -> None:
    spy = Spy()
    plain = replace(FOX.with_settings(guidance=1.0), coupling=spy)
    image = pictures(Engine(tiny).run([plain]))["fox"]
    assert [[row.branch for row in call.rows] for call in spy.announced] == [["cond"]] * 3
    other_negative = replace(plain, negative="a bear", coupling=None)
    assert np.array_equal(pictures(Engine(tiny).run([other_negative]))["fox"], image)
    guided = replace(plain.with_settings(guidance=4.0), coupling=None)
    assert not np.array_equal(pictures(Engine(tiny).run([guided]))["fox"], image)


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 9}, {"prompt": "a cat"}, {"negative": "a bear"}, {"steps": 4}, {"guidance": 2.0},
        {"guidance_rescale": 0.9}, {"scheduler": "dpm"}, {"contours": 3.0},
    ],
    ids=str,
)  # fmt: skip
def test_every_setting_acts(tiny: Backbone, change: dict[str, Any]) -> None:
    before = pictures(Engine(tiny).run([FOX]))["fox"]
    after = pictures(Engine(tiny).run([changed(FOX, **change)]))["fox"]
    assert not np.array_equal(before, after)


@pytest.mark.parametrize("after_steps", [0, 1, 2])
def test_cancel_takes_effect_within_one_step(tiny: Backbone, after_steps: int) -> None:
    spy = Spy()
    engine = Engine(tiny)
    engine.submit(replace(FOX, coupling=spy))
    engine.submit(replace(CAT, coupling=spy))
    for _ in range(after_steps):
        engine.step()
    assert engine.cancel("fox")
    events = engine.step()
    assert isinstance(errors(events)["fox"], Cancelled)
    assert all("fox" not in call for call in spy.calls()[after_steps:])
    rest = pictures([*events, *drain(engine)])
    assert np.array_equal(rest["cat"], pictures(Engine(tiny).run([CAT]))["cat"])
    assert not engine.cancel("fox")
    assert spy.released == ["fox", "cat"]


def test_cancel_during_a_call_yields_no_picture(tiny: Backbone) -> None:
    class CancelInside(Spy):
        def begin_call(self, call: Call) -> None:
            super().begin_call(call)
            if call.rows[0].step == FOX.settings.steps - 1:
                engine.cancel("fox")

    engine = Engine(tiny)
    engine.submit(replace(FOX, coupling=CancelInside()))
    events = drain(engine)
    assert pictures(events) == {}
    assert isinstance(errors(events)["fox"], Cancelled)


def test_leaving_run_early_leaves_nothing_behind(tiny: Backbone) -> None:
    spy = Spy()
    engine = Engine(tiny)
    for event in engine.run([replace(FOX, coupling=spy), CAT]):
        if isinstance(event, Step):
            break
    assert engine.idle
    assert spy.released == ["fox"]


def test_sizes_never_share_a_call_and_guidance_may(tiny: Backbone) -> None:
    spy = Spy()
    engine = Engine(tiny)
    for index, (width, guidance) in enumerate(((128, 5.0), (96, 5.0), (128, 1.0), (96, 1.0))):
        engine.submit(
            replace(
                FOX.with_settings(guidance=guidance, size=(width, 128)), id=str(index), coupling=spy
            )
        )
    drain(engine)
    assert [set(call) for call in spy.calls()] == [{"0", "2"}] * 3 + [{"1", "3"}] * 3
    assert {call.size for call in spy.announced} == {8}


def test_the_call_says_which_row_is_whose(tiny: Backbone) -> None:
    spy, subjects = Spy(), (Subject(name="fox", tokens=(3,)),)
    engine = Engine(tiny)
    engine.submit(CAT)
    engine.submit(replace(FOX, coupling=spy, subjects=subjects))
    drain(engine)
    call = spy.announced[0]
    assert [(r.slot, r.frame, r.branch) for r in call.rows] == [
        (0, "cat", "cond"), (1, "cat", "uncond"), (2, "fox", "cond"), (3, "fox", "uncond"),
    ]  # fmt: skip
    assert spy.rows_in(call) == call.of_frame("fox")
    assert call.of_frame("fox")[0].request.subjects == subjects
    assert [row.time for row in call.rows] == [1.0] * 4
    assert call.latent == (8, 8)
    assert spy.ended == len(spy.announced) == 3


def test_a_failing_coupling_takes_down_its_call_only(tiny: Backbone) -> None:
    spy = Spy(group="shared", fail_at=2)
    engine = Engine(tiny)
    engine.submit(replace(FOX, coupling=spy))
    engine.submit(CAT)
    events = drain(engine)
    assert "the bank is empty" in str(errors(events)["fox"])
    assert pictures(events).keys() == {"cat"}
    assert spy.ended == 2
    assert spy.released == ["fox"]


def test_coupling_groups_keep_calls_apart(tiny: Backbone) -> None:
    one, two, other = Spy("a"), Spy("a"), Spy("b")
    engine = Engine(tiny)
    for frame_id, spy in (("1", one), ("2", other), ("3", two)):
        engine.submit(replace(FOX, id=frame_id, coupling=spy))
    drain(engine)
    assert [set(call) for call in one.calls()] == [{"1", "3"}] * 3
    assert one.calls() == two.calls()
    assert [set(call) for call in other.calls()] == [{"2"}] * 3


def test_behind_stays_a_step_behind_and_shares_calls(tiny: Backbone) -> None:
    spy = Spy()
    engine = Engine(tiny)
    engine.submit(replace(FOX, coupling=spy))
    engine.submit(replace(CAT, coupling=spy, behind=("fox",)))
    drain(engine)
    assert spy.calls() == [{"fox": 0}, {"fox": 1, "cat": 0}, {"fox": 2, "cat": 1}, {"cat": 2}]


def test_behind_by_more_than_a_step_until_the_end(tiny: Backbone) -> None:
    spy = Spy()
    engine = Engine(tiny)
    engine.submit(replace(FOX, coupling=spy))
    engine.submit(replace(CAT, coupling=spy, behind=("fox",), behind_by=2))
    drain(engine)
    calls = [{"fox": 0}, {"fox": 1}, {"fox": 2, "cat": 0}, {"cat": 1}, {"cat": 2}]
    assert spy.calls() == calls


def test_followers_keep_level_so_that_calls_stay_full(tiny: Backbone) -> None:
    """Two that lead by four of ten steps and four that follow: 60 steps, 4 to a call at most."""
    spy = Spy()
    engine = Engine(tiny, bucket=8)
    for name in ("a", "b"):
        engine.submit(replace(FOX.with_settings(steps=10), id=name, coupling=spy))
    for name in ("1", "2", "3", "4"):
        following = replace(CAT.with_settings(steps=10), id=name, behind=("a", "b"), behind_by=4)
        engine.submit(replace(following, coupling=spy))
    drain(engine)
    assert [len(call) for call in spy.calls()] == [2] * 4 + [4] * 13


def test_after_waits_for_the_end(tiny: Backbone) -> None:
    spy = Spy()
    engine = Engine(tiny)
    engine.submit(replace(FOX, coupling=spy))
    engine.submit(replace(CAT, coupling=spy, after=("fox",)))
    events = drain(engine)
    assert [set(call) for call in spy.calls()] == [{"fox"}] * 3 + [{"cat"}] * 3
    assert list(pictures(events)) == ["fox", "cat"]
    # A frame that is already done can still be named.
    engine.submit(replace(CAT, id="late", after=("fox",), behind=("cat",)))
    assert pictures(drain(engine)).keys() == {"late"}


def test_readers_of_a_lost_frame_are_told(tiny: Backbone) -> None:
    engine = Engine(tiny)
    engine.submit(FOX)
    engine.submit(replace(CAT, behind=("fox",)))
    engine.submit(replace(CAT, id="third", after=("cat",)))
    engine.step()
    engine.cancel("fox")
    lost = errors(engine.step())
    assert "'fox', which was not drawn" in str(lost["cat"])
    assert "'cat', which was not drawn" in str(lost["third"])
    assert engine.idle


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (replace(CAT, after=("dog",)), "'dog' is not known"),
        (replace(CAT.with_settings(steps=9), behind=("fox",)), "share its steps and scheduler"),
        (replace(FOX, seed=4), "'fox' is taken"),
        (replace(CAT, prompt="a dragon"), "'dragon'"),
        (CAT.with_settings(size=(100, 128)), "nearest valid size is 96x128"),
    ],
)
def test_requests_are_refused_before_any_work(
    tiny: Backbone, request_: FrameRequest, message: str
) -> None:
    engine = Engine(tiny)
    engine.submit(FOX)
    with pytest.raises(InputError, match=message):
        engine.submit(request_)
    assert pictures(drain(engine)).keys() == {"fox"}


def test_a_gang_shares_every_call_even_beyond_the_bucket(tiny: Backbone) -> None:
    spy = Spy("joint")
    engine = Engine(tiny, bucket=4)
    members = [replace(FOX, id=f"m{i}", seed=i, coupling=spy) for i in range(3)]
    engine.submit(CAT)
    engine.submit_gang(members)
    events = drain(engine)
    assert [set(call) for call in spy.calls()] == [{"m0", "m1", "m2"}] * 3
    assert {call.size for call in spy.announced} == {8}
    buckets = {e.id: e.metadata["bucket"] for e in events if isinstance(e, FrameDone)}
    assert buckets == {"cat": 4, "m0": 8, "m1": 8, "m2": 8}


def test_a_gang_is_cancelled_as_a_whole(tiny: Backbone) -> None:
    engine = Engine(tiny)
    engine.submit_gang([FOX, CAT])
    engine.step()
    engine.cancel("cat")
    assert errors(engine.step()).keys() == {"fox", "cat"}
    with pytest.raises(InputError, match="must share size, steps"):
        engine.submit_gang([replace(FOX, id="a"), replace(CAT.with_settings(steps=4), id="b")])
    assert engine.idle


def test_admission_is_pluggable(tiny: Backbone) -> None:
    spy = Spy()
    engine = Engine(tiny, choose=lambda ready, rows: [ready[-1]])
    engine.submit(replace(FOX, coupling=spy))
    engine.submit(replace(CAT, coupling=spy))
    drain(engine)
    assert [set(call) for call in spy.calls()] == [{"cat"}] * 3 + [{"fox"}] * 3


@pytest.mark.parametrize("how", ["linear", "decode"])
def test_previews_come_when_asked_for(tiny: Backbone, how: Any) -> None:
    request = replace(FOX.with_settings(steps=6), preview=how, preview_every=2)
    events = list(Engine(tiny).run([request]))
    shown = {e.step: e.preview for e in events if isinstance(e, Step) and e.preview is not None}
    assert shown.keys() == {2, 4}
    assert all(p.shape == (64, 64, 3) and p.dtype == np.uint8 for p in shown.values())
    without = pictures(Engine(tiny).run([FOX.with_settings(steps=6)]))["fox"]
    assert np.array_equal(pictures(events)["fox"], without)


def test_the_linear_preview_tracks_the_decoder(tiny: Backbone) -> None:
    request = FOX.with_settings(steps=6)
    by_kind = {}
    for how in ("linear", "decode"):
        events = Engine(tiny).run([replace(request, preview=how)])  # type: ignore[arg-type]
        by_kind[how] = [e.preview for e in events if isinstance(e, Step)][4]
    coarse = [
        preview.reshape(8, 8, 8, 8, 3).mean((1, 3)).ravel()
        for preview in by_kind.values()
        if preview is not None
    ]
    assert np.corrcoef(coarse)[0, 1] > 0.8


def test_an_overflow_is_an_error_and_not_a_black_picture(tiny: Backbone) -> None:
    class Break(Coupling):
        def begin_call(self, call: Call) -> None:
            engine.frames[0].latent *= float("nan")  # type: ignore[operator]

    engine = Engine(tiny)
    engine.submit(replace(FOX, coupling=Break()))
    assert "infinity or NaN" in str(errors(drain(engine))["fox"])


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"steps": 0}, LimitError), ({"steps": 1001}, LimitError), ({"steps": 2.5}, InputError),
        ({"seed": -1}, LimitError), ({"seed": 2**63}, LimitError), ({"seed": True}, InputError),
        ({"guidance": float("nan")}, InputError), ({"guidance": 101}, LimitError),
        ({"guidance_rescale": 1.5}, LimitError), ({"contours": -1.0}, LimitError),
        ({"scheduler": "ddmi"}, InputError),
        ({"preview": "rgb"}, InputError), ({"preview_every": 0}, LimitError),
        ({"alone_for": -1}, LimitError), ({"alone_for": 3}, LimitError),
    ],
    ids=str,
)  # fmt: skip
def test_settings_are_bounded(change: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error, match=next(iter(change))):
        changed(FOX, **change)
