"""A proposer that asks a language model, and counts what it could not read.

Each owner is asked for one JSON object with its fields. The reading is tolerant (fences, words
around it, a trailing comma) and never guesses a value: what stays unreadable, or lacks fields, is a
failure that is counted, and the field stays empty, so that the rules send it back.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from consistent_gen.language.models import LanguageModel, Message
from consistent_gen.persona.persona import Json
from consistent_gen.persona.population.proposing import (
    By,
    Draw,
    Levels,
    Mapped,
    Number,
    Patch,
    Pick,
)
from consistent_gen.persona.population.quotas import Slot
from consistent_gen.persona.rules import Issue, Values

SYSTEM = """\
You write one part of an invented person, for a study with simulated people. Answer with one JSON
object and nothing else, with exactly the keys that are asked for. Stay with what is fixed, let the
parts fit each other, and do not make everything turn out well: ordinary people have weak sides."""
MAX_TOKENS = 800
_FENCE = re.compile(r"```(?:json)?\s*(.*?)```", re.S)
_COMMA = re.compile(r",\s*([}\]])")


@dataclass
class AnswerCount:
    """How often a model was asked, and what of its answers could not be used."""

    calls: int = 0
    unreadable: int = 0
    incomplete: int = 0


class ModelProposer:
    """fields: owner -> field -> what is wanted there, in words."""

    def __init__(self, model: LanguageModel, fields: Mapping[str, Mapping[str, str]]) -> None:
        self.model, self.fields = model, fields
        self.owners = tuple(fields)
        self.asked = AnswerCount()

    def propose(self, slot: Slot, owner: str, board: Values, draw: random.Random) -> Patch:
        """The owner's fields, as far as the answer could be read."""
        return self._ask(slot, owner, board, "")

    def revise(
        self, slot: Slot, owner: str, board: Values, issues: Sequence[Issue], draw: random.Random
    ) -> Patch:
        """The owner's fields once more, with what is to be mended."""
        told = "\n".join(f"- {issue}" for issue in issues)
        return self._ask(slot, owner, board, f"\nMend this in what you wrote:\n{told}")

    def _ask(self, slot: Slot, owner: str, board: Values, more: str) -> Patch:
        wanted = {k: v for k, v in self.fields[owner].items() if k not in slot.fixed}
        known = json.dumps({k: v for k, v in board.items() if v is not None}, ensure_ascii=False)
        keys = "\n".join(f"- {name}: {about}" for name, about in wanted.items())
        text = f"Known of person {slot.id}:\n{known}\n\nWrite these keys:\n{keys}{more}"
        reply = self.model.chat(
            [Message("system", SYSTEM), Message("user", text)], max_tokens=MAX_TOKENS
        )
        self.asked.calls += 1
        told = read_object(reply)
        if told is None:
            self.asked.unreadable += 1
            return {}
        patch = {name: told[name] for name in wanted if name in told}
        self.asked.incomplete += len(patch) < len(wanted)
        return patch


def in_words(how: Draw) -> str:
    """What a field that a spec draws from lists should hold, as a request."""
    if isinstance(how, Pick):
        listed = ", ".join(map(str, how.values))
        if how.count is None:
            return f"one of: {listed}"
        return f"a list of {how.count[0]} to {how.count[1]} of: {listed}"
    if isinstance(how, Number):
        base = f", added to {how.of}" if how.of else ""
        return f"a whole number from {how.low} to {how.high}{base}"
    if isinstance(how, Levels):
        names, values = ", ".join(map(str, how.names)), ", ".join(map(str, how.values))
        return f"an object that gives each of these: {names}; one of: {values}"
    if isinstance(how, Mapped):
        inner = "; ".join(f"{name} ({in_words(draw)})" for name, draw in how.draws.items())
        return f"an object with {inner}"
    if isinstance(how, By):
        cases = "; ".join(
            f"if it is {value}: {in_words(draw)}" for value, draw in how.draws.items()
        )
        return f"depends on {how.field}: {cases}"
    return "one paragraph of 15 to 60 words, no list"


def read_object(reply: str) -> dict[str, Json] | None:
    """The JSON object in a reply, None where there is none that can be read."""
    fenced = _FENCE.search(reply)
    texts = [fenced[1]] if fenced else []
    start, end = reply.find("{"), reply.rfind("}")
    if 0 <= start < end:
        texts.append(reply[start : end + 1])
    for text in texts:
        for form in (text, _COMMA.sub(r"\1", text)):
            try:
                found = json.loads(form)
            except (ValueError, RecursionError):
                continue
            if isinstance(found, dict):
                return found
    return None
