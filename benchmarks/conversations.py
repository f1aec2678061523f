"""What an assistant keeps of natural conversations, and what it answers afterwards.

    python -m benchmarks.conversations FOLDER [--model qwen] [--listener rules] [--replies FILE]
        [--out FILE.json] [--show]

FOLDER holds YAML files: ``turns`` (n, at, text), ``facts`` (about, fact, perhaps value, ``from``
turns, ``ended`` with ``ended_turn``), ``traps`` (turn, clause) and ``questions`` (q, answer, also,
stale, unknown). The turns go through `Assistant.say` with the listener and the answerer, then the
questions, on the day after the last turn. With ``--replies`` what a model said is kept in a file
and not asked again, so that judging anew costs nothing.

All judging is by words, so a figure is what it says and no more. Words are lower-cased and cut to
five letters; words without meaning are left out; dates are compared as day and month. In answers
ordinals and times of day are digits, too ("half past six" is 6.30, "the thirtieth" 30).

- kept: a gold fact that still holds at the end counts as kept when one live record (leaf, fact,
  habit), or two together that share its ``about`` or come from its turns, hold at least half of its
  content words. Episodes and turns do not count.
- stale: a gold fact that ended counts as stale when a live record that rests only on turns before
  the end holds at least 60 % of its words and shares no more of them with a fact that still holds.
- trap stored: a live record from the trap's turn holds at least 75 % of the words of its clause
  and is not the record of a gold fact of that turn. A leaf of the tree, which speaks of the user,
  is excused by facts about the user alone.
- precision: of the live records, the share that is neither a stored trap nor unsupported (less
  than half of its words in the turns that it names or in any gold fact).
- questions: right when the answer holds the expected words of one variant (and, where it quotes a
  stale one too, holds the right one first); stale when it holds a stale variant instead; don't know
  when it says so; wrong otherwise. Where yes or no is expected, an answer that begins with one of
  them is judged by that. For what was never said only "don't know" is right. What an answer says
  is judged, not the sentence that it quotes after it; only where it says a part of the expected
  words and nothing else may that sentence have the rest. A quotation without more is the answer.
"""

from __future__ import annotations

import argparse
import calendar
import json
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from consistent_gen.language.embedders import default_embedder
from consistent_gen.language.models import LanguageModel, Replay
from consistent_gen.language.words import COUNTED, ORDINALS, STOP_WORDS, word_set
from consistent_gen.memory import open_memory
from consistent_gen.memory.data.records import CoreLeaf, Kind, Record, Turn
from consistent_gen.memory.data.store import Store
from consistent_gen.memory.listening.listener import Heard, KnownState, Listener
from consistent_gen.memory.listening.rule_listener import RuleListener
from consistent_gen.memory.talk import ANSWERERS
from consistent_gen.memory.talk.assistant import Assistant
from consistent_gen.memory.talk.replies import NO_ANSWER, NO_QUESTION, NOTHING_KNOWN
from consistent_gen.memory.talk.rule_model import RuleModel
from consistent_gen.registry import resolve

MODELS = ("rules", "qwen", "qwen-small")
VERDICTS = ("right", "stale", "wrong", "unknown")
KEPT, STALE, TRAPPED, SUPPORTED = 0.5, 0.6, 0.75, 0.5
_WORD = re.compile(r"[^\W_]+")
# Words of gold sentences that name no content of their own.
_FRAME = word_set("user users called name named years year old day since about one also")
_NUMBERS = {word: str(number) for word, number in COUNTED.items()}
_ORDINAL_WORDS = {word: str(number) for word, number in ORDINALS.items()}
_ORDINAL_WORD = re.compile(rf"\b(?:{'|'.join(sorted(_ORDINAL_WORDS, key=len, reverse=True))})\b")
_HOUR = rf"(?P<hour>\d{{1,2}}|{'|'.join([*COUNTED][1:13])})"
_CLOCK = re.compile(rf"\b(?P<part>half past|half|quarter past|quarter to) {_HOUR}\b")
_UNIT = re.compile(r"(?<=\d) ?(?:(?P<half>[ap]\.?m)|(?P<unit>mg|kg|g|ml|k))\b")
# Where an answer goes on to what it rests on: "you said on 2026-02-03: ...", "[id]".
_SOURCE = re.compile(
    r"[\s(:]*\b(?:from memory, )?(?:you said on|noted on|your document of) \d{4}-\d\d-\d\d"
    r"(?: says)?:?",
    re.IGNORECASE,
)
_ID = re.compile(r"\)?\s*\[[\w:-]+\]\s*$")
_POLE = re.compile(r"\W*(yes|no)\b", re.IGNORECASE)
_MONTHS = frozenset(name.casefold()[:5] for name in calendar.month_name[1:])
_WEEKDAYS = frozenset(name[:5].rstrip("s") for name in map(str.casefold, calendar.day_name))
_ISO = re.compile(r"\b(\d{4})-(\d\d)(?:-(\d\d))?\b")
_NAMES = [n.casefold() for n in (*calendar.day_name, *calendar.month_name[1:])]
_SHORT = {name[:3]: name for name in _NAMES}
# What people write for days and months; "mar", "sun" and "sat" are taken for these, too.
_CALENDAR = (
    {name[:n] for name in _NAMES for n in (3, 4, 5, len(name))}
    | {f"{name}s" for name in _NAMES}
    | {"weds"}
)
_ORDINAL = re.compile(r"^(\d+)(?:st|nd|rd|th)$")


