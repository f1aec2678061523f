"""Word-level CLIP tokenizers: every word of a closed vocabulary is exactly one token.

`CLIPTokenizer` is a byte-pair encoder, so a word becomes one token only if merges lead to it.
`word_tokenizer` adds merges word by word: it encodes the word with the merges so far and joins
what is left from the left. New merges rank last, so they never disturb a word that was complete
before them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

END = "</w>"
START_TOKEN, END_TOKEN = "<|startoftext|>", "<|endoftext|>"
_SPACE = "\u0120"  # how byte-level encoders write a space
# A byte-level encoder that can spell any text has all 256 byte symbols.
_BYTE_SYMBOLS = 256


def word_tokenizer(words: Iterable[str], *, max_tokens: int = 77, spells: bool = False) -> Any:
    """A `CLIPTokenizer` that knows exactly `words` (lower case; letters only, or punctuation).

    `max_tokens` counts the start and end marks. The word list is stored with the tokenizer. With
    `spells` it can spell all other words, too, as published ones can, and no list is stored.
    """
    from transformers import CLIPTokenizer

    # Its annotation says list[str], but it hands pairs on to the tokenizers library as they are.
    build: Any = CLIPTokenizer
    known = sorted(set(words))
    symbols = sorted({mark for word in known for mark in _symbols(word)})
    merges = _merges(map(_symbols, known))
    # Two merges can make the same token; ids must not have gaps.
    tokens = dict.fromkeys([START_TOKEN, END_TOKEN, *symbols, *(a + b for a, b in merges)])
    stored = {"words": known}
    if spells:
        from tokenizers.pre_tokenizers import ByteLevel

        letters = sorted(ByteLevel.alphabet())
        tokens |= dict.fromkeys([*letters, *(letter + END for letter in letters)])
        stored = {}
    vocabulary = {token: index for index, token in enumerate(tokens)}
    return build(vocab=vocabulary, merges=merges, model_max_length=max_tokens, **stored)


def byte_vocabulary(
    words: Iterable[str], *, marks: Iterable[str]
) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges of a byte-level encoder (as of GPT-2 and Qwen) that has each of `words`
    as one token, alone and after a space, and spells all others. marks: its special tokens.
    """
    from tokenizers.pre_tokenizers import ByteLevel

    known = sorted(set(words))
    merges = _merges([*before, *word] for word in known for before in ("", _SPACE))
    tokens = dict.fromkeys([*marks, *sorted(ByteLevel.alphabet()), *(a + b for a, b in merges)])
    return {token: index for index, token in enumerate(tokens)}, merges


def closed_vocabulary(tokenizer: Any) -> frozenset[str] | None:
    """The words that `tokenizer` knows as one token each; None if it can spell any word."""
    stored = tokenizer.init_kwargs.get("words")
    if stored is not None:
        return frozenset(stored)
    vocabulary = tokenizer.get_vocab()
    if sum(len(token) == 1 for token in vocabulary) >= _BYTE_SYMBOLS:
        return None
    if not any(token.endswith(END) for token in vocabulary):
        return None  # of another kind, as T5's: its letters spell all words
    # One letter with an end mark is a building block of longer words, and rarely a word itself.
    words = (token[: -len(END)] for token in vocabulary if token.endswith(END))
    return frozenset(word for word in words if len(word) != 1 or word == "a" or not word.isalnum())


def unknown_words(tokenizer: Any, prompt: str) -> list[str]:
    """Words of `prompt`, as typed and in order, that a closed vocabulary lacks."""
    known = closed_vocabulary(tokenizer)
    if known is None:
        return []
    missing: dict[str, None] = {}
    for word in prompt.split():
        pieces = tokenizer.tokenize(word)
        whole = all(p.endswith(END) and p[: -len(END)] in known for p in pieces)
        if not (whole and pieces):
            missing[word.strip(".,;:!?\"'()") or word] = None
    return list(missing)


def _symbols(word: str) -> list[str]:
    return [*word[:-1], word[-1] + END]


def _merges(spellings: Iterable[list[str]]) -> list[tuple[str, str]]:
    """Merges that make one token of each spelling, which is a list of symbols."""
    rank: dict[tuple[str, str], int] = {}
    for symbols in spellings:
        # A new merge can also apply further on in its own word, so encode again after each.
        while len(pieces := _encode(symbols, rank)) > 1:
            rank[pieces[0], pieces[1]] = len(rank)
    return list(rank)


def _encode(symbols: list[str], rank: dict[tuple[str, str], int]) -> list[str]:
    """Byte-pair encoding: join the pair of the lowest rank until no pair has one."""
    while True:
        pairs = [pair for pair in itertools.pairwise(symbols) if pair in rank]
        if not pairs:
            return symbols
        best = min(pairs, key=rank.__getitem__)
        joined: list[str] = []
        for symbol in symbols:
            if joined and (joined[-1], symbol) == best:
                joined[-1] += symbol
            else:
                joined.append(symbol)
        symbols = joined
