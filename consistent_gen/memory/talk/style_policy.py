"""How far an answer's style may follow the user's, and what following costs.

The policies of the synchrony-stability frontier (arXiv 2510.00339): with the user's style u and
our own style a, both in [0, 1]^8,

    uncapped   a <- u
    cap        a <- a + clip(u - a, -kappa, kappa)
    ema        a <- a + alpha (u - a)
    dead-band  a <- u if max|u - a| > delta else a
    hybrid     a <- a + clip(alpha (u - a), -kappa, kappa)

and ``static``, which never moves. The paper's eight dimensions and constants are not in the text
we could read, so the dimensions, the band edges and the default constants below are ours, as are
the formulas of the four measures. Following is off by default: in a preregistered study by the
same author (arXiv 2509.12525) a static style was preferred to mimicry.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from consistent_gen.errors import InputError
from consistent_gen.inputs import check_choice
from consistent_gen.memory.data.records import STYLE_DIMENSIONS, StyleObservation

Style: TypeAlias = tuple[float, ...]
PolicyName: TypeAlias = Literal["static", "uncapped", "cap", "ema", "dead-band", "hybrid"]

DIMENSIONS = (
    "formality", "length", "warmth", "directness", "liveliness", "playfulness", "technicality",
    "hedging",
)  # fmt: skip
assert len(DIMENSIONS) == STYLE_DIMENSIONS
NEUTRAL_STYLE: Style = (0.5,) * STYLE_DIMENSIONS
# Lower edges of the middle and the upper band of a dimension, for the wording.
BANDS = (1 / 3, 2 / 3)
# A register flip is a major change of tone: one of the dimensions jumps by more than a band.
FLIP = 1 / 3


@dataclass(frozen=True, kw_only=True)
class StylePolicy:
    """One of the policies with its constants, all in [0, 1].

    alpha: share of the gap closed per turn (ema, hybrid).
    kappa: largest change of a dimension per turn (cap, hybrid).
    delta: largest gap that is ignored (dead-band).
    start: our own style before the first turn.

    Raises ``UnknownNameError`` or ``InputError`` on a bad name or constant.
    """

    name: PolicyName = "static"
    alpha: float = 0.3
    kappa: float = 0.1
    delta: float = 0.25
    start: Style = NEUTRAL_STYLE

    def __post_init__(self) -> None:
        check_choice(self.name, POLICIES, "style policy")
        for constant in ("alpha", "kappa", "delta"):
            value = getattr(self, constant)
            if not 0 <= value <= 1:
                raise InputError(f"{constant} of a style policy is {value}; expected [0, 1]")
        check_style(self.start)

    def step(self, own: Style, user: Style) -> Style:
        """Our style for the next answer, from our last one and the user's newest turn."""
        return _STEPS[self.name](self, own, user)

    def run(self, user: Iterable[Style]) -> tuple[Style, ...]:
        """Our style after each of the user's turns, beginning at ``start``."""
        own, path = self.start, []
        for style in user:
            own = self.step(own, check_style(style))
            path.append(own)
        return tuple(path)

    def fold(self, observations: Iterable[StyleObservation]) -> Style:
        """Our style after stored observations in the order they happened."""
        path = self.run(observation.values for observation in observations)
        return path[-1] if path else self.start


def _clip(value: float, bound: float) -> float:
    return max(-bound, min(bound, value))


def _dead_band(policy: StylePolicy, own: Style, user: Style) -> Style:
    gap = max(abs(u - a) for a, u in zip(own, user, strict=True))
    return user if gap > policy.delta else own


def _move(own: Style, user: Style, change: Callable[[float], float]) -> Style:
    # Rounding of a + (u - a) must not leave [0, 1].
    return tuple(min(1.0, max(0.0, a + change(u - a))) for a, u in zip(own, user, strict=True))


_STEPS: dict[str, Callable[[StylePolicy, Style, Style], Style]] = {
    "static": lambda policy, own, user: own,
    "uncapped": lambda policy, own, user: user,
    "cap": lambda p, own, user: _move(own, user, lambda gap: _clip(gap, p.kappa)),
    "ema": lambda p, own, user: _move(own, user, lambda gap: p.alpha * gap),
    "dead-band": _dead_band,
    "hybrid": lambda p, own, user: _move(own, user, lambda gap: _clip(p.alpha * gap, p.kappa)),
}
POLICIES: tuple[str, ...] = tuple(_STEPS)


def check_style(style: Sequence[float]) -> Style:
    """``style`` as a tuple. Raises ``InputError`` unless it is eight numbers in [0, 1]."""
    if len(style) != STYLE_DIMENSIONS or not all(0 <= value <= 1 for value in style):
        raise InputError(f"a style is {STYLE_DIMENSIONS} numbers in [0, 1]; got {style!r}")
    return tuple(style)


