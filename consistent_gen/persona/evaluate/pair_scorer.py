"""Who says whether a reply follows from a statement: our small network, a transformers folder, or
the words alone.

All are `PairScorer`s. A hypothesis may carry its question, as `asked_and_said` writes it: "No."
alone says nothing. None of them is a person: each states its own accuracy, and every measurement
that uses one prints it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

from consistent_gen.checkpoints import folder_sha256, weights_folder, weights_root
from consistent_gen.errors import CheckpointError, InputError
from consistent_gen.language.embedders import minilm_folder, quiet_loading
from consistent_gen.language.words import COUNTED, STOP_WORDS, word_set
from consistent_gen.persona.judging import Nli, PairScorer

SCORERS: dict[str, str] = {
    "trained": "consistent_gen.persona.evaluate.pair_scorer:TrainedPairs",
    "folder": "consistent_gen.persona.evaluate.pair_scorer:NliFolder",
    "lexical": "consistent_gen.persona.evaluate.pair_scorer:LexicalPairs",
}
WEIGHTS = "pair_scorer"
_BATCH = 64
_NAMES: Mapping[str, tuple[str, ...]] = {
    "contradicted": ("contradict",), "neutral": ("neutral",), "entailed": ("entail",),
}  # fmt: skip
Form: TypeAlias = Literal["pair", "apc"]


def default_scorer() -> PairScorer:
    """The trained network where MiniLM and its weights are, else the words alone."""
    there = (weights_root() / WEIGHTS).is_dir() and minilm_folder() is not None
    return TrainedPairs() if there else LexicalPairs()


def asked_and_said(question: str, reply: str) -> str:
    """A hypothesis that carries its question: on the first line, the reply after it."""
    return f"{' '.join(question.split())}\n{reply}" if question.strip() else reply


def tools(scorer: PairScorer) -> dict[str, str]:
    """What a `Measurement` says of its scorer."""
    return {"pair scorer": f"{scorer.name}: {scorer.accuracy}"}


class TrainedPairs:
    """The network of `consistent-gen train pair_scorer`. folder: None for the shipped weights.

    Raises:
        CheckpointError: no weights, or of another kind.
        MissingExtraError: MiniLM is not installed (extra ``local``).
    """

    def __init__(self, folder: Path | None = None) -> None:
        from consistent_gen.persona.evaluate.pair_network import WORDS, PairNetwork

        place = folder or weights_folder(WEIGHTS)
        self._network, measured = PairNetwork.load(place)
        self._words = WORDS[self._network.space]()
        self.name = f"pair_scorer {folder_sha256(place)[:8]}"
        told = [f"{s['nli']:.2f} on {name}" for name, s in sorted(measured.items())]
        self.accuracy = f"accuracy of three labels {', '.join(told) or 'never measured'}"

    def relevance(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """See `PairScorer`."""
        from consistent_gen.persona.evaluate.pair_network import RELEVANCE

        found: list[float] = []
        for logits in self._asked(pairs, RELEVANCE):
            found += logits[1].sigmoid().tolist()
        return found

    def nli(self, pairs: Sequence[tuple[str, str]]) -> list[Nli]:
        """See `PairScorer`."""
        from consistent_gen.persona.evaluate.pair_network import NLI

        found: list[Nli] = []
        for logits in self._asked(pairs, NLI):
            shares = (logits[0].double() / self._network.temperature).softmax(1)
            found += [Nli(*row) for row in shares.tolist()]
        return found

    def _asked(self, pairs: Sequence[tuple[str, str]], what: int) -> list[Any]:
        import torch

        from consistent_gen.persona.evaluate.pair_network import together

        texts = list(dict.fromkeys(text for pair in pairs for text in pair))
        read = dict(zip(texts, self._words.read(texts), strict=True)) if texts else {}
        found = []
        for start in range(0, len(pairs), _BATCH):
            part = pairs[start : start + _BATCH]
            with torch.inference_mode():
                batch = together([(read[a], read[b]) for a, b in part])
                found.append(self._network(batch, torch.full((len(part),), what)))
        return found


class NliFolder:
    """Sequence classifiers in transformers folders, such as a DeBERTa trained on MNLI.

    The order of labels is read from each folder's config, since it differs between publishers.

    Args:
        nli: folder of the three-way classifier.
        relevance: folder of a classifier with two labels (no, yes), or a scorer to ask instead;
            None for the words alone.
        accuracy: what its publisher or your own test says; printed beside every score.
        form: "pair" gives premise and hypothesis as two texts; "apc" writes both into one, in the
            order of fields that APC's discriminators learnt (arXiv 2405.07726, their repository).
        character: the name that the "apc" form states.

    Raises:
        InputError: no folder, or labels that do not say what they mean.
    """

    def __init__(
        self, nli: str | Path, relevance: str | Path | PairScorer | None = None, *,
        accuracy: str = "accuracy unknown", form: Form = "pair", character: str = "",
    ) -> None:  # fmt: skip
        self.accuracy, self._form, self._character = accuracy, form, character
        self._nli = _Classifier(Path(nli))
        self._order = [self._nli.column(names) for names in _NAMES.values()]
        self.name = f"{Path(nli).name} {folder_sha256(nli)[:8]}"
        self._relevance: _Classifier | PairScorer = LexicalPairs()
        if isinstance(relevance, str | Path):
            self._relevance = _Classifier(Path(relevance))
            self._yes = self._relevance.column(("yes", "relevant", "true"), ("irrelevant",))
        elif relevance is not None:
            self._relevance = relevance

    def relevance(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """See `PairScorer`."""
        if not isinstance(self._relevance, _Classifier):
            return self._relevance.relevance(pairs)
        return [row[self._yes] for row in self._relevance.shares([self._texts(*p) for p in pairs])]

    def nli(self, pairs: Sequence[tuple[str, str]]) -> list[Nli]:
        """See `PairScorer`."""
        shares = self._nli.shares([self._texts(*pair) for pair in pairs])
        return [Nli(*(row[column] for column in self._order)) for row in shares]

    def _texts(self, statement: str, said: str) -> tuple[str, ...]:
        question, _, reply = said.partition("\n")
        if self._form == "pair":
            return statement, said.replace("\n", " ")
        lines = [f"Character: {self._character}", f"Persona Statement: {statement}",
                 f"User Utterance: {question}"]  # fmt: skip
        if reply:
            lines.append(f"Response: {reply}")
        return ("\n".join(lines),)


class _Classifier:
    def __init__(self, folder: Path) -> None:
        if not (folder / "config.json").is_file():
            raise InputError(f"{folder} is not a transformers folder; it has no config.json")
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        try:
            with quiet_loading():
                self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
                self._model = AutoModelForSequenceClassification.from_pretrained(
                    folder, local_files_only=True, use_safetensors=True
                ).eval()
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{folder} cannot be loaded: {error}") from None
        self._folder = folder
        self._labels = {int(k): str(v) for k, v in self._model.config.id2label.items()}

    def column(self, names: Sequence[str], but: Sequence[str] = ()) -> int:
        """The column whose label contains one of the names."""
        fitting = [
            i for i, label in self._labels.items()
            if any(n in label.lower() for n in names) and not any(n in label.lower() for n in but)
        ]  # fmt: skip
        if len(fitting) != 1:
            raise InputError(
                f"{self._folder} has the labels {', '.join(self._labels.values())}; expected one "
                f"that says {names[0]!r}. Name them in id2label of its config.json"
            )
        return fitting[0]

    def shares(self, texts: Sequence[tuple[str, ...]]) -> list[list[float]]:
        """Probabilities of all labels, a row a text."""
        import torch

        rows: list[list[float]] = []
        for start in range(0, len(texts), _BATCH):
            columns = [list(column) for column in zip(*texts[start : start + _BATCH], strict=True)]
            tokens = self._tokenizer(
                *columns, padding=True, truncation=True, max_length=512, return_tensors="pt"
            )
            with torch.inference_mode():
                rows += self._model(**tokens).logits.double().softmax(1).tolist()
        return rows


class LexicalPairs:
    """Shared words, numbers and negations: a fallback that knows no meaning, and says so."""

    name = "lexical fallback"
    accuracy = (
        "compares words and no meaning; accuracy of three labels 0.47 on 106 pairs that people "
        "wrote, where chance is 0.33"
    )
    _WORD = re.compile(r"\w+(?:'\w+)?")
    _NEGATIONS = word_set(
        "no not never none nothing nobody hate hates without cannot can't don't doesn't isn't "
        "wasn't won't haven't hasn't didn't"
    )

    def relevance(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """0.8 where statement and question share a word stem, else 0.2."""
        return [0.8 if self._stems(s) & self._stems(q) else 0.2 for s, q in pairs]

    def nli(self, pairs: Sequence[tuple[str, str]]) -> list[Nli]:
        """Neutral without a shared stem; else contradicted where negation or numbers differ."""
        return [self._judge(premise, hypothesis) for premise, hypothesis in pairs]

    def _judge(self, premise: str, hypothesis: str) -> Nli:
        reply = hypothesis.rpartition("\n")[2]
        if not self._stems(premise) & self._stems(reply):
            return Nli(0.15, 0.70, 0.15)
        a, b = (set(self._WORD.findall(text.casefold())) for text in (premise, reply))
        numbers = [{w for w in words if w.isdigit() or w in COUNTED} for words in (a, b)]
        unlike = all(numbers) and not numbers[0] & numbers[1]
        denied = bool(a & self._NEGATIONS) != bool(b & self._NEGATIONS)
        return Nli(0.70, 0.20, 0.10) if unlike or denied else Nli(0.10, 0.30, 0.60)

    def _stems(self, text: str) -> set[str]:
        words = self._WORD.findall(text.casefold())
        kept = [w for w in words if w not in STOP_WORDS and w not in self._NEGATIONS]
        return {re.sub(r"(?:ing|ed|es|s)$", "", w)[:6] for w in kept if len(w) > 2}