@dataclass
class Hearing:
    """Counts of one conversation; ``missed``, ``wrongs`` and the like are for reading."""

    name: str
    facts: int = 0
    kept: int = 0
    ended: int = 0
    stale: int = 0
    records: int = 0
    unsupported: int = 0
    traps: int = 0
    trapped: int = 0
    questions: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    answering: list[float] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class Timed:
    """A listener with a stopwatch."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self.description = listener.description
        self.seconds: list[float] = []

    def listen(self, turns: Sequence[Turn], view: KnownState) -> Heard:
        start = time.perf_counter()
        heard = self._listener.listen(turns, view)
        self.seconds.append(time.perf_counter() - start)
        return heard


def stems(text: str) -> frozenset[str]:
    """The content words of a text, cut to five letters; numbers as digits."""
    found = set()
    text = _ISO.sub(_spoken, text.casefold().replace("\u2019", "'").replace("'s ", " "))
    for word in _WORD.findall(text):
        word = _SHORT.get(word[:3], word) if word in _CALENDAR else word
        word = _NUMBERS.get(word, word)
        word = _ORDINAL.sub(r"\1", word)
        if word in STOP_WORDS or word in _FRAME or (len(word) < 2 and not word.isdigit()):
            continue
        found.add(word if word.isdigit() else word[:5].rstrip("s"))
    return frozenset(found)


def _spoken(match: re.Match[str]) -> str:
    """A date in digits with the words that people say for it."""
    try:
        day = date(int(match[1]), int(match[2]), int(match[3] or 1))
    except ValueError:
        return match[0]
    return f"{match[1]} {day:%B}".casefold() + (
        f" {day.day} {day:%A}".casefold() if match[3] else ""
    )


def plainly(text: str) -> str:
    """Lower case, with ordinals, times of day, units and thousands in one way of writing."""
    text = text.casefold().replace("\u2019", "'")
    text = re.sub(r"(?<=\d),(?=\d{3}\b)", "", text)
    text = _ORDINAL_WORD.sub(lambda match: _ORDINAL_WORDS[match[0]], text)
    return _UNIT.sub(lambda m: f" {m['unit'] or ''}", _CLOCK.sub(_digital, text))


def _digital(match: re.Match[str]) -> str:
    """A spoken time of day in digits."""
    hour = int(_NUMBERS.get(match["hour"], match["hour"]))
    if match["part"] == "quarter to":
        return f"{(hour - 2) % 12 + 1} 45"
    return f"{hour} {'15' if match['part'] == 'quarter past' else '30'}"


def covered(wanted: frozenset[str], *texts: frozenset[str]) -> float:
    """The share of the wanted words that the texts hold together; 0 where none are wanted."""
    return len(wanted & frozenset().union(*texts)) / len(wanted) if wanted else 0.0


def run(
    path: Path, listener: Listener, folder: Path, embedder: Any, model: LanguageModel
) -> Hearing:
    """One conversation through the assistant, and its judgement."""
    told = yaml.safe_load(path.read_text(encoding="utf-8"))
    result = Hearing(path.stem)
    timed = Timed(listener)
    with open_memory(folder, path.stem) as store:
        assistant = Assistant(
            store, model=model, listener=timed, text_embedder=embedder,
            once=not isinstance(model, RuleModel),
        )  # fmt: skip
        numbers: dict[str, int] = {}
        at = datetime.now(UTC)
        for turn in told["turns"]:
            at = datetime.fromisoformat(turn["at"]).replace(tzinfo=UTC)
            before = {t.id for t in store.list("turn", limit=4, newest_first=True)}
            assistant.say(turn["text"], at=at)
            for stored in store.list("turn", limit=4, newest_first=True):
                if stored.id not in before and isinstance(stored, Turn) and stored.role == "user":
                    numbers[stored.id] = turn["n"]
        judge_records(told, live(store), numbers, result)
        result.seconds = timed.seconds[:]
        for asked in told["questions"]:
            start = time.perf_counter()
            answer = assistant.say(asked["q"], at=at + timedelta(days=1)).text
            result.answering.append(time.perf_counter() - start)
            verdict = judged(asked, answer)
            result.questions[verdict] += 1
            if verdict != "right":
                result.notes.append(f"{verdict}: {asked['q']} -> {answer[:300]}")
    return result


def live(store: Store) -> list[Record]:
    """The states that hold now."""
    states: tuple[Kind, ...] = ("core", "fact", "habit")
    return [r for kind in states for r in store.list(kind)]


def judge_records(
    told: dict[str, Any], records: Sequence[Record], numbers: dict[str, int], result: Hearing
) -> None:
    """Fill in what was kept, what is stale, which traps are stored and what nothing supports."""
    held = {r.id: stems(f"{r.label} {r.text} {' '.join(r.keywords)}") for r in records}
    own = {r.id: stems(r.text) for r in records}
    turns = {r.id: {numbers[e] for e in r.evidence if e in numbers} for r in records}
    gold = [(fact, stems(fact["fact"])) for fact in told["facts"]]
    true = [(fact, words) for fact, words in gold if not fact.get("ended")]
    for fact, words in gold:
        about = stems(str(fact.get("about", "")))
        near = [r.id for r in records if turns[r.id] & set(fact["from"]) or about & held[r.id]]
        if not fact.get("ended"):
            result.facts += 1
            best = max((covered(words, held[a], held[b]) for a in near for b in near), default=0.0)
            if best >= KEPT:
                result.kept += 1
            else:
                result.notes.append(f"missed ({best:.2f}): {fact['fact']} {fact['from']}")
            continue
        result.ended += 1
        for r in records:
            now = max((covered(w, held[r.id]) for _, w in true), default=0.0)
            share = covered(words, held[r.id])
            early = turns[r.id] and max(turns[r.id]) < fact.get("ended_turn", 10**6)
            if share >= STALE and early and now < share:
                result.stale += 1
                result.notes.append(f"stale: {fact['fact']} <- {r.text}")
                break
    result.records = len(records)
    for trap in told["traps"]:
        result.traps += 1
        if (record := sprung(trap, records, held, turns, gold)) is not None:
            result.trapped += 1
            result.notes.append(f"trap: {trap['clause']} <- {record.label}: {record.text}")
    texts = {turn["n"]: stems(turn["text"]) for turn in told["turns"]}
    for r in records:
        said = [texts[n] for n in turns[r.id]]
        if max(covered(own[r.id], *said), max(covered(own[r.id], w) for _, w in gold)) < SUPPORTED:
            result.unsupported += 1
            result.notes.append(f"unsupported: {r.label}: {r.text}")


def sprung(
    trap: dict[str, Any],
    records: Sequence[Record],
    held: dict[str, frozenset[str]],
    turns: dict[str, set[int]],
    gold: Sequence[tuple[dict[str, Any], frozenset[str]]],
) -> Record | None:
    """The record that holds the trap's clause and no gold fact of that turn, if there is one."""
    clause = stems(trap["clause"])
    for r in records:
        if trap["turn"] not in turns[r.id] or covered(clause, held[r.id]) < TRAPPED:
            continue
        excused = [
            fact
            for fact, words in gold
            if trap["turn"] in fact["from"] and covered(words, held[r.id]) >= KEPT
        ]
        if isinstance(r, CoreLeaf):
            excused = [fact for fact in excused if fact.get("about") == "user"]
        if not excused:
            return r
    return None


