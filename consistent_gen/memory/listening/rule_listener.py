"""A listener of patterns: English sentences about oneself, to operations. Needs no model.

It reads user turns only, understands what its patterns say and nothing else, and would rather
miss a fact than invent one. Questions, reported speech and conditionals are passed over.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from consistent_gen.language.words import DIETS, NOT_NAMES, OCCUPATION
from consistent_gen.memory.data.operations import Add, Delete, Op, Update
from consistent_gen.memory.data.records import CoreLeaf, Fact, Turn
from consistent_gen.memory.listening.listener import Heard, KnownState

_SENTENCE = re.compile(r"(?<=[.!?;\n])\s+|\n+")
# What makes a sentence say nothing about how things are with the speaker.
_UNREAL = re.compile(
    r"\?\s*$|^\s*(?:if|imagine|suppose|what if|would)\b"
    r"|\b(?:he|she|they|who)\s+(?:said|says|thinks)\b"
    r"|^\s*[\"\u201c>]|\bI wish\b|\bas if\b",
    re.IGNORECASE,
)
CORRECTION = re.compile(
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
    r"\bgot a (?:new )?job\b|\bquit\b|\bstopped\b",
    re.IGNORECASE,
)
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


# What tells of a leaf of the tree: its path, the value, and the patterns whose groups fill it.
_SAYINGS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("Identity.Name", "{0}", (rf"\bmy name(?:'s| is) {_NAME}", rf"\b(?:please )?call me {_NAME}")),
    (
        "Identity.Age",
        "{0} years old",
        (r"\bI(?:'m| am) (\d{1,3}) years old\b", r"\bI (?:just )?turned (\d{1,3})\b"),
    ),
    ("Identity.Birthday", "{0}", (r"\bmy birthday is (?:on )?(?:the )?(.{3,40})",)),
    (
        "Identity.Home",
        "lives in {0}",
        (
            rf"\bI {_REAL}live in ([^,.!?;]{{2,60}})",
            r"\bI(?:'ve| have)? (?:just |recently )?moved (?:from [^,.!?;]+? )?to ([^,.!?;]{2,60})",
            r"\bI(?:'ve| have)? (?:just |recently |finally |now )?(?:settled(?: down)? in|"
            r"relocated to|unpacked (?:everything |my things )?in) ([^,.!?;]{2,60})",
            r"\bI(?:'m| am) (?:now )?(?:based|living|at home) in ([^,.!?;]{2,60})",
            r"\bmy (?:new )?(?:home|house|flat|apartment|place) is in ([^,.!?;]{2,60})",
        ),
    ),
    (
        "Identity.Home",
        "lives at {1}",
        (r"\b(?:my|our) (?:new )?(?:home )?address is (?:now )?((?:in|at) )?([^.!?;]{2,60})",),
    ),
    ("Identity.Roots", "comes from {0}", (r"\bI (?:grew up|was born) in ([^,.!?;]{2,60})",)),
    ("Identity.Pronouns", "{0}", (r"\bmy pronouns are ([\w/ ]{2,30})",)),
    (
        "Work.Job",
        "works as {0}",
        (
            r"\bI(?:'m| am)? (?:now )?work(?:ing)? as an? ([^,.!?;]{2,60})",
            r"\bI (?:just )?(?:got|started) a (?:new )?job as an? ([^,.!?;]{2,60})",
            r"\bI(?:'ve| have)? (?:just |recently |finally )?(?:been hired|started|"
            r"begun|become|became|trained|qualified|retrained)(?: work| working)?(?: as)? "
            rf"an? ({OCCUPATION})\b",
            rf"\bI(?:'m| am) (?:now |still )?an? ({OCCUPATION})\b",
            rf"(?:^|\bmy )first (?:day|week|month|year) as an? ({OCCUPATION})\b",
            r"\bmy (?:new )?job is (?:being |as )?an? ([^,.!?;]{2,60})",
            r"\bI (?:earn|make) my (?:living|bread|money) as an? ([^,.!?;]{2,60})",
        ),
    ),
    ("Work.Education", "studies {0}", (r"\bI (?:study|studied) ([^,.!?;]{2,60})",)),
    ("Body.Health", "allergic to {0}", (r"\bI(?:'m| am) allergic to ([^.!?;]{2,60})",)),
    (
        "Body.Diet",
        "{0}",
        (
            rf"\bI(?:'m| am) (?:a |an )?(?:now )?({DIETS})\b",
            rf"\bI (?:(?:have|need|want|ought) to|should|must|will) (?:eat|be|go) ({DIETS})\b",
            rf"\bI(?:'ve| have)? (?:just |recently |finally )?(?:gone|went|become|became|turned|"
            rf"been) (?:a |an |fully )?({DIETS})\b",
            r"\bmy diet is (?:now )?(?:strictly )?([^,.!?;]{3,40})",
        ),
    ),
    ("Body.Diet", "does not eat {0}", (r"\bI (?:don't|do not) eat ([^,.!?;]{2,40})",)),
    (
        "kin",  # which leaf or topic it is, the word for the relative decides
        "",
        (rf"\bmy ({_KIN})(?:'s name is| is (?:called|named)) {_NAME}",),
    ),
    (
        "People.Pets",
        "{1} (a {0})",
        (
            rf"\b(?:my|our) ({_PETS})(?:'s name is| is (?:called|named)) {_NAME}",
            rf"\b(?:I|we)(?:'ve| have)? (?:just |recently )?(?:adopted|rescued|got|"
            rf"brought(?: home| back)?) an? (?:[a-z]+ )?({_PETS}) (?:called|named) {_NAME}",
            rf"\bI (?:live|share my (?:flat|home|house)) with (?:my |a |an )(?:[a-z]+ )?({_PETS}) "
            rf"(?:called |named )?{_NAME}",
        ),
    ),
    (
        "Life.Goals",
        "wants to {0}",
        (
            r"\bmy (?:big |main |new |next )?(?:goal|dream|aim|ambition|plan)(?: this year)? is to "
            r"([^.!?;]{3,120})",
            r"\bI(?:'ve| have)? (?:decided|resolved|set my mind) (?:to|on) ([^.!?;]{3,120})",
        ),
    ),
    ("noted", "", (r"\b(?:please )?remember (?:that )?(?:my |I )?(.{4,200})",)),
)
_RULES = tuple(
    (target, text, re.compile(pattern, re.IGNORECASE))
    for target, text, patterns in _SAYINGS
    for pattern in patterns
)
_PARTNERS = ("wife", "husband", "partner", "girlfriend", "boyfriend")

_LIKES = re.compile(
    rf"\bI {_REAL}(love|like|enjoy|adore|prefer)(?:ed)? "
    r"(?!it\b|that\b|this\b|most\b|best\b|to think)([^.!?;]{2,120})",
    re.IGNORECASE,
)
_FAVOURITE = re.compile(
    r"\b(?:my favou?rite ([\w ]{2,30}?)"
    r"|the ([\w ]{2,30}?) I (?:love|like|enjoy) (?:the )?(?:most|best)"
    r"|my (?:main |new |biggest |greatest )(hobby|passion|pastime|interest))"
    r" (?:is|are|has become) (?:now )?([^.!?;]{2,80})",
    re.IGNORECASE,
)
_TAKEN_UP = re.compile(
    r"\bI(?:'ve| have)? (?:just |recently |finally )?(?:taken up|took up|got into|gotten into|"
    r"fallen in love with|joined an? (?:club|class|group) for|signed up for|discovered) "
    r"(?!it\b|that\b|this\b|you\b|him\b|her\b)([^.!?;]{2,80})",
    re.IGNORECASE,
)
_DISLIKES = re.compile(
    rf"\bI {_REAL}(?:hate|dislike|detest|can'?t stand|cannot stand|don'?t {_REAL}(?:like|enjoy)"
    r"|do not (?:like|enjoy)) (?!it\b|that\b|this\b|when\b)([^.!?;]{2,120})",
    re.IGNORECASE,
)
_HABIT = re.compile(
    r"\b(?:every (?:morning|day|evening|night|weekend|monday|tuesday|wednesday|thursday|friday|"
    r"saturday|sunday)\b,? I ([^.!?;]{3,100})"
    r"|I (?:usually|always|often) ([^.!?;]{3,100}))",
    re.IGNORECASE,
)
_STOPPED = re.compile(
    r"\bI(?:'m| am|\u2019m)? (?:no longer|don'?t|do not|not|stopped|quit|gave up) (?:really )?"
    r"(?:like|liking|love|loving|enjoy|enjoying|prefer|preferring)? ?([^.!?;]{2,120}?)"
    r"(?: any ?more\b| at all\b|$)",
    re.IGNORECASE,
)
_CUE = re.compile(r"\bno longer\b|\bany ?more\b|\bstopped\b|\bquit\b|\bgave up\b", re.I)
_OVER = re.compile(
    r"(?:^|[,:] )([\w' -]{2,60}?) (?:is|are) (?:all |finally |now )*(?:over|history|behind me)\b"
    r"|\bI(?:'m| am|\u2019m) (?:done|finished|through) with ([^,.!?;]{2,60})",
    re.IGNORECASE,
)
_BETWEEN = re.compile(r"\s*(?:;|,| and | or )\s*")
# Words of our own values and of endings that do not name what is meant.
_FRAMING = """
the a an to my our some in as at of for i am i'm live lives living work works working like likes
love loves dislikes prefer prefers want wants being now really
"""
_FRAME = frozenset(_FRAMING.split())
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

    def __init__(self) -> None:
        self.description = (
            "rule listener: English patterns, no model; it misses what they do not cover"
        )

    def listen(self, turns: Sequence[Turn], view: KnownState) -> Heard:
        """Operations and trait scores of the user turns; other turns are not read."""
        ops: dict[tuple[str, str], Op] = {}
        traits = {}
        for turn in turns:
            if turn.role != "user":
                continue
            traits[turn.id] = traits_of(turn.text)
            for op in _read(turn, view):
                key = address(op)
                # What a chunk says now stands; the end of what was before adds nothing to it.
                if isinstance(op, Delete) and key in ops:
                    continue
                # The newest statement of a chunk wins, except where entries gather.
                ops[key] = gathered(ops[key], op) if key in ops else op
        return Heard(ops=tuple(ops.values()), traits=traits)


def _read(turn: Turn, view: KnownState) -> Iterator[Op]:
    for sentence in _SENTENCE.split(turn.text[:20_000]):
        correction = bool(CORRECTION.match(sentence)) and not _CHANGED.search(sentence)
        sentence = CORRECTION.sub("", sentence).strip()
        if not sentence or len(sentence) > 600 or _UNREAL.search(sentence):
            continue
        if _FORGET.search(sentence):
            continue  # erasing is asked for and confirmed elsewhere, never inferred
        sentence = sentence.rstrip(" .!;,")
        introduced = _GREETING.match(turn.text) and _INTRODUCED.search(sentence)
        if introduced and introduced[1].split()[0].lower() not in NOT_NAMES:
            yield _leaf("Identity.Name", introduced[1], (turn.id,), view, correction)
        yield from statements(sentence, turn, view, correction)


def statements(sentence: str, turn: Turn, view: KnownState, correction: bool) -> Iterator[Op]:
    evidence = (turn.id,)
    for target, text, pattern in _RULES:
        match = pattern.search(sentence)
        if match is None:
            continue
        value = text.format(*(_clean(group or "") for group in match.groups()))
        if target == "kin":
            who = match[1].lower()
            target = "People.Partner" if who in _PARTNERS else "relation"
            value = f"{_clean(match[2])} ({who})"
        elif target == "noted":
            value = _clean(match[0].split("remember", 1)[-1].removeprefix(" that"))
        if "." in target:
            yield _leaf(target, value, evidence, view, correction)
        else:
            yield from _fact(target, value, evidence, view)
        if target == "noted":
            return
    stopped = bool(_things(sentence))
    if stopped:
        yield from _endings(sentence, view, evidence)
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


def gathered(earlier: Op, op: Op) -> Op:
    if not (isinstance(earlier, Add | Update) and isinstance(op, Add | Update)):
        return op
    if op.target not in _GATHERING or not earlier.value or not op.value:
        return op
    parts = [*earlier.value.split("; "), *op.value.split("; ")]
    evidence = tuple(dict.fromkeys((*earlier.evidence, *op.evidence)))
    return replace(op, value="; ".join(dict.fromkeys(parts)), evidence=evidence)


def _leaf(
    path: str, value: str, evidence: tuple[str, ...], view: KnownState, correction: bool
) -> Op:
    old = view.leaf(path)
    if old is None:
        return Add(target=path, value=value, evidence=evidence)
    gathers = path in _GATHERING
    if gathers and not correction and value.casefold() not in old.text.casefold():
        value = f"{old.text}; {value}"
    elif gathers and not correction:
        value = old.text
    return Update(target=path, value=value, evidence=evidence, correction=correction)


def _fact(topic: str, value: str, evidence: tuple[str, ...], view: KnownState) -> Iterator[Op]:
    if not any(fact.text.casefold() == value.casefold() for fact in view.facts):
        yield Add(kind="fact", value=value, evidence=evidence, fields={"topic": topic})


def _preference(verb: str, thing: str, evidence: tuple[str, ...], view: KnownState) -> Iterator[Op]:
    if not thing:
        return
    value = f"{verb} {thing}"
    old = _about(thing, view)
    if old is None:
        yield from _fact("preference", value, evidence, view)
    elif old.text.casefold() != value.casefold():
        yield Update(kind="fact", target=old.id, value=value, evidence=evidence)


def _favourite(what: str, thing: str, evidence: tuple[str, ...], view: KnownState) -> Iterator[Op]:
    start = f"favourite {what}: "
    value = f"{start}{thing}"
    old = next((fact for fact in view.facts if fact.text.startswith(start)), None)
    if old is None:
        yield from _fact("preference", value, evidence, view)
    elif old.text != value:
        yield Update(kind="fact", target=old.id, value=value, evidence=evidence)


def _about(thing: str, view: KnownState) -> Fact | None:
    """The live preference about the same thing, whatever it says of it."""
    wanted = _key(thing)
    for fact in view.facts:
        verb, _, rest = fact.text.partition(" ")
        preference = fact.topic == "preference" and verb in ("likes", "dislikes", "prefers")
        if preference and wanted and _key(rest) == wanted:
            return fact
    return None


def _clean(text: str) -> str:
    text = _TAIL.sub("", text.strip())
    return " ".join(_TIME.sub("", text).split()).strip(" '\"")


def traits_of(text: str) -> dict[str, int]:
    """Scores of the cues that occur; a trait with cues both ways, or none, is left out."""
    hits: dict[str, set[int]] = {}
    for (trait, score), cue in _CUES.items():
        if cue.search(text):
            hits.setdefault(trait, set()).add(score)
    return {trait: min(scores) for trait, scores in hits.items() if len(scores) == 1}


def address(op: Op) -> tuple[str, str]:
    if isinstance(op, Add) and op.kind == "fact":
        return "fact", op.value.casefold()
    assert isinstance(op, Add | Update | Delete)
    return op.kind, op.target


# --- what a sentence says is over -----------------------------------------------------------------
# "I no longer like tea", "Oslo is over", "I'm not vegan anymore". An ending names something that is
# remembered; what it does not name stays. Of a state with several entries ("hiking and black
# coffee") only the entry that is named goes.


@dataclass(frozen=True)
class _Named:
    """The entry of a state that an ending names, and what is left of the state without it."""

    state: CoreLeaf | Fact
    rest: str


def _endings(sentence: str, view: KnownState, evidence: tuple[str, ...]) -> Iterator[Op]:
    """The ends of what ``sentence`` says is over and the view holds."""
    for thing in _things(sentence):
        named = _find(thing, (*view.facts, *view.core))
        if named is None:
            continue
        state = named.state
        target = state.path if isinstance(state, CoreLeaf) else state.id
        kind = state.kind
        if named.rest:
            yield Update(kind=kind, target=target, value=named.rest, evidence=evidence)
        else:
            yield Delete(kind=kind, target=target, evidence=evidence)


def _key(thing: str) -> tuple[str, ...]:
    """The words that name a thing, without those that only frame it."""
    return tuple(w for w in re.findall(r"[\w'-]+", thing.casefold()) if w not in _FRAME)


def _things(sentence: str) -> list[str]:
    found = []
    if _CUE.search(sentence) and (match := _STOPPED.search(sentence)):
        found.append(match[1])
    if match := _OVER.search(sentence):
        found.append(match[1] or match[2])
    return found


def _find(thing: str, states: Sequence[CoreLeaf | Fact]) -> _Named | None:
    wanted = _key(thing)
    for state in states if wanted else ():
        head, entries = _entries(state)
        named = [entry for entry in entries if _key(entry)[-len(wanted) :] == wanted]
        if named:
            left = [entry for entry in entries if entry not in named]
            joined = ("; " if isinstance(state, CoreLeaf) else " and ").join(left)
            return _Named(state, f"{head}{joined}" if left else "")
    return None


def _entries(state: CoreLeaf | Fact) -> tuple[str, list[str]]:
    """The words before the entries of a state, and the entries; of a preference, what is liked."""
    if isinstance(state, CoreLeaf):
        return "", state.text.split("; ")
    if state.topic != "preference":
        return "", [state.text]
    head, colon, rest = state.text.partition(": ")
    if colon:
        return f"{head}: ", [rest]
    verb, _, rest = state.text.partition(" ")
    return f"{verb} ", [entry for entry in _BETWEEN.split(rest) if entry]
