"""Are simulated dialogues like people's, neither less nor more? (Eval4Sim, arXiv 2603.02876)

Three measures against a reference of human dialogues, each penalised in both directions, by the
formulas of the authors' later code (`eval4mhsim`):

    adherence     MRR of a persona text finding its speaker's dialogues, as a curve over pool sizes
    consistency   authorship verification of PAN 2023 (character 4-grams), five scores averaged
    naturalness   N = .6 CS + .2 (1 - PCR) + .2 (1 - SCR) of dialogue entailment

Departures: any text embedder stands in for ColBERT and is named (their alpha is 1, the target
speaker's turns only, ours too); a score below 0 is clipped, since 1 - |x - ref| / ref has no lower
end; and each score has an interval over speakers (ours). The reference is taken as exact: fit it on
more speakers than are measured.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from consistent_gen.errors import InputError
from consistent_gen.language.embedders import HashedNgrams, TextEmbedder
from consistent_gen.persona.evaluate.faithfulness import TruthTable, said_or_denied
from consistent_gen.persona.evaluate.pair_scorer import tools
from consistent_gen.persona.judging import PairScorer
from consistent_gen.persona.measurement import Measurement
from consistent_gen.persona.statistics import resampled
from consistent_gen.persona.transcript import Transcript
from consistent_gen.registry import resolve

SURE = 0.7  # a contradiction counts above this probability
OWN_TURNS = 5
DECAY = 0.9  # of the weights of larger pools
FEATURES = 3000  # character 4-grams
LIBRARY: dict[str, str] = {"TfidfVectorizer": "sklearn.feature_extraction.text:TfidfVectorizer"}
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class SpeakerDialogues:
    """Dialogues of one speaker with the persona they speak from."""

    persona: tuple[str, ...]
    speaker: str
    dialogues: tuple[Transcript, ...]

    def turns(self) -> list[str]:
        """One text a dialogue: what the speaker says in it."""
        return ["\n".join(d.of(self.speaker)) for d in self.dialogues]


@dataclass(frozen=True)
class HumanReference:
    """What people reach; fit once on a corpus and kept as JSON.

    adherence: MRR by pool size. consistency, naturalness: scalars. thresholds: p1, p2 of the
    verification, fitted on the human pairs and used for all. embedder: whose vectors.
    """

    adherence: dict[int, float]
    consistency: float
    thresholds: tuple[float, float]
    naturalness: float
    embedder: str

    def as_json(self) -> dict[str, Any]:
        """What `from_json` reads."""
        told = asdict(self)
        told["adherence"] = {str(k): v for k, v in self.adherence.items()}
        return told

    @classmethod
    def from_json(cls, told: dict[str, Any]) -> HumanReference:
        """Raises ``InputError`` for anything that `as_json` does not give."""
        try:
            curve = {int(k): float(v) for k, v in told["adherence"].items()}
            p1, p2 = map(float, told["thresholds"])
            return cls(curve, float(told["consistency"]), (p1, p2), float(told["naturalness"]),
                       str(told["embedder"]))  # fmt: skip
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"not a human reference ({error})") from None


def two_sided(x: float, reference: float) -> float:
    """1 - |x - ref| / ref in [0, 1]: 1 at the reference, less on both sides, never below 0."""
    if not reference > 0.0:
        raise InputError(f"the reference is {reference}; a two-sided score needs one above 0")
    return max(0.0, 1.0 - abs(x - reference) / reference)


def curve_score(a: dict[int, float], b: dict[int, float]) -> float:
    """sum w a b / max(sum w a^2, sum w b^2) over the pool sizes; w_i = span_i 0.9^i, the span half
    the distance between the neighbouring sizes. 1 where the curves are equal.
    """
    sizes = sorted(b)
    if sorted(a) != sizes:
        raise InputError(f"curves over other pools: {sorted(a)} and {sizes}")
    return float(_curve_scores(np.array([[a[size] for size in sizes]]), b)[0])


def _curve_scores(a: Floats, curve: dict[int, float]) -> Floats:
    """`curve_score` of many curves against one. a: curves x sizes, in order of size."""
    ab, aa, bb = _products(a, curve)
    over = np.maximum(aa, bb)
    found: Floats = np.where(over > 0.0, ab / np.where(over > 0.0, over, 1.0), 1.0)
    return found


def _products(a: Floats, curve: dict[int, float]) -> tuple[Floats, Floats, float]:
    """sum w a b and sum w a^2 of each curve, sum w b^2 of the one."""
    sizes = sorted(curve)
    ends = [sizes[0], *sizes, sizes[-1]]
    span = [(ends[i + 2] - ends[i]) / 2.0 or 1.0 for i in range(len(sizes))]
    w = np.array([s * DECAY**i for i, s in enumerate(span)])
    b = np.array([curve[size] for size in sizes])
    return (w * a * b).sum(1), (w * a * a).sum(1), float((w * b * b).sum())


def adherence(
    corpus: Sequence[SpeakerDialogues], embedder: TextEmbedder, sizes: Sequence[int], seed: int = 42
) -> dict[int, float]:
    """MRR by pool size: a persona's text looks for its own dialogues among random others."""
    ranks = reciprocal_ranks(corpus, embedder, sizes, seed)
    return {int(size): float(mrr) for size, mrr in zip(sizes, ranks.mean(0), strict=True)}


