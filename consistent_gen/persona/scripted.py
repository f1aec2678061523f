"""A language model whose behaviour is declared: the known truth that measures are held to.

Every measure must find the parameter that it claims to measure, and stay silent where there is
none. A `Scripted` model is made of behaviours, each of which knows one way of being asked and has
its parameters as plain fields; those stand beside the measures that they are for.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Sequence
from typing import Protocol

from consistent_gen.language.models import Message, check_messages


class Behaviour(Protocol):
    """One way to answer. draw: the only chance, seeded by what was asked and how often."""

    def __call__(self, messages: Sequence[Message], draw: random.Random) -> str | None:
        """The reply, or None where this is not what the behaviour answers."""


class Scripted:
    """A `LanguageModel` of declared behaviours; the first that answers wins, else `silence`.

    The same question asked again draws anew, as a model with a temperature does; a model made anew
    with the same seed answers the same questions, in the same order, with the same replies.
    """

    sees = False

    def __init__(
        self,
        *behaviours: Behaviour,
        seed: int = 0,
        silence: str = "I have nothing to say about that.",
        name: str = "scripted",
    ) -> None:
        self.behaviours, self.seed, self.silence = behaviours, seed, silence
        self.name = f"{name} (seed {seed})"
        self.calls = 0
        self._asked: Counter[str] = Counter()

    def chat(self, messages: Sequence[Message], *, max_tokens: int = 512) -> str:
        """The declared reply; tokens are counted as words."""
        check_messages(messages)
        said = "\x1e".join(f"{message.role}\x1f{message.content}" for message in messages)
        times = self._asked[said]
        self._asked[said] += 1
        self.calls += 1
        key = f"{self.seed}\x1e{times}\x1e{said}".encode()
        draw = random.Random(int.from_bytes(hashlib.sha256(key).digest()[:8], "big"))
        for behaviour in self.behaviours:
            reply = behaviour(messages, draw)
            if reply is not None:
                return " ".join(reply.split(" ")[:max_tokens])
        return self.silence
