"""User simulators with implicit profiles: read a profile from what a user said, and check that
whoever simulates the profile would be read as the same user.

USP, "Know You First and Be You Better" (arXiv 2502.18968, ACL 2025). The profile has two
paragraphs, facts and traits; cycle consistency and the reward are as in the authors' code. They
released no evaluation code: the four failure modes that they name are measured by definitions of
our own, and so is the ranking of assistants by simulated users.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from consistent_gen.language.embedders import HashedNgrams, TextEmbedder
from consistent_gen.language.models import LanguageModel, Message
from consistent_gen.persona.asking import asked, last_integer, speaking_as, words
from consistent_gen.persona.measurement import MeasuredItem, Measurement
from consistent_gen.persona.persona import Persona, Statement
from consistent_gen.persona.scripted import Scripted
from consistent_gen.persona.simulate.dialogue import Agent, Dialogue, MaxTurns
from consistent_gen.persona.statistics import correlation, cosine, line, mean, share
from consistent_gen.persona.transcript import Transcript

SYSTEM = "You describe users of a chat assistant from nothing but what they wrote."
TASK = (
    "What one user wrote to an assistant, in order:\n{lines}\n---\n"
    "Describe this user in two paragraphs with an empty line between them, speaking to the user as "
    '"you", one plain sentence for each point. First paragraph: facts about the user and what the '
    "user wants here. Second paragraph: the user's personality and way of writing. Say nothing "
    "that the lines do not show."
)
SIMULATE = (
    "You write what a user writes to an assistant. Your profile is:\n{profile}\n"
    "Speak freely as this person would, in the first person; never recite the profile."
)
BLUNT = 0.6  # share of a fact's words that a turn may hold before it recites the fact
_SENTENCE = re.compile(r"(?<=[.!?])\s+")
_ASSISTANT = (
    "how can i help", "how may i help", "as an ai", "as an assistant", "as a language model",
    "let me know if you", "i can help you with", "i'm happy to help", "i am happy to help",
    "happy to assist", "feel free to ask",
)  # fmt: skip
_PRAISE = (
    "thank you so much", "you're amazing", "you are amazing", "wonderful", "brilliant", "fantastic",
    "so kind", "you're the best", "you are the best", "great point", "great question",
    "couldn't agree more", "love talking", "admire",
)  # fmt: skip


@dataclass(frozen=True)
class UserProfile:
    """What is known of a user, as sentences in the second person: "You keep bees." """

    facts: tuple[str, ...]
    traits: tuple[str, ...]

    @property
    def text(self) -> str:
        """Both paragraphs."""
        return f"{' '.join(self.facts)}\n\n{' '.join(self.traits)}"

    @classmethod
    def read(cls, text: str) -> UserProfile | None:
        """The profile in a reply; None unless it has two paragraphs."""
        paragraphs = [part.strip() for part in text.split("\n\n") if part.strip()]
        if len(paragraphs) != 2:
            return None
        facts, traits = (tuple(s for s in _SENTENCE.split(part) if s) for part in paragraphs)
        return cls(facts, traits)

    def persona(self, id: str, name: str) -> Persona:
        """Somebody who speaks from this profile, as the user of an assistant."""
        said = tuple(Statement(sentence, "profile") for sentence in (*self.facts, *self.traits))
        return Persona(id, name, SIMULATE.format(profile=self.text), said)


def extract_profile(turns: Sequence[str], model: LanguageModel) -> UserProfile | None:
    """The profile behind what a user wrote, by a language model; None where the reply is not one.

    Only the user's own turns are shown: what the assistant said is not evidence about the user.
    """
    lines = "\n".join(f"[User]: {' '.join(text.split())}" for text in turns)
    question = Message("user", TASK.format(lines=lines))
    return UserProfile.read(model.chat([Message("system", SYSTEM), question], max_tokens=600))


def fact_recall(
    cases: Sequence[tuple[Sequence[str], UserProfile | None]], embedder: TextEmbedder,
    *, same: float = 0.75,
) -> Measurement:  # fmt: skip
    """The share of known facts that an extracted profile holds.

    cases: (known facts, what was extracted). A fact is held when a sentence of the profile has a
    cosine of `same` or more with it; a profile that could not be read fails with all its facts.
    """
    items, hits, failed = [], 0, 0
    for number, (known, profile) in enumerate(cases):
        if profile is None:
            failed += len(known)
            items += [
                MeasuredItem(f"{number}", float("nan"), fact, why="no profile") for fact in known
            ]
            continue
        near = embedder.text([*known, *profile.facts, ""])
        against = near[: len(known)] @ near[len(known) : -1].T if profile.facts else None
        for i, fact in enumerate(known):
            best = float(against[i].max()) if against is not None else 0.0
            hits += best >= same
            items.append(
                MeasuredItem(f"{number}.{i}", float(best >= same), fact, why=f"cosine {best:.2f}")
            )
    found = share(hits, len(items) - failed)
    return Measurement("fact_recall", found.value, found.low, found.high, found.n, failed,
                       tools={"embedder": embedder.description}, items=tuple(items))  # fmt: skip


def cycle_consistency(
    target: UserProfile, extracted: UserProfile | None, embedder: TextEmbedder
) -> float:
    """cos(facts, facts') + cos(traits, traits') of the target profile and the one read again from
    the simulated dialogue, -2..2; NaN where none could be read.
    """
    if extracted is None:
        return float("nan")
    parts = [(" ".join(p.facts), " ".join(p.traits)) for p in (target, extracted)]
    facts, traits, facts_again, traits_again = embedder.text([*parts[0], *parts[1]])
    return cosine(facts, facts_again) + cosine(traits, traits_again)


def reward(cycle: float, p_human: float, w: float = 0.5) -> float:
    """r = w cycle + 2 (1 - w) p_human: `cycle` is one number of the whole dialogue, copied to its
    turns; `p_human` is a classifier's probability that a person wrote this turn.
    """
    return w * cycle + 2.0 * (1.0 - w) * p_human


def rewards(
    transcript: Transcript, user: str, target: UserProfile, model: LanguageModel,
    p_human: Callable[[str], float], embedder: TextEmbedder, w: float = 0.5,
) -> list[float]:  # fmt: skip
    """The reward of each turn of a simulated user, in order; NaN where no profile could be read."""
    turns = transcript.of(user)
    cycle = cycle_consistency(target, extract_profile(turns, model), embedder)
    return [reward(cycle, p_human(text), w) for text in turns]


def failure_modes(
    transcripts: Sequence[Transcript], user: str, profiles: Sequence[UserProfile],
    embedder: TextEmbedder,
) -> tuple[Measurement, ...]:  # fmt: skip
    """The four ways in which simulated users give themselves away [our definitions].

    bluntness: turns that recite a fact of the profile, by `BLUNT` of its words. role_confusion:
    turns that do the assistant's work, by wording. mutual_praise: turns that praise right after
    having been praised. topic_drift: the slope of 1 - cos(turn, what the dialogue began with).
    Shares are of the user's turns. Wordings are English.
    """
    blunt: list[MeasuredItem] = []
    confused: list[MeasuredItem] = []
    praise: list[MeasuredItem] = []
    drift: list[MeasuredItem] = []
    for number, (transcript, profile) in enumerate(zip(transcripts, profiles, strict=True)):
        facts = [set(words(fact)) - {"you", "your", "i", "my"} for fact in profile.facts]
        before = ""
        for i, turn in enumerate(transcript.turns):
            if turn.speaker == user:
                said, low, id = set(words(turn.text)), turn.text.lower(), f"{number}.{i}"
                recited = max((len(f & said) / len(f) for f in facts if f), default=0.0)
                blunt.append(MeasuredItem(id, float(recited >= BLUNT), answered=turn.text))
                helps = any(phrase in low for phrase in _ASSISTANT)
                confused.append(MeasuredItem(id, float(helps), answered=turn.text))
                both = _praises(low) and _praises(before)
                praise.append(MeasuredItem(id, float(both), answered=turn.text))
            before = turn.text.lower()
        drift.append(MeasuredItem(f"{number}", _topic_drift(transcript.of(user), embedder)))
    shares = [
        Measurement(name, found.value, found.low, found.high, found.n, direction="lower",
                    null=0.0, items=tuple(items))
        for name, items in (("bluntness", blunt), ("role_confusion", confused),
                            ("mutual_praise", praise))
        for found in [share(sum(item.value == 1.0 for item in items), len(items))]
    ]  # fmt: skip
    slope = mean([item.value for item in drift])
    return (*shares, Measurement(
        "topic_drift", slope.value, slope.low, slope.high, slope.n, len(drift) - slope.n,
        direction="lower", unit="1 - cos a turn", null=0.0,
        tools={"embedder": embedder.description}, items=tuple(drift),
    ))  # fmt: skip


def _praises(low: str) -> bool:
    return any(phrase in low for phrase in _PRAISE)


def _topic_drift(turns: Sequence[str], embedder: TextEmbedder) -> float:
    if len(turns) < 4:
        return float("nan")
    vectors = embedder.text(list(turns))
    began = vectors[:2].mean(0)
    return line(range(2, len(turns)), [1.0 - cosine(v, began) for v in vectors[2:]]).value


RATE = (
    "The conversation is over. How well did the assistant help you with what you wanted? Answer "
    "with one digit from 1 (not at all) to 5 (completely)."
)


def rank_assistants(
    users: Sequence[Agent], assistants: Mapping[str, Agent], *, turns: int = 8
) -> dict[str, Measurement]:
    """What simulated users think of each assistant: everybody talks with it and then rates it, 1
    to 5. Ratings that cannot be read count as failed.
    """
    found = {}
    for name, assistant in assistants.items():
        items = []
        for user in users:
            talk = Dialogue((user, assistant), [MaxTurns(turns)]).run()
            asking = talk if talk.turns[-1].speaker == assistant.name else talk.said(
                assistant.name, "(says nothing)"
            )  # fmt: skip
            reply = Agent(user.persona, user.model, user.duties, user.view, 8).reply(
                asking.said(assistant.name, RATE)
            )
            rating = last_integer(reply, 1, 5)
            items.append(
                MeasuredItem(user.name, float("nan") if rating is None else rating, RATE, reply)
            )
        rated = mean([item.value for item in items])
        found[name] = Measurement(
            f"rating of {name}", rated.value, rated.low, rated.high, rated.n,
            len(items) - rated.n, unit="1 to 5", items=tuple(items),
        )  # fmt: skip
    return found


def rank_agreement(ratings: Mapping[str, Measurement], truth: Mapping[str, float]) -> Measurement:
    """Spearman's rank correlation of what users think of assistants with how good they are."""
    names = sorted(truth)
    found = correlation([truth[n] for n in names], [ratings[n].value for n in names], ranks=True)
    failed = sum(ratings[n].failed for n in names)
    return Measurement("rank_agreement", found.value, found.low, found.high, found.n, failed,
                       null=0.0)  # fmt: skip