def reciprocal_ranks(
    corpus: Sequence[SpeakerDialogues], embedder: TextEmbedder, sizes: Sequence[int], seed: int = 42
) -> Floats:
    """Of each speaker's best dialogue in a pool of each size: speakers x sizes."""
    texts = [one.turns() for one in corpus]
    flat = [text for own in texts for text in own]
    owner = np.repeat(np.arange(len(corpus)), [len(own) for own in texts])
    documents = embedder.text(flat)
    queries = embedder.text([" ".join(one.persona) for one in corpus])
    scores = queries @ documents.T  # speakers dialogues
    found = np.zeros((len(corpus), len(sizes)))
    for column, size in enumerate(sizes):
        rng = random.Random(f"pool {seed} {size}")
        for i in range(len(corpus)):
            own = np.flatnonzero(owner == i)
            others = np.flatnonzero(owner != i).tolist()
            if len(own) >= size or len(own) + len(others) < size:
                raise InputError(
                    f"a pool of {size} needs that many dialogues and distractors; speaker {i} has "
                    f"{len(own)} of {len(flat)}"
                )
            pool = [*own.tolist(), *rng.sample(others, size - len(own))]
            best = scores[i, own].max()
            found[i, column] = 1.0 / (1 + int((scores[i, pool] > best).sum()))
    return found


def verification_pairs(
    corpus: Sequence[SpeakerDialogues], seed: int = 42
) -> tuple[list[str], list[str], Floats, NDArray[np.int_]]:
    """Pairs of dialogues, whether one speaker holds both (as many of each kind), and who speaks in
    the first and in the second: 2 x pairs, as indices into the corpus.
    """
    rng = random.Random(f"verification {seed}")
    first, second, same, whose = [], [], [], []
    for i, one in enumerate(corpus):
        own = one.turns()
        others = [j for j in range(len(corpus)) if j != i]
        for a, b in pairwise(own):
            stranger = rng.choice(others)
            first += [a, a]
            second += [b, rng.choice(corpus[stranger].turns())]
            same += [1.0, 0.0]
            whose += [(i, i), (i, stranger)]
    if not same:
        raise InputError("nobody holds two dialogues; authorship cannot be verified")
    return first, second, np.array(same), np.array(whose).T


def similarities(first: Sequence[str], second: Sequence[str]) -> Floats:
    """Cosine of TF-IDF vectors of character 4-grams, n."""
    vectorizer = resolve(LIBRARY, "TfidfVectorizer", kind="vectorizer")(
        analyzer="char", ngram_range=(4, 4), max_features=FEATURES
    )
    vectorizer.fit([*first, *second])
    a, b = vectorizer.transform(first), vectorizer.transform(second)
    found: Floats = np.asarray(a.multiply(b).sum(1), float).ravel()
    return found


def rescaled(cosine: Floats, p1: float, p2: float) -> Floats:
    """Cosines below p1 to [0, .49], above p2 to [.51, 1], between them to .5 (no answer)."""
    low = 0.49 * cosine / max(p1, 1e-9)
    high = 0.51 + 0.49 * (cosine - p2) / max(1.0 - p2, 1e-9)
    return np.clip(np.where(cosine < p1, low, np.where(cosine > p2, high, 0.5)), 0.0, 1.0)


def verified(same: Floats, answer: Floats) -> float:
    """Mean of AUC, c@1, F1, F0.5u and 1 - Brier, as PAN 2023 counts them."""
    return float(_verified(same, answer, np.ones((1, len(same))))[0])


