"""Games with typed moves that models play by text: the trust game and the cold card task.

A move is the last whole number of a reply; what has none, or one out of range, is no move and is
counted. Nothing is repaired on the way.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from consistent_gen.errors import InputError
from consistent_gen.language.models import LanguageModel, Message
from consistent_gen.persona.asking import ask, asked, last_integer, speaking_as
from consistent_gen.persona.persona import Persona

# The trust game (Berg, Dickhaut and McCabe, 1995).


@dataclass(frozen=True)
class Round:
    """One round: what was sent and returned, in coins; None where a reply held no move."""

    sent: int | None
    returned: int | None


@dataclass(frozen=True)
class TrustGame:
    """The sender gives up to `endowment` coins, which arrive `factor` times; the receiver returns
    what it likes of them.
    """

    endowment: int = 10
    factor: int = 3

    def __post_init__(self) -> None:
        if self.endowment < 1 or self.factor < 2:
            raise InputError("a trust game needs 1 coin or more and a factor of 2 or more")

    @property
    def rules(self) -> str:
        """What players are told."""
        return (
            f"A game with a stranger. You have {self.endowment} coins and may send any number of "
            f"them, from 0 to {self.endowment}. What you send is multiplied by {self.factor}, and "
            "the stranger decides how many of those coins to send back to you."
        )

    def send(
        self, model: LanguageModel, persona: Persona | None, past: Sequence[Round] = ()
    ) -> int | None:
        """The sender's move, after the rounds so far."""
        told = "".join(f"\nRound {i}: you sent {r.sent}, {r.returned} came back."
                       for i, r in enumerate(past, 1))  # fmt: skip
        question = f"{self.rules}{told}\nHow many coins do you send now? Answer with one number."
        return last_integer(ask(model, persona, question, max_tokens=64), 0, self.endowment)

    def give_back(self, model: LanguageModel, persona: Persona | None, sent: int) -> int | None:
        """The receiver's move."""
        most = self.factor * sent
        question = (
            f"A game with a stranger, who had {self.endowment} coins and sent you {sent}; you "
            f"received {most}. How many of these do you send back, from 0 to {most}? Answer with "
            "one number."
        )
        return last_integer(ask(model, persona, question, max_tokens=64), 0, most)

    def play(
        self, sender: tuple[LanguageModel, Persona | None],
        receiver: tuple[LanguageModel, Persona | None], rounds: int = 1,
    ) -> list[Round]:  # fmt: skip
        """Rounds in a row; players learn of the rounds in which both moved."""
        played: list[Round] = []
        for _ in range(rounds):
            past = [r for r in played if None not in (r.sent, r.returned)]
            sent = self.send(*sender, past)
            back = None if sent is None else self.give_back(*receiver, sent)
            played.append(Round(sent, back))
        return played

    def payoffs(self, played: Round) -> tuple[int, int] | None:
        """Of sender and receiver; None where a move is missing."""
        if played.sent is None or played.returned is None:
            return None
        kept = self.endowment - played.sent
        return kept + played.returned, self.factor * played.sent - played.returned


# The cold Columbia Card Task (Figner et al., 2009): how many cards, said beforehand.


@dataclass(frozen=True)
class CardScenario:
    """Cards that win `gain` points each, but `bad` of them that lose `loss` and end the round."""

    bad: int
    gain: int
    loss: int
    cards: int = 32

    def __post_init__(self) -> None:
        if not 0 <= self.bad <= self.cards:
            raise InputError(f"{self.bad} bad cards of {self.cards}")

    @property
    def question(self) -> str:
        """What the player is asked."""
        return (
            f"{self.cards} cards lie face down. {self.bad} of them are loss cards. Each other card "
            f"you turn wins {self.gain} points; a loss card costs {self.loss} points and ends the "
            f"round. Say now how many cards you turn, from 0 to {self.cards}. Answer with one "
            "number."
        )

    def expected(self, turned: int) -> float:
        """Expected points of turning so many cards at most: the j-th is turned when none of those
        before is bad, C(cards - bad, j - 1) / C(cards, j - 1).
        """
        safe = [math.comb(self.cards - self.bad, j) / math.comb(self.cards, j)
                for j in range(turned + 1)]  # fmt: skip
        return sum(
            after * self.gain - (before - after) * self.loss
            for before, after in itertools.pairwise(safe)
        )

    @property
    def optimum(self) -> int:
        """How many cards win most on average; of equals the fewest."""
        return max(range(self.cards + 1), key=lambda k: (self.expected(k), -k))

    def turn(self, model: LanguageModel, persona: Persona | None) -> int | None:
        """The player's move."""
        return last_integer(ask(model, persona, self.question, max_tokens=64), 0, self.cards)


SCENARIOS = tuple(
    CardScenario(bad, gain, loss)
    for bad in (1, 3, 5) for gain in (10, 20, 30) for loss in (250, 500, 750)
)  # fmt: skip


# What is planted.


@dataclass(frozen=True)
class CardPlayer:
    """Turns a + b * trait cards and a little noise, whatever the scenario; by the player's name.

    babbles: how often the reply holds no number.
    """

    cards: Mapping[str, float]
    spread: float = 2.0
    babbles: float = 0.0

    def __call__(self, messages: Sequence[Message], draw: random.Random) -> str | None:
        if "lie face down" not in asked(messages):
            return None
        if draw.random() < self.babbles:
            return "That depends on many things."
        turned = draw.gauss(self.cards.get(speaking_as(messages), 16.0), self.spread)
        return f"There are 32 cards, so I turn {min(max(round(turned), 0), 32)}."
