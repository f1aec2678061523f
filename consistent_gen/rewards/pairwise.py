"""PaCo-Reward's generative judge (arXiv 2512.04784): two pictures, a question, yes or no.

The score is p(yes) / (p(yes) + p(no)) of the first token of the answer. Any vision-language model
answers, in this process or behind an OpenAI-compatible endpoint that gives log-probabilities. Where
the released program differs from the paper, both are here, each by its name; and where it scores
what it should not, we do not: a judge that fails or says neither yes nor no gives no score (there:
0), both orders of the pictures are asked and averaged (there: one), and the question is always the
whole question.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from PIL import Image

from consistent_gen.errors import CheckpointError, ConsistentGenError, InputError
from consistent_gen.language.embedders import quiet_loading
from consistent_gen.language.endpoints import Endpoint, EndpointError
from consistent_gen.rewards.base import Floats, ImageSet, MetricCard, Picture, SetScore
from consistent_gen.rewards.pairs import MatrixReward, similarities

if TYPE_CHECKING:
    from torch import Tensor

YES, NO = "yes", "no"
TOP = 20  # candidates of the first token that endpoints report
ALPHA = 0.1  # weight of the first token
MAX_SIDE = 1024  # pixels that a judge is shown at most
# What is asked, by task. "{}" is the theme, criterion or instruction.
QUESTIONS = {
    "criterion": "Look at the two pictures. Do they agree in this: {}? "
    "Answer with Yes or No first, then give your reason.",
    "theme": "The two pictures belong to one series about: {}. Do they keep the same style, the "
    "same logic and the same identity? Answer with Yes or No first, then give your reason.",
    "edit consistency": "The second picture is the first one after this edit: {}. Is everything "
    "that the edit does not ask to change the same? Answer with Yes or No first, then explain.",
    "edit following": "The second picture is the first one after this edit: {}. Was the edit "
    "carried out? Answer with Yes or No first, then explain.",
}


class PairJudge(Protocol):
    """A model that is shown two pictures and asked something. `name` says which one."""

    @property
    def name(self) -> str: ...

    def first_token(self, first: Picture, second: Picture, question: str) -> Mapping[str, float]:
        """Log-probability of candidates of the answer's first token, by their text.

        Raises ``ConsistentGenError`` when there is no answer.
        """


def answer(text: str, *, canonical: bool = True) -> str | None:
    """What a token says: yes, no, or None. canonical: " Yes", "YES" and "yes." are yes as well."""
    if not canonical:
        return {"Yes": YES, "No": NO}.get(text)
    plain = text.strip(" \t\r\n.,:;!*\"'\u2581\u0120").lower()
    return plain if plain in (YES, NO) else None


def yes_no_logs(
    candidates: Mapping[str, float], *, canonical: bool = True
) -> tuple[float, float] | None:
    """Log-probabilities of yes and of no, all their forms; None if one of the two is missing.

    candidates: tokens by their text, with log-probabilities.
    """
    found: dict[str, list[float]] = {YES: [], NO: []}
    for text, logprob in candidates.items():
        said = answer(text, canonical=canonical)
        if said is not None and math.isfinite(logprob):
            found[said].append(logprob)
    if not found[YES] or not found[NO]:
        return None
    return _log_sum(found[YES]), _log_sum(found[NO])


def yes_share(candidates: Mapping[str, float], *, canonical: bool = True) -> float | None:
    """p(yes) / (p(yes) + p(no)) = sigmoid(log p(yes) - log p(no)); None if one is missing."""
    logs = yes_no_logs(candidates, canonical=canonical)
    if logs is None:
        return None
    x = logs[0] - logs[1]
    return 1.0 / (1.0 + math.exp(-x)) if x >= 0.0 else math.exp(x) / (1.0 + math.exp(x))


def _log_sum(logs: Sequence[float]) -> float:
    top = max(logs)
    return top + math.log(math.fsum(math.exp(x - top) for x in logs))


def first_token_loss(losses: Tensor, counted: Tensor, alpha: float = ALPHA) -> Tensor:
    """The paper's loss: alpha l_0 + (1 - alpha) / (n - 1) sum of the others, mean over the batch.

    losses: b t, negative log-probabilities of the answer's tokens from the first one on. counted:
    b t, 1 for tokens that are there. alpha = 1 / n is the mean over tokens. An answer of one token
    has its loss alone.
    """
    import torch

    mask = counted.to(losses.dtype)
    n = mask.sum(1)
    first = losses[:, 0] * mask[:, 0]
    others = (losses * mask).sum(1) - first
    rest = others / (n - 1.0).clamp(min=1.0)
    whole = torch.where(n > 1, alpha * first + (1.0 - alpha) * rest, first)
    return whole.mean()


def released_first_token_loss(losses: Tensor, counted: Tensor, alpha: float = ALPHA) -> Tensor:
    """What the released trainer computes: weights alpha and n (1 - alpha) / (n - 1), and a division
    by all tokens of the batch, which leaves the first token lighter than any other.
    """
    mask = counted.to(losses.dtype)
    n = mask.sum(1, keepdim=True)
    weights = (n * (1.0 - alpha) / (n - 1.0).clamp(min=1.0)).expand_as(losses).clone()
    weights[:, 0] = alpha
    found: Tensor = (weights * losses * mask).sum() / mask.sum()
    return found


JUDGE_CARD = MetricCard(
    name="pair_judge",
    says="how surely a vision-language model says that two pictures agree",
    range=(0.0, 1.0),
    symmetric=True,
    version=1,
    features="a vision-language model that is asked (transformers folder, or an endpoint)",
    resolution=f"at most {MAX_SIDE} pixels a side",
    mask="none",
    direction="higher is better",
    known_failure="untuned models of 7 billion weights are worse than CLIP at this",
    trained_on=False,
)


class YesNoReward(MatrixReward):
    """A judge's yes as the reward of a set: every pair, both orders, every question.

    questions: whole texts (see `QUESTIONS`); a pair's value is the mean over them. A pair without
    an answer to each is left out, and `failures` says why; a set without any pair is not valid.
    """

    def __init__(self, judge: PairJudge, questions: Sequence[str]) -> None:
        if not questions:
            raise InputError("a judge was asked nothing; give at least one question")
        self._judge, self._questions = judge, tuple(questions)
        self.failures: list[str] = []
        self.card = replace(JUDGE_CARD, features=judge.name)

    def matrix(self, item: ImageSet) -> Floats:
        """See `MatrixReward`."""
        self.failures = []
        shown = (*item.pictures, *item.references)
        count = len(item.pictures)
        every = [
            similarities(shown, partial(self._asked, question), both_orders=True, among=count)
            for question in self._questions
        ]
        found: Floats = np.mean(every, axis=0)
        return found

    def of_matrix(self, s: Floats, count: int) -> SetScore:
        """See `MatrixReward`; the reason is the first failure, if there was one."""
        score = super().of_matrix(s, count)
        told = self.failures[0] if self.failures else score.reason
        return SetScore(score.value, score.parts, told)

    def _asked(self, question: str, first: Picture, second: Picture) -> float | None:
        try:
            found = yes_share(self._judge.first_token(first, second, question))
        except ConsistentGenError as error:
            self.failures.append(error.message)
            return None
        if found is None:
            self.failures.append("the judge said neither yes nor no")
        return found


class EndpointJudge:
    """A model behind an OpenAI-compatible endpoint that reports log-probabilities."""

    def __init__(self, endpoint: Endpoint, model: str) -> None:
        self._endpoint, self._model = endpoint, model
        self.name = f"{model} (endpoint)"

    def first_token(self, first: Picture, second: Picture, question: str) -> Mapping[str, float]:
        """See `PairJudge`. Raises ``EndpointError`` when the reply has no log-probabilities."""
        parts: list[dict[str, Any]] = [
            {"type": "image_url", "image_url": {"url": _data_url(picture)}}
            for picture in (first, second)
        ]
        payload = {
            "model": self._model,
            "messages": [{"role": "user", "content": [*parts, {"type": "text", "text": question}]}],
            "temperature": 0.0,
            "max_tokens": 1,
            "logprobs": True,
            "top_logprobs": TOP,
        }
        reply = self._endpoint.post("chat/completions", payload)
        try:
            listed = reply["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
            found = {str(entry["token"]): float(entry["logprob"]) for entry in listed}
        except (KeyError, IndexError, TypeError, ValueError):
            found = {}
        if not found:
            raise EndpointError(
                "the endpoint gave no log-probabilities of its first token; it must support "
                "logprobs and top_logprobs"
            )
        return found


class LocalJudge:
    """A vision-language model of transformers: a folder with model and processor, on this machine.

    Raises:
        InputError: there is no such folder. CheckpointError: it holds no such model.
    """

    def __init__(self, folder: str | Path) -> None:
        from transformers import AutoModelForImageTextToText, AutoProcessor

        self._folder = Path(folder)
        if not self._folder.is_dir():
            raise InputError(f"{folder} is not a model folder; download the model first")
        options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        try:
            with quiet_loading():
                self.processor: Any = AutoProcessor.from_pretrained(folder, **options)
                self.model: Any = AutoModelForImageTextToText.from_pretrained(
                    folder, use_safetensors=True, **options
                ).eval()
        except (OSError, ValueError, KeyError) as error:
            raise CheckpointError(f"{folder} holds no vision-language model: {error}") from error
        self.name = f"{self._folder.name} (transformers)"

    def first_token(self, first: Picture, second: Picture, question: str) -> Mapping[str, float]:
        """See `PairJudge`: all tokens of the vocabulary that say yes or no in some form."""
        import torch

        inputs = self.inputs(first, second, question)
        with torch.inference_mode():
            logits = self.model(**inputs).logits[0, -1].float().log_softmax(-1)
        tokens = self._yes_and_no()
        return {text: float(logits[number]) for text, number in tokens.items()}

    def inputs(self, first: Picture, second: Picture, question: str) -> Any:
        """What the model reads, up to the answer."""
        content: list[dict[str, Any]] = [{"type": "image"}, {"type": "image"}]
        messages = [{"role": "user", "content": [*content, {"type": "text", "text": question}]}]
        text = self.processor.apply_chat_template(messages, add_generation_prompt=True)
        shown = [_shown(first), _shown(second)]
        return self.processor(text=[text], images=[shown], return_tensors="pt")

    def _yes_and_no(self) -> dict[str, int]:
        vocabulary: dict[str, int] = self.processor.tokenizer.get_vocab()
        return {text: number for text, number in vocabulary.items() if answer(text) is not None}


def _shown(picture: Picture) -> Image.Image:
    shown = Image.fromarray(picture)
    shown.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
    return shown


def _data_url(picture: Picture) -> str:
    buffer = io.BytesIO()
    _shown(picture).save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