def _verified(same: Floats, answer: Floats, weights: Floats) -> Floats:
    """`verified` of pairs that are there so often. weights: resamples x pairs; one each."""
    yes, no, open_ = answer > 0.5, answer < 0.5, answer == 0.5
    is_same = same > 0.5
    order = np.argsort(answer, kind="stable")
    levels = np.flatnonzero(np.diff(answer[order], prepend=-1.0))  # where an equal stretch begins
    p, q = (np.add.reduceat((weights * kind)[:, order], levels, 1) for kind in (is_same, ~is_same))
    below = q.cumsum(1) - q / 2.0  # equal answers count one half
    auc = (p * below).sum(1) / np.maximum(p.sum(1) * q.sum(1), 1e-9)
    n = np.maximum(weights.sum(1), 1e-9)
    right, left_open = weights @ ((is_same == yes) & ~open_), weights @ open_
    c_at_1 = (right + left_open * right / n) / n
    tp, fp, fn = weights @ (is_same & yes), weights @ (~is_same & yes), weights @ (is_same & no)
    f1 = 2 * tp / np.maximum(2 * tp + fp + fn, 1e-9)
    f05u = 1.25 * tp / np.maximum(1.25 * tp + 0.25 * (fn + left_open) + fp, 1e-9)
    brier = 1.0 - weights @ (answer - same) ** 2 / n
    found: Floats = np.mean([auc, c_at_1, f1, f05u, brier], axis=0)
    return found


def _pair_weights(weights: Floats, whose: NDArray[np.int_]) -> Floats:
    """How often each pair is there where each speaker is so often. A pair of two speakers counts
    for what resampling adds or takes of each, which is the first order of their product (Owen, "The
    pigeonhole bootstrap", Annals of Applied Statistics 2007); the product itself is too wide.
    """
    a, b = whose
    return np.where(a == b, weights[:, a], weights[:, a] + weights[:, b] - 1.0)


def fit_thresholds(same: Floats, cosine: Floats) -> tuple[float, float]:
    """p1 <= p2 of .01 to .99 with the best `verified` on human pairs."""
    grid = np.arange(0.01, 1.0, 0.02)
    pairs = [(p1, p2) for p1 in grid for p2 in grid if p1 <= p2]
    p1, p2 = max(pairs, key=lambda p: verified(same, rescaled(cosine, *p)))
    return float(p1), float(p2)


def naturalness(corpus: Sequence[SpeakerDialogues], scorer: PairScorer) -> float:
    """N in [0, 1]. CS: 1, .5, 0 for each turn after the one before; PCR: persona sentences that a
    turn contradicts; SCR: turns that contradict one of the speaker's own last five; both > .7.
    """
    return float(_naturalness(_entailments(corpus, scorer), np.ones((1, len(corpus))))[0])


def _entailments(corpus: Sequence[SpeakerDialogues], scorer: PairScorer) -> Floats:
    """Of each speaker the sum and the number of what CS, PCR and SCR are means of: n x 3 x 2."""
    found = np.zeros((len(corpus), 3, 2))
    before, stated, own = [], [], []
    whose: tuple[list[int], list[int], list[tuple[int, int]]] = ([], [], [])
    for number, one in enumerate(corpus):
        for dialogue in one.dialogues:
            said = [turn.text for turn in dialogue.turns]
            before += list(pairwise(said))
            mine = dialogue.of(one.speaker)
            stated += [(p, text) for text in mine for p in one.persona]
            for i in range(1, len(mine)):
                earlier = mine[max(0, i - OWN_TURNS) : i]
                whose[2].append((number, len(earlier)))
                own += [(e, mine[i]) for e in earlier]
        whose[0].extend([number] * (len(before) - len(whose[0])))
        whose[1].extend([number] * (len(stated) - len(whose[1])))
    for number, nli in zip(whose[0], scorer.nli(before), strict=True):
        found[number, 0] += (1.0 + nli.label) / 2.0, 1.0
    for number, nli in zip(whose[1], scorer.nli(stated), strict=True):
        found[number, 1] += float(nli.contradicted > SURE), 1.0
    sure = iter([nli.contradicted > SURE for nli in scorer.nli(own)])
    for number, size in whose[2]:
        found[number, 2] += float(any([next(sure) for _ in range(size)])), 1.0
    return found


