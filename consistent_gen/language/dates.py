"""Dates in English sentences: which words name a day, and which days they mean.

Rules of our own come first, for what people say in talk ("last March", "since 1969", "the 19th",
"in two weeks", "Thursday"); ``dateparser`` reads what is left and looks like a full date, where it
is installed. A date without a year is the nearest one that the tense of its words allows.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta

from consistent_gen.language.words import COUNTED, ORDINALS

_MONTHS = {name.lower(): number for number, name in enumerate(calendar.month_name) if name}
_SHORT = {name.lower(): number for number, name in enumerate(calendar.month_abbr) if name}
_DAYS = {name.lower(): number for number, name in enumerate(calendar.day_name)}
_NUMBERS = {
    **{word: number for word, number in COUNTED.items() if 1 <= number <= 12},
    **{"a": 1, "an": 1, "a couple of": 2, "couple of": 2, "a few": 3},
}
_SEASONS = {"spring": 3, "summer": 6, "autumn": 9, "fall": 9, "winter": 12}
_MONTH = "|".join(sorted({*_MONTHS, *_SHORT} - {"may", "march"}, key=len, reverse=True))
_DAY = "|".join(_DAYS)
_COUNT = r"a couple of|couple of|a few|" + "|".join(sorted({*_NUMBERS}, key=len, reverse=True))
_SEASON = "|".join(_SEASONS)
_SPELT = "|".join(sorted(ORDINALS, key=len, reverse=True))
# "may" and "march" are words of their own, so they are months only beside what makes them one.
_ANY_MONTH = rf"(?:{_MONTH}|may|march)\.?"

_RULES = tuple(
    (name, re.compile(rf"\b(?:{pattern})", re.IGNORECASE))
    for name, pattern in (
        ("iso", r"(?P<y>[12]\d{3})-(?P<m>\d\d)-(?P<d>\d\d)\b"),
        (
            "day_month",
            rf"(?:(?P<day>{_DAY}),? )?(?:the )?(?P<d>\d{{1,2}})(?:st|nd|rd|th)?(?: of)? "
            rf"(?P<month>{_ANY_MONTH})"
            r"(?:,? (?P<y>[12]\d{3}))?\b",
        ),
        (
            "month_day",
            rf"(?:(?P<day>{_DAY}),? )?(?P<month>{_ANY_MONTH}) "
            r"(?:the )?(?P<d>\d{1,2})(?:st|nd|rd|th)?\b(?!:)"
            r"(?:,? (?P<y>[12]\d{3}))?",
        ),
        ("spelt_month", rf"(?:(?P<day>{_DAY}),? )?(?:the )?(?P<spelt>{_SPELT}) of "
         rf"(?P<month>{_ANY_MONTH})(?:,? (?P<y>[12]\d{{3}}))?\b"),
        ("spelt_month", rf"(?P<month>{_ANY_MONTH}) the (?P<spelt>{_SPELT})"
         r"(?:,? (?P<y>[12]\d{3}))?\b"),
        ("day_nth", rf"(?P<day>{_DAY}),? the "
         rf"(?:(?P<d>\d{{1,2}})(?:st|nd|rd|th)|(?P<spelt>{_SPELT}))\b"),
        ("month_year", rf"(?P<month>{_ANY_MONTH}) (?:of )?(?P<y>[12]\d{{3}})\b"),
        ("which_month", rf"(?P<which>last|next|this|in|since|until|by|every) "
         rf"(?P<month>{_ANY_MONTH})\b"),
        ("which_day", rf"(?:(?P<which>last|next|this|on|every|since|until|by) )?(?P<day>{_DAY})\b"),
        ("which_season", rf"(?P<which>last|next|this|in) (?P<season>{_SEASON})\b"),
        ("which_span", r"(?P<which>last|next|this) (?P<unit>week|weekend|month|year)\b"),
        ("ago", rf"(?P<n>{_COUNT}|\d{{1,3}}) (?P<unit>day|week|month|year)s? ago\b"),
        ("in_time", rf"in (?P<n>{_COUNT}|\d{{1,3}}) (?P<unit>day|week|month|year)s?"
         r"(?:'? time)?\b"),
        ("near", r"(?P<near>the day after tomorrow|day after tomorrow|the day before yesterday|"
                 r"today|tonight|yesterday|tomorrow|last night|this morning|this evening)\b"),
        ("year", r"(?:since|in|from|until|back in|of) (?P<y>1[89]\d\d|20\d\d)\b"),
        ("nth", r"(?:on |to |for |until |by )?the (?P<d>\d{1,2})(?:st|nd|rd|th)\b"
         r"(?! (?:of|floor|grade|place|time|year|century|birthday))"),
    )
)  # fmt: skip
_FULL = re.compile(r"\b\d{1,2}[./]\d{1,2}[./]\d{2,4}\b")
# A sentence that looks ahead puts a bare weekday or day of the month into the future.
_BEHIND = re.compile(
    r"\b(?:was|were|had|did|went|came|got|met|saw|moved|started|began|died|bought|left|quit|"
    r"finished|born|married|since|last|\w+ed)\b",
    re.IGNORECASE,
)
_AHEAD = re.compile(
    r"\b(?:will|shall|going to|am|is|are|must|ha(?:ve|s) to|want(?:s|ed)? to|hop(?:e|ing) to|"
    r"plan\w*|moved? to|postponed|rescheduled|settled|agreed|fixed|booked|scheduled|"
    r"signed(?: up)? for|due|invited|set for)\b|'(?:ll|re|s|m)\b",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"[.!?\u2026]\s")
# What looks back may still mean the day to come, if that is near and the last one is long over.
_LONG_OVER, _NEAR_AHEAD = 270, 95  # days


@dataclass(frozen=True)
class SpokenDate:
    """``words`` at ``[start, end)`` of the text name the days ``first`` to ``last``, both in it.

    ``precise`` is ``day``, ``week``, ``month``, ``season`` or ``year``; ``repeats`` tells of
    "every Monday", which is no single day.
    """

    words: str
    start: int
    end: int
    first: date
    last: date
    precise: str
    repeats: bool = False

    @property
    def iso(self) -> str:
        """The date as far as it is known: ``2026-03-19``, ``2026-03`` or ``2026``."""
        return {"day": self.first.isoformat(), "month": self.first.isoformat()[:7]}.get(
            self.precise,
            self.first.isoformat()[:4]
            if self.precise == "year"
            else f"{self.first.isoformat()} to {self.last.isoformat()}",
        )


def spoken_dates(text: str, today: date) -> tuple[SpokenDate, ...]:
    """The dates that ``text`` names, in order and without overlaps, seen from ``today``.

    At most 10,000 characters are read. Words that name no possible day (31 February) are left out.
    """
    text = text[:10_000]
    taken: list[SpokenDate] = []
    for name, pattern in _RULES:
        for match in pattern.finditer(text):
            if any(match.start() < t.end and t.start < match.end() for t in taken):
                continue
            before = text[max(0, match.start() - 60) : match.start()]
            around = _SENTENCE_END.split(before)[-1] + match[0]
            behind = bool(_BEHIND.search(around)) and not _AHEAD.search(around)
            try:
                found = _meant(name, match.groupdict(), today, behind)
            except (ValueError, OverflowError):
                continue
            if found is not None:
                first, last, precise = found
                repeats = (match.groupdict().get("which") or "").lower() == "every"
                spot = match.start(), match.end()
                taken.append(SpokenDate(match[0], *spot, first, last, precise, repeats))
    taken += [f for f in _full(text) if not any(f.start < t.end and t.start < f.end for t in taken)]
    return tuple(sorted(taken, key=lambda t: t.start))


def _full(text: str) -> Iterator[SpokenDate]:
    """Dates in digits, by dateparser: its search through free text takes seconds, this does not."""
    matches = list(_FULL.finditer(text))
    if not matches:
        return
    try:
        import dateparser
    except ModuleNotFoundError:
        return
    for match in matches[:20]:
        moment = dateparser.parse(
            match[0], languages=["en"], settings={"DATE_ORDER": "DMY", "STRICT_PARSING": True}
        )
        if moment is not None:
            day = moment.date()
            yield SpokenDate(match[0], match.start(), match.end(), day, day, "day")


_Span = tuple[date, date, str]


def _meant(name: str, said: dict[str, str | None], today: date, behind: bool) -> _Span | None:
    which = (said.get("which") or "").lower()
    year = int(said["y"]) if said.get("y") else None  # type: ignore[arg-type]
    if name == "iso":
        return _day(date(int(said["y"] or 0), int(said["m"] or 0), int(said["d"] or 0)))
    if name in ("day_month", "month_day"):
        return _day(_of_year(year, _month(said), int(said["d"] or 0), said["day"], today, behind))
    if name == "spelt_month":
        day = ORDINALS[(said["spelt"] or "").lower()]
        return _day(_of_year(year, _month(said), day, said.get("day"), today, behind))
    if name == "day_nth":
        number = ORDINALS.get((said["spelt"] or "").lower()) or int(said["d"] or 0)
        return _day(_weekday_nth(_DAYS[(said["day"] or "").lower()], number, today))
    if name == "month_year":
        assert year is not None
        return _whole_month(year, _month(said))
    if name == "which_month":
        return _whole_month(_month_year(_month(said), which, today, behind), _month(said))
    if name == "which_day":
        return _day(_weekday(_DAYS[(said["day"] or "").lower()], which, today, behind))
    if name == "which_season":
        return _season((said["season"] or "").lower(), which, today, behind)
    if name == "which_span":
        return _span((said["unit"] or "").lower(), {"last": -1, "this": 0, "next": 1}[which], today)
    if name in ("ago", "in_time"):
        count = (said["n"] or "").lower()
        number = _NUMBERS.get(count) or int(count)
        return _shift((said["unit"] or "").lower(), number if name == "in_time" else -number, today)
    if name == "near":
        return _day(today + timedelta(days=_near((said["near"] or "").lower())))
    if name == "year":
        assert year is not None
        return date(year, 1, 1), date(year, 12, 31), "year"
    return _day(_nth(int(said["d"] or 0), today, behind))


def _month(said: dict[str, str | None]) -> int:
    name = (said["month"] or "").lower().rstrip(".")
    return _MONTHS.get(name) or _SHORT[name[:3]]


def _day(day: date) -> _Span:
    return day, day, "day"


def _whole_month(year: int, month: int) -> _Span:
    return date(year, month, 1), date(year, month, calendar.monthrange(year, month)[1]), "month"


def _month_year(month: int, which: str, today: date, behind: bool) -> int:
    """The year of a bare month: "last March" is over, "next March" is to come."""
    if which in ("last", "since") or (behind and which != "next"):
        return today.year if month < today.month else today.year - 1
    if which == "this":
        return today.year
    return today.year if (month >= today.month and which != "next") or month > today.month else (
        today.year + 1
    )  # fmt: skip


def _of_year(
    year: int | None, month: int, day: int, weekday: str | None, today: date, behind: bool
) -> date:
    """The day in a year that is said, else in the nearest one: the weekday's, if one is said with
    it, else as the words look.
    """
    if year is not None:
        return date(year, month, day)
    if weekday is not None:
        near = [date(today.year + step, month, day) for step in (-1, 0, 1)]
        fitting = [d for d in near if d.weekday() == _DAYS[weekday.lower()]]
        if fitting:
            return min(fitting, key=lambda d: abs((d - today).days))
    here = date(today.year, month, day)
    past = here if here <= today else date(today.year - 1, month, day)
    to_come = here if here >= today else date(today.year + 1, month, day)
    far = (today - past).days > _LONG_OVER and (to_come - today).days < _NEAR_AHEAD
    return past if behind and not far else to_come


def _weekday(day: int, which: str, today: date, behind: bool) -> date:
    ahead = (day - today.weekday()) % 7
    if which in ("last", "since") or (behind and which not in ("next", "this", "every")):
        return today - timedelta(days=(today.weekday() - day) % 7 or 7)
    if which == "next":  # the one of next week
        return today + timedelta(days=7 - today.weekday() + day)
    return today + timedelta(days=ahead)


def _season(season: str, which: str, today: date, behind: bool) -> _Span:
    month = _SEASONS[season]
    year = today.year
    first = date(year, month, 1)
    if which == "last" or (which == "in" and behind):
        year -= first > today - timedelta(days=60)
    elif which == "next" or which == "in":
        year += first <= today
    end = date(year + (month == 12), (month + 2) % 12 or 12, 1)
    last = calendar.monthrange(end.year, end.month)[1]
    return date(year, month, 1), end.replace(day=last), "season"


def _span(unit: str, step: int, today: date) -> _Span:
    if unit in ("week", "weekend"):
        monday = today - timedelta(days=today.weekday()) + timedelta(weeks=step)
        first = monday + timedelta(days=5) if unit == "weekend" else monday
        return first, monday + timedelta(days=6), "week"
    if unit == "month":
        months = today.year * 12 + today.month - 1 + step
        return _whole_month(months // 12, months % 12 + 1)
    return date(today.year + step, 1, 1), date(today.year + step, 12, 31), "year"


def _shift(unit: str, number: int, today: date) -> _Span:
    if unit == "day":
        return _day(today + timedelta(days=number))
    if unit == "week":
        day = today + timedelta(weeks=number)
        monday = day - timedelta(days=day.weekday())
        return monday, monday + timedelta(days=6), "week"
    if unit == "month":
        months = today.year * 12 + today.month - 1 + number
        return _whole_month(months // 12, months % 12 + 1)
    return date(today.year + number, 1, 1), date(today.year + number, 12, 31), "year"


def _near(words: str) -> int:
    if "after tomorrow" in words:
        return 2
    if "before yesterday" in words:
        return -2
    return {"yesterday": -1, "last night": -1, "tomorrow": 1}.get(words, 0)


def _weekday_nth(weekday: int, day: int, today: date) -> date:
    """ "Wednesday the thirtieth" is the nearest such day, ahead where two are as near."""
    for far in range(0, 400):
        for found in (today + timedelta(days=far), today - timedelta(days=far)):
            if (found.weekday(), found.day) == (weekday, day):
                return found
    raise ValueError(f"no such day {day}")


def _nth(day: int, today: date, behind: bool) -> date:
    """ "The 19th" is the nearest day with that number, ahead unless the words look back."""
    months = today.year * 12 + today.month - 1
    steps = range(0, -13, -1) if behind else range(0, 13)
    for step in steps:
        year, month = divmod(months + step, 12)
        if day > calendar.monthrange(year, month + 1)[1]:
            continue
        found = date(year, month + 1, day)
        if (found <= today) if behind else (found >= today):
            return found
    raise ValueError(f"no month has a day {day}")
