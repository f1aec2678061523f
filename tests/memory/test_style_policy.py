"""The algebra of the style policies and of their measures."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consistent_gen.errors import InputError, UnknownNameError
from consistent_gen.memory.data.records import StyleObservation
from consistent_gen.memory.talk.style_policy import (
    NEUTRAL_STYLE,
    POLICIES,
    Style,
    StylePolicy,
    band,
    measure_policy,
    read_style,
    style_lines,
)

STEADY = settings(deadline=None, max_examples=30)
STYLES = st.tuples(*[st.floats(0, 1)] * 8)
SHARES = st.floats(0, 1)


def spread(value: float) -> Style:
    return (value,) * 8


@STEADY
@given(STYLES, STYLES, SHARES, SHARES, SHARES)
def test_each_policy_is_its_formula(
    own: Style, user: Style, alpha: float, kappa: float, delta: float
) -> None:
    def clip(value: float) -> float:
        return max(-kappa, min(kappa, value))

    gap = max(abs(u - a) for a, u in zip(own, user, strict=True))
    expected = {
        "static": own,
        "uncapped": user,
        "cap": [a + clip(u - a) for a, u in zip(own, user, strict=True)],
        "ema": [a + alpha * (u - a) for a, u in zip(own, user, strict=True)],
        "dead-band": user if gap > delta else own,
        "hybrid": [a + clip(alpha * (u - a)) for a, u in zip(own, user, strict=True)],
    }
    assert set(expected) == set(POLICIES)
    for name in POLICIES:
        policy = StylePolicy(name=name, alpha=alpha, kappa=kappa, delta=delta)
        assert policy.step(own, user) == pytest.approx(tuple(expected[name]))


@STEADY
@given(STYLES, STYLES, st.sampled_from(POLICIES))
def test_no_policy_leaves_the_cube_or_overshoots(own: Style, user: Style, name: str) -> None:
    after = StylePolicy(name=name).step(own, user)
    for a, b, u in zip(own, after, user, strict=True):
        assert 0 <= b <= 1
        assert min(a, u) - 1e-12 <= b <= max(a, u) + 1e-12


@STEADY
@given(STYLES, STYLES)
def test_policies_meet_at_their_limits(own: Style, user: Style) -> None:
    def step(name: str, **constants: float) -> Style:
        return StylePolicy(name=name, **constants).step(own, user)

    uncapped = pytest.approx(step("uncapped"))
    assert step("cap", kappa=1) == uncapped
    assert step("ema", alpha=1) == uncapped
    assert step("hybrid", alpha=1, kappa=0.2) == pytest.approx(step("cap", kappa=0.2))
    assert step("hybrid", alpha=0.3, kappa=1) == pytest.approx(step("ema", alpha=0.3))
    assert step("dead-band", delta=1) == step("static") == own
    assert step("ema", alpha=0) == pytest.approx(own)


def test_ema_closed_form() -> None:
    path = StylePolicy(name="ema", alpha=0.25).run([spread(1.0)] * 6)
    assert [a[0] for a in path] == pytest.approx([1 - 0.5 * 0.75**t for t in range(1, 7)])


def test_cap_moves_by_kappa_until_it_arrives() -> None:
    path = StylePolicy(name="cap", kappa=0.2).run([spread(1.0)] * 4)
    assert [a[0] for a in path] == pytest.approx([0.7, 0.9, 1.0, 1.0])


def test_measures_on_a_flipping_user() -> None:
    flips = [spread(0.0), spread(1.0)] * 5
    uncapped = measure_policy(StylePolicy(name="uncapped"), flips)
    static = measure_policy(StylePolicy(), flips)
    hybrid = measure_policy(StylePolicy(name="hybrid"), flips)
    assert uncapped.synchrony == 1
    assert uncapped.stability == pytest.approx(1 - (0.5 + 9) / 10)
    assert uncapped.churn == uncapped.register_flips == 1
    assert (static.stability, static.churn, static.register_flips) == (1, 0, 0)
    assert static.synchrony == pytest.approx(0.5)
    assert uncapped.stability < hybrid.stability <= 1
    assert hybrid.synchrony < uncapped.synchrony


def test_following_is_off_by_default() -> None:
    observed = [StyleObservation(values=spread(1.0))]
    assert StylePolicy().fold(observed) == NEUTRAL_STYLE
    assert StylePolicy(name="hybrid").fold(observed)[0] == pytest.approx(0.6)
    assert style_lines(NEUTRAL_STYLE) == ()


def test_lines_are_bounded_and_name_the_band() -> None:
    assert len(style_lines(spread(1.0))) == len(style_lines(spread(0.0))) == 8
    assert [band(v) for v in (0, 0.34, 0.5, 0.67, 1)] == [0, 1, 1, 2, 2]


@STEADY
@given(st.text(max_size=200))
def test_any_text_has_a_style(text: str) -> None:
    assert all(0 <= value <= 1 for value in read_style(text))


def test_style_reader_orders_plain_cases() -> None:
    casual = read_style("hey dude, gonna grab pizza lol!!! wanna come? \U0001f600")
    formal = read_style("I would appreciate clarification regarding the aforementioned agreement.")
    assert casual[0] < 0.4 < 0.6 < formal[0]
    assert casual[4] > formal[4]
    assert read_style("maybe I could perhaps go, I guess")[7] > formal[7]


def test_bad_constants_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="hybrid"):
        StylePolicy(name="hybryd")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="kappa"):
        StylePolicy(kappa=2)
    with pytest.raises(InputError):
        StylePolicy(name="uncapped").run([(2.0,) * 8])
