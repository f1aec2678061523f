"""Who reads a prompt, without a library being loaded."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class PromptReader:
    """A text encoder whose tokens stand in what the network reads of a prompt.

    first: number of its first token there. length: how many it reads at most, its marks included.
    option: of a pipeline, the text that it reads. lower: whether it reads lower case.
    """

    tokenizer: Any
    first: int
    length: int
    option: str = "prompt"
    lower: bool = False

    def count(self, text: str) -> int:
        """How many tokens a text has, marks included."""
        return len(self.tokenizer(self._said(text), truncation=False, verbose=False)["input_ids"])

    def read(self, text: str) -> Mapping[str, Any]:
        """`input_ids` and `offset_mapping` (in characters, empty for marks) of what it reads."""
        found: Mapping[str, Any] = self.tokenizer(
            self._said(text), truncation=True, max_length=self.length, return_offsets_mapping=True
        )
        return found

    def cut_short(self, text: str) -> str | None:
        """A word of textual inversion that `text` says with its first vector alone, as it is
        written with all of them ("<hat> <hat>_1"); None if there is none.
        """
        known = self.tokenizer.get_added_vocab()
        for word in known.keys() & {name.removesuffix("_1") for name in known if name[-2:] == "_1"}:
            further = itertools.takewhile(known.__contains__, _numbered(word))
            whole = " ".join([word, *further])
            if word in self.tokenizer.tokenize(text.replace(whole, " ")):
                return whole
        return None

    def padded(self, text: str) -> Any:
        """`input_ids` and `attention_mask` [1 t] of a text, padded or cut to the length."""
        return self.tokenizer(
            self._said(text), padding="max_length", max_length=self.length, truncation=True,
            return_tensors="pt",
        )  # fmt: skip

    def _said(self, text: str) -> str:
        """The text as it is read, letter by letter: places in it are places in `text`."""
        if not self.lower:
            return text
        # One letter in lower case may be two characters (U+0130).
        return "".join(low if len(low := letter.lower()) == 1 else letter for letter in text)


def cut_short_words(model: str, whole: str) -> str:
    """What is said of such a word (`PromptReader.cut_short`)."""
    return (
        f"model {model!r} knows {whole.split()[0]!r} by several vectors (textual inversion); write "
        f"all of them: {whole}"
    )


def _numbered(word: str) -> Iterator[str]:
    return (f"{word}_{number}" for number in itertools.count(1))


def longest(readers: Sequence[PromptReader]) -> PromptReader:
    """Whoever reads most of a prompt: what it reads, the model reads."""
    return max(readers, key=lambda reader: reader.length)
