"""Dialogues of role cards with trait levels, and whether a reader finds the traits again.

PsyPlay (arXiv 2502.03821); no code of the authors' was found. Cards say each Big Five trait with
its pole and strength; two agents talk about a topic; a judge reads topic and dialogue and says
high, low or undetermined for each trait. Undetermined counts as a failure to portray [our reading],
and its share is shown. Poles are told apart, since positive ones are easier, and the success that
shuffled cards get is told beside it: a judge may answer alike whatever it reads.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from consistent_gen.language.models import LanguageModel, Message
from consistent_gen.persona.asking import speaking_as, words
from consistent_gen.persona.measurement import MeasuredItem, Measurement
from consistent_gen.persona.persona import BIG_FIVE, Persona
from consistent_gen.persona.scripted import Scripted
from consistent_gen.persona.simulate.dialogue import Agent, Dialogue, MaxTurns
from consistent_gen.persona.statistics import share
from consistent_gen.persona.transcript import Transcript

Pole: TypeAlias = Literal["high", "low"]
Found: TypeAlias = Literal["high", "low", "undetermined"]
TraitJudge: TypeAlias = Callable[[str, Transcript, str, str], Found]  # topic, dialogue, name, trait

ADJECTIVES: Mapping[str, Mapping[Pole, tuple[str, ...]]] = {
    "openness": {"high": ("imaginative", "curious", "inventive", "artistic"),
                 "low": ("conventional", "unimaginative", "traditional", "prosaic")},
    "conscientiousness": {"high": ("organised", "careful", "reliable", "diligent"),
                          "low": ("careless", "disorganised", "negligent", "lazy")},
    "extraversion": {"high": ("outgoing", "talkative", "sociable", "energetic"),
                     "low": ("reserved", "quiet", "withdrawn", "shy")},
    "agreeableness": {"high": ("kind", "trusting", "cooperative", "forgiving"),
                      "low": ("rude", "suspicious", "stubborn", "selfish")},
    "neuroticism": {"high": ("anxious", "moody", "nervous", "irritable"),
                    "low": ("calm", "relaxed", "stable", "unworried")},
}  # fmt: skip
DUTIES = (
    "You talk about: {topic}. Show who you are by what you say and how, as strongly as stated, and "
    "from your own experience. Never name a trait of yours, never say that you are a model, and "
    "use at most 30 words."
)


def poles(persona: Persona) -> dict[str, Pole]:
    """The pole of each Big Five trait of a card; a trait at 0.5 has none."""
    return {
        name: "high" if level > 0.5 else "low"
        for name in BIG_FIVE
        if (level := persona.traits.get(name, 0.5)) != 0.5
    }


def role_card(persona: Persona) -> str:
    """What an agent is told of its traits: adjectives with a strength, strongest words furthest
    from the middle.
    """
    lines = []
    for trait, pole in poles(persona).items():
        far = abs(persona.traits[trait] - 0.5)
        strength = "a bit" if far < 0.2 else "very" if far < 0.4 else "extremely"
        lines.append(f"You are {strength} {' and '.join(ADJECTIVES[trait][pole][:2])}.")
    return "\n".join(lines)


def dialogues(
    pairs: Sequence[tuple[Persona, Persona]], topics: Sequence[str], model: LanguageModel,
    *, turns: int = 5,
) -> list[tuple[str, Transcript]]:  # fmt: skip
    """Each pair about each topic, both by the same model; the paper's have about 2.5 turns each."""
    found = []
    for pair in pairs:
        for topic in topics:
            agents = [
                Agent(p, model, f"{role_card(p)}\n{DUTIES.format(topic=topic)}", max_tokens=80)
                for p in pair
            ]
            found.append((topic, Dialogue(agents, [MaxTurns(turns)]).run()))
    return found


def leaks(text: str, persona: Persona) -> list[str]:
    """The trait adjectives of a card that a reply names."""
    said = set(words(text))
    return [a for trait, pole in poles(persona).items() for a in ADJECTIVES[trait][pole]
            if a in said]  # fmt: skip


def portrayal_success(
    talks: Sequence[tuple[str, Transcript, Persona]], judge: TraitJudge, *, tool: str
) -> tuple[Measurement, ...]:
    """How often the judge finds the card's pole, over all traits of all dialogues, and by pole.

    talks: topic, dialogue and the persona that is looked for in it. A dialogue in which that
    speaker names an adjective of the card is rejected, with all its traits as failed. `null` is
    what the same answers get against shuffled cards. "positive" takes neuroticism the other
    way round.
    """
    items: list[MeasuredItem] = []
    answers: list[tuple[str, Pole, Found]] = []
    rejected, leaked = 0, 0
    for number, (topic, transcript, persona) in enumerate(talks):
        told = [word for text in transcript.of(persona.name) for word in leaks(text, persona)]
        if told:
            leaked, rejected = leaked + 1, rejected + len(poles(persona))
            items.append(
                MeasuredItem(f"{number}", float("nan"), topic, why=f"names {', '.join(told)}")
            )
            continue
        for trait, pole in poles(persona).items():
            found = judge(topic, transcript, persona.name, trait)
            answers.append((trait, pole, found))
            items.append(
                MeasuredItem(f"{number} {trait}", float(found == pole), topic, found, pole)
            )
    tools, failed = {"judge": tool}, rejected
    told_apart = {
        "portrayal_success": answers,
        "portrayal_positive": [a for a in answers if _positive(a[0], a[1])],
        "portrayal_negative": [a for a in answers if not _positive(a[0], a[1])],
    }
    measured = []
    for name, some in told_apart.items():
        hits = share(sum(found == pole for _, pole, found in some), len(some))
        whole = name == "portrayal_success"
        measured.append(Measurement(
            name, hits.value, hits.low, hits.high, hits.n, failed if whole else 0,
            null=_shuffled(some, answers), tools=tools, items=tuple(items) if whole else (),
        ))  # fmt: skip
    open_ = share(sum(found == "undetermined" for *_, found in answers), len(answers))
    leak = share(leaked, len(talks))
    return (
        *measured,
        Measurement("undetermined", open_.value, open_.low, open_.high, open_.n,
                    direction="lower", tools=tools),
        Measurement("leaks", leak.value, leak.low, leak.high, leak.n, direction="lower"),
    )  # fmt: skip


