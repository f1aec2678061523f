"""Do simulated people act on what their model believes of them?

After "Do Role-Playing Agents Practice What They Preach?" (arXiv 2507.02197). No formula of the
paper was reachable, so all scores here are our own, with the trust game as the task. Two kinds of
belief are asked for: what comes out of the simulation (how many coins more people with an attribute
send), and a task-relevant attribute of each character (how trusting they are). A forecast of one's
own moves is scored by horizon, and counts only where it is better than saying the last move again.
A prior may be imposed; whether play follows it is then told apart from whether it was there before.

Attributes are sentences of which a persona's `fields["attributes"]` lists those that hold.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from consistent_gen.errors import InputError
from consistent_gen.language.models import LanguageModel, Message
from consistent_gen.persona.asking import ask, asked, last_integer, speaking_as
from consistent_gen.persona.measurement import MeasuredItem, Measurement, PersonaReport
from consistent_gen.persona.persona import Persona, Statement
from consistent_gen.persona.scripted import Scripted
from consistent_gen.persona.simulate.games import TrustGame
from consistent_gen.persona.statistics import Estimate, correlation, mean

World: TypeAlias = Literal["beliefs hold", "beliefs unused", "prior ignored", "no beliefs", "mixed"]
RESAMPLES = 1_000
EFFECT = (
    "{rules}\nThink of two groups of people who are alike but for one thing: the first "
    "{attribute}, the second do not. How many coins more does the first group send on "
    "average? Answer with one whole number from -{most} to {most}, negative if it sends fewer."
)
TRUSTING = (
    "Somebody is described like this: {who}\nHow readily would they trust a stranger with money, "
    "from 0 (never) to 100 (always)? Answer with one number."
)
PRIOR = "Take it as known that people who {attribute} send {coins} coins more than others."


@dataclass(frozen=True)
class Played:
    """What was elicited and what was played. stated and prior: coins by attribute; trusted: 0..100
    and sent: coins, by persona id; None where a reply could not be read.
    """

    stated: Mapping[str, int | None]
    trusted: Mapping[str, int | None]
    sent: Mapping[str, int | None]
    has: Mapping[str, frozenset[str]]
    prior: Mapping[str, int] = field(default_factory=dict)


def played(
    model: LanguageModel, personas: Sequence[Persona], attributes: Sequence[str],
    *, game: TrustGame | None = None, prior: Mapping[str, int] | None = None,
) -> Played:  # fmt: skip
    """Beliefs first, each in a conversation of its own, then one move of every persona.

    prior: coins by attribute, told to the model when it plays. Beliefs are asked of nobody.
    """
    game, prior = game or TrustGame(), prior or {}
    most = game.endowment
    told = " ".join(PRIOR.format(attribute=a, coins=c) for a, c in prior.items())
    stated = {
        a: last_integer(
            ask(model, None, EFFECT.format(rules=game.rules, attribute=a, most=most), duties=told),
            -most, most,
        )
        for a in attributes
    }  # fmt: skip
    trusted, sent, has = {}, {}, {}
    for persona in personas:
        has[persona.id] = frozenset(persona.fields.get("attributes", ()))
        question = TRUSTING.format(who=persona.prompt())
        trusted[persona.id] = last_integer(ask(model, None, question), 0, 100)
        player = persona
        if told:
            player = Persona(persona.id, persona.name, f"{persona.summary} {told}".strip(),
                             persona.statements, persona.traits, persona.fields)  # fmt: skip
        sent[persona.id] = game.send(model, player)
    return Played(stated, trusted, sent, has, prior)


def realised(play: Played) -> dict[str, float]:
    """Coins that people with each attribute sent more than others on average; NaN of no group."""
    found = {}
    for attribute in play.stated:
        groups: tuple[list[int], list[int]] = ([], [])
        for id, coins in play.sent.items():
            if coins is not None:
                groups[attribute not in play.has[id]].append(coins)
        found[attribute] = (
            float(np.mean(groups[0]) - np.mean(groups[1])) if all(groups) else math.nan
        )
    return found


def acted_on(play: Played, *, seed: int = 0) -> Measurement:
    """How much of the stated effects is played: sum(stated realised) / sum(stated^2), so 1 where
    people act as believed and 0 where beliefs are not used. The interval resamples personas, for
    the attributes that were asked about.
    """
    stated = {a: float(s) for a, s in play.stated.items() if s is not None}
    known = [id for id, coins in play.sent.items() if coins is not None]
    failed = len(play.stated) - len(stated) + len(play.sent) - len(known)
    found = realised(play)
    items = tuple(
        MeasuredItem(a, found[a], EFFECT.format(rules="", attribute=a, most="").strip(),
             f"{s:+.0f} coins", f"{found[a]:+.1f} coins were played")
        for a, s in stated.items()
    )  # fmt: skip
    weights = np.array([stated[a] for a in stated])
    if not stated or not weights.any() or any(math.isnan(found[a]) for a in stated):
        return Measurement("acted_on", math.nan, n=len(stated), failed=failed, items=items,
                           note="no stated effect, or a group without players")  # fmt: skip
    coins = np.array([float(play.sent[id] or 0) for id in known])
    member = np.array([[a in play.has[id] for a in stated] for id in known])

    def scores(times: NDArray[Any]) -> NDArray[Any]:
        """For rows of how often each person is counted."""
        inside = (times * coins) @ member / (times @ member)
        outside = (times * coins) @ ~member / (times @ ~member)
        found: NDArray[Any] = (inside - outside) @ weights / (weights @ weights)
        return found

    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(coins), np.full(len(coins), 1.0 / len(coins)), RESAMPLES)
    with np.errstate(invalid="ignore", divide="ignore"):  # a group that was not drawn
        low, high = np.nanquantile(scores(drawn), (0.025, 0.975))
    value = float(scores(np.ones((1, len(coins))))[0])
    return Measurement(
        "acted_on", value, float(low), float(high), len(stated), failed,
        direction="reference", reference=1.0, unit="of what is stated", null=0.0, items=items,
        note="our own definition",
    )  # fmt: skip


def population_agreement(play: Played) -> Estimate:
    """Spearman's correlation of stated with realised effects over attributes."""
    real = realised(play)
    known = [a for a, s in play.stated.items() if s is not None]
    return correlation([float(play.stated[a] or 0) for a in known], [real[a] for a in known],
                       ranks=True)  # fmt: skip


