"""What a question asks for: the kind of thing, about whom, of which time.

Read by rules from the words, in the order in which people put them. What is understood here is
looked up by `passages` and answered by `rule_model`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from consistent_gen.language.words import STOP_WORDS, word_set

Wanted: TypeAlias = Literal[
    "person", "name", "when", "clock", "date", "day", "year", "often", "long", "age", "money",
    "number", "place", "whether", "reason", "thing",
]  # fmt: skip

_WORD = re.compile(r"[^\W_]+(?:['\u2019](?:s|t|re|ve|ll|d|m)\b)?")
_ENDING = re.compile(r"['\u2019](?:s|re|ve|ll|d|m)$")
# What stands before a question and is none of it.
_LEAD = re.compile(
    r"^\s*(?:(?:please|wait|hang on|and|so|oh|ok|okay|hey|hi|but|well|also|sorry|quick one|"
    r"remind me(?: again)?|"
    r"(?:can|could|would|will) you (?:please )?(?:tell|remind) me(?: again)?|"
    r"do you (?:still )?(?:know|remember|recall)|tell me|i forget|i forgot|again)\b[\s,:;.-]*)+"
    r"(?=\S+ \S+)",
    re.IGNORECASE,
)
_NOUNS = r"(?:what|which)(?:'s|s)? (?:\w+ ){0,4}?"
_KINDS: tuple[tuple[Wanted, re.Pattern[str]], ...] = tuple(
    (kind, re.compile(pattern, re.IGNORECASE))  # type: ignore[misc]
    for kind, pattern in (
        ("often", r"\bhow (?:often|frequently|many times)\b"),
        ("long", r"\bhow long\b|\bsince when\b"),
        ("age", r"\bhow old(?:'?s)?\b|\bwhat age\b"),
        ("clock", r"\b(?:what|which) (?:time|hour)\b"),
        ("year", r"\b(?:what|which) year\b"),
        ("date", r"\b(?:what|which) dates?\b|\bdates? of\b"),
        ("day", r"\b(?:what|which) (?:\w+ )?(?:day|night|evening|morning|afternoon|weekday|month|"
                r"week)s?\b|^\W*(?:\w+ )?days?\b"),
        ("when", r"\bwhen(?:'?s|'?re|'?ll)?\b"),
        ("name", r"\b(?:name|surname|nickname)\b|\b(?:what|how)\b.*\bcalled\b"),
        ("money", r"\bhow much\b.*\b(?:rent|pay|paid|paying|cost|earn|price|owe|salary|worth|spend|"
                  r"spent|charge)\b|\bwhat\b.*\b(?:paying|pay|paid|earn)\b|"
                  rf"\b{_NOUNS}(?:salary|rent|price|pay|wage|budget|cost|fee)\b"),
        ("number", rf"\bhow (?:many|much|tall|big|far|heavy|high|fast)\b|\b{_NOUNS}(?:dose|size|"
                   r"weight|number|mark|score|grade|percentage|reading|amount|phone)\b|"
                   r"\bwhat (?:\w+ ){1,4}(?:weigh|cost)\b"),
        ("place", r"\bwhere(?:'?s|'?re)?\b|\b(?:what|which) (?:city|town|country|village|street|"
                  r"place|address|area)\b"),
        ("person", r"\bwho(?:'?s|'?ll|se|m|'?d)?\b"),
        ("reason", r"\bwhy\b|\bhow come\b|\bwhat for\b"),
        ("thing", r"\b(?:what|which|how)(?:'?s|'?re|'?d|'?ll)?\b"),
    )
)  # fmt: skip
_WHO_IS = re.compile(r"^\W*(?i:who(?:'?s| is| was)) [A-Z][a-z]+(?: [A-Z][a-z]+)?\W*$")
_ASKS_WHETHER = re.compile(
    r"^\W*(?:do|does|did|is|are|am|was|were|have|has|had|can|could|will|would|shall|should|"
    r"don'?t|doesn'?t|didn'?t|isn'?t|aren'?t|wasn'?t|haven'?t|hasn'?t|can'?t|won'?t)\b",
    re.IGNORECASE,
)
_ASKING = re.compile(
    r"\b(?:what|which|who|whom|whose|when|where|why|how|whats|whos|wheres|whens|hows|name|day|time|"
    r"date)\b",
    re.IGNORECASE,
)
_ASKED_NOUN = re.compile(
    r"^\W*(?:what|which) (?:[\w'-]+ ){0,2}?([\w-]+) (?:do|does|did|is|are|am|was|were|have|has|had|"
    r"can|could|will|must|should|shall)\b",
    re.IGNORECASE,
)
_ASKED_OF = re.compile(
    r"^\W*(?:what|when|where|who)(?:'?s|'?re| is| are| was| were)\b.*?\b([\w-]+)"
    r"(?: (?:now|these days|currently|again|called))*\W*$",
    re.IGNORECASE,
)
_CHOICE = re.compile(r"\b(\w+) or (?:the |a |an |in )?(\w+)\W*$", re.IGNORECASE)
_BESIDES = re.compile(
    r"\b(?:apart from|besides|other than|except(?: for)?|in addition to) (.+)$", re.IGNORECASE
)
_NOW = re.compile(
    r"\b(?:now|these days|nowadays|at present|at the moment|currently|still|today|any ?more|rn|"
    r"latest|new)\b",
    re.IGNORECASE,
)
_BEFORE = re.compile(
    r"\b(?:used to|before (?:that|then|i|we)|previous(?:ly)?|former(?:ly)?|originally|at first|"
    r"back then|in the past|old (?:job|address|flat|house|home|boss|car))\b",
    re.IGNORECASE,
)
_ENDED = re.compile(
    r"\b(?:not|never|no|none|neither|nor|nobody|nothing|without|cannot|stopped|stop|quit|gave up|"
    r"given up|giving up|gone off|no longer|any ?more|left|died|passed (?:away|on)|over|cancelled|"
    r"canceled|called off|finished|ended|broke up|split up|sold|packed in|jacked in|dropped|"
    r"turned down|declined|refused|done (?:with|since)|are done|r done|"
    r"talked \w+ out|instead|rather than|retired|deleted|lost|hate|moved out|went home)\b|"
    r"n['\u2019]t\b|\b(?:dont|doesnt|didnt|isnt|cant|wont|havent|hasnt|wasnt|arent)\b",
    re.IGNORECASE,
)
# Words that many a question has and that name nothing by themselves.
_LIGHT = word_set(
    "call name kind type sort thing day date time month year week night evening morning many much "
    "come came coming long often old last first next new now these days currently still again "
    "actually exactly "
    "please remind say said tell told get got go going gone have having take taking give given "
    "make made do doing done did does need want keep use used is be been let put see may might "
    "must shall at of on ever up down away out off back present moment rn n w u r am pm whats "
    "wheres whos hows else one way far well full lot start end end who what where when which why "
    "how "
)
# What also answers to a word of a question: the narrower, the everyday and the neighbouring word.
_ALSO: dict[str, frozenset[str]] = {}
for _line in """
kid: child children son daughter baby lad boy girl toddler
child: kid son daughter baby lad boy girl toddler
baby: son daughter newborn
lad: son boy
pet: dog cat puppy kitten rabbit hamster parrot horse pony tortoise bird fish guinea
dog: puppy pup terrier lurcher labrador spaniel collie retriever poodle whippet
cat: kitten tabby moggy
mum: mother mam mama mom mummy
mother: mum mam mama mom
mom: mother mum mama
mama: mother mum mam
dad: father papa daddy
father: dad papa
gran: grandmother nan nana granny
nan: grandmother gran nana
grandmother: gran nan nana granny
sister: sibling
brother: sibling
sibling: sister brother
husband: partner married
wife: partner married
partner: husband wife boyfriend girlfriend married together
boyfriend: partner together
girlfriend: partner together
live: move home flat house based settle address stay
home: live move flat house address
address: live move home street road
move: flat house relocate
flat: apartment room
work: job employ shift start role position hire
job: work employ role position hire
pay: salary wage grand earn paid money rent
salary: pay wage grand earn paid
earn: pay salary wage grand
wage: pay salary earn
cost: price pay paid quid pound
price: cost pay paid
name: call
eat: vegetarian vegan meat diet allergic food
food: eat diet meal
vegetarian: veggie meat vegan
veggie: vegetarian meat vegan
vegan: vegetarian meat dairy
drink: coffee tea wine beer alcohol
medicine: tablet pill mg medication dose prescribe inhaler
medication: tablet pill mg medicine dose prescribe inhaler
tablet: pill mg medicine medication dose
dose: mg milligram tablet
painkiller: ibuprofen paracetamol codeine morphine aspirin
marry: wed wedding husband wife married engaged fiance fiancee
wedding: marry wed
together: date dating relationship boyfriend girlfriend
birthday: born turn
old: age turn
age: turn old
drive: lift driver ride
doctor: gp dr surgery
gp: doctor dr surgery
surgeon: operation mr dr
operation: surgery op
surgery: operation op
allergic: allergy rash epipen hive
allergy: allergic rash epipen hive
appointment: appt meeting checkup
holiday: trip vacation travel fly
trip: holiday travel fly
fly: flight plane
flight: fly plane
arrive: land come
school: class
university: uni college study degree
uni: university college
study: degree course learn
film: movie
buy: get purchase
car: drive vehicle
bike: bicycle cycle
boss: manager
manager: boss manage
weigh: weight kg kilo pound
weight: weigh kg kilo
bag: rucksack
exam: test grade pass
grade: mark result pass
mark: grade result
score: mark result
instrument: piano guitar violin drum cello
sport: football rugby tennis rowing swim run climb cricket
language: french german spanish italian welsh arabic
allowed: can
deliver: delivery come
smoke: cigarette fag vape
fag: smoke cigarette
gym: pt training workout
train: training coach
hobby: love enjoy play
""".strip().splitlines():
    _word, _, _others = _line.partition(":")
    _ALSO[_word] = frozenset(_others.split())
_IRREGULAR = {
    form: base
    for base, forms in {
        "be": "was were been", "buy": "bought", "teach": "taught", "drive": "drove driven driving",
        "sell": "sold", "wed": "wedding", "eat": "ate eaten", "drink": "drank drunk",
        "write": "wrote written", "meet": "met", "leave": "left leaving", "lose": "lost",
        "break": "broke broken", "fall": "fell fallen", "fly": "flew flown flies",
        "sing": "sang sung",
        "swim": "swam swum", "run": "ran running", "begin": "began begun", "see": "saw seen",
        "think": "thought", "grow": "grew grown", "know": "knew known", "send": "sent",
        "spend": "spent", "sleep": "slept", "feel": "felt", "find": "found", "win": "won",
        "wear": "wore worn", "ride": "rode ridden", "choose": "chose chosen", "pay": "paid pays",
        "bring": "brought", "catch": "caught", "build": "built", "hold": "held", "come": "came",
        "child": "children", "man": "men", "woman": "women", "foot": "feet", "tooth": "teeth",
        "die": "died dying dies", "marry": "married marrying marries", "live": "lives living lived",
        "study": "studied studies", "sow": "sown", "knit": "knitted", "move": "moving moved",
    }.items()
    for form in forms.split()
}  # fmt: skip


def stem(word: str) -> str:
    """A word in the form in which question and answer are compared."""
    word = _ENDING.sub("", word.casefold())
    word = _IRREGULAR.get(word, word)
    for ending, least in (("ings", 4), ("ing", 4), ("ied", 3), ("ies", 3), ("ed", 4), ("es", 4),
                          ("s", 3), ("e", 3)):  # fmt: skip
        if word.endswith(ending) and len(word) - len(ending) >= least and not word.endswith("ss"):
            word = word[: -len(ending)] + ("y" if ending in ("ied", "ies") else "")
            break
    if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "sl":
        word = word[:-1]
    return word


_LIGHT_STEMS = frozenset(map(stem, _LIGHT)) | _LIGHT
_ALSO_STEMS: dict[str, frozenset[str]] = {}
for _word, _set in _ALSO.items():
    _ALSO_STEMS[stem(_word)] = frozenset(map(stem, _set))


def words_of(text: str) -> list[str]:
    """The words of a text without endings like 's."""
    return [_ENDING.sub("", w) for w in _WORD.findall(text.replace("\u2019", "'"))]