# What is planted.


@dataclass(frozen=True)
class ProfileWriter:
    """An extractor: turns what the user says in the first person into a profile, and leaves each
    fact out with a probability of `misses`. Sentences with "usually" are traits.
    """

    misses: float = 0.0

    def __call__(self, messages: Sequence[Message], draw: random.Random) -> str | None:
        if messages[0].content != SYSTEM:
            return None
        lines = [t[8:] for t in asked(messages).splitlines() if t.startswith("[User]: ")]
        said = [re.sub(r"\bmy\b", "your", re.sub(r"\bI\b", "You", text)) for text in lines]
        facts = [s for s in said if "usually" not in s and draw.random() >= self.misses]
        traits = [s for s in said if "usually" in s] or ["You write plainly."]
        return f"{' '.join(facts) or 'You say little.'}\n\n{' '.join(traits)}"


@dataclass(frozen=True)
class ScriptedUser:
    """A user by name with facts of its own, each said once in order, then small talk.

    blunt, confused, praising: how often a turn recites a fact of its `profile`, speaks as an
    assistant, or gives praise back.
    """

    said: Mapping[str, Sequence[str]]
    profile: Sequence[str] = ()
    blunt: float = 0.0
    confused: float = 0.0
    praising: float = 0.0

    def __call__(self, messages: Sequence[Message], draw: random.Random) -> str | None:
        facts = self.said.get(speaking_as(messages))
        if facts is None:
            return None
        kind = draw.random()
        if self.profile and kind < self.blunt:
            return draw.choice(list(self.profile)).replace("You ", "I ")
        if self.blunt <= kind < self.blunt + self.confused:
            return "How can I help you with that today?"
        if 0.0 <= kind - self.blunt - self.confused < self.praising:
            return "That is brilliant, you are so kind."
        turn = sum(message.role == "assistant" for message in messages)
        return facts[turn] if turn < len(facts) else f"And what about number {turn}?"


