"""Did the user say it? What a listener proposes must rest on the user's words, not on others'.

Naming a user's turn as evidence proves nothing: a model that was talked over by a document names
the innocent turn beside it. So the words themselves are compared.

- What rests on a turn that reads like a forged instruction, or follows closely on one, waits for
  the user; turns are read together too, because an attack may be cut in pieces.
- What only the assistant or a retrieved memory said is no evidence, unless the assistant asked and
  the user's next words were a plain yes.
- Beside a document, nothing is written that the user's own words do not carry.
- Elsewhere a value that shares no word with its evidence waits for the user, and so does the end
  of a record that the user did not speak of.

What the user's own words carry passes: whoever speaks as the user is the user.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from consistent_gen.language.words import STOP_WORDS, read_consent
from consistent_gen.memory.data.records import Turn
from consistent_gen.memory.judging.screening import forged, screen

_WORD = re.compile(r"\w+")
_STEM = 5
# Scripts without spaces between words: two neighbouring signs say what a word says elsewhere.
_UNSPACED = re.compile(r"[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")
# Shares of a value's words: found among the assistant's, found among the user's.
_ECHOED, _CONFIRMED = 0.8, 0.34
_BESIDE_A_DOCUMENT = 0.5
_TAKEN_BACK = re.compile(
    r"\b(?:no|not|never|wrong|longer|any ?more|stopped|quit|ended|left|lost|moved|sold|died|gave|"
    r"broke|split|over|done|cancel\w*|used to|instead|actually|changed)\b|n'?t\b|n\u2019t\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Objection:
    """The rule that speaks against an operation, what becomes of it, and why."""

    rule: str
    status: Literal["refused", "quarantined"]
    reason: str


_FORGED = Objection(
    "forged_source", "quarantined", "the turn it rests on reads like a forged instruction"
)
_ECHO = Objection("echo", "refused", "the evidence does not say it; the assistant or a memory does")
_DOCUMENT = Objection(
    "unsupported", "refused", "a document is in this chunk and the user's words do not say it"
)
_NOTHING = Objection("unsupported", "quarantined", "the user's words hold nothing of it")


class Grounding:
    """What one chunk holds for and against a value. Readings of turns are kept for the batch.

    chunk: its turns. retrieved: texts of memories that the model was shown. before: what the user
    had said shortly before the chunk.
    """

    def __init__(
        self, chunk: Sequence[Turn], retrieved: Sequence[str], before: Sequence[str]
    ) -> None:
        self._before = before
        self._chunk = sorted(chunk, key=lambda turn: turn.id)
        self._known: dict[tuple[str, ...], bool] = {}
        others = [turn for turn in chunk if turn.role != "user"]
        self._loud = any(screen(turn.text) is not None for turn in others)
        self._documents = _stems(turn.text for turn in others if turn.role == "document")
        self._strict = self._loud or any(turn.role == "document" for turn in others)
        heard = [t.text for t in others if t.role == "assistant" and not self._confirmed(t)]
        self._echoes = _stems([*retrieved, *heard])
        self._asked = _stems(t.text for t in others if self._confirmed(t))

    def against(self, value: str, evidence: Sequence[Turn]) -> Objection | None:
        """What speaks against writing ``value`` on the word of ``evidence`` (turns of the user)."""
        if self._forged(evidence):
            return _FORGED
        words, said = _stems([value]), _stems(turn.text for turn in evidence)
        if not words:
            return None
        carried = len(words & said) / len(words)
        if len(words & self._echoes) >= _ECHOED * len(words) and carried < _CONFIRMED:
            return _ECHO
        foreign = (words - said) & self._documents
        loud = self._loud and words - said
        if self._strict and (foreign or loud or carried < _BESIDE_A_DOCUMENT):
            return _DOCUMENT
        return None if carried or words & self._asked else _NOTHING

    def against_ending(self, old: str, evidence: Sequence[Turn]) -> Objection | None:
        """As `against`, for ending a record that says ``old``."""
        if self._forged(evidence):
            return _FORGED
        if _stems([old]) & _stems(turn.text for turn in evidence):
            return None
        if self._strict:
            return _DOCUMENT
        taken_back = any(_TAKEN_BACK.search(turn.text) for turn in evidence)
        return None if taken_back else _NOTHING

    def _forged(self, evidence: Sequence[Turn]) -> bool:
        key = tuple(turn.id for turn in evidence)
        if key not in self._known:
            pieces = [*self._before, *(turn.text for turn in evidence)]
            self._known[key] = any(map(forged, {" ".join(pieces), "".join(pieces)}))
        return self._known[key]

    def _confirmed(self, turn: Turn) -> bool:
        if turn.role != "assistant" or "?" not in turn.text:
            return False
        after = [t for t in self._chunk if t.id > turn.id]
        return bool(after) and after[0].role == "user" and read_consent(after[0].text) is True


def _stems(texts: Iterable[str]) -> frozenset[str]:
    """The beginnings of the words that carry meaning, so that "lives" and "live" agree."""
    words = {word for text in texts for word in _WORD.findall(text.casefold())}
    found = set()
    for word in words - STOP_WORDS:
        if _UNSPACED.search(word) and len(word) > 1:
            found |= {word[i : i + 2] for i in range(len(word) - 1)}
        else:
            found.add(word[:_STEM].rstrip("s"))
    return frozenset(found)