def stems_of(text: str) -> frozenset[str]:
    """The stems of a text's content words."""
    return frozenset(stem(w) for w in words_of(text) if w.casefold() not in STOP_WORDS)


def also_said(topic: str) -> frozenset[str]:
    """The stems of narrower, everyday and neighbouring words for the stem of a word."""
    return _ALSO_STEMS.get(topic, frozenset())


def denies(text: str) -> bool:
    """Whether a statement says that something is not so, or no longer."""
    return _ENDED.search(text) is not None


@dataclass(frozen=True)
class AskedFor:
    """A question as it was understood.

    ``topics`` are the stems of the words that say what it is about, ``light`` those that only help
    ("name", "day"); ``names`` are proper names in it; ``choice`` are the two things of "wool or
    cotton"; ``besides`` is what "apart from the cat" leaves out; ``essential`` is the stem of the
    word without which nothing answers ("position" in "what position does he play"); ``now`` and
    ``before`` tell of which time it asks where it says so. ``bearers`` are stems of names by the
    stem of what somebody is to the user ("sister"), as far as they are known.
    """

    text: str
    wants: Wanted
    topics: frozenset[str]
    light: frozenset[str]
    names: tuple[str, ...]
    choice: frozenset[str]
    besides: frozenset[str]
    essential: str
    now: bool
    before: bool
    bearers: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def also(self, topic: str) -> frozenset[str]:
        """The stems of the names of who is meant by a topic word."""
        return self.bearers.get(topic, frozenset())