def trust_agreement(play: Played) -> Measurement:
    """Spearman's correlation, over characters, of how trusting each is believed to be with what
    each sent.
    """
    known = [id for id in play.sent if None not in (play.sent[id], play.trusted[id])]
    found = correlation([float(play.trusted[id] or 0) for id in known],
                        [float(play.sent[id] or 0) for id in known], ranks=True)  # fmt: skip
    return Measurement("trust_agreement", found.value, found.low, found.high, found.n,
                       len(play.sent) - len(known), null=0.0,
                       note="our own definition")  # fmt: skip


def world(play: Played, *, seed: int = 0) -> World:
    """What kind of world the play shows, by name.

    "prior ignored" needs an imposed prior: it is stated, and play surely does not have it.
    """
    found = acted_on(play, seed=seed)
    if math.isnan(found.value):
        return "no beliefs"
    if found.low > 0.0 and found.low <= 1.0 <= found.high + 0.25:
        return "beliefs hold"
    if found.low <= 0.0 and found.high < 0.75:
        return "prior ignored" if play.prior else "beliefs unused"
    return "mixed"


def belief_report(model: LanguageModel, play: Played, *, seed: int = 0) -> PersonaReport:
    """Both kinds of belief against play, with the world that they show as a note."""
    agreement = population_agreement(play)
    effects = Measurement("effect_agreement", agreement.value, agreement.low, agreement.high,
                          agreement.n, null=0.0, note="ranks of attributes; our own")  # fmt: skip
    acted = acted_on(play, seed=seed)
    told = Measurement(**{**vars(acted), "note": f"{acted.note}; {world(play, seed=seed)}"})
    return PersonaReport(model.name, (told, effects, trust_agreement(play)))


def forecast_score(
    forecasts: Mapping[int, Sequence[tuple[float, float, float]]], span: float
) -> dict[int, Measurement]:
    """For each horizon 1 - MAE / span of (forecast, played, last known move) triples.

    A forecast counts where its error is surely smaller than that of repeating the last move; the
    note says which, and `null` is the score of repeating.
    """
    if span <= 0.0:
        raise InputError(f"moves span {span}; expected more than 0")
    found = {}
    for horizon, triples in forecasts.items():
        errors = [abs(f - p) / span for f, p, _ in triples]
        repeating = [abs(last - p) / span for _, p, last in triples]
        score = mean([1.0 - e for e in errors])
        gain = mean([r - e for r, e in zip(repeating, errors, strict=True)])
        note = "counts" if gain.positive else "no better than repeating the last move"
        found[horizon] = Measurement(
            f"forecast at {horizon}", score.value, score.low, score.high, score.n,
            null=1.0 - float(np.mean(repeating)), note=note,
        )  # fmt: skip
    return found


AHEAD = "How many coins will you send {horizon} rounds from now? Answer with one number."


