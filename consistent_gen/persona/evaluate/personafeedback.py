"""PersonaFeedback (arXiv 2506.12915): given a profile, which of two replies suits the user?

Accuracy is told by kind and tier, with the share that was decided, and never as one mean. Beside
every judge stand three arms that must lose: no profile, another user's profile (else the judge
reads only how good a reply is), and a judge of length alone. The better reply is always `chosen` in
the files, so its side is drawn by a seeded coin; the seed is in the note.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from consistent_gen.errors import InputError
from consistent_gen.persona.judging import Choice, OrderSwapped, PairwiseJudge
from consistent_gen.persona.measurement import MeasuredItem, Measurement
from consistent_gen.persona.statistics import measured

# The second folder is spelled so in the published data.
KINDS = {"general": "general", "specific": "spedific"}
TIERS = ("easy", "medium", "hard")
ARMS = ("profile", "no profile", "another's profile")
COLUMNS = ("user_id", "question", "chosen", "reject")
MAX_LINE = 1_000_000  # characters


@dataclass(frozen=True)
class FeedbackCase:
    """One comparison. profile: of the user, as text."""

    user: int
    profile: str
    question: str
    chosen: str
    reject: str
    kind: str
    tier: str


class LengthJudge:
    """Prefers the longer answer: what a judge must beat."""

    name = "length alone"

    def compare(self, context: str, a: str, b: str) -> Choice:
        """See `PairwiseJudge`."""
        p_a = 0.5 if len(a) == len(b) else float(len(a) > len(b))
        return Choice(p_a, 2.0 * abs(p_a - 0.5), calls=0)


def read_cases(folder: str | Path) -> list[FeedbackCase]:
    """Every case of the published folder (`data/`, `persona/all_personas.jsonl`).

    A `user_id` is the 1-based number of a line of the personas' file.

    Raises:
        InputError: a missing file or column, a user without a line, with file and line.
    """
    root = Path(folder)
    listed = _lines(root / "persona" / "all_personas.jsonl")
    profiles = [json.dumps(profile, ensure_ascii=False) for profile in listed]
    found = []
    for kind, place in KINDS.items():
        for tier in TIERS:
            path = root / "data" / place / f"{tier}.jsonl"
            if not path.is_file():
                continue
            for number, row in enumerate(_lines(path), 1):
                missing = [c for c in COLUMNS if c not in row]
                if missing:
                    raise InputError(f"{path}, line {number}: {', '.join(missing)} missing")
                user = int(row["user_id"])
                if not 1 <= user <= len(profiles):
                    raise InputError(f"{path}, line {number}: user {user} of {len(profiles)}")
                question, chosen, reject = (str(row[c]) for c in COLUMNS[1:])
                found.append(
                    FeedbackCase(user, profiles[user - 1], question, chosen, reject, kind, tier)
                )
    if not found:
        raise InputError(f"{root} has no data/general or data/spedific with easy.jsonl and so on")
    return found


def _lines(path: Path) -> list[dict[str, Any]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}") from None
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line) if len(line) <= MAX_LINE else None
        except (json.JSONDecodeError, RecursionError):
            row = None
        if not isinstance(row, dict):
            raise InputError(f"{path}, line {number}: expected one JSON object")
        rows.append(row)
    return rows


def feedback_report(
    cases: Sequence[FeedbackCase], judge: PairwiseJudge, seed: int = 0
) -> list[Measurement]:
    """Accuracy by kind, tier and arm. An abstention is a failure, not half a hit; a tie counts
    one half. The interval is over users, since a judge reads some of them better than others.
    """
    profiles = sorted({case.profile for case in cases})
    turned = dict(zip(profiles, [*profiles[1:], profiles[0]], strict=True))
    contexts = {
        "profile": lambda c: f"Profile: {c.profile}\nQuestion: {c.question}",
        "no profile": lambda c: f"Question: {c.question}",
        "another's profile": lambda c: f"Profile: {turned[c.profile]}\nQuestion: {c.question}",
    }
    found = []
    for kind, tier in sorted({(c.kind, c.tier) for c in cases}):
        part = [c for c in cases if (c.kind, c.tier) == (kind, tier)]
        users = [c.user for c in part]
        for arm in ARMS:
            if arm == "another's profile" and len(profiles) < 2:
                continue
            hits = [_hit(c, contexts[arm](c), judge, f"{seed} {i}") for i, c in enumerate(part)]
            items = [
                MeasuredItem(str(i), h, c.question, c.reject)
                for i, (h, c) in enumerate(zip(hits, part, strict=True))
                if arm == ARMS[0]
            ]
            found.append(
                measured(
                    f"{kind} {tier}, {arm}", hits, groups=users, tools={"judge": judge.name},
                    null=0.5,
                    items=items, note=f"sides drawn by seed {seed}",
                )
            )  # fmt: skip
        length = [_hit(c, "", LengthJudge(), f"{seed} {i}") for i, c in enumerate(part)]
        found.append(measured(f"{kind} {tier}, length alone", length, groups=users, null=0.5))
    return found


def _hit(case: FeedbackCase, context: str, judge: PairwiseJudge, coin: str) -> float:
    first = random.Random(f"side {coin}").random() < 0.5
    a, b = (case.chosen, case.reject) if first else (case.reject, case.chosen)
    choice = judge.compare(context, a, b)
    if choice.abstained:
        return float("nan")
    p = choice.p_a if first else 1.0 - choice.p_a
    return 0.5 if p == 0.5 else float(p > 0.5)


# The truth that the measures are held to --------------------------------------------------------


def recover(seed: int, parameter: float) -> Measurement:
    """The planted accuracy of a judge that reads the profile, some users' better than others', as
    the profile arm finds it.
    """
    rng = random.Random(f"users {seed}")
    reads = [rng.betavariate(10.0 * parameter, 10.0 * (1.0 - parameter)) for _ in range(40)]
    cases = [FeedbackCase(n % 40 + 1, f"user {n % 40}", f"q{n}", f"for user {n % 40} case {n}",
                          f"anything case {n}", "general", "easy") for n in range(240)]  # fmt: skip

    def ask(context: str, first: str, second: str) -> float:
        profile = context.partition("\n")[0].removeprefix("Profile: ")
        case = int(first.rpartition("case ")[2])
        right = random.Random(f"{seed} {case}").random() < reads[case % 40]
        fits = f"for {profile} case" in first
        return float(fits == right)

    report = feedback_report(cases, OrderSwapped("scripted", ask), seed)
    return next(m for m in report if m.name == "general easy, profile")