def judged(asked: dict[str, Any], answer: str) -> str:
    """``right``, ``stale``, ``wrong`` or ``unknown`` for an answer in words."""
    said, quoted = told(answer)
    silent = said.strip() in (NOTHING_KNOWN, NO_ANSWER, NO_QUESTION, "")
    if silent or re.match(r"I (?:do not|don't) (?:know|remember)", said):
        return "right" if asked.get("unknown") else "unknown"
    if asked.get("unknown"):
        return "wrong"
    expected, pole = _POLE.match(str(asked["answer"])), _POLE.match(said)
    if expected is not None and pole is not None:
        if pole[1].casefold() == expected[1].casefold():
            return "right"
        poles = [match[1].casefold() for s in asked.get("stale", ()) if (match := _POLE.match(s))]
        return "stale" if pole[1].casefold() in poles else "wrong"
    golden = [asked["answer"], *asked.get("also", ())]
    right = place(golden, said)
    # "Wednesdays" is no stale answer where it is a part of "Tuesdays and Wednesdays".
    known = frozenset().union(*(stems(plainly(str(gold))) for gold in golden))
    held = stems(plainly(said)) & known
    worded = [(variant, stems(plainly(str(variant)))) for variant in asked.get("stale", ())]
    old = [variant for variant, words in worded if not words < known or held <= words]
    stale = place(old, said)
    if right is not None and (stale is None or right <= stale):
        return "right"
    if stale is not None:
        return "stale"
    words = stems(plainly(said))
    partly = [gold for gold in golden if words and words <= stems(plainly(str(gold)))]
    both = f"{said} {quoted}"
    completed = place(partly, both) is not None and place(old, both) is None
    return "right" if completed else "wrong"


