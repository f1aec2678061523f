"""Which turn goes on with which: what a turn needs from an earlier one to be understood.

"Got it in Cadiz in 99", "21 days", "and would my wife lose the flat", "there'll be a band": such a
turn has no thing of its own. It leans on an earlier one: on the last turn that offers what its
pronoun may stand for, or, without a pronoun, on the turn just before it. Whoever forgets that one
forgets this one with it.

The parser of the extra ``language`` decides where it is installed; without it a form of words does.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import Any

from consistent_gen.errors import CheckpointError, MissingExtraError
from consistent_gen.language.parser import load_parser
from consistent_gen.language.words import word_set
from consistent_gen.memory.listening.clauses import as_typed
from consistent_gen.memory.listening.values import values_of, without_values

_MOST = 400  # characters of a turn that leans; longer ones explain themselves
_BACK = 4  # how many turns back a pronoun may reach
# Without a parser: a pronoun, or an answer without a subject, stands first.
_POINTER = re.compile(
    r"^\W*(?:and |but |so |oh )*(?:he|she|it|they|his|her|hers|its|their|theirs|that)\b"
    r"|^\W*(?:(?:no|been|thought)\b|\d)|^(?!.*\b(?:i|we|my|our)\b)\S+(?: \S+){0,2}\W*$",
    re.IGNORECASE,
)
_GOING_ON = re.compile(r"^\W*(?:and|or)\b(?! also\b)", re.IGNORECASE)
_NEW = re.compile(r"\b(?:also|by the way|btw|anyway|unrelated|other news|new topic)\b", re.I)
_IT = word_set("it its this that")
_PERSON = word_set("he she him her his hers")
_OWN = word_set("my our")
_TIMES = word_set(
    "year month week day night morning evening afternoon weekend time hour minute today tomorrow"
)


def leans(text: str) -> bool:
    """Whether a turn or a sentence says nothing that can be understood alone."""
    if _NEW.search(text) or len(text) > _MOST:
        return False
    if _GOING_ON.match(text) or not re.search(r"[^\W\d_]{3,}", without_values(text)):
        return True
    doc = _parsed(text)
    if doc is None:
        return _POINTER.match(text) is not None
    first = next(doc.sents, None)
    return first is not None and _needs_another(first)


def _needs_another(sentence: Any) -> bool:
    subjects = [t for t in sentence if t.dep_ in ("nsubj", "nsubjpass")]
    led = any(t.dep_ in ("nsubj", "nsubjpass") for t in sentence.root.children)
    things = [t for t in sentence if t.pos_ in ("NOUN", "PROPN")]
    if any(t.lower_ in _OWN for t in sentence):
        return False  # "my sister", "our roof": a thing of its own
    verbs = [t for t in sentence if t.pos_ in ("VERB", "AUX")]
    if not verbs:  # a fragment: "left side, like a pea"; a name with a date stands alone
        return len(things) <= 2 and not any(v.kind in ("clock", "weekday", "date")
                                            for v in values_of(sentence.text))  # fmt: skip
    if not subjects or (not led and sentence.root.i < subjects[0].i):
        # "got it in Cadiz", "there'll be a band", "thought the kettle was god"
        return any(t.dep_ == "expl" for t in sentence) or sentence.root.pos_ in ("VERB", "AUX")
    first = subjects[0]
    return bool(first.lower_ in _IT | _PERSON or first.lower_ == "they")


def led_by(turns: Sequence[str], place: int) -> int | None:
    """The place of the turn that turn ``place`` leans on, if it does."""
    text = turns[place]
    if not place or not leans(text):
        return None
    doc = _parsed(text)
    pronouns = {t.lower_ for t in doc} & (_IT | _PERSON) if doc is not None else set()
    bare = not re.search(r"[^\W\d_]{3,}", without_values(text))
    for earlier in range(place - 1, max(-1, place - 1 - _BACK), -1):
        if bare and not _like_value(text, turns[earlier]):
            continue  # "92.8!!" goes on with 93.1, not with a height of 181
        if not pronouns or _offers(turns[earlier], pronouns):
            return earlier
    return place - 1


def _like_value(text: str, earlier: str) -> bool:
    found = [_number(v.text) for v in values_of(text)]
    there = [_number(v.text) for v in values_of(earlier)]
    return not found or any(a and b and 0.7 < a / b < 1.4 for a in found for b in there)


def _number(text: str) -> float:
    digits = re.search(r"\d+(?:\.\d+)?", text.replace(",", ""))
    return float(digits[0]) if digits else 0.0


def _offers(text: str, pronouns: set[str]) -> bool:
    """Whether a turn names what a pronoun may stand for: a single thing, or somebody."""
    doc = _parsed(text)
    if doc is None:
        return True
    for t in doc:
        main = t.dep_ in ("nsubj", "nsubjpass", "dobj", "attr", "ROOT", "appos")
        if t.lower_ in _PERSON | _IT and t.lower_ in pronouns:
            return True  # it goes on with the same one
        if not main or t.lemma_.lower() in _TIMES:
            continue
        single = t.tag_ in ("NN", "NNP") or any(c.dep_ == "det" for c in t.children)
        if single and t.tag_ != "NNS" and t.pos_ != "VERB":
            return True  # one thing or one person; which of the two, words do not say
    return False


def names_it(text: str) -> bool:
    """Whether a turn begins with a bare name, as if it answered who: "Keith. He's dead now."."""
    first = re.split(r"[.!,;:]", text.strip(), maxsplit=1)[0]
    return re.fullmatch(r"[A-Z][\w'-]+(?: [A-Z][\w'-]+)?", first) is not None


@functools.lru_cache(maxsize=2_000)
def _parsed(text: str) -> Any:
    """The parse of a turn, or nothing where there is no parser."""
    try:
        return load_parser()(as_typed(text[:_MOST]))
    except (MissingExtraError, CheckpointError):
        return None
