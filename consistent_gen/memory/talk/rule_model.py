"""A language model made of rules: it quotes memory and invents nothing. Works offline at once.

It reads the data block of the prompt, finds the lines that share words with the question and
repeats what they say. It cannot reason, paraphrase or talk about anything else, and says so.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from consistent_gen.language.models import Message, check_messages
from consistent_gen.language.words import content_words
from consistent_gen.memory.recall.prompts import BLOCK_END, BLOCK_START, LAST_ROUND
from consistent_gen.memory.talk.replies import NO_QUESTION, NOTHING_KNOWN

_LINE = re.compile(
    r"^\[(?P<id>[^|\]]+) \| (?P<kind>\w+) from (?P<who>[^|]*) \| (?P<date>[^\]]*)\] (?P<text>.*)$"
)
_QUESTION = re.compile(
    r"\?\s*$|^\s*(?:what|who|where|when|which|why|how|do|does|did|is|are|can)\b", re.I
)
# Words that many a question has and that name nothing: "what is my dog called?".
_WEAK = frozenset(("call", "kind", "typ", "thing"))
# States say how things are; episodes and turns are only what was said.
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
        if not fitting and not looked and LAST_ROUND not in text and _QUESTION.search(question):
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
    words = {_stem(word) for word in content_words(question)}
    weak = _WEAK if words - _WEAK else frozenset[str]()
    scored = []
    for place, line in enumerate(lines):
        shared = words & {_stem(w) for w in content_words(line["text"].replace(".", " "))}
        if line["who"].startswith("assistant"):
            continue  # quoting oneself turns one mistake into many
        if shared - weak and line["text"].strip().casefold() != question.strip().casefold():
            scored.append((-len(shared), _ORDER.get(line["kind"], 3), place, line))
    if not scored:
        return []
    scored.sort(key=lambda entry: entry[:3])
    best, order = scored[0][:2]
    # What holds now goes before what was once said, even when fewer of the words are in it.
    if any(entry[1] == 0 for entry in scored):
        best, order = next(entry[:2] for entry in scored if entry[1] == 0)
    unique = {line["id"]: line for score, o, _, line in scored if (score, o) == (best, order)}
    return list(unique.values())[:3]


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


def is_question(text: str) -> bool:
    """Whether a user's sentence asks for something."""
    return _QUESTION.search(text) is not None


def _answer(question: str, fitting: Sequence[re.Match[str]]) -> str:
    if not _QUESTION.search(question):
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
