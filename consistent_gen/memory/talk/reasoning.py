"""The think / retrieve / answer loop of PersonaVLM (arXiv 2604.13074), for any language model.

A reply is one think block followed by exactly one of an answer block or a retrieve block with
keywords and a time window. What is retrieved comes back as the next user message; what was shown
is not shown again. There are at most six replies, and the last look-up is announced, so that the
loop always ends. The window filters what is searched (in the released code of the paper it is
checked but has no effect).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo

from consistent_gen.language.models import LanguageModel, Message
from consistent_gen.memory.data.records import Record
from consistent_gen.memory.data.store import TimeWindow
from consistent_gen.memory.recall.pictures import Picture
from consistent_gen.memory.recall.prompts import (
    LAST_ROUND,
    MALFORMED,
    NOTHING_FOUND,
    REASONING_SYSTEM,
    data_block,
)
from consistent_gen.memory.recall.retriever import Found, Retriever
from consistent_gen.memory.talk.replies import NO_ANSWER

MAX_OUTPUTS = 6
_REPLY = re.compile(
    r"\s*<think>(?P<think>.*?)</think>\s*"
    r"(?:<answer>(?P<answer>.*?)</answer>|<retrieve>(?P<retrieve>.*?)</retrieve>)\s*",
    re.DOTALL,
)
_FIELD = re.compile(r"^[ \t]*(keywords|start_time|end_time)[ \t]*:[ \t]*(.*?)[ \t]*$", re.MULTILINE)
_TAG = re.compile(r"</?(?:think|answer|retrieve)>")


@dataclass(frozen=True, kw_only=True)
class ReasoningStep:
    """One reply of the model as it was understood.

    ``answer`` is set when it answered; otherwise ``keywords`` and ``window`` were looked up.
    ``malformed`` tells that the reply was not in the agreed form.
    """

    think: str = ""
    answer: str | None = None
    keywords: str = ""
    window: TimeWindow | None = None
    malformed: bool = False


@dataclass(frozen=True, kw_only=True)
class Reasoned:
    """The answer, the steps that led to it, and every record that was shown, with reasons.

    ``complete`` is False when the model never answered; ``answer`` then says so.
    """

    answer: str
    steps: tuple[ReasoningStep, ...]
    found: tuple[Found, ...] = field(default=())
    complete: bool = True


def parse_reply(reply: str, question: str, zone: tzinfo = UTC) -> ReasoningStep:
    """Read one reply. Anything malformed becomes a look-up of the question itself.

    Times are ``YYYY-MM-DD HH:MM`` (or a date, or null) in ``zone``; an end given as a date
    includes that day, and an end given to the minute includes that minute.
    """
    match = _REPLY.fullmatch(reply)
    if match is None or _TAG.search(match["answer"] or match["retrieve"] or ""):
        return ReasoningStep(keywords=question, malformed=True)
    think = match["think"].strip()
    if match["answer"] is not None:
        return ReasoningStep(think=think, answer=match["answer"].strip())
    fields = dict(_FIELD.findall(match["retrieve"]))
    try:
        start = _moment(fields.get("start_time", "null"), zone, end=False)
        end = _moment(fields.get("end_time", "null"), zone, end=True)
    except ValueError:
        return ReasoningStep(think=think, keywords=question, malformed=True)
    if not fields.get("keywords") or (start and end and end <= start):
        return ReasoningStep(think=think, keywords=question, malformed=True)
    window = TimeWindow(start=start, end=end) if start or end else None
    return ReasoningStep(think=think, keywords=fields["keywords"], window=window)


def reason(
    model: LanguageModel,
    retriever: Retriever,
    question: str,
    *,
    context: str = "",
    picture: Picture | None = None,
    pictures: tuple[bytes, ...] = (),
    exclude: Sequence[str] = (),
    zone: tzinfo = UTC,
    force_retrieve: bool = False,
    max_outputs: int = MAX_OUTPUTS,
    max_tokens: int = 512,
) -> Reasoned:
    """Let ``model`` answer ``question``, looking into memory as often as it may.

    context: what is put before the question (core view, alignment, recent turns).
    picture: what picture search starts from; pictures: the same for a model that sees.
    exclude: record ids that the model has in front of it already.
    force_retrieve: look the question up once before asking the model at all.
    """
    assert 1 <= max_outputs <= MAX_OUTPUTS
    shown = set(exclude)
    found: list[Found] = []
    steps: list[ReasoningStep] = []
    content = f"{context}\n\nQuestion: {question}" if context else f"\nQuestion: {question}"
    if force_retrieve:
        hits = retriever.search(question, picture=picture, exclude=shown)
        content = f"{_render(retriever, hits, shown, found, zone)}\n{content}"
    messages = [
        Message("system", REASONING_SYSTEM),
        Message("user", content, pictures if model.sees else ()),
    ]
    for output in range(1, max_outputs + 1):
        reply = model.chat(messages, max_tokens=max_tokens)
        step = parse_reply(reply, question, zone)
        steps.append(step)
        if step.answer is not None:
            return Reasoned(answer=step.answer, steps=tuple(steps), found=tuple(found))
        hits = retriever.search(step.keywords, picture=picture, window=step.window, exclude=shown)
        back = _render(retriever, hits, shown, found, zone)
        notes = [MALFORMED] * step.malformed + [LAST_ROUND] * (output == max_outputs - 1)
        messages += [Message("assistant", reply), Message("user", "\n".join([back, *notes]))]
    last = _TAG.sub("", reply).strip() if steps[-1].malformed else ""
    # A model that never learnt the form may still have said something; it is marked as such.
    return Reasoned(
        answer=last or NO_ANSWER, steps=tuple(steps), found=tuple(found), complete=False
    )


def _render(
    retriever: Retriever, hits: Sequence[Found], shown: set[str], found: list[Found], zone: tzinfo
) -> str:
    if not hits:
        return NOTHING_FOUND
    found += hits
    sources = [turn for turn in retriever.expand(hits) if turn.id not in shown]
    shown.update(hit.record.id for hit in hits)
    shown.update(turn.id for turn in sources)
    records: list[Record] = [hit.record for hit in hits]
    known = {record.id for record in records}
    said: list[Record] = [turn for turn in sources if turn.id not in known]
    sections = {"found": records, "said then": said}
    replaced = retriever.replaced([*records, *said])
    return data_block(sections, zone, {"found": 800, "said then": 1200}, replaced)


def _moment(text: str, zone: tzinfo, *, end: bool) -> datetime | None:
    if text.strip().lower() in ("null", "none", ""):
        return None
    moment = datetime.fromisoformat(text.strip())
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=zone)
    if end:
        moment += timedelta(days=1) if len(text.strip()) == 10 else timedelta(minutes=1)
    return moment