def read_question(text: str) -> AskedFor:
    """Understand a question; what is no question is read as one about its words."""
    asked = _LEAD.sub("", " ".join(text.split())).replace("\u2019", "'")
    besides = _BESIDES.search(asked)
    either = _CHOICE.search(asked)
    words = [w for w in words_of(asked) if w.casefold() not in STOP_WORDS]
    stems = [stem(w) for w in words]
    light = frozenset(s for s, w in zip(stems, words, strict=True)
                      if s in _LIGHT_STEMS or w.casefold() in _LIGHT)  # fmt: skip
    left_out = stems_of(besides[1]) if besides else frozenset()
    topics = frozenset(stems) - light - left_out
    first = asked.split(" ")[0] if asked else ""
    names = tuple(
        w for w in words
        if w[:1].isupper() and w != "I"
        and not (w == first.rstrip(",?'s") and w.casefold() in STOP_WORDS | _LIGHT)
    )  # fmt: skip
    return AskedFor(
        text=asked,
        wants=_wanted(asked),
        topics=topics or light,
        light=light,
        names=tuple(n for n in names if n.casefold() not in _LIGHT),
        choice=frozenset((stem(either[1]), stem(either[2]))) if either else frozenset(),
        besides=left_out,
        essential=_essential(asked, topics),
        now=bool(_NOW.search(asked)),
        before=bool(_BEFORE.search(asked)),
    )


def _essential(asked: str, topics: frozenset[str]) -> str:
    match = _ASKED_NOUN.match(asked) or _ASKED_OF.match(asked)
    word = stem(match[1]) if match else ""
    return word if word in topics else ""


def _wanted(asked: str) -> Wanted:
    # "I still smoke?" and "We are going or no?" ask whether, in the order of a statement.
    as_told = asked.rstrip().endswith("?") and not _ASKING.search(asked)
    if as_told or _ASKS_WHETHER.match(asked):
        return "whether"
    if _WHO_IS.match(asked):
        return "thing"  # "who is Ida?" is answered by anything about her
    return next((kind for kind, pattern in _KINDS if pattern.search(asked)), "thing")
