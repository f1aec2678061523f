"""What a later turn says anew of something that was told before, without telling it all again.

"No wait, Wednesday." "895." "Make that 8." "It's Ingrid." Such a sentence has no thing of its own
to speak of, or names only the thing; what it gives is a value. It means the record that was told
last among those that have a value of that kind, or that share what it names. There the value is
replaced, and the rest of the record stays as it was said.

Four ways in which a value stands for another one are read, all by form:

- *in place*: a value of a kind (`values`) where the older record has one of the same kind;
- *contrast*: "not U but V", "V not U": V where the older record has U;
- *naming*: "it's V", in a turn that also says U of the older record again: V where U stood;
- *aligned*: two words of which one stands in the older record beside another one: "B negative"
  where it says "B positive".

What gives something besides ("and Thursday, too"), asks, supposes or tells a thing of its own is
left alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from consistent_gen.language.words import STOP_WORDS, word_set
from consistent_gen.memory.listening.known_facts import Entry, topic_words
from consistent_gen.memory.listening.scopes import supposes
from consistent_gen.memory.listening.values import given_anew, values_of, without_values

# How many of the last turns that told something may be meant by a sentence that names nothing.
RECENT_TURNS = 3
# How many words that the record does not have a sentence may bring without being a new thing, and
# how long it may be.
_OWN_WORDS, _LONGEST = 2, 18
# A turn that only sets something right is short; in a long one the same form is mostly chance.
_LONGEST_TURN = 30
_BESIDES = re.compile(
    r"\b(?:too|also|as well|another|besides|plus|extra|next one|and then|each|every|last|ago)\b",
    re.IGNORECASE,
)
# U and V of "not U but V", "it's V not U" and "scrap U, it's V", and how many words lie between.
_APART = 4
_NOT = word_set("not instead rather scrap scratch forget drop")
# A reason brings words of its own.
_BESIDE_IT = re.compile(r"\b(?:because|cos|bc|since|so that|which|who)\b", re.IGNORECASE)
_RESULT = re.compile(
    r"\b(?:up to|down to|back to|it to|moved to|that|ends?|ending) (?:the )?$", re.I
)
_WRONG = re.compile(
    r"\b(?:correct\w*|wrong|mean|meant|not|sorry|actually|typo|oops|turns out|no)\b", re.IGNORECASE
)
_VAGUE = word_set("one ones same thing things only first last other another lot bit")
_POINTING = word_set("it they he she that this its them him her")
_NO_TOPIC_HERE = word_set(
    "typo ugh oops sorry wait actual corre mean meant misre wrong lol haha no yes granted number"
)


@dataclass(frozen=True)
class Revised:
    """The record that is meant, and what it says now."""

    entry: Entry
    text: str


def revision(
    doc: Any, turn: str, entries: Sequence[Entry], names: frozenset[str] = frozenset()
) -> Revised | None:
    """What a parsed sentence revises.

    turn: all that was said with it. entries: older records, newest first. names: topic words that
    are names, which alone do not say what a sentence is about.
    """
    sentence = str(doc.text)
    if sum(t.is_alpha or t.like_num for t in doc) > _LONGEST or _BESIDES.search(sentence):
        return None
    if supposes(doc):
        return None
    led = _led(doc, sentence, entries, names)
    if led is not None or len(turn.split()) > _LONGEST_TURN:
        return led
    recent = list(_recent(entries))
    return (
        _contrasted(doc, recent)
        or _cleft(doc, recent)
        or _in_place(doc, sentence, turn, recent)
        or _named(doc, turn, recent)
        or (_aligned(doc, recent) if _WRONG.search(turn) else None)
    )


def _recent(entries: Sequence[Entry]) -> Iterator[Entry]:
    turns: list[str] = []
    for entry in entries:
        if entry.turn and entry.turn not in turns:
            turns.append(entry.turn)
        if len(turns) > RECENT_TURNS:
            return
        if entry.turn and entry.topic != "relation":
            yield entry


def _contrasted(doc: Any, recent: Sequence[Entry]) -> Revised | None:
    """ "Not U but V": V where a recent record has U."""
    for word in doc:
        if word.lower_ not in _NOT:
            continue
        phrases = [p for p in _phrases(doc) if not (p.start <= word.i < p.end)]
        old = next((p for p in phrases if word.i < p.start <= word.i + 3), None)
        if old is None:
            continue
        new = [p for p in phrases if p is not old]
        # "Not U but V" has V behind U, "V, not U" before it.
        near = [p for p in new if p.start - old.end <= _APART and old.start - p.end <= _APART]
        new = [p for p in near if p.start >= old.end] or near[-1:]
        for entry in recent if new else ():
            if not _may_stand_for(new[0], old):
                break
            place = _find(entry.text, _bare(old))
            if place is not None and _find(entry.text, _bare(new[0])) is None:
                return Revised(entry, _put(entry.text, place, _bare(new[0])))
    return None


def _may_stand_for(new: Any, old: Any) -> bool:
    """A name for a name, a thing for a thing, a number for a number."""
    if new.root.lower_ in _NO_TOPIC_HERE:
        return False
    if old.root.dep_ == "acomp":
        return True
    noun = ("NOUN", "PROPN")
    if old.root.pos_ in noun and new.root.pos_ in noun:
        return bool(old.root.is_title == new.root.is_title)
    return bool(old.root.pos_ == new.root.pos_)


def _phrases(doc: Any) -> list[Any]:
    """The runs of nouns, names, numbers and what stands with them, in order."""
    found, first = [], None
    for t in (*doc, None):
        part = t is not None and (
            t.pos_ in ("NOUN", "PROPN", "NUM", "ADJ") or t.dep_ in ("acomp", "compound")
        )
        if part and first is None:
            first = t.i
        elif not part and first is not None:
            run = doc[first : t.i if t is not None else len(doc)]
            if run.root.pos_ != "ADJ" or run.root.dep_ in ("acomp", "attr"):
                found.append(run)
            first = None
    return found


def _bare(phrase: Any) -> str:
    """A phrase without its article."""
    words = list(phrase)
    while len(words) > 1 and (words[0].dep_ == "det" or words[0].lower_ in ("not", "actually")):
        words.pop(0)
    return str(phrase.doc[words[0].i : words[-1].i + 1].text)


def _given(doc: Any) -> Iterator[Any]:
    """The V of each "it's V", "that's V"."""
    for phrase in _phrases(doc):
        root = phrase.root
        of = root.head
        if root.dep_ in ("attr", "acomp") and of.lemma_ == "be":
            subject = next((c for c in of.children if c.dep_ in ("nsubj", "expl")), None)
            if subject is not None and subject.lower_ in ("it", "that"):
                yield phrase


def _cleft(doc: Any, recent: Sequence[Entry]) -> Revised | None:
    """ "It's Rachel who's allergic": another subject for what a record says."""
    for new in _given(doc):
        if doc[new.start - 1].lower_ == "not" or new.end >= len(doc):
            continue
        if doc[new.end].lower_ not in ("who", "that", "whose"):
            continue
        rest = topic_words(doc[new.end + 1 :].text)
        for entry in recent:
            who = entry.who.removesuffix("'s")
            place = _find(entry.text, who) if who[:1].isupper() else None
            if rest & topic_words(entry.text) and place is not None and _bare(new) != who:
                return Revised(entry, _put(entry.text, place, _bare(new)))
    return None


def _led(
    doc: Any, sentence: str, entries: Sequence[Entry], names: frozenset[str]
) -> Revised | None:
    """ "Bins are Monday": the thing is named, and an older record has another value for it."""
    values, words = values_of(sentence), _words_of(sentence)
    # "Vet's wednesday" is read as a possessive, but not "Gerda's passport".
    things = [*_subjects(doc), *(t for t in doc if t.dep_ == "poss" and t.is_lower)]
    led = words & frozenset().union(*(topic_words(t.text) for t in things)) - names
    for entry in entries if values and led else ():
        theirs = topic_words(entry.text)
        if _of_another(doc, entry.text):
            continue
        if led & theirs and entry.turn and len(words - theirs) < _OWN_WORDS:
            text = given_anew(entry.text, values, alike=True)
            if text:
                return Revised(entry, text)
    return None


def _in_place(doc: Any, sentence: str, turn: str, recent: Sequence[Entry]) -> Revised | None:
    """Another value, of nothing that is named: for the record that was told last."""
    values, words = values_of(sentence), _words_of(sentence)
    bare = bool(values) and not values[0].start and sentence[values[0].end :][:1] in ",;."
    if bare:  # "31 Mill Bank, second floor": what follows only adds to it
        words = frozenset()
    elif not values or not _points(doc, sentence, values[0].start):
        return None
    result = _RESULT.search(sentence[: values[0].start])
    leading = _words_of(sentence[: values[0].start])
    if not result and (words or any(t.pos_ == "VERB" for t in doc)):
        values = tuple(v for v in values if v.kind != "number")  # "three arrests", "he was two"
    before = _words_of(turn.partition(sentence.rstrip(".!"))[0])
    verbal = any(t.pos_ in ("VERB", "AUX") for t in doc)
    last = recent[0].turn if recent else ""
    for entry in recent:
        theirs = topic_words(entry.text)
        if len(words - theirs) > _OWN_WORDS or not (entry.turn == last or words & theirs):
            continue
        own = leading - theirs or _of_another(doc, entry.text)
        if not result and not verbal and own:
            continue  # a thing of its own: "Match Sunday", "holiday's Madeira, 2 to 9 June"
        if len(before - theirs) > _OWN_WORDS + 1:
            continue  # it belongs to what was said just before it
        text = given_anew(entry.text, values)
        if text:
            return Revised(entry, text)
    return None


def _words_of(sentence: str) -> frozenset[str]:
    words = topic_words(without_values(_BESIDE_IT.split(sentence)[0])) - _NO_TOPIC_HERE
    return frozenset(w for w in words if len(w) > 2)  # not the end of "they've"


def _of_another(doc: Any, text: str) -> bool:
    """Whether a sentence names somebody or a place that a record does not speak of."""
    valued = [(v.start, v.end) for v in values_of(doc.text)]
    return any(
        t.pos_ == "PROPN" and t.text[:1].isupper() and _find(text, t.text) is None
        and not any(start <= t.idx < end for start, end in valued)
        for t in doc if t.i > 0 or t.dep_ == "poss"
    )  # fmt: skip


def _subjects(doc: Any) -> list[Any]:
    """The nouns that the sentence speaks of, but for those of a reason that it gives."""
    main = next((t.i for t in doc if _BESIDE_IT.fullmatch(t.text)), len(doc))
    valued = [(v.start, v.end) for v in values_of(doc.text)]
    return [
        t for t in doc[:main]
        if t.dep_ in ("nsubj", "nsubjpass") and t.pos_ in ("NOUN", "PROPN")
        and not any(start <= t.idx < end for start, end in valued)
    ]  # fmt: skip


def _points(doc: Any, sentence: str, first: int) -> bool:
    """Whether a sentence has no thing of its own: a bare value, "it", "make that", "up to 30"."""
    if _RESULT.search(sentence[:first]):
        return True
    if not any(t.pos_ in ("VERB", "AUX") for t in doc):
        return len(topic_words(without_values(sentence))) <= _OWN_WORDS
    if _subjects(doc) or any(t.dep_ == "nsubj" and t.lower_ in ("i", "we") for t in doc):
        return False
    return any(t.lower_ in _POINTING for t in doc)


def _named(doc: Any, turn: str, recent: Sequence[Entry]) -> Revised | None:
    """ "It's V" where the turn says again what stood there before."""
    for phrase in _given(doc):
        new = _bare(phrase)
        if doc[phrase.start - 1].lower_ == "not" or any(v.kind != "person" for v in values_of(new)):
            continue
        if phrase.end < len(doc) and doc[phrase.end].lower_ in ("who", "that", "whose"):
            continue
        before = turn[: turn.find(new)] if new in turn else turn
        for entry in recent:
            old = "" if _find(entry.text, new) else _said_again(entry.text, before)
            place = _find(entry.text, old) if old else None
            # A name stands for a name, and a thing for what was named at some length.
            name = old[:1].isupper()
            long = " " in old and (name or min(map(len, old.split())) > 3)
            alike = long or (name and phrase.root.pos_ == "PROPN")
            if place is not None and alike and not _VAGUE & {w.lower() for w in new.split()}:
                return Revised(entry, _put(entry.text, place, new))
    return None


def _said_again(old: str, turn: str) -> str:
    """The last and longest run of words of a record that ends it or a part of it and that the turn
    says again: its value, not the thing that it is about.
    """
    words = re.findall(r"[\w'-]+", old)
    said = f" {' '.join(re.findall(r'[a-z0-9-]+', turn.casefold()))} "
    for size in (3, 2, 1):
        for first in range(len(words) - size, 0, -1):
            run = words[first : first + size]
            weighty = run[0].casefold() not in STOP_WORDS and run[-1].casefold() not in STOP_WORDS
            plain = " ".join(re.sub(r"'s$", "", w.casefold()) for w in run)
            if weighty and len(plain) > 2 and f" {plain} " in said:
                return " ".join(run)
    return ""


def _aligned(doc: Any, recent: Sequence[Entry]) -> Revised | None:
    """ "B negative" where a record has "B positive": one word of the pair stays."""
    words = [t for t in doc if t.is_alpha or t.like_num]
    pairs = [tuple(_bare(p).split()) for p in _given(doc)]
    pairs += [(t.text, doc[t.i + 1].text) for t in words
              if t.is_upper and len(t) > 3 and t.i + 1 < len(doc)]  # fmt: skip
    for one, two in (p for p in pairs if len(p) == 2 and not _VAGUE & {w.lower() for w in p}):
        first, second = re.escape(one), re.escape(two)
        for entry in recent:
            for kept, found in (
                (one, rf"\b{first} (?!{second}\b)([\w'-]+)"),
                (two, rf"\b(?!{first}\b)([\w'-]+) {second}\b"),
            ):
                place = re.search(found, entry.text, re.IGNORECASE)
                letter = len(kept) == 1 and kept.isupper()
                if place is None or place[1].casefold() in STOP_WORDS:
                    continue
                if letter or kept.casefold() not in STOP_WORDS:
                    return Revised(entry, _put(entry.text, place.span(), f"{one} {two}"))
    return None


def _find(text: str, words: str) -> tuple[int, int] | None:
    match = re.search(rf"(?<!\w){re.escape(words)}(?!\w)", text, re.IGNORECASE)
    return match.span() if match else None


def _put(text: str, place: tuple[int, int], new: str) -> str:
    return text[: place[0]] + new + text[place[1] :]