def forecasts(
    model: LanguageModel, personas: Sequence[Persona], receiver: LanguageModel,
    *, horizons: Sequence[int] = (1, 2, 3), rounds: int = 6, game: TrustGame | None = None,
) -> tuple[dict[int, list[tuple[float, float, float]]], int]:  # fmt: skip
    """Forecasts of the moves after the second round, and how many could not be read."""
    game = game or TrustGame()
    if not horizons or min(horizons) < 1 or max(horizons) + 2 > rounds:
        raise InputError(f"horizons {list(horizons)} of {rounds} rounds; forecasts are made after "
                         "the second")  # fmt: skip
    found: dict[int, list[tuple[float, float, float]]] = {h: [] for h in horizons}
    failed = 0
    for persona in personas:
        plays = game.play((model, persona), (receiver, None), rounds)
        for horizon in horizons:
            now, later = plays[1].sent, plays[1 + horizon].sent
            past = f"{game.rules}\nIn round 1 you sent {plays[0].sent}, in round 2 {now}."
            question = f"{past}\n{AHEAD.format(horizon=horizon)}"
            forecast = last_integer(ask(model, persona, question), 0, game.endowment)
            if forecast is None or now is None or later is None:
                failed += 1
            else:
                found[horizon].append((float(forecast), float(later), float(now)))
    return found, failed


# What is planted.


@dataclass(frozen=True)
class Believer:
    """States the planted effects (and any prior it is told), and plays `used` of them.

    noise: standard deviation of what is stated, in coins. drifting: coins by which moves grow each
    round; sigma: noise of forecasts, which otherwise are right.
    """

    effects: Mapping[str, int]
    has: Mapping[str, frozenset[str]]
    used: float = 1.0
    noise: float = 0.0
    spread: float = 1.0
    drifting: float = 0.0
    sigma: float = 0.0
    base: float = 5.0

    def __call__(self, messages: Sequence[Message], draw: random.Random) -> str | None:
        question = asked(messages)
        system = messages[0].content if messages[0].role == "system" else ""
        for attribute, coins in self.effects.items():
            if f"the first {attribute}," in question:
                told = re.search(rf"{attribute} send (-?[0-9]+) coins more", system)
                value = int(told[1]) if told else coins
                return f"I would say {round(value + draw.gauss(0.0, self.noise))}."
        if question.startswith("Somebody is described"):
            name = question.partition("You are ")[2].partition(".")[0]
            return str(min(max(round(10 * self._mean(name)), 0), 100))
        name = speaking_as(messages)
        if name not in self.has:
            return "I send back 5." if "send back" in question and not name else None
        sent = question.count("\nRound ")
        if "rounds from now" in question:
            ahead = int(question.rpartition("send ")[2].split()[0])
            moved = self._mean(name) + self.drifting * (1 + ahead) + draw.gauss(0.0, self.sigma)
        else:
            moved = self._mean(name) + self.drifting * sent + draw.gauss(0.0, self.spread)
        return str(min(max(round(moved), 0), 10))

    def _mean(self, name: str) -> float:
        own = self.has.get(name, frozenset())
        sides = ((1 if a in own else -1) * c / 2 for a, c in self.effects.items())
        return self.base + self.used * sum(sides)


EFFECTS: Mapping[str, int] = {"own a dog": 2, "live in a city": -2, "sing in a choir": 1,
                              "have been robbed": -3, "eat fish": 0}  # fmt: skip


def scripted_people(seed: int, count: int, permuted: bool = False) -> list[Persona]:
    """People with attributes drawn evenly. permuted: each is described as somebody else."""
    rng = np.random.default_rng(seed)
    rows = rng.random((count, len(EFFECTS))) < 0.5
    return [
        Persona(f"p{i}", f"P{i}", statements=(Statement("I like games."),),
                fields={"attributes": [a for a, held in zip(EFFECTS, row, strict=True) if held]})
        for i, row in enumerate(rows)
    ]  # fmt: skip


def scripted_play(
    seed: int, *, count: int = 120, used: float = 1.0, noise: float = 0.0,
    prior: Mapping[str, int] | None = None, permuted: bool = False,
) -> Played:  # fmt: skip
    """A planted world. permuted: players are dealt other people's attributes."""
    people = scripted_people(seed, count)
    sets = [frozenset(p.fields["attributes"]) for p in people]
    if permuted:
        sets = [sets[i] for i in np.random.default_rng(seed + 1).permutation(count)]
    has = {p.name: own for p, own in zip(people, sets, strict=True)}
    model = Scripted(Believer(EFFECTS, has, used=used, noise=noise), seed=seed)
    return played(model, people, list(EFFECTS), prior=prior)


def recover(seed: int, parameter: float) -> Measurement:
    """How much of its beliefs a world acts on that acts on so much."""
    return acted_on(scripted_play(seed, used=parameter), seed=seed)
