"""The words of a model, read from the JSON of its tokenizer: no model and no torch is loaded."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from consistent_gen.checkpoints import read_json
from consistent_gen.diffusion.readers import longest
from consistent_gen.errors import CheckpointError
from consistent_gen.models.folders import find_folder, model_name
from consistent_gen.story.plan import Model

_END = "</w>"
_BYTE_SYMBOLS = 256  # a tokenizer that has all of them can spell any word
_DEFAULT_TOKENS = 77
_PIECE = re.compile(r"[^\W\d_]+|\d|[^\w\s]+|_")


@dataclass(frozen=True)
class Vocabulary:
    """The words that a model knows.

    model: its name. words: of a closed vocabulary; None for a model that reads any word.
    room: the most words and commas of a prompt.
    """

    model: str
    words: frozenset[str] | None
    room: int

    def unknown(self, text: str) -> list[str]:
        """The words and signs of `text` that the model does not know, in order."""
        if self.words is None:
            return []
        pieces = dict.fromkeys(_PIECE.findall(text.lower()))
        return [piece for piece in pieces if piece not in self.words]

    def knows(self, text: str) -> bool:
        """Whether all words of `text` are known."""
        return not self.unknown(text)

    @staticmethod
    def count(text: str) -> int:
        """How many places the words and commas of `text` take, in a closed vocabulary."""
        return len(_PIECE.findall(text))


def vocabulary_of(model: Model) -> Vocabulary:
    """The vocabulary of a model, loaded or outlined."""
    reader = longest(model.readers)
    return Vocabulary(model.name, model.vocabulary(), reader.length - reader.count(""))


def read_vocabulary(path: str | Path | None = None) -> Vocabulary:
    """The vocabulary of the model in a folder.

    path: as in `models.load_backbone`.

    Raises:
        CheckpointError: no such folder, or it has no tokenizer that can be read.
    """
    folder = find_folder(path)
    config = read_json(folder / "tokenizer" / "tokenizer_config.json")
    if not isinstance(config, dict):
        raise CheckpointError(f"{folder / 'tokenizer'} holds no settings of a tokenizer")
    longest = config.get("model_max_length")
    room = (longest if isinstance(longest, int) and 2 < longest < 1 << 20 else _DEFAULT_TOKENS) - 2
    words = config.get("words")
    if isinstance(words, list):
        return Vocabulary(model_name(folder), frozenset(map(str, words)), room)
    return Vocabulary(model_name(folder), _closed(folder / "tokenizer"), room)


def _closed(folder: Path) -> frozenset[str] | None:
    """The words of a tokenizer that lists none: what its tokens spell in one piece."""
    if (folder / "tokenizer.json").is_file():
        stored: Any = read_json(folder / "tokenizer.json")
        tokens = stored.get("model", {}).get("vocab", {}) if isinstance(stored, dict) else {}
    elif (folder / "vocab.json").is_file():
        tokens = read_json(folder / "vocab.json")
    elif (folder / "spiece.model").is_file():
        return None  # T5's pieces spell any word
    else:
        raise CheckpointError(f"{folder} has neither tokenizer.json nor vocab.json")
    if isinstance(tokens, list) or not any(token.endswith(_END) for token in tokens):
        return None  # T5's pieces, or bytes of which a word has no end
    if sum(len(token) == 1 for token in tokens) >= _BYTE_SYMBOLS:
        return None
    found = (token[: -len(_END)] for token in tokens if token.endswith(_END))
    return frozenset(word for word in found if len(word) != 1 or word == "a" or not word.isalnum())
