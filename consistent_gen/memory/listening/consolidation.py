"""What is written when a conversation has ended: one episode per topic.

Topics come from a language model when there is one, else from shared words. Turns that no topic
claims go to the first, as in PersonaVLM (arXiv 2604.13074).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, timedelta

from consistent_gen.errors import ConsistentGenError
from consistent_gen.language.models import LanguageModel, Message
from consistent_gen.language.words import content_words
from consistent_gen.memory.data.operations import Add
from consistent_gen.memory.data.records import Turn
from consistent_gen.memory.recall.prompts import TOPICS_SYSTEM, transcript

SESSION_GAP = timedelta(minutes=60)
MAX_TOPICS = 6
_KEYWORDS = 5
_TOPIC = re.compile(r"^\s*([\d,\s]+)\|([^|]*)\|\s*(\S.*)$", re.MULTILINE)


@dataclass(frozen=True)
class _Topic:
    places: tuple[int, ...]
    keywords: tuple[str, ...]
    summary: str


def sessions(turns: Sequence[Turn]) -> Iterator[tuple[Turn, ...]]:
    """Turns (in order of time) cut where more than an hour passed in between."""
    session: list[Turn] = []
    for turn in turns:
        last = session[-1].valid_from if session else None
        if last is not None and turn.valid_from and turn.valid_from - last > SESSION_GAP:
            yield tuple(session)
            session = []
        session.append(turn)
    if session:
        yield tuple(session)


def episodes(turns: Sequence[Turn], model: LanguageModel | None = None) -> tuple[Add, ...]:
    """One ADD per topic of an ended session. An unusable reply of the model falls back to rules."""
    if not any(turn.role == "user" for turn in turns):
        return ()
    topics = _asked(turns, model) if model is not None else ()
    topics = topics or _by_words(turns)
    claimed = {place for topic in topics for place in topic.places}
    left = tuple(place for place in range(len(turns)) if place not in claimed)
    made = []
    for number, topic in enumerate(topics):
        places = sorted({*topic.places, *(left if number == 0 else ())})
        own = [turns[place] for place in places]
        times = [turn.valid_from for turn in own if turn.valid_from is not None]
        start, end = min(times, default=None), max(times, default=None)
        made.append(
            Add(
                kind="episode",
                value=topic.summary,
                evidence=tuple(turn.id for turn in own),
                at=start,
                until=end if end != start else None,
                fields={"topic": ", ".join(topic.keywords)[:200], "keywords": topic.keywords},
            )
        )
    return tuple(made)


def _asked(turns: Sequence[Turn], model: LanguageModel) -> tuple[_Topic, ...]:
    messages = [Message("system", TOPICS_SYSTEM), Message("user", transcript(turns, UTC))]
    try:
        reply = model.chat(messages, max_tokens=400)
    except ConsistentGenError:
        return ()
    topics, claimed = [], set[int]()
    for match in list(_TOPIC.finditer(reply))[:MAX_TOPICS]:
        numbers = {int(n) - 1 for n in re.findall(r"\d{1,6}", match[1])}
        places = tuple(sorted(n for n in numbers - claimed if 0 <= n < len(turns)))
        claimed.update(places)
        words = tuple(w.strip()[:60] for w in match[2].split(",") if w.strip())[:_KEYWORDS]
        if places:
            topics.append(_Topic(places, words, " ".join(match[3].split())[:280]))
    return tuple(topics)


def _by_words(turns: Sequence[Turn]) -> tuple[_Topic, ...]:
    """Runs of turns that share a content word with the run before them."""
    runs: list[tuple[list[int], Counter[str]]] = []
    for place, turn in enumerate(turns):
        words = Counter(w for w in content_words(turn.text) if len(w) > 3)
        joins = runs and (turn.role != "user" or bool(words.keys() & runs[-1][1].keys()))
        if not joins and len(runs) < MAX_TOPICS:
            runs.append(([], Counter()))
        runs[-1][0].append(place)
        if turn.role == "user":
            runs[-1][1].update(words)
    topics = []
    for places, words in runs:
        keywords = tuple(word for word, _ in words.most_common(_KEYWORDS))
        own = [turns[p] for p in places]
        said = next((t for t in own if t.role == "user" and "?" not in t.text), own[0])
        quote = " ".join(said.text.split())
        quote = quote if len(quote) <= 160 else quote[:159] + "\u2026"
        verb = "asked" if "?" in quote else "said"
        topics.append(_Topic(tuple(places), keywords, f"The {said.role} {verb}: {quote}"))
    return tuple(topics)
