"""Do replies agree with a profile, and with what was said before? The two consistencies that LMEDR
(arXiv 2301.04871) trains for, as measures.

C-score of a reply: the SUM over the profile's statements of the entailment label (+1, 0, -1), as in
PAML, which LMEDR reports; the mean over replies. Discourse consistency has no published formula;
ours is the mean of 1, 0.5 and 0 for a reply that follows from, ignores or contradicts the turn
before, and the share of replies that contradict one of the speaker's own last five turns.
PersoBench has another C-score (`persobench`): both keep their names.

How many replies contradict a profile says little alone: somebody else's profile is mostly about
other things, and what is not spoken to cannot be contradicted. So the share of contradictions among
statements that a reply speaks to (follows from or contradicts) stands beside it, which is ours.
"""

from __future__ import annotations

import ast
import csv
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from consistent_gen.errors import InputError
from consistent_gen.persona.evaluate.faithfulness import TruthTable, said_or_denied
from consistent_gen.persona.evaluate.pair_scorer import tools
from consistent_gen.persona.judging import PairScorer
from consistent_gen.persona.measurement import MeasuredItem, Measurement
from consistent_gen.persona.statistics import measured
from consistent_gen.persona.transcript import Transcript

OWN_TURNS = 5
COLUMNS = ["persona", "query", "response"]


@dataclass(frozen=True)
class Reply:
    """One reply, the turn that it answers, and the statements it should respect."""

    persona: tuple[str, ...]
    query: str
    response: str


def read_generations(path: str | Path) -> list[Reply]:
    """Replies of a table as LMEDR released its generations: tab-separated, `persona` a list as
    Python writes it.

    Raises:
        InputError: other columns, or a persona that is no list, by line.
    """
    with Path(path).open(encoding="utf-8", newline="") as stream:
        rows = csv.reader(stream, delimiter="\t")
        head = next(rows, [])
        if head != COLUMNS:
            raise InputError(f"{path} has the columns {head}; expected {COLUMNS}")
        found = []
        for number, row in enumerate(rows, 2):
            try:
                persona = ast.literal_eval(row[0])
                statements = tuple(str(s).strip() for s in persona)
                found.append(Reply(statements, row[1].strip(), row[2].strip()))
            except (ValueError, SyntaxError, IndexError, TypeError, MemoryError, RecursionError):
                raise InputError(
                    f"{path}, line {number}: expected a list of sentences, a query and a response"
                ) from None
    return found


def c_scores(replies: Sequence[Reply], scorer: PairScorer) -> list[Measurement]:
    """C-score, the share of replies that contradict a statement, and the share of contradictions
    among the statements that a reply speaks to. An empty reply is a failure.
    """
    usable = [r for r in replies if r.response and r.persona]
    pairs = [(s, r.response) for r in usable for s in r.persona]
    labels = iter([nli.label for nli in scorer.nli(pairs)])
    by_reply = [[next(labels) for _ in r.persona] for r in usable]
    failed = len(replies) - len(usable)
    items = []
    for number, (reply, found) in enumerate(zip(usable, by_reply, strict=True)):
        against = [s for s, label in zip(reply.persona, found, strict=True) if label < 0]
        why = f"contradicts {against[0]!r}" if against else ""
        items.append(MeasuredItem(str(number), float(sum(found)), reply.query, reply.response, why))
    told = tools(scorer)
    spoken = [[label for label in row if label] for row in by_reply]
    shares = [row.count(-1) / len(row) for row in spoken if row]
    return [
        measured("C-score (sum over statements)", [float(sum(row)) for row in by_reply],
                 failed=failed, tools=told, items=items, null=0.0),
        measured("replies that contradict the profile", [float(min(row) < 0) for row in by_reply],
                 direction="lower", failed=failed, tools=told),
        measured("contradictions among statements spoken to", shares, direction="lower",
                 tools=told, note=f"ours; {len(spoken) - len(shares)} replies speak to none"),
    ]  # fmt: skip


def shuffled(replies: Sequence[Reply], seed: int = 0) -> list[Reply]:
    """The replies with somebody else's profile each: what a profile-blind measure cannot tell."""
    profiles = sorted({r.persona for r in replies})
    if len(profiles) < 2:
        raise InputError("there is one profile only; nobody else's can take its place")
    order = profiles[:]
    random.Random(f"profiles {seed}").shuffle(order)
    turned = dict(zip(order, [*order[1:], order[0]], strict=True))
    return [replace(r, persona=turned[r.persona]) for r in replies]


