"""Finding what matters for a question: words and meaning, fused by rank, with reasons.

Full-text and vector hits are fused by reciprocal rank (Cormack et al., SIGIR 2009): the score is
the sum over searches of weight / (60 + rank). The time window and the exclusions act inside each
search, before any cap, so a narrow window still fills its caps. Caps per kind start from those of
PersonaVLM (arXiv 2604.13074): 4 facts, 2 episodes, 2 habits, 2 pictures.

Some turns stand back: near repeats, what holds no longer, what speaks as the system. People say
again what has changed ("I live in Oslo now", "I live in Turin now") and repeat small talk word for
word. Without this, one sentence said ten times fills ten places of an answer, and an old value
stands before the one that replaced it. Nothing is left out: it only moves back.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from consistent_gen.language.embedders import TextEmbedder
from consistent_gen.language.words import content_words
from consistent_gen.memory.data.records import Episode, Kind, Record, Turn
from consistent_gen.memory.data.store import (
    AsOf,
    Hit,
    ReadStatement,
    Store,
    TimeWindow,
    Vector,
)
from consistent_gen.memory.judging.screening import forged
from consistent_gen.memory.recall.indexing import IMAGE_ROLE, TEXT_ROLE
from consistent_gen.memory.recall.pictures import ImageEmbedder, Picture

RRF_K = 60
# Shared words are the weaker witness: a question and its answer often have none in common.
WEIGHTS = {"words": 0.5, "meaning": 1.0, "picture": 1.0}
# At about the same score, what is known to hold goes before what was once said, the user's own
# words before a document's or our answers, and what is newer before what is older.
STATE_BONUS, OTHERS_MALUS, RECENCY_BONUS = 0.05, 0.15, 0.1
# How much of the lesser score counts where a state and the turn behind it were both found.
SHARE_OF_TURN = 0.1
CAPS: Mapping[Kind, int] = dict(core=6, fact=4, episode=2, habit=2, concept=2, turn=4, media=2)
_STATES = ("core", "fact", "habit", "concept")
TEXT_SEARCHED: tuple[Kind, ...] = ("core", "fact", "episode", "habit", "concept", "turn")
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
# The days that a listener writes behind a sentence.
_RESOLVED = re.compile(r" \((?:[-\d, ]|to)+\)$")


@dataclass(frozen=True, kw_only=True)
class Found:
    """A record that was found, its fused score, and why, in words."""

    record: Record
    score: float
    reasons: tuple[str, ...]


class Retriever:
    """Searches one store. Without a text embedder, or while its space is not the active one,
    only words are searched and `notice` says so.
    """

    def __init__(
        self,
        store: Store,
        text_embedder: TextEmbedder | None = None,
        image_embedder: ImageEmbedder | None = None,
        *,
        caps: Mapping[Kind, int] = CAPS,
        pool: int = 50,
    ) -> None:
        self._store = store
        self._text, self._image = text_embedder, image_embedder
        self._caps = dict(caps)
        self._pool = pool

    @property
    def notice(self) -> str:
        """Why meaning is not searched, or the empty string."""
        if self._text is None:
            return "no embedder: searching by words only"
        active = self._store.active_space(TEXT_ROLE)
        if active != self._text.space:
            return (
                f"vectors are in space {active}, the embedder's is {self._text.space}: searching "
                "by words only until the memory is re-embedded"
            )
        return ""

    def search(
        self,
        query: str,
        *,
        picture: Picture | None = None,
        window: TimeWindow | None = None,
        as_of: AsOf | None = None,
        caps: Mapping[Kind, int] | None = None,
        exclude: Collection[str] = (),
    ) -> tuple[Found, ...]:
        """What fits ``query`` (and ``picture``), best first, at most ``caps[kind]`` of a kind.

        Kinds without a cap are not searched. ``exclude`` are record ids not to return.
        """
        caps = self._caps if caps is None else caps
        lists = self._lists(query, picture, tuple(caps), window, as_of, len(exclude))
        scores: dict[str, float] = {}
        kinds: dict[str, Kind] = {}
        known: dict[str, Hit] = {}
        reasons: dict[str, list[str]] = {}
        for name, hits in lists:
            kept = [hit for hit in hits if hit.id not in exclude]
            for rank, hit in enumerate(kept, 1):
                scores[hit.id] = scores.get(hit.id, 0.0) + WEIGHTS[name] / (RRF_K + rank)
                kinds[hit.id] = hit.kind
                known[hit.id] = hit
                reasons.setdefault(hit.id, []).append(_reason(name, rank, hit))
        hits = list(known.values())
        for id in newest_first(scores, hits):
            reasons[id].append("said again later")
        for id in set_back_forged(scores, hits):
            reasons[id].append("speaks as a system")
        if window is None and as_of is None:
            for id in self._outdated(scores, hits):
                reasons[id].append("holds no longer")
        order = sorted(scores, key=lambda id: (-scores[id], id))
        records = self._capped(order, kinds, caps, window, as_of)
        if _absorb(records, scores, reasons):
            order = sorted(scores, key=lambda id: (-scores[id], id))
            records = self._capped(order, kinds, caps, window, as_of)
        return tuple(
            Found(record=records[id], score=scores[id], reasons=tuple(reasons[id]))
            for id in order
            if id in records
        )

    def expand(self, found: Sequence[Found], *, limit: int = 40) -> tuple[Turn, ...]:
        """The source turns of the episodes among ``found``, oldest first."""
        ids = [t for f in found if isinstance(f.record, Episode) for t in f.record.evidence]
        turns = self._store.get(list(dict.fromkeys(ids))[:limit])
        return tuple(turn for turn in turns if isinstance(turn, Turn))

    def with_turns(self, found: Sequence[Found]) -> tuple[Record, ...]:
        """The turns among ``found`` and behind it, and of the rest what says more than its turns.

        A record that was corrected by hand says something else than the turn it was read from.
        """
        rest = [f.record for f in found if f.record.kind != "turn"]
        ids = dict.fromkeys([f.record.id for f in found if f.record.kind == "turn"])
        ids |= dict.fromkeys(turn for record in rest for turn in record.evidence)
        turns = {t.id: t for t in self._store.get(list(ids)) if isinstance(t, Turn)}
        said = [_beginnings(turn.text) for turn in turns.values()]
        more = []
        for record in rest:
            clauses = [_beginnings(c) for c in _RESOLVED.sub("", record.text).split(";")]
            if any(all(len(c & s) < ALIKE * len(c) for s in said) for c in clauses):
                more.append(record)
        return (*turns.values(), *more)

    def read_from(self, records: Sequence[Record]) -> dict[str, tuple[ReadStatement, ...]]:
        """What was read from the turns among ``records``, and whether it holds."""
        return self._store.read_from([r.id for r in records if r.kind == "turn"])

    def vectors(self, records: Sequence[Record]) -> dict[str, Vector]:
        """The vectors of ``records``; none where words alone are searched."""
        if self._text is None or self.notice:
            return {}
        return self._store.vectors(self._text.space, [r.id for r in records])

    def replaced(self, records: Sequence[Record]) -> frozenset[str]:
        """Ids of the turns among ``records`` from which nothing holds any more."""
        return self._store.outdated([r.id for r in records if r.kind == "turn"])

    def _outdated(self, scores: dict[str, float], hits: Sequence[Hit]) -> frozenset[str]:
        turns = sorted((h.id for h in hits if h.kind == "turn"), key=lambda id: -scores[id])
        found = self._store.outdated(turns[: self._pool])
        set_back(scores, found)
        return found

    def _capped(
        self,
        order: Sequence[str],
        kinds: Mapping[str, Kind],
        caps: Mapping[Kind, int],
        window: TimeWindow | None,
        as_of: AsOf | None,
    ) -> dict[str, Record]:
        """The first records of each kind up to its cap; only these are read."""
        chosen: dict[str, Record] = {}
        left, waiting = dict(caps), list(order)
        while waiting:
            room, picked = dict(left), []
            for id in waiting:
                if room.get(kinds[id], 0) > 0:
                    room[kinds[id]] -= 1
                    picked.append(id)
            found = self._records(picked, window, as_of)
            chosen |= found
            if len(found) == len(picked):
                break
            # Somebody ended or erased a record since it was found: the next in line moves up.
            for id in found:
                left[kinds[id]] -= 1
            tried = set(picked)
            waiting = [id for id in waiting if id not in tried]
        return chosen

    def _records(
        self, ids: Sequence[str], window: TimeWindow | None, as_of: AsOf | None
    ) -> dict[str, Record]:
        found = {record.id: record for record in self._store.get(ids, as_of=as_of)}
        if window is None or (as_of is not None and as_of.world is not None):
            return found
        # What held in the window may hold no longer: then its version of that time is meant.
        for id in ids:
            if id not in found or not (found[id].event or _touches(found[id], window)):
                versions = [v for v in self._store.history(id) if v.live and _touches(v, window)]
                if versions:
                    found[id] = versions[-1]
        return found

    def _lists(
        self,
        query: str,
        picture: Picture | None,
        kinds: tuple[Kind, ...],
        window: TimeWindow | None,
        as_of: AsOf | None,
        excluded: int,
    ) -> list[tuple[str, Sequence[Hit]]]:
        lists: list[tuple[str, Sequence[Hit]]] = []
        limit = self._pool + excluded
        vector = self._text.text([query])[0] if self._text and query and not self.notice else None
        words = content_words(query)
        searched = tuple(kind for kind in kinds if kind in TEXT_SEARCHED)
        # Each kind has a pool of its own, so that many turns cannot push out the few habits;
        # scores of one kind of search compare, so the ranks are over all kinds.
        if words and searched:
            by_words = self._store.full_text(
                " ".join(words), kinds=searched, window=window, as_of=as_of, limit=limit,
                each_kind=True,
            )  # fmt: skip
            lists.append(("words", leaning(by_words)))
        if vector is not None and self._text is not None and searched:
            by_meaning = self._store.nearest(
                self._text.space, vector, kinds=searched, window=window, as_of=as_of, limit=limit,
                each_kind=True,
            )  # fmt: skip
            lists.append(("meaning", leaning(by_meaning)))
        if picture is not None and self._image is not None and "media" in kinds:
            lists += self._by_picture(self._image, picture, window, as_of, limit)
        return lists

    def _by_picture(
        self,
        embedder: ImageEmbedder,
        picture: Picture,
        window: TimeWindow | None,
        as_of: AsOf | None,
        limit: int,
    ) -> list[tuple[str, Sequence[Hit]]]:
        if self._store.active_space(IMAGE_ROLE) != embedder.space:
            return []
        seen = np.asarray(embedder.image([picture])[0], np.float32)
        hits = self._store.nearest(
            embedder.space, seen, kinds=("media",), window=window, as_of=as_of, limit=limit
        )
        return [("picture", hits)]


def _beginnings(text: str) -> set[str]:
    """The words of a text without their endings: "lives" is said where "live" is."""
    return {word[:4] for word in _WORD.findall(re.sub(r"['\u2019]", "", text.casefold()))}


def _absorb(
    records: Mapping[str, Record], scores: dict[str, float], reasons: dict[str, list[str]]
) -> bool:
    """Let a found state take the place of the turns it was read from; whether there were any.

    Both say the same, so the better score goes to the state and the turn's place to another.
    """
    told = {turn: id for id, r in records.items() if r.kind in _STATES for turn in r.evidence}
    again = [id for id in told if id in scores]
    for turn in again:
        both = (scores[told[turn]], scores.pop(turn))
        scores[told[turn]] = max(both) + SHARE_OF_TURN * min(both)
        reasons[told[turn]] += [f"its turn by {reason}" for reason in reasons.pop(turn)]
    return bool(again)


def leaning(hits: Sequence[Hit]) -> list[Hit]:
    """Hits of one search, best first, leaning towards states, the user's words and the new.

    Scores are taken relative to the best one; how new a hit is, by its place among the others.
    """
    best = max((abs(hit.score) for hit in hits), default=0.0) or 1.0
    times = sorted({hit.at for hit in hits})
    place = {at: number / max(1, len(times) - 1) for number, at in enumerate(times)}

    def merit(hit: Hit) -> float:
        return (
            hit.score / best
            + STATE_BONUS * (hit.kind in _STATES)
            - OTHERS_MALUS * (hit.origin in ("assistant", "document"))
            + RECENCY_BONUS * place[hit.at]
        )

    return sorted(hits, key=lambda hit: (-merit(hit), hit.id))


def _reason(name: str, rank: int, hit: Hit) -> str:
    measure = "" if name == "words" else f", cosine {hit.score:.2f}"
    return f"{name}: rank {rank}{measure}"


def _touches(record: Record, window: TimeWindow) -> bool:
    starts_before_end = window.end is None or (
        record.valid_from is not None and record.valid_from < window.end
    )
    ends_after_start = (
        window.start is None or record.valid_to is None or record.valid_to > window.start
    )
    return starts_before_end and ends_after_start


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


def commands(text: str) -> bool:
    """Whether a text speaks as "the system": it may be shown, but it answers nothing."""
    return forged(text[:_CHARACTERS])


def set_back_forged(scores: dict[str, float], hits: Sequence[Hit]) -> tuple[str, ...]:
    """Weaken the best turns of others that read like a forged instruction; their ids."""
    others = [h for h in hits if h.kind == "turn" and h.origin in ("document", "assistant")]
    best = sorted(others, key=lambda hit: -scores[hit.id])[:_SCREENED]
    found = tuple(hit.id for hit in best if commands(hit.text))
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
