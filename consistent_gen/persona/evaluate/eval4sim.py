"""Are simulated dialogues like people's, neither less nor more? (Eval4Sim, arXiv 2603.02876)

Three measures against a reference of human dialogues, each penalised in both directions, by the
formulas of the authors' later code (`eval4mhsim`):

    adherence     MRR of a persona text finding its speaker's dialogues, as a curve over pool sizes
    consistency   authorship verification of PAN 2023 (character 4-grams), five scores averaged
    naturalness   N = .6 CS + .2 (1 - PCR) + .2 (1 - SCR) of dialogue entailment

Departures: any text embedder stands in for ColBERT and is named (their alpha is 1, the target
speaker's turns only, ours too); a score below 0 is clipped, since 1 - |x - ref| / ref has no lower
end.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from consistent_gen.errors import InputError
from consistent_gen.language.embedders import TextEmbedder
from consistent_gen.persona.evaluate.means import library
from consistent_gen.persona.evaluate.pair_scorer import tools
from consistent_gen.persona.judging import PairScorer
from consistent_gen.persona.measurement import Measurement
from consistent_gen.persona.transcript import Transcript

SURE = 0.7  # a contradiction counts above this probability
OWN_TURNS = 5
DECAY = 0.9  # of the weights of larger pools
FEATURES = 3000  # character 4-grams
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
    ends = [sizes[0], *sizes, sizes[-1]]
    span = [(ends[i + 2] - ends[i]) / 2.0 or 1.0 for i in range(len(sizes))]
    w = [s * DECAY**i for i, s in enumerate(span)]
    x, y = [a[s] for s in sizes], [b[s] for s in sizes]
    over = max(sum(w * a * a for w, a in zip(w, x, strict=True)),
               sum(w * b * b for w, b in zip(w, y, strict=True)))  # fmt: skip
    both = sum(w * a * b for w, a, b in zip(w, x, y, strict=True))
    return both / over if over else 1.0


def adherence(
    corpus: Sequence[SpeakerDialogues], embedder: TextEmbedder, sizes: Sequence[int], seed: int = 42
) -> dict[int, float]:
    """MRR by pool size: a persona's text looks for its own dialogues among random others."""
    texts = [one.turns() for one in corpus]
    flat = [text for own in texts for text in own]
    owner = np.repeat(np.arange(len(corpus)), [len(own) for own in texts])
    documents = embedder.text(flat)
    queries = embedder.text([" ".join(one.persona) for one in corpus])
    scores = queries @ documents.T  # speakers dialogues
    found = {}
    for size in sizes:
        rng = random.Random(f"pool {seed} {size}")
        ranks = []
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
            ranks.append(1.0 / (1 + int((scores[i, pool] > best).sum())))
        found[int(size)] = float(np.mean(ranks))
    return found


def verification_pairs(
    corpus: Sequence[SpeakerDialogues], seed: int = 42
) -> tuple[list[str], list[str], Floats]:
    """Pairs of dialogues and whether one speaker holds both; as many of each kind."""
    rng = random.Random(f"verification {seed}")
    first, second, same = [], [], []
    for i, one in enumerate(corpus):
        own = one.turns()
        others = [j for j in range(len(corpus)) if j != i]
        for a, b in pairwise(own):
            stranger = rng.choice(corpus[rng.choice(others)].turns())
            first += [a, a]
            second += [b, stranger]
            same += [1.0, 0.0]
    if not same:
        raise InputError("nobody holds two dialogues; authorship cannot be verified")
    return first, second, np.array(same)


