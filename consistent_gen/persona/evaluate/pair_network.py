"""A small network that reads two sentences together: does the second one follow from the first?

Words are read by a frozen encoder (MiniLM) or, without it, by a table of hashed words of the
network's own; a few attention layers over both sentences compare them. Made by `consistent-gen
train pair_scorer`, which tells what it learnt from.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from consistent_gen.checkpoints import load_tensors, read_json, save_tensors, write_json
from consistent_gen.errors import CheckpointError
from consistent_gen.language.embedders import MINILM_SHA256, MiniLm

KIND = "statement pair network 1"
MINILM_SPACE = f"all-minilm-l6-v2/{MINILM_SHA256[:8]}/layers"
HASHED_SPACE = "hashed words/1"
LAYERS = (0, 3, 6)  # of MiniLM: the words alone, half read, and wholly read
BUCKETS, OWN_WIDTH = 8192, 96
LONGEST = 96  # tokens of a sentence; a longer one is cut
NLI, RELEVANCE = 0, 1  # what is asked
_WORD = re.compile(r"\w+(?:'\w+)?|[^\w\s]")

Read: TypeAlias = tuple[list[int], NDArray[np.float16]]  # ids t, features t f (f 0 where hashed)


class MiniLmWords:
    """Sentences as MiniLM reads them. Raises ``MissingExtraError`` without its package."""

    space = MINILM_SPACE
    width = 384 * len(LAYERS)

    def __init__(self) -> None:
        self._model = MiniLm()

    def read(self, texts: Sequence[str]) -> list[Read]:
        """Ids and features of each text's tokens."""
        return [(i[:LONGEST], f[:LONGEST]) for i, f in self._model.layers(texts, LAYERS)]


class HashedWords:
    """Sentences as hashes of their words: needs nothing and knows nothing."""

    space = HASHED_SPACE
    width = 0

    def read(self, texts: Sequence[str]) -> list[Read]:
        """Ids below `BUCKETS` of each text's words; no features."""
        found: list[Read] = []
        for text in texts:
            words = _WORD.findall(text.casefold())[:LONGEST]
            ids = [int.from_bytes(hashlib.blake2b(w.encode(), digest_size=4).digest(), "little")
                   % BUCKETS for w in words]  # fmt: skip
            found.append((ids, np.zeros((len(ids), 0), np.float16)))
        return found


WORDS: dict[str, type[MiniLmWords] | type[HashedWords]] = {
    MINILM_SPACE: MiniLmWords,
    HASHED_SPACE: HashedWords,
}


def together(pairs: Sequence[tuple[Read, Read]]) -> dict[str, Tensor]:
    """A batch of n pairs as tensors, both sentences in a row, padded to t tokens.

    ids n t; features n t f; side n t (0 the first sentence, 1 the second); there n t bool;
    position n t, in the sentence.
    """
    longest = max(1, *(len(a[0]) + len(b[0]) for a, b in pairs))
    width = pairs[0][0][1].shape[1]
    ids, side, position = (torch.zeros(len(pairs), longest, dtype=torch.long) for _ in range(3))
    features = torch.zeros(len(pairs), longest, width)
    there = torch.zeros(len(pairs), longest, dtype=torch.bool)
    for n, (a, b) in enumerate(pairs):
        start, total = len(a[0]), len(a[0]) + len(b[0])
        ids[n, :total] = torch.tensor([*a[0], *b[0]], dtype=torch.long)
        side[n, start:total] = 1
        position[n, :total] = torch.tensor([*range(start), *range(total - start)])
        features[n, :total] = torch.from_numpy(np.concatenate([a[1], b[1]])).float()
        there[n, :total] = True
    return {"ids": ids, "features": features, "side": side, "there": there, "position": position}


