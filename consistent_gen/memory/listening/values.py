"""The values that a sentence gives: days, clock times, sums, measures, numbers, codes.

A record says something of somebody and mostly gives a value for it. When a later turn gives another
value of the same kind for the same thing, it is the value that changes, not the whole record: "Rent
is 870 all in", later "895", is "Rent is 895 all in".
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from consistent_gen.language.words import word_set

ValueKind: TypeAlias = Literal[
    "person",
    "address",
    "code",
    "date",
    "weekday",
    "month",
    "clock",
    "money",
    "measure",
    "label",
    "number",
]

_MONTH = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|"
    r"sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)"
)
_COUNT = (
    r"(?:two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|"
    r"sixteen|seventeen|eighteen|nineteen|twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety)"
)
_HOUR = (
    r"(?:(?:1\d|2[0-4]|0?[1-9])(?:[.:]\d\d)?|one|two|three|four|five|six|seven|eight|nine|ten|"
    r"eleven|twelve)"
)
_UNIT = (
    r"(?:mg|mcg|g|kg|ml|l|milligrams?|grams?|kilos?|stone|hours?|hrs?|minutes?|mins?|days?|weeks?|"
    r"months?|years?|miles?|km|kilomet\w+|met\w+|cm|mm|%|percent|degrees?)"
)
# In this order: what one rule has taken, no later one takes.
_RULES: tuple[tuple[ValueKind, re.Pattern[str]], ...] = tuple(
    (kind, re.compile(pattern, re.IGNORECASE))  # type: ignore[misc]
    for kind, pattern in (
        ("iso", r"\b\d{4}-\d\d(?:-\d\d)?\b"),  # what we wrote beside the words
        ("person", r"\b(?:mr|mrs|ms|miss|dr|prof|herr|frau|sister|father)\.? "
                   r"(?-i:[A-Z][\w'-]+)|\b(?:mr|mrs|ms) [a-z]{3,}\b"),
        ("code", r"(?<!\w)\+?\d[\d ]{6,}\d(?!\w)"),
        ("date", rf"(?:\bthe )?\b\d{{1,2}}(?:st|nd|rd|th)?(?: of)? {_MONTH}\b(?:,? \d{{4}})?|"
                 rf"\b{_MONTH} (?:the )?\d{{1,2}}(?:st|nd|rd|th)?\b(?:,? \d{{4}})?(?!:)|"
                 r"(?:\bthe )?\b\d{1,2}(?:st|nd|rd|th)\b|\b\d{1,2}/\d{1,2}\b"),
        ("address", r"\b\d{1,4}[a-z]? (?-i:[A-Z][\w']+(?: [A-Z][\w']+)+)"),
        ("weekday", r"\b(?:mon|tues?|wed(?:nes)?|thu(?:rs?)?|fri|sat(?:ur)?|sun)(?:days?)?\b"),
        ("money", r"[\u00a3$\u20ac]\s?\d[\d.,]*k?\b|\b\d[\d.,]* ?(?:k|grand|quid|pounds?|euros?|"
                  r"dollars?|bucks?|pcm)\b"),
        ("measure", rf"\b(?:\d[\d.,]*|{_COUNT}) ?{_UNIT}(?!\w)"),
        ("clock", rf"\b{_HOUR} ?(?:-|to|till?|until) ?{_HOUR}(?: ?[ap]m)?\b|"
                  rf"\bhalf(?: past)? {_HOUR}\b|\bhalf past\b|\bquarter (?:past|to) {_HOUR}\b|"
                  rf"\b\d{{1,2}}(?:[.:]\d\d)? ?[ap]\.?m\b|\b\d{{1,2}}[.:]\d\d\b|"
                  rf"(?<=\bat ){_HOUR}\b|\b(?:noon|midnight)\b"),
        ("month", rf"\b(?:{_MONTH.replace('may|', '')})\b|(?<=in )may\b"),
        ("code", r"\b(?!(?:19|20)\d\d\b)\d{4,}\b"),
        ("number", rf"(?<![\w.,])\d+(?:,\d{{3}})*(?:\.\d+)?(?!\w|\.\d)|\b{_COUNT}\b"),
    )
)  # fmt: skip
# "Ward 6", "Year 3", "size nine": the word before a number says what it counts.
_LABELLED = re.compile(r"\b([A-Za-z]{3,})\.? $")
_NO_LABEL = word_set(
    "for the and but are was were have has had not now just about only over under from with than "
    "that back too got them they him her its our out all still until till then make made put"
)
_DAYS: frozenset[ValueKind] = frozenset(("date", "weekday"))
_NUMERIC: frozenset[ValueKind] = frozenset(("money", "measure", "number", "code"))
_DIGITS = re.compile(r"\d[\d.,]*\d|\d")


@dataclass(frozen=True)
class Value:
    """``text`` at ``[start, end)``; ``label`` is the word that says what a number counts."""

    kind: ValueKind
    start: int
    end: int
    text: str
    label: str = ""

    @property
    def plain(self) -> str:
        """The value in the form in which two of them are compared."""
        plain = re.sub(r"^the | of\b|(?<=\d)(?:st|nd|rd|th)\b", "", self.text.casefold())
        if self.kind == "weekday":
            return plain[:3]
        return re.sub(r"[ ,]", "", plain).replace(":", ".")


@functools.lru_cache(maxsize=20_000)
def values_of(text: str) -> tuple[Value, ...]:
    """The values in a text, in order and without overlaps."""
    found: list[Value] = []
    for kind, pattern in _RULES:
        for match in pattern.finditer(text):
            if any(match.start() < v.end and v.start < match.end() for v in found):
                continue
            before = _LABELLED.search(text[: match.start()]) if kind == "number" else None
            label = before[1].casefold() if before is not None else ""
            if label and label not in _NO_LABEL:
                found.append(Value("label", match.start(), match.end(), match[0], label))
            else:
                found.append(Value(kind, match.start(), match.end(), match[0]))
    return tuple(sorted(found, key=lambda v: v.start))


def without_values(text: str) -> str:
    """The words of a text that are no values."""
    for value in reversed(values_of(text)):
        text = text[: value.start] + " " + text[value.end :]
    return text


def given_anew(old: str, values: Sequence[Value], *, alike: bool = False) -> str:
    """``old`` with those of its values replaced of which ``values`` give another one.

    alike: only a value of the very same kind stands for another one, so that no bare number takes
    the place of a sum. Nothing where no other value of a kind that ``old`` has is given.
    """
    places: dict[int, tuple[Value, str]] = {}
    kinds = [value.kind for value in values]
    for value in values:
        if kinds.count(value.kind) > 1 and value.kind in ("number", "weekday"):
            continue  # "16 by 16" counts several things, "Tue, Wed, Fri" is no other day
        fitting = [v for v in _places(old, value) if not alike or v.kind == value.kind]
        if alike and value.kind == "number":
            continue
        if any(place.plain == value.plain for place in fitting):
            continue  # it says this already
        free = [place for place in fitting if place.start not in places]
        # Of two days or sums nobody can say which is meant.
        if free and (len(fitting) == 1 or value.kind == "code"):
            place = free[0]
            places[place.start] = (place, _in_place(place, value))
    text = old
    for place, put in sorted(places.values(), key=lambda p: -p[0].start):
        text = text[: place.start] + put + text[place.end :]
    return text if places else ""


def _places(old: str, value: Value) -> Iterator[Value]:
    """The values of ``old`` in whose place ``value`` may stand."""
    there = values_of(old)
    if value.kind == "label":
        yield from (v for v in there if v.kind == "label" and v.label == value.label)
        return
    same = (v for v in there if v.kind == value.kind)
    if value.kind == "measure":
        same = (v for v in same if _unit(v) == _unit(value))
    yield from (v for v in same if v.kind != "number" or _near(v, value))
    if value.kind == "number":
        near = [v for v in there if v.kind in _NUMERIC - {"number"} and _near(v, value)]
        yield from (v for v in near if v.kind != "code" or len(v.plain) == len(value.plain))
        yield from (v for v in there if v.kind == "label" and not near)
    elif value.kind in _NUMERIC:
        yield from (v for v in there if v.kind == "number" and _near(v, value))
    elif value.kind in _DAYS:
        # "30 June" may become "Friday", and the other way round.
        yield from (v for v in there if v.kind in _DAYS and v.kind != value.kind)


def _unit(measure: Value) -> str:
    return re.sub(r"[\d., ]", "", measure.text.split(" ")[-1]).casefold().rstrip("s")


def _near(one: Value, other: Value) -> bool:
    """Whether two numbers may be two values of one thing: neither is three times the other."""
    a, b = _number(one), _number(other)
    return a is not None and b is not None and 1 / 3 < (a + 1) / (b + 1) < 3


def _number(value: Value) -> float | None:
    match = _DIGITS.search(value.text)
    try:
        return float(match[0].replace(",", "")) if match else None
    except ValueError:
        return None


def _in_place(place: Value, value: Value) -> str:
    """``value`` as it stands in ``place``: with the unit, the hour or the first digits of that."""
    if value.kind == "clock" and value.text.casefold() == "half past":
        hour = _DIGITS.search(place.text)
        return f"half past {hour[0].split('.')[0].split(':')[0]}" if hour else value.text
    if place.kind == value.kind == "code" and len(value.plain) < len(place.plain):
        return place.text[: -len(value.text)] + value.text
    if value.kind == "number" and place.kind in ("money", "measure") and _DIGITS.search(value.text):
        return _DIGITS.sub(value.text, place.text, count=1)
    return value.text