def similarities(first: Sequence[str], second: Sequence[str]) -> Floats:
    """Cosine of TF-IDF vectors of character 4-grams, n."""
    vectorizer = library("TfidfVectorizer")(
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
    n, positive = len(same), int((same > 0.5).sum())
    ranks = library("rankdata")(answer)[same > 0.5].sum() - positive * (positive + 1) / 2.0
    auc = ranks / max(positive * (n - positive), 1)
    open_ = answer == 0.5
    yes = answer > 0.5
    right = ((same > 0.5) == yes) & ~open_
    c_at_1 = (right.sum() + open_.sum() * right.sum() / n) / n
    tp, fp = ((same > 0.5) & yes).sum(), ((same < 0.5) & yes).sum()
    fn = ((same > 0.5) & ~yes & ~open_).sum()
    f1 = 2 * tp / max(2 * tp + fp + fn, 1)
    f05u = 1.25 * tp / max(1.25 * tp + 0.25 * (fn + open_.sum()) + fp, 1e-9)
    brier = 1.0 - float(((answer - same) ** 2).mean())
    return float(np.mean([auc, c_at_1, f1, f05u, brier]))


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
    before, stated, own, groups = [], [], [], []
    for one in corpus:
        for dialogue in one.dialogues:
            said = [turn.text for turn in dialogue.turns]
            before += list(pairwise(said))
            mine = dialogue.of(one.speaker)
            stated += [(p, text) for text in mine for p in one.persona]
            for i in range(1, len(mine)):
                earlier = mine[max(0, i - OWN_TURNS) : i]
                groups.append(len(earlier))
                own += [(e, mine[i]) for e in earlier]
    cs = _mean([(1.0 + n.label) / 2.0 for n in scorer.nli(before)])
    pcr = _mean([float(n.contradicted > SURE) for n in scorer.nli(stated)])
    sure = iter([n.contradicted > SURE for n in scorer.nli(own)])
    scr = _mean([float(any([next(sure) for _ in range(size)])) for size in groups])
    return 0.6 * cs + 0.2 * (1.0 - pcr) + 0.2 * (1.0 - scr)


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else 0.0


def fit_reference(
    corpus: Sequence[SpeakerDialogues],
    embedder: TextEmbedder,
    scorer: PairScorer,
    sizes: Sequence[int],
) -> HumanReference:
    """What people reach on a corpus of theirs."""
    first, second, same = verification_pairs(corpus)
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
    """The three two-sided scores of a corpus and their plain mean, each with its raw value.

    Raises:
        InputError: the reference was made with another embedder.
    """
    if embedder.space != human.embedder:
        raise InputError(f"the reference is of {human.embedder!r}, the embedder {embedder.space!r}")
    curve = adherence(corpus, embedder, sorted(human.adherence))
    first, second, same = verification_pairs(corpus)
    x = verified(same, rescaled(similarities(first, second), *human.thresholds))
    n = naturalness(corpus, scorer)
    spaces = {"embedder": embedder.space}
    last = max(curve)
    scores = [
        ("adherence", curve_score(curve, human.adherence), spaces,
         f"MRR {curve[last]:.3f} of people's {human.adherence[last]:.3f} in pools of {last}"),
        ("authorship consistency", two_sided(x, human.consistency), {},
         f"verified {x:.3f} of people's {human.consistency:.3f}"),
        ("naturalness", two_sided(n, human.naturalness), tools(scorer),
         f"N {n:.3f} of people's {human.naturalness:.3f}"),
    ]  # fmt: skip
    found = [
        Measurement(name, value, n=len(corpus), tools=told, note=note)
        for name, value, told, note in scores
    ]
    total = math.fsum(m.value for m in found) / len(found)
    note = "plain mean of the three, as the authors report it; read the three"
    return [
        *found,
        Measurement("Eval4Sim total", total, n=len(corpus), direction="none", note=note),
    ]


def recovery(seed: int, parameter: float) -> Measurement:
    """The share of N that is lost rises with the share of turns that deny the speaker's persona."""
    whole, left = (_denying(seed, share) for share in (0.0, parameter))
    return Measurement("naturalness lost", (whole - left) / whole, n=20, direction="lower")


def _denying(seed: int, parameter: float) -> float:
    """N of a corpus with a share of denials."""
    from consistent_gen.persona.evaluate.faithfulness import TruthTable

    rng = random.Random(f"denials {seed}")
    corpus = []
    for n in range(20):
        statement = f"I own boat number {n}."
        talk = Transcript(("a", "b"))
        for i in range(10):
            talk = talk.said("b", f"Question {i}?")
            denied = rng.random() < parameter
            talk = talk.said(
                "a", f"It is false that {statement}" if denied else f"Yes: {statement}"
            )
        corpus.append(SpeakerDialogues((statement,), "a", (talk,)))
    return naturalness(corpus, TruthTable())


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
