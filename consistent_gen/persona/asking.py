"""One question to a model that speaks as somebody, and the plain readings of its reply.

A reading gives None where the reply does not say; who asked counts that as a failure.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from consistent_gen.language.models import LanguageModel, Message
from consistent_gen.persona.persona import Persona

_INTEGER = re.compile(r"(?<![\w.,/])(-?\d+)(?!\w|[.,]\d)(?:\s*(?:/|out of)\s*\d+)?")
_LETTER = r"([B-HJ-Z]|[AI](?!\s+[a-z]))"  # "A dog" begins with no letter of an option
_SAID = re.compile(rf"\b(?i:answer)\b\W*(?:is\b)?\W*{_LETTER}\b")
_ALONE = re.compile(rf"^\W*{_LETTER}(?:\W|$)")
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)?")
_NAMED = re.compile(r"You are ([^.\n]+)\.")
_REFUSALS = (
    "i cannot", "i can't", "i can not", "i won't", "i will not", "i am unable", "i'm unable",
    "as an ai", "i'd rather not", "i would rather not", "i'm sorry, but", "i am sorry, but",
    "not able to answer", "i must decline",
)  # fmt: skip


def ask(
    model: LanguageModel, persona: Persona | None, question: str, *, duties: str = "",
    max_tokens: int = 128,
) -> str:  # fmt: skip
    """The reply to one question, asked in a conversation of its own.

    persona: who the model is to be; nobody where None. duties: what the system message says beside.
    """
    system = "\n".join(text for text in (persona.prompt() if persona else "", duties) if text)
    messages = [Message("user", question)]
    if system:
        messages.insert(0, Message("system", system))
    return model.chat(messages, max_tokens=max_tokens)


def last_integer(reply: str, low: int, high: int) -> int | None:
    """The last whole number of a reply, where it lies in `low`..`high`.

    The last, since a model that explains itself first tells the numbers of the question again.
    Digits are never joined: "10 or 12" is 12, "4/5" and "4 out of 5" are 4, "3.5" is none.
    """
    found = _INTEGER.findall(reply)
    number = int(found[-1]) if found and len(found[-1]) < 10 else None
    return number if number is not None and low <= number <= high else None


def chosen_letter(reply: str, options: int) -> str | None:
    """The letter of a multiple-choice reply: the last that "answer" introduces, or the first word.

    options: how many there are; a letter beyond them is none.
    """
    said = _SAID.findall(reply)
    alone = _ALONE.match(reply)
    letter = said[-1] if said else alone[1] if alone else None
    return letter if letter is not None and ord(letter) - ord("A") < options else None


def yes_or_no(reply: str) -> bool | None:
    """Whether a reply begins with yes or with no."""
    first = words(reply)[:1]
    return {"yes": True, "no": False}.get(first[0]) if first else None


def refused(reply: str) -> bool:
    """Whether a reply declines to answer, by its wording (English)."""
    low = reply.lower().replace("\u2019", "'")
    return any(phrase in low for phrase in _REFUSALS)


def words(text: str) -> list[str]:
    """Lower-case words, without marks."""
    return _WORD.findall(text.lower().replace("\u2019", "'"))


def asked(messages: Sequence[Message]) -> str:
    """For scripted behaviours: what the user said last."""
    return messages[-1].content


def speaking_as(messages: Sequence[Message]) -> str:
    """For scripted behaviours: the name in `Persona.prompt`, "" where the model is nobody."""
    if messages[0].role != "system":
        return ""
    named = _NAMED.match(messages[0].content)
    return named[1] if named else ""