def _positive(trait: str, pole: Pole) -> bool:
    return (pole == "high") != (trait == "neuroticism")


def _shuffled(
    some: Sequence[tuple[str, Pole, Found]], answers: Sequence[tuple[str, Pole, Found]]
) -> float:
    """Success of some cards when all answers are dealt anew within each trait, over all deals."""
    chances = []
    for trait, pole, _ in some:
        dealt = [found for name, _, found in answers if name == trait]
        chances.append(sum(found == pole for found in dealt) / len(dealt))
    return float(np.mean(chances)) if chances else float("nan")


def model_trait_judge(model: LanguageModel) -> TraitJudge:
    """A language model as the judge; a reply without a clear word is undetermined."""

    def judge(topic: str, transcript: Transcript, name: str, trait: str) -> Found:
        script = "\n".join(f"{turn.speaker}: {turn.text}" for turn in transcript.turns)
        question = (
            f"A conversation about {topic}:\n{script}\n\nJudging by these lines alone, is the "
            f"{trait} of {name} high or low? Answer with one word: high, low or undetermined."
        )
        said = words(model.chat([Message("user", question)], max_tokens=8))
        verdicts = [word for word in said if word in ("high", "low", "undetermined")]
        first = verdicts[0] if len(set(verdicts)) == 1 else "undetermined"
        return "high" if first == "high" else "low" if first == "low" else "undetermined"

    return judge


# What is planted: cues that are no adjectives, so that they are no leaks.

CUES: Mapping[str, Mapping[Pole, tuple[str, str]]] = {
    "openness": {"high": ("What if we tried something nobody has done?", "I dreamt up a new way."),
                 "low": ("We should do it as always.", "New ways are not for me.")},
    "conscientiousness": {"high": ("I made a list and ticked it off.", "I finished it early."),
                          "low": ("I will do it some other day.", "I lost the papers again.")},
    "extraversion": {"high": ("Let us ask everybody to join!", "I met ten new people."),
                     "low": ("I would rather stay home alone.", "Crowds wear me out.")},
    "agreeableness": {"high": ("Of course I will help you.", "I am sure they meant well."),
                      "low": ("That is your problem.", "They only want my money.")},
    "neuroticism": {"high": ("What if it all goes wrong?", "I lay awake over it."),
                    "low": ("It will be fine.", "I slept well all the same.")},
}  # fmt: skip


def lexical_trait_judge(topic: str, transcript: Transcript, name: str, trait: str) -> Found:
    """The judge for scripted speakers: counts their cues. It reads nobody else."""
    said = " ".join(transcript.of(name))
    high, low = (sum(said.count(cue) for cue in CUES[trait][pole]) for pole in ("high", "low"))
    return "high" if high > low else "low" if low > high else "undetermined"


@dataclass(frozen=True)
class Portrayer:
    """Speaks in cues of its own poles, of a trait with a probability of `faithful` and of the other
    pole otherwise; which one is settled once for each speaker and trait. `leaking`: how often a
    turn names an adjective.
    """

    cards: Mapping[str, Persona]
    faithful: float
    leaking: float = 0.0
    seed: int = 0

    def __call__(self, messages: Sequence[Message], draw: random.Random) -> str | None:
        name = speaking_as(messages)
        if name not in self.cards:
            return None
        settled = random.Random(f"{self.seed} {name}")
        said = []
        for trait, pole in poles(self.cards[name]).items():
            other: Pole = "low" if pole == "high" else "high"
            kept = settled.random() < self.faithful
            said.append(draw.choice(CUES[trait][pole if kept else other]))
        if draw.random() < self.leaking:
            trait, pole = draw.choice(list(poles(self.cards[name]).items()))
            said.append(f"I am {draw.choice(ADJECTIVES[trait][pole])}.")
        return " ".join(said)


def scripted_cards(count: int, seed: int) -> list[Persona]:
    """People with all five poles drawn evenly."""
    rng = np.random.default_rng(seed)
    levels = rng.choice([0.1, 0.3, 0.7, 0.9], (count, len(BIG_FIVE)))
    return [
        Persona(f"c{i}", f"Card {i}", traits=dict(zip(BIG_FIVE, map(float, row), strict=True)))
        for i, row in enumerate(levels)
    ]


def scripted_talks(
    seed: int, faithful: float, *, count: int = 60, leaking: float = 0.0
) -> list[tuple[str, Transcript, Persona]]:
    """Scripted cards in pairs about one topic, each looked for once."""
    cards = scripted_cards(count, seed)
    model = Scripted(Portrayer({c.name: c for c in cards}, faithful, leaking, seed), seed=seed)
    pairs = list(zip(cards[::2], cards[1::2], strict=True))
    talks = dialogues(pairs, ["a journey"], model, turns=4)
    return [(t, talk, p) for (t, talk), pair in zip(talks, pairs, strict=True) for p in pair]


def recover(seed: int, parameter: float) -> Measurement:
    """The portrayal success of speakers that portray so many of their traits."""
    talks = scripted_talks(seed, parameter)
    return portrayal_success(talks, lexical_trait_judge, tool="cues of scripted speakers")[0]