@dataclass(frozen=True)
class Rater:
    """A user that rates by the share of helpful replies it was given."""

    def __call__(self, messages: Sequence[Message], draw: random.Random) -> str | None:
        if not asked(messages).endswith(RATE):
            return None
        heard = [text for m in messages if m.role == "user" for text in m.content.splitlines()
                 if text != RATE]  # fmt: skip
        helped = [text.startswith("Here is how") for text in heard if text.endswith(".")]
        return str(round(1 + 4 * float(np.mean(helped)))) if helped else "1"


@dataclass(frozen=True)
class Helper:
    """An assistant that helps with a probability of `skill`."""

    skill: float

    def __call__(self, messages: Sequence[Message], draw: random.Random) -> str | None:
        return "Here is how it works." if draw.random() < self.skill else "I see."


_WORK = ("repair boats", "keep bees", "bake bread", "teach maths", "drive a tram", "paint doors",
         "sell shoes", "grow apples", "write songs", "train dogs")  # fmt: skip
_HOME = ("Bergen", "Leeds", "Porto", "Graz", "Turku", "Ghent", "Lyon", "Riga", "Cork", "Basel")
_WISH = ("plan a wedding", "buy a tent", "learn Danish", "mend a roof", "sleep better",
         "find a job", "cook for ten", "sell a car", "run a race", "write a will")  # fmt: skip