def _naturalness(entailments: Floats, weights: Floats) -> Floats:
    """N of speakers who are there so often. weights: resamples x speakers."""
    total = np.einsum("rn,nkc->rkc", weights, entailments)
    cs, pcr, scr = np.moveaxis(total[..., 0] / np.maximum(total[..., 1], 1e-9), -1, 0)
    found: Floats = 0.6 * cs + 0.2 * (1.0 - pcr) + 0.2 * (1.0 - scr)
    return found


def fit_reference(
    corpus: Sequence[SpeakerDialogues],
    embedder: TextEmbedder,
    scorer: PairScorer,
    sizes: Sequence[int],
) -> HumanReference:
    """What people reach on a corpus of theirs."""
    first, second, same, _ = verification_pairs(corpus)
    cosine = similarities(first, second)
    p1, p2 = fit_thresholds(same, cosine)
    return HumanReference(
        adherence(corpus, embedder, sizes), verified(same, rescaled(cosine, p1, p2)), (p1, p2),
        naturalness(corpus, scorer), embedder.space,
    )  # fmt: skip


def eval4sim(
    corpus: Sequence[SpeakerDialogues],
    human: HumanReference,
    embedder: TextEmbedder,
    scorer: PairScorer,
) -> list[Measurement]:
    """The three two-sided scores of a corpus and their plain mean, each with its raw value. The
    intervals are over speakers; the upper end is 1 where the raw interval holds people's value.

    Raises:
        InputError: the reference was made with another embedder.
    """
    if embedder.space != human.embedder:
        raise InputError(f"the reference is of {human.embedder!r}, the embedder {embedder.space!r}")
    sizes, n = sorted(human.adherence), len(corpus)
    ranks = reciprocal_ranks(corpus, embedder, sizes)
    curve = resampled(lambda w: _curve_scores(w @ ranks / n, human.adherence), n)
    first, second, same, whose = verification_pairs(corpus)
    answer = rescaled(similarities(first, second), *human.thresholds)
    pairs = resampled(lambda w: _verified(same, answer, _pair_weights(w, whose)), n)
    entailments = _entailments(corpus, scorer)
    natural = resampled(lambda w: _naturalness(entailments, w), n)
    found = [
        _adherence(curve, ranks, human, embedder.space),
        _against_people("authorship consistency", "verified", pairs, human.consistency, n, {}),
        _against_people("naturalness", "N", natural, human.naturalness, n, tools(scorer)),
    ]
    total = math.fsum(m.value for m in found) / len(found)
    note = "plain mean of the three, as the authors report it; read the three"
    return [*found, Measurement("Eval4Sim total", total, n=n, direction="none", note=note)]


def _against_people(
    name: str, raw: str, x: tuple[float, float, float], reference: float, n: int,
    told: Mapping[str, str],
) -> Measurement:  # fmt: skip
    """The two-sided score of x (value, low, high): its interval is what that of x becomes."""
    value, ends = two_sided(x[0], reference), [two_sided(end, reference) for end in x[1:]]
    high = 1.0 if x[1] <= reference <= x[2] else max(ends)
    return Measurement(
        name, value, min(ends), high, n, tools=told,
        note=f"{raw} {x[0]:.3f} ({x[1]:.3f} to {x[2]:.3f}) of people's {reference:.3f}",
    )  # fmt: skip


def _adherence(
    score: tuple[float, float, float], ranks: Floats, human: HumanReference, space: str
) -> Measurement:
    """The curve score, whose upper end is 1 where the curve may be people's: the interval of its
    share of theirs, sum w a b / sum w b^2, holds 1.
    """

    def share(weights: Floats) -> Floats:
        ab, _, bb = _products(weights @ ranks / n, human.adherence)
        return ab / max(bb, 1e-9)

    n, last = len(ranks), max(human.adherence)
    value, low, high = score
    _, least, most = resampled(share, n)
    return Measurement(
        "adherence", value, low, 1.0 if least <= 1.0 <= most else high, n,
        tools={"embedder": space},
        note=f"MRR {ranks[:, -1].mean():.3f} of people's {human.adherence[last]:.3f} in pools of "
        f"{last}",
    )  # fmt: skip


# The truth that the measures are held to --------------------------------------------------------

POOLS = (12, 40, 160)
TURNS = 4
KEEPS = 0.4  # of the words of people's dialogues here, how many are their speaker's own
DENIES = 0.1  # how often people's turns here deny what is said of them
BOAT = "I own a boat."