class PairNetwork(nn.Module):
    """Tokens of both sentences -> answers. space: whose features it reads."""

    def __init__(self, space: str, width: int = 160, depth: int = 3, dropout: float = 0.1) -> None:
        super().__init__()
        self.space, self.width, self.depth = space, width, depth
        self.temperature = 1.0  # of the NLI answer, from pairs that it did not learn from
        self.own = nn.Embedding(BUCKETS, OWN_WIDTH) if space == HASHED_SPACE else None
        inside = OWN_WIDTH if self.own is not None else WORDS[space].width
        self.narrow = nn.Linear(inside, width)
        self.matches = nn.Linear(3, width)
        self.sides = nn.Embedding(2, width)
        self.asked = nn.Embedding(2, width)
        layer = nn.TransformerEncoderLayer(
            width, width // 32, 3 * width, dropout, "gelu", batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(width)
        self.nli = nn.Linear(width, 3)
        self.relevance = nn.Linear(width, 1)

    def forward(self, batch: dict[str, Tensor], asked: Tensor) -> tuple[Tensor, Tensor]:
        """Logits n 3 (contradicted, neutral, entailed) and n (relevant); each counts for rows
        where `asked` n says so.
        """
        ids, side, there = batch["ids"], batch["side"], batch["there"]
        words = batch["features"] if self.own is None else self.own(ids)
        h = self.narrow(words) + self.sides(side) + self.matches(_matches(words, ids, side, there))
        if self.own is not None:
            h = h + _waves(batch["position"], self.width)
        h = torch.cat([self.asked(asked)[:, None], h], 1)
        padding = torch.cat([torch.zeros_like(there[:, :1]), ~there], 1)
        h = self.norm(self.blocks(h, src_key_padding_mask=padding)[:, 0])
        return self.nli(h), self.relevance(h)[:, 0]

    def save(self, folder: str | Path, told: dict[str, Any] | None = None) -> None:
        """Write weights as float16, and beside them what was measured (`told`)."""
        config = {"kind": KIND, "space": self.space, "width": self.width, "depth": self.depth,
                  "temperature": self.temperature, "measured": told or {}}  # fmt: skip
        write_json(Path(folder) / "config.json", config)
        tensors = {name: t.half() for name, t in self.state_dict().items()}
        save_tensors(Path(folder) / "model.safetensors", tensors)

    @classmethod
    def load(cls, folder: str | Path) -> tuple[PairNetwork, dict[str, Any]]:
        """The network that `save` wrote, as float32, and what was measured.

        Raises:
            CheckpointError: the folder is missing, damaged, or holds another kind of network.
        """
        config = read_json(Path(folder) / "config.json")
        if config.get("kind") != KIND or config.get("space") not in WORDS:
            raise CheckpointError(f"{folder} holds a {config.get('kind')!r}; expected a {KIND!r}")
        model = cls(config["space"], config["width"], config["depth"])
        model.temperature = float(config["temperature"])
        tensors = load_tensors(Path(folder) / "model.safetensors")
        try:
            model.load_state_dict({name: t.float() for name, t in tensors.items()})
        except RuntimeError as error:
            raise CheckpointError(f"{folder} holds other tensors: {error}") from None
        return model.eval(), config["measured"]


def _matches(words: Tensor, ids: Tensor, side: Tensor, there: Tensor) -> Tensor:
    """How each token is met in the other sentence: the best cosine of its features, the mean of
    them, and whether the very word stands there. n t 3.
    """
    across = (side[:, :, None] != side[:, None]) & there[:, :, None] & there[:, None]
    unit = nn.functional.normalize(words, dim=2)
    cosine = (unit @ unit.transpose(1, 2)).masked_fill(~across, 0.0)
    mean = cosine.sum(2) / across.sum(2).clamp(min=1)
    same = ((ids[:, :, None] == ids[:, None]) & across).any(2)
    return torch.stack([cosine.amax(2), mean, same.to(words.dtype)], 2)


def _waves(position: Tensor, width: int) -> Tensor:
    """Sines and cosines of positions n t: n t width."""
    rates = torch.exp(torch.arange(0, width, 2) * (-math.log(1000.0) / width)).to(position.device)
    angle = position[..., None] * rates
    return torch.cat([angle.sin(), angle.cos()], 2)