def told(answer: str) -> tuple[str, str]:
    """What an answer says, and the sentence that it quotes; a bare quotation is the answer."""
    answer = _ID.sub("", answer)
    match = _SOURCE.search(answer)
    if match is None:
        return answer, ""
    said, quoted = answer[: match.start()].strip(), answer[match.end() :].strip()
    return (said, quoted) if said else (quoted, "")


def place(variants: Iterable[str], answer: str) -> int | None:
    """Where the first variant stands whose content words the answer holds; None for nowhere."""
    found = []
    plain = plainly(answer)
    for variant in map(str, variants):
        words = stems(plainly(variant))
        if words & _MONTHS and any(w.isdigit() and len(w) < 3 for w in words):
            words = frozenset(
                w for w in words if w not in _WEEKDAYS and not re.fullmatch(r"(?:19|20)\d\d", w)
            )
        if not words:
            match = re.search(rf"\b{re.escape(variant.casefold())}\b", plain)
            found += [match.start()] if match else []
        elif words <= stems(plain):
            places = [plain.find(w) for w in words]
            known = [p for p in places if p >= 0]
            found.append(min(known) if known else len(plain))
    return min(found, default=None)


def table(results: Sequence[Hearing]) -> dict[str, Any]:
    """Totals over conversations, as shares."""
    total: Counter[str] = Counter()
    asked: Counter[str] = Counter()
    seconds = sorted(s for r in results for s in r.seconds)
    answering = sorted(s for r in results for s in r.answering)
    for r in results:
        asked.update(r.questions)
        for name in ("facts", "kept", "ended", "stale", "records", "unsupported", "traps"):
            total[name] += getattr(r, name)
        total["trapped"] += r.trapped
    questions = max(1, sum(asked.values()))
    wrong = total["unsupported"] + total["trapped"]
    return {
        **total,
        "kept_share": round(total["kept"] / max(1, total["facts"]), 3),
        "precision": round(1 - wrong / max(1, total["records"]), 3),
        "stale_share": round(total["stale"] / max(1, total["ended"]), 3),
        "trapped_share": round(total["trapped"] / max(1, total["traps"]), 3),
        "questions": {k: round(asked[k] / questions, 3) for k in VERDICTS},
        "listen_ms_median": round(1000 * seconds[len(seconds) // 2], 1) if seconds else 0,
        "listen_ms_p95": round(1000 * seconds[int(len(seconds) * 0.95)], 1) if seconds else 0,
        "answer_s_median": round(answering[len(answering) // 2], 2) if answering else 0,
    }  # fmt: skip


def answerer(name: str, replies: Path | None = None) -> LanguageModel:
    """What answers, by its name; ``replies`` of a language model are kept as `Replay` does."""
    model: LanguageModel = resolve(ANSWERERS, name)()
    return model if replies is None else Replay(replies, recorder=model)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure every conversation of a folder; see the module."""
    parser = argparse.ArgumentParser(description="what is kept of natural conversations")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--listener", default="default", choices=("default", "rules"))
    parser.add_argument("--model", default="rules", choices=MODELS)
    parser.add_argument("--replies", type=Path, help="replies of the model, kept and used again")
    parser.add_argument("--words-only", action="store_true", help="search without an embedder")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--show", action="store_true", help="print every miss")
    options = parser.parse_args(arguments)
    paths = sorted(options.folder.glob("*.yaml"))
    if not paths:
        parser.error(f"{options.folder} holds no conversation (*.yaml)")
    listener: Listener = RuleListener()
    if options.listener == "default":
        from consistent_gen.memory.listening.parsed_listener import default_listener

        listener = default_listener()
    embedder = None if options.words_only else default_embedder()
    if options.model == "rules" and options.replies is not None:
        parser.error("--replies keeps what a language model said; name one with --model")
    model = answerer(options.model, options.replies)
    results = []
    for path in paths:
        with tempfile.TemporaryDirectory() as folder:
            results.append(run(path, listener, Path(folder), embedder, model))
        r = results[-1]
        print(
            f"{r.name}: kept {r.kept}/{r.facts}, stale {r.stale}/{r.ended}, traps {r.trapped}/"
            f"{r.traps}, records {r.records}, unsupported {r.unsupported}, {dict(r.questions)}"
        )
        if options.show:
            print("\n".join(f"    {note}" for note in r.notes))
    whole = {"model": options.model, "listener": listener.description, **table(results)}
    print(json.dumps(whole, indent=1))
    if options.out is not None:
        each = [
            {**vars(r), "seconds": [], "answering": [], "questions": dict(r.questions)}
            for r in results
        ]
        options.out.write_text(json.dumps({"total": whole, "each": each}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
