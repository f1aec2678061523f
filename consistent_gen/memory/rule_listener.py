"""A listener of patterns: English sentences about oneself, to operations. Needs no model.

It reads user turns only, understands what its patterns say and nothing else, and would rather
miss a fact than invent one. Questions, reported speech and conditionals are passed over.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from consistent_gen.memory.listener import Heard, View
from consistent_gen.memory.listener_words import DIETS, NOT_NAMES, OCCUPATION
from consistent_gen.memory.operations import Add, Delete, Op, Update
from consistent_gen.memory.records import Fact, Turn
from consistent_gen.memory.rule_endings import endings, ends_something, key

_SENTENCE = re.compile(r"(?<=[.!?;\n])\s+|\n+")
# What makes a sentence say nothing about how things are with the speaker.
_UNREAL = re.compile(
    r"\?\s*$|^\s*(?:if|imagine|suppose|what if|would)\b"
    r"|\b(?:he|she|they|who)\s+(?:said|says|thinks)\b"
    r"|^\s*[\"\u201c>]|\bI wish\b|\bas if\b",
    re.IGNORECASE,
)
_CORRECTION = re.compile(
    r"^\s*(?:no|actually|sorry|correction|i meant|i misspoke|that'?s (?:wrong|not right))\b"
    r"[\s,:.-]*",
    re.IGNORECASE,
)
_TAIL = re.compile(
    r"\s*(?:,?\s+(?:because|since|but|although|though|so|which|when|while|and (?:it|he|she|they))\b"
    r".*|[.!;,\s]+)$",
    re.IGNORECASE | re.DOTALL,
)
_TIME = re.compile(
    r"\s+(?:now|today|yesterday|these days|at the moment|currently|any ?more|again|lately|recently|"
    r"(?:last|this) (?:week|weekend|month|year|spring|summer|autumn|fall|winter)|"
    r"(?:a|an|two|three|four|\d+|a few) (?:days?|weeks?|months?|years?) ago|from (?:now|here) on)$",
    re.IGNORECASE,
)
# "No, I moved" tells of a change: what held before was true until then.
_CHANGED = re.compile(
    r"\bmoved\b|\bnow\b|\bthese days\b|\bno longer\b|\bany ?more\b|\bstarted\b|\bswitched\b|"
    r"\bgot a (?:new )?job\b|\bquit\b|\bstopped\b", re.I,
)  # fmt: skip
# "I'm Maria" is a name when one greets with it; elsewhere it may be anything ("I'm Catholic").
_GREETING = re.compile(r"^\s*(?:hi|hello|hey|good (?:morning|afternoon|evening))\b", re.I)
_INTRODUCED = re.compile(
    r"\b(?:I'm|I\u2019m|I am|this is) ([A-Z][\w'\u2019-]+(?: [A-Z][\w'\u2019-]+)?)(?= and\b|,|$)"
)
_NAME = r"((?!not\b)[^\W\d_][\w'\u2019-]*(?:\s+(?-i:(?!I\b)[A-Z][\w'\u2019-]*)){0,2})"
_REAL = r"(?:really |absolutely |also |still |just |quite |totally |now |do )*"
_PETS = (
    r"(?:dog|cat|puppy|kitten|rabbit|bunny|parrot|budgie|canary|hamster|guinea pig|gerbil|mouse|"
    r"rat|horse|pony|donkey|goat|turtle|tortoise|lizard|gecko|snake|frog|bird|hen|goldfish|fish|pet)"
)
_KIN = (
    r"(?:wife|husband|partner|girlfriend|boyfriend|fianc\u00e9e?|mother|mom|mum|father|dad|sister|"
    r"brother|son|daughter|aunt|uncle|cousin|grandmother|grandma|grandfather|grandpa|friend|"
    r"best friend|colleague|boss|neighbou?r|roommate)"
)


@dataclass(frozen=True)
class _Rule:
    """``make`` turns a match into (path or topic, value) pairs; ``core`` tells which they are."""

    pattern: re.Pattern[str]
    make: Callable[[re.Match[str]], tuple[str, str]]
    core: bool = True


def _rule(pattern: str, target: str, text: str, *, core: bool = True) -> _Rule:
    def make(match: re.Match[str]) -> tuple[str, str]:
        return target, text.format(*(_clean(g or "") for g in match.groups()))

    return _Rule(re.compile(pattern, re.IGNORECASE), make, core)


def _kin(match: re.Match[str]) -> tuple[str, str]:
    who, name = match[1].lower(), _clean(match[2])
    partner = who in ("wife", "husband", "partner", "girlfriend", "boyfriend")
    return ("People.Partner" if partner else "relation"), f"{name} ({who})"


_RULES = (
    _rule(rf"\bmy name(?:'s| is) {_NAME}", "Identity.Name", "{0}"),
    _rule(rf"\b(?:please )?call me {_NAME}", "Identity.Name", "{0}"),
    _rule(r"\bI(?:'m| am) (\d{1,3}) years old\b", "Identity.Age", "{0} years old"),
    _rule(r"\bI (?:just )?turned (\d{1,3})\b", "Identity.Age", "{0} years old"),
    _rule(r"\bmy birthday is (?:on )?(?:the )?(.{3,40})", "Identity.Birthday", "{0}"),
    _rule(rf"\bI {_REAL}live in ([^,.!?;]{{2,60}})", "Identity.Home", "lives in {0}"),
    _rule(
        r"\bI(?:'ve| have)? (?:just |recently )?moved (?:from [^,.!?;]+? )?to ([^,.!?;]{2,60})",
        "Identity.Home", "lives in {0}",
    ),
    _rule(
        r"\bI(?:'ve| have)? (?:just |recently |finally |now )?(?:settled(?: down)? in|relocated to|"
        r"unpacked (?:everything |my things )?in) ([^,.!?;]{2,60})",
        "Identity.Home", "lives in {0}",
    ),
    _rule(r"\bI(?:'m| am) (?:now )?(?:based|living|at home) in ([^,.!?;]{2,60})",
          "Identity.Home", "lives in {0}"),
    _rule(r"\bmy (?:new )?(?:home|house|flat|apartment|place) is in ([^,.!?;]{2,60})",
          "Identity.Home", "lives in {0}"),
    _rule(r"\b(?:my|our) (?:new )?(?:home )?address is (?:now )?((?:in|at) )?([^.!?;]{2,60})",
          "Identity.Home", "lives at {1}"),
    _rule(r"\bI (?:grew up|was born) in ([^,.!?;]{2,60})", "Identity.Roots", "comes from {0}"),
    _rule(r"\bmy pronouns are ([\w/ ]{2,30})", "Identity.Pronouns", "{0}"),
    _rule(
        r"\bI(?:'m| am)? (?:now )?work(?:ing)? as an? ([^,.!?;]{2,60})", "Work.Job", "works as {0}"
    ),
    _rule(
        r"\bI (?:just )?(?:got|started) a (?:new )?job as an? ([^,.!?;]{2,60})",
        "Work.Job", "works as {0}",
    ),
    _rule(
        r"\bI(?:'ve| have)? (?:just |recently |finally )?(?:been hired|started|"
        r"begun|become|became|trained|qualified|retrained)(?: work| working)?(?: as)? "
        rf"an? ({OCCUPATION})\b",
        "Work.Job", "works as {0}",
    ),
    _rule(rf"\bI(?:'m| am) (?:now |still )?an? ({OCCUPATION})\b", "Work.Job", "works as {0}"),
    _rule(rf"(?:^|\bmy )first (?:day|week|month|year) as an? ({OCCUPATION})\b", "Work.Job",
          "works as {0}"),
    _rule(r"\bmy (?:new )?job is (?:being |as )?an? ([^,.!?;]{2,60})", "Work.Job",
          "works as {0}"),
    _rule(r"\bI (?:earn|make) my (?:living|bread|money) as an? ([^,.!?;]{2,60})", "Work.Job",
          "works as {0}"),
    _rule(r"\bI (?:study|studied) ([^,.!?;]{2,60})", "Work.Education", "studies {0}"),
    _rule(r"\bI(?:'m| am) allergic to ([^.!?;]{2,60})", "Body.Health", "allergic to {0}"),
    _rule(rf"\bI(?:'m| am) (?:a |an )?(?:now )?({DIETS})\b", "Body.Diet", "{0}"),
    _rule(
        rf"\bI (?:(?:have|need|want|ought) to|should|must|will) (?:eat|be|go) ({DIETS})\b",
        "Body.Diet", "{0}",
    ),
    _rule(
        rf"\bI(?:'ve| have)? (?:just |recently |finally )?(?:gone|went|become|became|turned|been) "
        rf"(?:a |an |fully )?({DIETS})\b", "Body.Diet", "{0}",
    ),
    _rule(r"\bmy diet is (?:now )?(?:strictly )?([^,.!?;]{3,40})", "Body.Diet", "{0}"),
    _rule(r"\bI (?:don't|do not) eat ([^,.!?;]{2,40})", "Body.Diet", "does not eat {0}"),
    _Rule(
        re.compile(rf"\bmy ({_KIN})(?:'s name is| is (?:called|named)) {_NAME}", re.I), _kin, False
    ),
    _rule(
        rf"\b(?:my|our) ({_PETS})(?:'s name is| is (?:called|named)) {_NAME}",
        "People.Pets", "{1} (a {0})",
    ),
    _rule(
        rf"\b(?:I|we)(?:'ve| have)? (?:just |recently )?(?:adopted|rescued|got|"
        rf"brought(?: home| back)?) an? (?:[a-z]+ )?({_PETS}) (?:called|named) {_NAME}",
        "People.Pets", "{1} (a {0})",
    ),
    _rule(
        rf"\bI (?:live|share my (?:flat|home|house)) with (?:my |a |an )(?:[a-z]+ )?({_PETS}) "
        rf"(?:called |named )?{_NAME}", "People.Pets", "{1} (a {0})",
    ),
    _rule(
        r"\bmy (?:big |main |new |next )?(?:goal|dream|aim|ambition|plan)(?: this year)? is to "
        r"([^.!?;]{3,120})", "Life.Goals", "wants to {0}",
    ),
    _rule(
        r"\bI(?:'ve| have)? (?:decided|resolved|set my mind) (?:to|on) ([^.!?;]{3,120})",
        "Life.Goals", "wants to {0}",
    ),
    _rule(
        r"\b(?:please )?remember (?:that )?(?:my |I )?(.{4,200})", "noted", "", core=False
    ),
)  # fmt: skip

_LIKES = re.compile(
    rf"\bI {_REAL}(love|like|enjoy|adore|prefer)(?:ed)? "
    r"(?!it\b|that\b|this\b|most\b|best\b|to think)([^.!?;]{2,120})", re.I,
)  # fmt: skip
_FAVOURITE = re.compile(
    r"\b(?:my favou?rite ([\w ]{2,30}?)"
    r"|the ([\w ]{2,30}?) I (?:love|like|enjoy) (?:the )?(?:most|best)"
    r"|my (?:main |new |biggest |greatest )(hobby|passion|pastime|interest))"
    r" (?:is|are|has become) (?:now )?([^.!?;]{2,80})", re.I,
)  # fmt: skip
_TAKEN_UP = re.compile(
    r"\bI(?:'ve| have)? (?:just |recently |finally )?(?:taken up|took up|got into|gotten into|"
    r"fallen in love with|joined an? (?:club|class|group) for|signed up for|discovered) "
    r"(?!it\b|that\b|this\b|you\b|him\b|her\b)([^.!?;]{2,80})", re.I,
)  # fmt: skip
_DISLIKES = re.compile(
    rf"\bI {_REAL}(?:hate|dislike|detest|can'?t stand|cannot stand|don'?t {_REAL}(?:like|enjoy)"
    r"|do not (?:like|enjoy)) (?!it\b|that\b|this\b|when\b)([^.!?;]{2,120})", re.I,
)  # fmt: skip
_HABIT = re.compile(
    r"\b(?:every (?:morning|day|evening|night|weekend|monday|tuesday|wednesday|thursday|friday|"
    r"saturday|sunday)\b,? I ([^.!?;]{3,100})"
    r"|I (?:usually|always|often) ([^.!?;]{3,100}))", re.I,
)  # fmt: skip
# Leaves that hold several entries, with "; " between them.
_GATHERING = ("People.Pets", "Body.Health", "Life.Goals")
_FORGET = re.compile(r"\b(?:forget|delete|erase)\b", re.I)

_CUES: dict[tuple[str, int], re.Pattern[str]] = {
    key: re.compile(rf"\b(?:{words})", re.IGNORECASE)
    for key, words in {
        ("openness", 5): "try something new|curious|museum|poem|philosoph|imagin",
        ("openness", 1): "always the same|nothing new|hate change",
        ("conscientiousness", 5): "plan(?:ned)? ahead|checklist|schedule|organi[sz]ed",
        ("conscientiousness", 1): "last minute|procrastinat|forgot again|messy",
        ("extraversion", 5): "party|parties|love meeting people|crowded|talkative",
        ("extraversion", 1): "stay(?:ed)? home alone|hate crowds|introvert|shy",
        ("agreeableness", 5): "happy to help|volunteer|thank you so much",
        ("agreeableness", 1): "idiots?|shut up|don't care what (?:they|others)",
        ("neuroticism", 5): "anxious|worried|panic|stressed|overwhelmed|nervous",
        ("neuroticism", 1): "calm|relaxed|nothing bothers me|not worried",
    }.items()
}


class RuleListener:
    """Patterns for name, age, home, work, health, relations, pets, likes, habits and requests.

    Likes and dislikes become facts (topic ``preference``) that replace what they contradict;
    a sentence that begins with "no", "actually" or the like corrects instead of changing.
    """

    description = "rule listener: English patterns, no model; it misses what they do not cover"

    def listen(self, turns: Sequence[Turn], view: View) -> Heard:
        """Operations and trait scores of the user turns; other turns are not read."""
        ops: dict[tuple[str, str], Op] = {}
        traits = {}
        for turn in turns:
            if turn.role != "user":
                continue
            traits[turn.id] = _traits(turn.text)
            for op in _read(turn, view):
                address = _address(op)
                # What a chunk says now stands; the end of what was before adds nothing to it.
                if isinstance(op, Delete) and address in ops:
                    continue
                # The newest statement of a chunk wins, except where entries gather.
                ops[address] = _gathered(ops[address], op) if address in ops else op
        return Heard(ops=tuple(ops.values()), traits=traits)


def _read(turn: Turn, view: View) -> Iterator[Op]:
    for sentence in _SENTENCE.split(turn.text[:20_000]):
        correction = bool(_CORRECTION.match(sentence)) and not _CHANGED.search(sentence)
        sentence = _CORRECTION.sub("", sentence).strip()
        if not sentence or len(sentence) > 600 or _UNREAL.search(sentence):
            continue
        if _FORGET.search(sentence):
            continue  # erasing is asked for and confirmed elsewhere, never inferred
        sentence = sentence.rstrip(" .!;,")
        introduced = _GREETING.match(turn.text) and _INTRODUCED.search(sentence)
        if introduced and introduced[1].split()[0].lower() not in NOT_NAMES:
            yield _leaf("Identity.Name", introduced[1], (turn.id,), view, correction)
        yield from _statements(sentence, turn, view, correction)


def _statements(sentence: str, turn: Turn, view: View, correction: bool) -> Iterator[Op]:
    evidence = (turn.id,)
    for rule in _RULES:
        match = rule.pattern.search(sentence)
        if match is None:
            continue
        target, value = rule.make(match)
        if target == "noted":
            value = _clean(match[0].split("remember", 1)[-1].removeprefix(" that"))
        if rule.core or "." in target:
            yield _leaf(target, value, evidence, view, correction)
        else:
            yield from _fact(target, value, evidence, view)
        if target == "noted":
            return
    stopped = ends_something(sentence)
    if stopped:
        yield from endings(sentence, view, evidence)
    elif (match := _DISLIKES.search(sentence)) is not None:
        yield from _preference("dislikes", _clean(match[1]), evidence, view)
    elif (match := _LIKES.search(sentence)) is not None:
        verb = "prefers" if match[1].lower() == "prefer" else "likes"
        yield from _preference(verb, _clean(match[2]), evidence, view)
    if (match := _FAVOURITE.search(sentence)) is not None:
        what = next(group for group in match.groups()[:3] if group)
        yield from _favourite(_clean(what).lower(), _clean(match[4]), evidence, view)
    if (match := _TAKEN_UP.search(sentence)) is not None:
        yield from _preference("likes", _clean(match[1]), evidence, view)
    if (match := _HABIT.search(sentence)) is not None and not stopped:
        done = _clean(match[1] or match[2])
        name = " ".join(done.lower().split()[:4])
        yield Add(kind="habit", target=name, value=_clean(match[0]), evidence=evidence)


def _gathered(earlier: Op, op: Op) -> Op:
    if not (isinstance(earlier, Add | Update) and isinstance(op, Add | Update)):
        return op
    if op.target not in _GATHERING or not earlier.value or not op.value:
        return op
    parts = [*earlier.value.split("; "), *op.value.split("; ")]
    evidence = tuple(dict.fromkeys((*earlier.evidence, *op.evidence)))
    return replace(op, value="; ".join(dict.fromkeys(parts)), evidence=evidence)


def _leaf(path: str, value: str, evidence: tuple[str, ...], view: View, correction: bool) -> Op:
    old = view.leaf(path)
    if old is None:
        return Add(target=path, value=value, evidence=evidence)
    gathers = path in _GATHERING
    if gathers and not correction and value.casefold() not in old.text.casefold():
        value = f"{old.text}; {value}"
    elif gathers and not correction:
        value = old.text
    return Update(target=path, value=value, evidence=evidence, correction=correction)


def _fact(topic: str, value: str, evidence: tuple[str, ...], view: View) -> Iterator[Op]:
    if not any(fact.text.casefold() == value.casefold() for fact in view.facts):
        yield Add(kind="fact", value=value, evidence=evidence, fields={"topic": topic})


def _preference(verb: str, thing: str, evidence: tuple[str, ...], view: View) -> Iterator[Op]:
    if not thing:
        return
    value = f"{verb} {thing}"
    old = _about(thing, view)
    if old is None:
        yield from _fact("preference", value, evidence, view)
    elif old.text.casefold() != value.casefold():
        yield Update(kind="fact", target=old.id, value=value, evidence=evidence)


def _favourite(what: str, thing: str, evidence: tuple[str, ...], view: View) -> Iterator[Op]:
    start = f"favourite {what}: "
    value = f"{start}{thing}"
    old = next((fact for fact in view.facts if fact.text.startswith(start)), None)
    if old is None:
        yield from _fact("preference", value, evidence, view)
    elif old.text != value:
        yield Update(kind="fact", target=old.id, value=value, evidence=evidence)


def _about(thing: str, view: View) -> Fact | None:
    """The live preference about the same thing, whatever it says of it."""
    wanted = key(thing)
    for fact in view.facts:
        verb, _, rest = fact.text.partition(" ")
        preference = fact.topic == "preference" and verb in ("likes", "dislikes", "prefers")
        if preference and wanted and key(rest) == wanted:
            return fact
    return None


def _clean(text: str) -> str:
    text = _TAIL.sub("", text.strip())
    return " ".join(_TIME.sub("", text).split()).strip(" '\"")


def _traits(text: str) -> dict[str, int]:
    """Scores of the cues that occur; a trait with cues both ways, or none, is left out."""
    hits: dict[str, set[int]] = {}
    for (trait, score), cue in _CUES.items():
        if cue.search(text):
            hits.setdefault(trait, set()).add(score)
    return {trait: min(scores) for trait, scores in hits.items() if len(scores) == 1}


def _address(op: Op) -> tuple[str, str]:
    if isinstance(op, Add) and op.kind == "fact":
        return "fact", op.value.casefold()
    assert isinstance(op, Add | Update | Delete)
    return op.kind, op.target