# --- measures ---------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class StyleReport:
    """What a policy did over a conversation; every value in [0, 1].

    synchrony: 1 - mean |a_t - u_t|. stability: 1 - mean |a_t - a_(t-1)|, the start included.
    churn: share of instruction lines that are new against the turn before.
    register_flips: share of steps in which any dimension changed by more than `FLIP`.
    """

    synchrony: float
    stability: float
    churn: float
    register_flips: float


def measure_policy(policy: StylePolicy, user: Sequence[Style]) -> StyleReport:
    """Run ``policy`` over the user's styles and measure it. Needs at least one turn."""
    if not user:
        raise InputError("a policy is measured over at least one user turn; got none")
    own = policy.run(user)
    steps = [(policy.start, own[0]), *itertools.pairwise(own)]
    lines = [(set(style_lines(a)), set(style_lines(b))) for a, b in steps]
    shown = sum(len(after) for _, after in lines)
    changed = sum(len(after - before) for before, after in lines)
    return StyleReport(
        synchrony=1 - _mean_gap(zip(own, user, strict=True)),
        stability=1 - _mean_gap(steps),
        churn=changed / shown if shown else 0.0,
        register_flips=sum(_jump(a, b) > FLIP for a, b in steps) / len(steps),
    )


def _jump(one: Style, other: Style) -> float:
    return max(abs(a - b) for a, b in zip(one, other, strict=True))


def _mean_gap(pairs: Iterable[tuple[Style, Style]]) -> float:
    gaps = [abs(a - b) for one, other in pairs for a, b in zip(one, other, strict=True)]
    return sum(gaps) / len(gaps)


def band(value: float) -> int:
    """0, 1 or 2: the lower, middle or upper third of [0, 1]."""
    return sum(value >= edge for edge in BANDS)


_WORDING: Mapping[str, tuple[str, str]] = {
    "formality": ("casual wording", "formal wording"),
    "length": ("very short answers", "detailed answers"),
    "warmth": ("neutral in tone", "warm in tone"),
    "directness": ("lead up to the point gently", "come straight to the point"),
    "liveliness": ("calm punctuation", "lively punctuation"),
    "playfulness": ("serious", "playful"),
    "technicality": ("plain words", "technical terms are fine"),
    "hedging": ("state things plainly", "mark what is uncertain"),
}


def style_lines(style: Style) -> tuple[str, ...]:
    """Instructions for the dimensions outside their middle band: at most eight lines."""
    lines = []
    for name, value in zip(DIMENSIONS, style, strict=True):
        if (third := band(value)) != 1:
            lines.append(f"{name}: {_WORDING[name][third // 2]}")
    return tuple(lines)


# --- reading a style from text ------------------------------------------------------------------

_WORD = re.compile(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)?")
_EMOJI = re.compile(r"[\u2600-\u27bf\U0001f300-\U0001faff]|[:;]-?[)D(P]")


_LEXICON: Mapping[str, frozenset[str]] = {
    name: frozenset(words.split())
    for name, words in {
        "casual": "hey yeah yep nope gonna wanna gotta kinda sorta lol haha ok okay btw dude cool "
        "stuff u ur thx pls cuz ain't y'all",
        "formal": "therefore however furthermore moreover regarding sincerely kindly shall hence "
        "accordingly would appreciate require request pursuant",
        "warm": "thanks thank please love lovely glad happy hope dear wonderful sweet appreciate "
        "grateful sorry hug",
        "playful": "lol haha hehe joke funny silly fun kidding yay woohoo",
        "hedges": "maybe perhaps possibly probably might could guess suppose seems somewhat kinda "
        "sorta think likely unsure",
        "blunt": "now must need do tell give show stop just exactly immediately",
    }.items()
}


def read_style(text: str) -> Style:
    """The style of one utterance by counting words and marks: crude, fast, and the same always.

    Without words it is neutral. Values are in [0, 1] in the order of ``DIMENSIONS``.
    """
    words = [word.lower().replace("\u2019", "'") for word in _WORD.findall(text)]
    if not words:
        return NEUTRAL_STYLE
    share = {k: sum(word in known for word in words) / len(words) for k, known in _LEXICON.items()}
    emoji = len(_EMOJI.findall(text)) / len(words)
    bangs = text.count("!") / len(words)
    contractions = sum("'" in word for word in words) / len(words)
    long_words = sum(len(word) >= 9 for word in words) / len(words)
    casual = share["casual"] + contractions / 2 + emoji + 0.1 * (text == text.lower())
    raw = (
        0.5 + 3 * (share["formal"] + long_words / 3 - casual),
        len(words) / (len(words) + 25),
        0.35 + 4 * share["warm"] + emoji,
        0.5 + 3 * (share["blunt"] - share["hedges"]) - ("?" in text) * 0.1,
        0.2 + 4 * bangs + 2 * emoji,
        0.2 + 5 * share["playful"] + 2 * emoji,
        0.2 + 2 * long_words,
        0.2 + 5 * share["hedges"],
    )
    return tuple(min(1.0, max(0.0, value)) for value in raw)