_OWN = ("two cats", "a blue van", "three sisters", "an old piano", "a bad knee", "a red kayak",
        "four hens", "a balcony", "a twin brother", "a night shift")  # fmt: skip
_WAY = ("joke", "ask twice", "hurry", "apologise", "doubt", "swear", "ramble", "insist", "tease",
        "list things")  # fmt: skip


def scripted_user_facts(number: int) -> tuple[str, ...]:
    """Four facts and one trait in the first person, of user `number`; 10,000 different ones."""
    i = number
    picks = [pool[(i // 10**k + i * k) % 10] for k, pool in enumerate((_WORK, _HOME, _WISH, _OWN))]
    return (
        f"I {picks[0]} for a living.", f"I live in {picks[1]}.", f"I want to {picks[2]} soon.",
        f"I have {picks[3]} at home.", f"I usually {_WAY[i % 10]} when I talk.",
    )  # fmt: skip


def second_person(said: Sequence[str]) -> UserProfile:
    turned = [re.sub(r"\bI\b", "You", text) for text in said]
    return UserProfile(tuple(turned[:-1]), (turned[-1],))


def recover_recall(seed: int, parameter: float) -> Measurement:
    """The recall of an extractor that misses 1 - parameter of all facts."""
    users = [scripted_user_facts(50 * seed + i) for i in range(40)]
    model = Scripted(ProfileWriter(misses=1.0 - parameter), seed=seed)
    cases = [(second_person(said).facts, extract_profile(said, model)) for said in users]
    return fact_recall(cases, HashedNgrams())


def recover_bluntness(seed: int, parameter: float) -> Measurement:
    """The bluntness of users that recite a fact so often."""
    return _recover_failure(seed, parameter, "bluntness")


def recover_role_confusion(seed: int, parameter: float) -> Measurement:
    """The role confusion of users that speak as an assistant so often."""
    return _recover_failure(seed, parameter, "role_confusion")


def recover_mutual_praise(seed: int, parameter: float) -> Measurement:
    """The mutual praise of users that praise back so often."""
    return _recover_failure(seed, parameter, "mutual_praise")


def _recover_failure(seed: int, parameter: float, mode: str) -> Measurement:
    planted = {"bluntness": "blunt", "role_confusion": "confused", "mutual_praise": "praising"}
    talks, profiles = [], []
    for i in range(20):
        profile = second_person(scripted_user_facts(20 * seed + i))
        behaviour = ScriptedUser({"User": ()}, profile.facts, **{planted[mode]: parameter})
        user = Agent(Persona("u", "User"), Scripted(behaviour, seed=20 * seed + i))
        reply = "A brilliant thought." if mode == "mutual_praise" else "Well, let us see."
        assistant = Agent(Persona("a", "Assistant"), Scripted(silence=reply))
        talks.append(Dialogue((assistant, user), [MaxTurns(20)]).run())
        profiles.append(profile)
    measured = {m.name: m for m in failure_modes(talks, "User", profiles, HashedNgrams())}
    return measured[mode]
