"""Who reads a prompt, without a library being loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class PromptReader:
    """A text encoder whose tokens stand in what the network reads of a prompt.

    first: number of its first token there. length: how many it reads at most, its marks included.
    option: of a pipeline, the text that it reads.
    """

    tokenizer: Any
    first: int
    length: int
    option: str = "prompt"

    def count(self, text: str) -> int:
        """How many tokens a text has, marks included."""
        return len(self.tokenizer(text, truncation=False, verbose=False)["input_ids"])

    def read(self, text: str) -> Mapping[str, Any]:
        """`input_ids` and `offset_mapping` (in characters, empty for marks) of what it reads."""
        found: Mapping[str, Any] = self.tokenizer(
            text, truncation=True, max_length=self.length, return_offsets_mapping=True
        )
        return found


def longest(readers: Sequence[PromptReader]) -> PromptReader:
    """Whoever reads most of a prompt: what it reads, the model reads."""
    return max(readers, key=lambda reader: reader.length)