def planted(seed: int, keeps: float, denies: float, speakers: int) -> list[SpeakerDialogues]:
    """Speakers of three dialogues. A word in `keeps` is one of eight that the speaker likes, of
    which the persona tells two, the others are anybody's; one turn in `denies` denies the persona,
    the others say it.
    """
    rng = random.Random(f"eval4sim {seed}")
    words = [
        f"{a}{b}{c}" for a in "bdfgklmnprst" for b in "aeiou" for c in ("ko", "lu", "ni", "ta")
    ]
    found = []
    for _ in range(speakers):
        own, talks = rng.sample(words, 8), []
        for _ in range(3):
            talk = Transcript(("partner", "speaker"))
            for i in range(TURNS):
                chatter = " ".join(
                    rng.choice(own if rng.random() < keeps else words) for _ in range(4)
                )
                said = said_or_denied(BOAT, rng.random() < denies)
                talk = talk.said("partner", f"Question {i}?").said("speaker", f"{chatter}\n{said}")
            talks.append(talk)
        found.append(SpeakerDialogues((" ".join(own[:2]), BOAT), "speaker", tuple(talks)))
    return found


@lru_cache(maxsize=1)
def planted_people() -> HumanReference:
    """Of many speakers, so that the reference's own error is small."""
    people = planted(-1, KEEPS, DENIES, 300)
    fitted = fit_reference(people, HashedNgrams(), TruthTable(), POOLS)
    return replace(fitted, naturalness=natural_of(DENIES))


def natural_of(denies: float) -> float:
    """N of scripted speakers who deny so often, exactly: CS is one half, one sentence of two can be
    denied, and a turn contradicts one of k earlier ones unless all are as it is.
    """
    d = denies
    scr = [d * (1.0 - d**k) + (1.0 - d) * (1.0 - (1.0 - d) ** k) for k in range(1, TURNS)]
    return 0.3 + 0.2 * (1.0 - d / 2.0) + 0.2 * (1.0 - math.fsum(scr) / len(scr))


@lru_cache(maxsize=512)
def _against_planted(seed: int, keeps: float, denies: float) -> list[Measurement]:
    corpus = planted(seed, keeps, denies, 60)
    return eval4sim(corpus, planted_people(), HashedNgrams(), TruthTable())


def recover_adherence(seed: int, parameter: float) -> Measurement:
    """Adherence rises with the share of the speaker's own words, to 1 where it is people's."""
    return _against_planted(seed, parameter, DENIES)[0]


def recover_authorship(seed: int, parameter: float) -> Measurement:
    """So does authorship consistency."""
    return _against_planted(seed, parameter, DENIES)[1]


def recover_naturalness(seed: int, parameter: float) -> Measurement:
    """The two-sided score of speakers who deny more often than people do, by just so much."""
    low, high = DENIES, 0.5
    for _ in range(30):  # N falls with denials up to one half
        middle = (low + high) / 2.0
        above = natural_of(middle) > parameter * natural_of(DENIES)
        low, high = (middle, high) if above else (low, middle)
    return _against_planted(seed, KEEPS, low)[2]


def scripted_corpus(kind: str, seed: int = 0, speakers: int = 12) -> list[SpeakerDialogues]:
    """Dialogues that show too little of a persona ("under"), about as much as people do ("human"),
    or that copy it ("over").
    """
    rng = random.Random(f"{kind} {seed}")
    words = [f"{a}{b}" for a in "bdfgklmnprst" for b in ("ako", "ilu", "eni", "ota", "ush", "erim")]
    found = []
    for n in range(speakers):
        own = rng.sample(words, 6)
        pairs = zip(own[::2], own[1::2], strict=True)
        persona = tuple(f"I love {a} and {b} more than rain." for a, b in pairs)
        talks = []
        for _ in range(4):
            talk = Transcript(("partner", f"s{n}"))
            for i in range(5):
                statement = persona[i % 3]
                asked = f"Do you love {rng.choice(words)} or {own[2 * (i % 3)]}?"
                talk = talk.said("partner", asked)
                chatter = " ".join(rng.sample(words, 5))
                human = f"Yes, I love {rng.choice(own)}, and {chatter}."
                said = {"under": f"Well, {chatter}.", "over": statement}.get(kind)
                keeps = rng.random() < 0.5
                talk = talk.said(f"s{n}", said or (human if keeps else f"Well, {chatter}."))
            talks.append(talk)
        found.append(SpeakerDialogues(persona, f"s{n}", tuple(talks)))
    return found