def discourse(transcripts: Sequence[Transcript], scorer: PairScorer) -> list[Measurement]:
    """Consistency with the turn before, and with the speaker's own last five turns (ours). The
    intervals are over dialogues, since turns of one dialogue are not independent.
    """
    before: list[tuple[str, str]] = []
    dialogue_of: list[int] = []
    own: list[tuple[str, str]] = []
    starts: list[tuple[int, int, str]] = []
    own_of: list[int] = []
    for number, transcript in enumerate(transcripts):
        for i, turn in enumerate(transcript.turns):
            if i:
                before.append((transcript.turns[i - 1].text, turn.text))
                dialogue_of.append(number)
            mine = [t.text for t in transcript.turns[:i] if t.speaker == turn.speaker][-OWN_TURNS:]
            if mine:
                starts.append((len(own), len(mine), f"{number}:{i}"))
                own_of.append(number)
                own += [(said, turn.text) for said in mine]
    follows = [(1.0 + nli.label) / 2.0 for nli in scorer.nli(before)]
    labels = [nli.label for nli in scorer.nli(own)]
    broken = [float(min(labels[start : start + n]) < 0) for start, n, _ in starts]
    items = [
        MeasuredItem(
            name, value, own[start][0], own[start][1], "against an own turn" if value else ""
        )
        for (start, _, name), value in zip(starts, broken, strict=True)
    ]
    told = tools(scorer)
    return [
        measured("agrees with the turn before", follows, groups=dialogue_of, tools=told, null=0.5,
                 note="ours: no formula is published"),
        measured("contradicts own last five turns", broken, groups=own_of, direction="lower",
                 tools=told, items=items, note="ours: no formula is published"),
    ]  # fmt: skip


def recall(replies: Sequence[Reply], scorer: PairScorer) -> Measurement:
    """Of replies that are known to contradict their profile, the share that is found; the null is
    the same share of the same replies under somebody else's profile.
    """
    found = c_scores(replies, scorer)[1]
    blind = c_scores(shuffled(replies), scorer)[1]
    return replace(found, name="recall of contradictions", direction="higher", null=blind.value)


# The truth that the measures are held to --------------------------------------------------------


def planted(seed: int, share: float, count: int = 200) -> list[Reply]:
    """Replies of which a share denies a statement of the profile; the others repeat it."""
    rng = random.Random(f"planted {seed}")
    statements = [f"I own boat number {n}." for n in range(count)]
    return [Reply((s,), "And you?", said_or_denied(s, rng.random() < share)) for s in statements]


def recover_contradictions(seed: int, parameter: float) -> Measurement:
    """The planted share of contradicting replies."""
    return c_scores(planted(seed, parameter), TruthTable())[1]


def recover_c_score(seed: int, parameter: float) -> Measurement:
    """The planted C-score of replies to one statement each; at 0 as many deny as repeat."""
    return c_scores(planted(seed, (1.0 - parameter) / 2.0), TruthTable())[0]


def planted_talks(seed: int, share: float, uneven: float) -> list[Transcript]:
    """Forty dialogues of one speaker with themselves: each turn denies with this probability what
    the turn before said. uneven: how far dialogues differ in it (0 not at all, 1 all or nothing).
    """
    rng = random.Random(f"talks {seed}")
    talks = []
    for number in range(40):
        own, denied, talk = share, False, Transcript(("a", "b"))
        if 0.0 < share < 1.0 and uneven > 0.0:
            size = 1.0 / uneven - 1.0
            own = rng.betavariate(share * size, (1.0 - share) * size)
        for turn in range(9):
            denied ^= turn > 0 and rng.random() < own
            statement = f"I own boat number {number}."
            talk = talk.said("ab"[turn % 2], said_or_denied(statement, denied))
        talks.append(talk)
    return talks


def recover_turns(seed: int, parameter: float) -> Measurement:
    """How often a turn agrees with the one before, of dialogues that differ in it."""
    return discourse(planted_talks(seed, 1.0 - parameter, uneven=0.2), TruthTable())[0]
