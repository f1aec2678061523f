"""What a sentence says is over: "I no longer like tea", "Oslo is over", "I'm not vegan anymore".

An ending names something that is remembered; what it does not name stays. Of a state with several
entries ("hiking and black coffee") only the entry that is named goes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from consistent_gen.memory.listener import View
from consistent_gen.memory.operations import Delete, Op, Update
from consistent_gen.memory.records import CoreLeaf, Fact

_STOPPED = re.compile(
    r"\bI(?:'m| am|\u2019m)? (?:no longer|don'?t|do not|not|stopped|quit|gave up) (?:really )?"
    r"(?:like|liking|love|loving|enjoy|enjoying|prefer|preferring)? ?([^.!?;]{2,120}?)"
    r"(?: any ?more\b| at all\b|$)", re.I,
)  # fmt: skip
_CUE = re.compile(r"\bno longer\b|\bany ?more\b|\bstopped\b|\bquit\b|\bgave up\b", re.I)
_OVER = re.compile(
    r"(?:^|[,:] )([\w' -]{2,60}?) (?:is|are) (?:all |finally |now )*(?:over|history|behind me)\b"
    r"|\bI(?:'m| am|\u2019m) (?:done|finished|through) with ([^,.!?;]{2,60})", re.I,
)  # fmt: skip
_BETWEEN = re.compile(r"\s*(?:;|,| and | or )\s*")
# Words of our own values and of endings that do not name what is meant.
_FRAMING = """
the a an to my our some in as at of for i am i'm live lives living work works working like likes
love loves dislikes prefer prefers want wants being now really
"""
_FRAME = frozenset(_FRAMING.split())


@dataclass(frozen=True)
class _Named:
    """The entry of a state that an ending names, and what is left of the state without it."""

    state: CoreLeaf | Fact
    rest: str


def endings(sentence: str, view: View, evidence: tuple[str, ...]) -> Iterator[Op]:
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


def ends_something(sentence: str) -> bool:
    """Whether the sentence speaks of an end at all, known or not."""
    return bool(_things(sentence))


def key(thing: str) -> tuple[str, ...]:
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
    wanted = key(thing)
    for state in states if wanted else ():
        head, entries = _entries(state)
        named = [entry for entry in entries if key(entry)[-len(wanted) :] == wanted]
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
