"""Which found turns stand back: near repeats, what holds no longer, what speaks as the system.

People say again what has changed ("I live in Oslo now", "I live in Turin now") and repeat small
talk word for word. Without this, one sentence said ten times fills ten places of an answer, and an
old value stands before the one that replaced it. Nothing is left out: it only moves back.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from consistent_gen.memory.screening import forged
from consistent_gen.memory.store import Hit

# What a turn is worth that told only what has ended since, or that speaks as "the system".
OUTDATED, FORGED = 0.4, 0.4
# Share of the shorter turn's words that must stand in the other one too.
ALIKE = 0.75
# Shorter turns share most of their words by chance.
_LEAST_WORDS = 4
# What each further turn of a group is worth, relative to the place it was found at.
FADING = 0.6
# How many of the best turns are compared with each other; the rest is far from any answer.
_COMPARED = 40
_SCREENED = 12
_CHARACTERS = 600
_WORD = re.compile(r"\w+")


def newest_first(scores: dict[str, float], hits: Sequence[Hit]) -> tuple[str, ...]:
    """Let the newest turn of each group of near repeats take the group's best score; the others
    share what is left, ever less. Returns the ids that went back. Changes ``scores``.
    """
    turns = sorted((h for h in hits if h.kind == "turn"), key=lambda h: (-scores[h.id], h.id))
    behind: list[str] = []
    for group in _groups(turns[:_COMPARED]):
        places = sorted((scores[hit.id] for hit in group), reverse=True)
        newest = sorted(group, key=lambda hit: (hit.at, hit.id), reverse=True)
        for number, (hit, score) in enumerate(zip(newest, places, strict=True)):
            scores[hit.id] = score * FADING**number
        behind += [hit.id for hit in newest[1:]]
    return tuple(behind)


def set_back(scores: dict[str, float], outdated: Collection[str]) -> None:
    """Weaken turns that told only what holds no longer. Changes ``scores``."""
    for id in outdated:
        scores[id] *= OUTDATED


def set_back_forged(scores: dict[str, float], hits: Sequence[Hit]) -> tuple[str, ...]:
    """Weaken the best turns of others that read like a forged instruction; their ids."""
    others = [h for h in hits if h.kind == "turn" and h.origin in ("document", "assistant")]
    best = sorted(others, key=lambda hit: -scores[hit.id])[:_SCREENED]
    found = tuple(hit.id for hit in best if forged(hit.text[:_CHARACTERS]))
    for id in found:
        scores[id] *= FORGED
    return found


def _groups(turns: Sequence[Hit]) -> list[list[Hit]]:
    """Each turn joins the first group whose best turn it repeats, else begins one."""
    groups: list[tuple[frozenset[str], list[Hit]]] = []
    for hit in turns:
        words = frozenset(_WORD.findall(hit.text[:_CHARACTERS].casefold()))
        for leading, group in groups:
            if group[0].origin == hit.origin and alike(words, leading):
                group.append(hit)
                break
        else:
            groups.append((words, [hit]))
    return [group for _, group in groups if len(group) > 1]


def alike(one: frozenset[str], other: frozenset[str]) -> bool:
    """Whether the smaller set of words stands nearly whole in the larger one."""
    least = min(len(one), len(other))
    return least >= _LEAST_WORDS and len(one & other) >= ALIKE * least
