"""A language model made of rules: it quotes memory and invents nothing. Works offline at once.

It reads the data block of the prompt, finds the lines that share words with the question and
repeats what they say. It cannot reason, paraphrase or talk about anything else, and says so.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from consistent_gen.language.models import Message, check_messages
from consistent_gen.language.words import content_words, is_question
from consistent_gen.memory.recall.prompts import BLOCK_END, BLOCK_START, LAST_ROUND
from consistent_gen.memory.talk.replies import NO_QUESTION, NOTHING_KNOWN

_LINE = re.compile(
    r"^\[(?P<id>[^|\]]+) \| (?P<kind>\w+) from (?P<who>[^|]*) \| (?P<date>[^\]]*)\] (?P<text>.*)$"
)
# Words that many a question has and that name nothing: "what is my dog called?".
_WEAK = frozenset(("call", "kind", "typ", "thing"))
# States say how things are; episodes and turns are only what was said.
_LEAST_SHARE, _LEAST_SAID = 0.5, 0.75
# How much it counts against a line that it was only said in passing, and what counts as equal.
_SAID, _NEAR = 0.1, 0.05
_DATED = (
    r"\b\d|\b(?:mon|tues?|wed(?:nes)?|thu(?:rs)?|fri|sat(?:ur)?|sun)(?:day)?s?\b|\b(?:january|february|"
    r"march|april|june|july|august|september|october|november|december|jan|feb|apr|aug|sept?|oct|nov|"
    r"dec|noon|midnight|daily|weekly|every|tomorrow|yesterday)\b"
)
_COUNTED = (
    r"\b\d|\b(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|\w+teen|\w+ty|once|"
    r"twice|half|every|a couple)\b"
)
# What a question asks for, and what shows that a line tells it.
_KINDS = tuple(
    (re.compile(asks, re.I), re.compile(holds, flags))
    for asks, holds, flags in (
        (r"\bwhen\b|\bwhat (?:day|date|time|month|year)\b|\bwhich days?\b", _DATED, re.I),
        (
            r"\bhow (?:many|much|old|often|long|tall|big|far)\b|\bdose\b|\bsize\b|\bweigh",
            _COUNTED,
            re.I,
        ),
        (
            r"\bwho(?:'s|se|m)?\b|\bname\b|\bcalled\b",
            r"(?<=[\w,] )(?!I\b)[A-Z][a-z]+|^[\w]+(?= \()|(?<=: )[A-Z]\w+",
            re.NOFLAG,
        ),
        (r"\bwhere\b", r"\b(?:in|at|to|near|up|on) (?:the |my |our )?[\w']+", re.I),
    )
)
_ORDER = {"core": 0, "fact": 0, "habit": 0, "concept": 0, "episode": 1, "turn": 2}


class RuleModel:
    """Quotes the remembered lines that fit the newest user message, at most three."""

    name = "rules (no language model)"
    sees = False

    def chat(self, messages: Sequence[Message], *, max_tokens: int = 512) -> str:
        """In the agreed form of the reasoning loop: think, then retrieve or answer."""
        check_messages(messages)
        question = _question(messages)
        text = "\n".join(m.content for m in messages if m.role == "user")
        lines = [m for m in map(_LINE.match, text.splitlines()) if m is not None]
        fitting = _fitting(question, lines)
        looked = any("<retrieve>" in m.content for m in messages if m.role == "assistant")
        if not fitting and not looked and LAST_ROUND not in text and is_question(question):
            words = " ".join(content_words(question)[:12])
            return (
                "<think>Nothing in front of me fits.</think><retrieve>\n"
                f"keywords: {words}\nstart_time: null\nend_time: null\n</retrieve>"
            )
        answer = _answer(question, fitting)
        return f"<think>I quote what fits.</think><answer>{answer}</answer>"


def _question(messages: Sequence[Message]) -> str:
    """The newest user text outside a data block that is not a round of the loop."""
    for message in messages:
        if message.role == "user" and "\nQuestion: " in message.content:
            return message.content.rpartition("\nQuestion: ")[2].strip()
    outside = re.sub(
        rf"{re.escape(BLOCK_START)}.*?{re.escape(BLOCK_END)}", "", messages[-1].content, flags=re.S
    )
    return outside.strip()


def _fitting(question: str, lines: Sequence[re.Match[str]]) -> list[re.Match[str]]:
    """The lines that fit best, the newest first; none when the best fits weakly."""
    words = {_stem(word) for word in content_words(question)}
    words = (words - _WEAK) or words
    asked = " ".join(question.casefold().split())
    usable: dict[str, tuple[re.Match[str], set[str]]] = {}
    for line in lines:
        said = line["text"].strip()
        if line["who"].startswith("assistant") or said.casefold() == asked:
            continue  # quoting oneself turns one mistake into many
        if line["kind"] == "turn" and is_question(said):
            continue  # what the user asked is no answer
        if line["kind"] == "episode" and "The user asked:" in said:
            continue
        found = {_stem(w) for w in content_words(said.replace(".", " "))}
        usable[line["id"]] = (line, found)
    rare = {
        w: math.log((len(usable) + 1.5) / (sum(w in f for _, f in usable.values()) + 0.5))
        for w in words
    }
    whole = sum(rare.values()) or 1.0
    scored = []
    for line, found in usable.values():
        share = sum(rare[w] for w in words & found) / whole
        order = _ORDER.get(line["kind"], 3)
        if share < (_LEAST_SAID if order else _LEAST_SHARE):
            continue
        if not _tells(question, line["text"], words):
            continue
        score = share - _SAID * order
        scored.append((score, line["date"], line))
    if not scored:
        return []
    best = max(score for score, _, _ in scored)
    near = sorted((s for s in scored if s[0] >= best - _NEAR), key=lambda s: -s[0])[:3]
    return [line for _, _, line in sorted(near, key=lambda s: s[1], reverse=True)]


def _tells(question: str, text: str, words: set[str]) -> bool:
    """Whether a text holds the kind of thing that a question asks for, besides its own words."""
    for asks, holds in _KINDS:
        if asks.search(question):
            return any(_stem(m[0].casefold()) not in words for m in holds.finditer(text))
    return True


def _stem(word: str) -> str:
    for ending in ("ing", "ies", "es", "ed", "s", "e"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)]
    return word


def _said(line: re.Match[str]) -> str:
    """What a line says, without what only sorts it: a leaf's branch, an episode's topic."""
    label, colon, rest = line["text"].partition(": ")
    if not colon or line["kind"] not in ("core", "episode"):
        return line["text"]
    return rest if line["kind"] == "episode" else f"{label.rpartition('.')[2]}: {rest}"


def _answer(question: str, fitting: Sequence[re.Match[str]]) -> str:
    if not is_question(question):
        return NO_QUESTION
    if not fitting:
        return NOTHING_KNOWN
    quotes = []
    for line in fitting:
        source = (
            "you said" if line["kind"] == "turn" and line["who"].startswith("user") else "noted"
        )
        quotes.append(f"{source} on {line['date'][:10]}: {_said(line)} [{line['id'].strip()}]")
    return "From memory, " + "; ".join(quotes) + "."
