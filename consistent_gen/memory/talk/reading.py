"""Answering with a small language model: what fits is read once, and the answer is checked.

A model of a billion weights cannot plan look-ups (`reasoning` is for larger ones), but it reads a
few sentences well, which rules cannot. It is given the sentences that fit the question best, in the
order in which they were said, each with its day and with the days that its words mean. An answer
that has a name or a number which stands in none of them is refused: "I do not remember".
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, tzinfo

from consistent_gen.language.dates import spoken_dates
from consistent_gen.language.models import LanguageModel, Message
from consistent_gen.language.words import COUNTED, STOP_WORDS, word_set
from consistent_gen.memory.data.records import Fact, Kind, Record
from consistent_gen.memory.recall.prompts import (
    READING_EXAMPLES,
    READING_SYSTEM,
    one_line,
    reading_page,
    render_record,
)
from consistent_gen.memory.recall.retriever import Found, Retriever, commands
from consistent_gen.memory.talk.passages import (
    RememberedLine,
    in_context,
    passages_of,
    read_lines,
)
from consistent_gen.memory.talk.questions import AskedFor, read_question, stem, words_of
from consistent_gen.memory.talk.ranking import PassageScorer, ScoredPassage
from consistent_gen.memory.talk.reasoning import Reasoned, ReasoningStep
from consistent_gen.memory.talk.replies import NOTHING_KNOWN

# What is searched before the sentences are weighed, and how many turns the model is given. Of 52
# answers in four conversations of other people 39 stand in the best four, 50 in the best eight, but
# a model of this size mixes up what it reads in eight.
SEARCHED: dict[Kind, int] = {"turn": 20, "fact": 10, "core": 3, "habit": 2}
NOTES = 4
# A turn of this length is read whole, of a longer one the sentences around the best.
_WHOLE, _NOTE_CHARACTERS = 280, 240
_MAX_TOKENS = 48

_DONT_KNOW = re.compile(
    r"\bi (?:do not|don't|don\u2019t|cannot|can't) (?:know|remember|say|find)|"
    r"\bnotes? (?:do(?:es)? not|don't|doesn't)|\bno (?:information|mention)\b|^unknown\b|"
    r"\b(?:not|isn't|aren't) (?:mentioned|specified|stated|provided|known)\b",
    re.IGNORECASE,
)
# Words for days that are written out beside them, and what shows that a day is named otherwise.
_RELATIVE = re.compile(
    r"\b(?:yesterday|tomorrow|last|next|since|ago|in (?:\w+ )+(?:days?|weeks?|months?|years?))\b|"
    r"^(?:on )?(?:mon|tues|wednes|thurs|fri|satur|sun)day$",
    re.IGNORECASE,
)
_NUMBERED = re.compile(
    r"\b\d{1,2}(?:st|nd|rd|th)\b|\bthe (?:\w+-)?(?:first|second|third)\b|"
    r"(?:four|fif|six|seven|eigh|nin|ten|eleven|twelf|\wteen)th\b|\b(?:twent|thirt)ieth\b|"
    r"day (?:night|evening|morning|afternoon)s\b|"
    r"\b\d{1,2} (?:of )?(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)|"
    r"\b(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)\w* \d",
    re.IGNORECASE,
)
_SPELT = re.compile(r"(?:[a-z](?<!mon)th|first|second|third)\b|day,? the \d", re.IGNORECASE)
_TOKEN = re.compile(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)?|\d+")
# Words that begin an answer and name nobody.
_OPENING = word_set(
    "yes no not none nobody nothing never every once twice you your yours they their she her he "
    "his it its the there that this in on at from to by with since until about around only both"
)
_DIGITS = {word: str(number) for word, number in COUNTED.items()}


@dataclass(frozen=True)
class Note:
    """A remembered line as a model is given it: the sentences of it that fit, and how well.

    newest: the ranking takes it for what holds of what is asked.
    """

    line: RememberedLine
    said: str
    score: float
    newest: bool = False

    def told(self, today: date) -> str:
        """One line for the prompt; the year is left out where it is this one."""
        day = date.fromisoformat(self.line.date[:10])
        who = ", from a document" if self.line.who.startswith("document") else ""
        gone = ", since replaced" if "replaced" in self.line.who else ""
        return f"- {_day(day, today)}{who}{gone}: {one_line(with_days(self.said, day, today))}"


def read_once(
    model: LanguageModel,
    retriever: Retriever,
    scorer: PassageScorer,
    question: str,
    *,
    now: datetime,
    zone: tzinfo,
    exclude: Collection[str] = (),
) -> Reasoned:
    """Ask ``model`` once, with the sentences that fit ``question`` best, and check what it says.

    exclude: ids of records that are not to be read (the question's own turn).
    """
    notes, gathered = notes_on(question, retriever, scorer, zone, exclude)
    if not notes:
        return Reasoned(answer=NOTHING_KNOWN, steps=())
    today = now.astimezone(zone).date()
    reply = model.chat(asked_with(question, notes, today), max_tokens=_MAX_TOKENS)
    answer = checked(reply, question, notes, today)
    if answer != NOTHING_KNOWN:
        answer = f"{answer} {source(answer, notes)}"
    found = gathered.found(n.line.id for n in notes)
    return Reasoned(answer=answer, steps=(ReasoningStep(think=reply, answer=answer),), found=found)


@dataclass(frozen=True)
class Gathered:
    """What was found for a question, cut into passages that were weighed, best first.

    records: where the passages are from, by id.
    """

    asked: AskedFor
    scored: list[ScoredPassage]
    records: dict[str, Record]

    def found(self, ids: Iterable[str]) -> tuple[Found, ...]:
        """The records of these ids as what was found, each with the share of its best passage."""
        best = {s.passage.line.id: s.score for s in reversed(self.scored)}
        return tuple(
            Found(record=self.records[id], score=best[id], reasons=("fits the question",))
            for id in ids
        )


def gather(
    question: str,
    retriever: Retriever,
    scorer: PassageScorer,
    zone: tzinfo,
    exclude: Collection[str] = (),
) -> Gathered:
    """Search for ``question`` and weigh every sentence of what is found.

    Who is meant by "my sister" is looked up among what is found, and searched for by name.
    """
    found = retriever.search(question, caps=SEARCHED, exclude=exclude)
    asked = read_question(question)
    bearers = _bearers(asked, [f.record for f in found])
    if names := sorted({name for each in bearers.values() for name in each} - {*asked.names}):
        named = f"{question} {' '.join(names)}"
        found = (*found, *retriever.search(named, caps=SEARCHED, exclude=exclude))
        stems = {of: frozenset(map(stem, each)) for of, each in bearers.items()}
        asked = replace(asked, bearers=stems)
    records = {r.id: r for r in retriever.with_turns(found) if r.id not in exclude}
    kept = list(records.values())
    replaced, read = retriever.replaced(kept), retriever.read_from(kept)
    rows = "\n".join(render_record(r, zone, replaced) for r in kept)
    passages = [p for p in passages_of(read_lines(rows), question, read) if not commands(p.text)]
    known = retriever.vectors(kept) if scorer.by_meaning else {}
    return Gathered(asked, scorer.score(asked, passages, known), records)


def _bearers(asked: AskedFor, found: Sequence[Record]) -> dict[str, frozenset[str]]:
    """Names by the stem of the word of the question for what they are to the user."""
    names: dict[str, set[str]] = {}
    for record in found:
        if isinstance(record, Fact) and record.topic == "relation" and len(record.keywords) > 1:
            name, relation = record.keywords[:2]
            if stem(relation) in asked.topics:
                names.setdefault(stem(relation), set()).add(name)
    return {relation: frozenset(each) for relation, each in names.items()}


def notes_on(
    question: str,
    retriever: Retriever,
    scorer: PassageScorer,
    zone: tzinfo,
    exclude: Collection[str] = (),
) -> tuple[list[Note], Gathered]:
    """The turns and records whose sentences fit best, oldest first, and all that was found."""
    gathered = gather(question, retriever, scorer, zone, exclude)
    best: dict[str, Note] = {}
    for s in gathered.scored:
        line = s.passage.line
        if line.id in best or commands(line.text) or not line.date[:1].isdigit():
            continue
        whole = line.kind != "turn" or len(line.text) <= _WHOLE
        said = line.text if whole else in_context(s.passage, _NOTE_CHARACTERS, before=True)
        newest = not best and s.holds and not gathered.asked.before
        best[line.id] = Note(line, said, s.score, newest)
        if len(best) == NOTES:
            break
    return sorted(best.values(), key=lambda note: (note.line.date, note.line.id)), gathered


def asked_with(question: str, notes: Sequence[Note], today: date) -> list[Message]:
    """The prompt. What does not change stands first, so that a runtime reads it once."""
    messages = [Message("system", READING_SYSTEM)]
    for *page, answer in READING_EXAMPLES:
        messages += [Message("user", reading_page(*page)), Message("assistant", answer)]
    # The newest stands last, next to the question: a small model takes what it read last.
    before, now = (
        "\n".join(note.told(today) for note in notes if note.newest is newest)
        for newest in (False, True)
    )
    day = f"{today:%a} {today.day} {today:%b %Y}"
    return [*messages, Message("user", reading_page(before, now, day, one_line(question)))]


def checked(reply: str, question: str, notes: Sequence[Note], today: date) -> str:
    """The first line of a reply, or `NOTHING_KNOWN` where it names what nobody said.

    Every number of it (in words or in digits) and every name must stand in a note, in the question
    or in the day that it is.
    """
    answer = next((row.strip(' -*"') for row in reply.splitlines() if row.strip()), "")
    if not answer or _DONT_KNOW.search(answer):
        return NOTHING_KNOWN
    told = " ".join(note.told(today) for note in notes)
    read = _words(f"{told} {question} {today:%A %B} {today.year}")
    stems = {stem(word) for word in read}
    for match in _TOKEN.finditer(answer):
        word = match[0].casefold().replace("\u2019", "'")
        plain = _DIGITS.get(word, word)
        if plain.isdigit():
            if plain.lstrip("0") not in {w.lstrip("0") for w in read if w.isdigit()}:
                return NOTHING_KNOWN
            continue
        names = match[0][0].isupper() and word not in STOP_WORDS and word not in _OPENING
        if names and stem(word) not in stems and not _calendar(word, read):
            return NOTHING_KNOWN
    return answer


def _words(text: str) -> frozenset[str]:
    found = {m[0].casefold().replace("\u2019", "'") for m in _TOKEN.finditer(text)}
    return frozenset(found | {_DIGITS[word] for word in found & _DIGITS.keys()})


def _calendar(word: str, read: Collection[str]) -> bool:
    """Whether a day or month was written out that the notes have in short, or the other way."""
    return len(word) >= 3 and any(
        len(w) >= 3 and (w.startswith(word[:3])) and (word.startswith(w) or w.startswith(word))
        for w in read
    )


def source(answer: str, notes: Sequence[Note]) -> str:
    """What the answer rests on: the note that shares most words with it, the newest of several."""
    own = {stem(w) for w in words_of(answer)}
    note = max(notes, key=lambda n: (len(own & {stem(w) for w in words_of(n.said)}), n.line.date))
    day = note.line.date[:10]
    if note.line.who.startswith("document"):
        who = f"your document of {day} says"
    else:
        who = f"you said on {day}" if note.line.kind == "turn" else f"noted on {day}"
    return f'({who}: "{one_line(note.said)}") [{note.line.id}]'


def with_days(text: str, said: date, today: date) -> str:
    """The text with the day beside each word that means one: "tomorrow [Fri 7 Mar]"."""
    for spoken in reversed(spoken_dates(text, said)):
        near = text[max(0, spoken.start - 40) : spoken.end + 25]
        # "The twelfth, a Thursday" is another Thursday than the next one.
        meant_so = _RELATIVE.search(spoken.words) and not _NUMBERED.search(near)
        if spoken.repeats or not (meant_so or _SPELT.search(spoken.words)):
            continue
        meant = {
            "day": _day(spoken.first, today),
            "month": f"{spoken.first:%B %Y}",
            "year": f"{spoken.first:%Y}",
        }.get(spoken.precise)
        if meant:
            text = f"{text[: spoken.end]} [{meant}]{text[spoken.end :]}"
    return text


def _day(day: date, today: date) -> str:
    return f"{day:%a} {day.day} {day:%b}" + (f" {day.year}" if day.year != today.year else "")
