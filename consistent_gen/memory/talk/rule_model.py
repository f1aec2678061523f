"""A language model made of rules: it answers from memory and invents nothing. Works offline.

It reads what a question asks for (`questions`), weighs the remembered passages in front of it
(`passages`), and says the best one with its source: when it was said, and by whom. A weak match is
"I do not remember", a document is named as a document, what was replaced is left out. It cannot
reason over several passages or talk about anything else, and says so.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from datetime import date, tzinfo

from consistent_gen.language.dates import spoken_dates
from consistent_gen.language.embedders import HashedNgrams, TextEmbedder
from consistent_gen.language.models import Message, check_messages
from consistent_gen.language.words import content_words, is_question
from consistent_gen.memory.recall.prompts import BLOCK_END, BLOCK_START, LAST_ROUND
from consistent_gen.memory.recall.retriever import Retriever, commands
from consistent_gen.memory.talk.passages import (
    RememberedLine,
    SaidPassage,
    in_context,
    passages_of,
    read_lines,
)
from consistent_gen.memory.talk.questions import (
    AskedFor,
    also_said,
    denies,
    read_question,
    stem,
    words_of,
)
from consistent_gen.memory.talk.ranking import PassageScorer, ScoredPassage
from consistent_gen.memory.talk.reading import gather
from consistent_gen.memory.talk.reasoning import Reasoned
from consistent_gen.memory.talk.replies import NO_QUESTION, NOTHING_KNOWN

LOOK_UPS = 2
# How sure an answer is at least. At 0.4, of 270 questions in conversations that were held out, 0.10
# were answered wrong and 0.07 with something that had ended; at 0.3 it was 0.12 and 0.09.
_LEAST = 0.4
# From here on a leaf of the tree is answer enough, without a look-up.
_SURE = 0.8
_DATED = ("when", "day", "date", "year", "long")
# What a day is not: "27th not 20th", "Friday rather than Thursday".
_NO_DAY = re.compile(r"\b(?:not|instead of|rather than)(?: on)?(?: the)? [\w']+", re.IGNORECASE)


class RuleModel:
    """Answers the newest user message from the remembered lines of the prompt.

    embedder: compares by meaning; None compares words.
    """

    name = "rules (no language model)"
    sees = False

    def __init__(self, embedder: TextEmbedder | None = None) -> None:
        self._scorer = PassageScorer(embedder)

    @property
    def by_meaning(self) -> bool:
        """Whether it compares by meaning, not by words alone."""
        return self._scorer.by_meaning

    def chat(self, messages: Sequence[Message], *, max_tokens: int = 512) -> str:
        """In the agreed form of the reasoning loop: think, then retrieve or answer."""
        check_messages(messages)
        asked = _question(messages)
        if not is_question(asked):
            return f"<think>Nothing is asked.</think><answer>{NO_QUESTION}</answer>"
        text = "\n".join(m.content for m in messages if m.role == "user")
        question, lines = read_question(asked), read_lines(text)
        passages = [p for p in passages_of(lines, asked) if not commands(p.text)]
        scored = self._scorer.score(question, passages)
        looks = sum("<retrieve>" in m.content for m in messages if m.role == "assistant")
        if looks < LOOK_UPS and LAST_ROUND not in text and not self._sure(scored):
            words = _look_up(question, asked, lines, looks)
            if words:
                return (
                    "<think>I look for what was said about it.</think><retrieve>\n"
                    f"keywords: {words}\nstart_time: null\nend_time: null\n</retrieve>"
                )
        return (
            f"<think>I say what fits best.</think><answer>{self._answer(question, scored)}</answer>"
        )

    def _sure(self, scored: Sequence[ScoredPassage]) -> bool:
        return bool(scored) and scored[0].sure >= _SURE and scored[0].passage.line.kind == "core"

    def _answer(self, question: AskedFor, scored: Sequence[ScoredPassage]) -> str:
        best = _best(scored)
        return NOTHING_KNOWN if best is None else worded(question, best.passage)


def recall(
    retriever: Retriever,
    scorer: PassageScorer,
    question: str,
    *,
    zone: tzinfo,
    exclude: Collection[str] = (),
) -> Reasoned:
    """Answer from one search, without a language model: the best passage, or that none is known.

    exclude: ids of records that are not to be read (the question's own turn).
    """
    gathered = gather(question, retriever, scorer, zone, exclude)
    best = _best(gathered.scored)
    if best is None:
        return Reasoned(answer=NOTHING_KNOWN, steps=())
    return Reasoned(
        answer=worded(gathered.asked, best.passage), steps=(),
        found=gathered.found([best.passage.line.id]),
    )  # fmt: skip


def _best(scored: Sequence[ScoredPassage]) -> ScoredPassage | None:
    """The passage that answers, or none that is sure enough."""
    best = next((s for s in scored if s.holds), None)
    return best if best is not None and best.sure >= _LEAST else None


def meaning_of(embedder: TextEmbedder | None) -> TextEmbedder | None:
    """The embedder, unless it only compares spelling."""
    return None if isinstance(embedder, HashedNgrams) else embedder


def _question(messages: Sequence[Message]) -> str:
    """The newest user text outside a data block that is not a round of the loop."""
    for message in messages:
        if message.role == "user" and "\nQuestion: " in message.content:
            return message.content.rpartition("\nQuestion: ")[2].strip()
    outside = re.sub(
        rf"{re.escape(BLOCK_START)}.*?{re.escape(BLOCK_END)}", "", messages[-1].content, flags=re.S
    )
    return outside.strip()


def _look_up(question: AskedFor, asked: str, lines: Sequence[RememberedLine], looks: int) -> str:
    """What to search for: first the question itself, then its words with those that mean them."""
    if looks == 0:
        return " ".join(asked.split())
    also = [w for topic in sorted(question.topics) for w in sorted(also_said(topic))]
    named = [
        match[1]
        for line in lines
        if (match := re.match(r"(\w+) \((\w+)\)$", line.text)) and stem(match[2]) in question.topics
    ]
    words = dict.fromkeys([*named, *question.names, *content_words(asked)[:12], *also[:12]])
    return " ".join(words) if named or also else ""


def worded(question: AskedFor, passage: SaidPassage) -> str:
    """The answer in a word where there is one, and the words that it rests on."""
    line = passage.line
    head = _in_a_word(question, passage)
    if line.who.startswith("document"):
        source = f"your document of {line.date[:10]} says"
    elif line.kind == "turn":
        source = f"you said on {line.date[:10]}"
    else:
        source = f"noted on {line.date[:10]}"
    said = in_context(passage) if line.kind == "turn" else _said(passage)
    quoted = f'"{said}"' if line.kind == "turn" else said
    start = f"{head}: {source}" if head else f"From memory, {source}"
    return f"{start}: {quoted} [{line.id}]"


def _said(passage: SaidPassage) -> str:
    """What a passage says, without what only sorts it: a leaf's branch, an episode's topic."""
    label, colon, rest = passage.text.partition(": ")
    if not colon or passage.line.kind not in ("core", "episode"):
        return passage.text
    return rest if passage.line.kind == "episode" else f"{label.rpartition('.')[2]}: {rest}"


def _in_a_word(question: AskedFor, passage: SaidPassage) -> str:
    if question.wants == "whether":
        return "No" if denies(passage.text) != denies(question.text) else "Yes"
    if question.wants in _DATED:
        return _day(passage)
    if question.wants == "name":
        return _name(question, passage.text)
    return ""


def _day(passage: SaidPassage) -> str:
    """The one day that a passage names, where it names one only."""
    try:
        said = date.fromisoformat(passage.line.date[:10])
    except ValueError:
        return ""
    text = _NO_DAY.sub("", passage.text)
    dates = spoken_dates(text, said)
    found = {d.first for d in dates if d.precise == "day"}
    # "From next week it is Thursdays" is no one day.
    if len(found) != 1 or any(d.repeats for d in dates):
        return ""
    day = found.pop()
    return f"{day:%A} {day.day} {day:%B %Y}"


def _name(question: AskedFor, text: str) -> str:
    """The name in a text that says how somebody is called."""
    own = {w.casefold() for w in words_of(question.text)}
    match = re.search(
        r"(?:\b(?:called|named|name's|name is|name:|Name:) |^)([A-Z][\w'-]+(?: [A-Z][\w'-]+){0,2})"
        r"(?: \(|[.,;!]|$)",
        text,
    )
    return match[1] if match and match[1].casefold() not in own else ""
