from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import CLIPTokenizer

from consistent_gen.models.words import closed_vocabulary, unknown_words, word_tokenizer

WORDS = st.lists(st.text("abno", min_size=1, max_size=7), min_size=1, max_size=30, unique=True)


@given(WORDS)
@settings(max_examples=60, deadline=None)
def test_every_word_is_one_token_whatever_the_words(words: list[str]) -> None:
    # Few letters and many overlaps: the case in which merges get into each other's way.
    tokenizer = word_tokenizer(words)
    for word in words:
        assert tokenizer.tokenize(word) == [word + "</w>"]
    ids = tokenizer(" ".join(words))["input_ids"]
    assert len(ids) == len(words) + 2
    assert len(set(ids)) == len(ids)


@given(WORDS, st.text("abno", min_size=1, max_size=7))
@settings(max_examples=60, deadline=None)
def test_unknown_is_exactly_what_was_not_listed(words: list[str], other: str) -> None:
    tokenizer = word_tokenizer(words)
    assert unknown_words(tokenizer, " ".join(words)) == []
    assert unknown_words(tokenizer, other) == ([] if other in words else [other])


def test_unknown_words_keep_their_order_and_spelling() -> None:
    tokenizer = word_tokenizer(["a", "fox", "reads", ",", "."])
    assert unknown_words(tokenizer, "A Unicorn, a fox, foxes read. Unicorn") == [
        "Unicorn",
        "foxes",
        "read",
    ]
    assert unknown_words(tokenizer, "a fox é") == ["é"]


def test_punctuation_is_known_only_if_listed() -> None:
    tokenizer = word_tokenizer(["fox", ","])
    assert unknown_words(tokenizer, "fox , fox,") == []
    assert unknown_words(tokenizer, "fox!") == ["fox"]


def test_words_survive_saving(tmp_path: Path) -> None:
    words = ["a", "an", "fox", "banana", "ban", "."]
    word_tokenizer(words, max_tokens=9).save_pretrained(tmp_path)
    loaded = CLIPTokenizer.from_pretrained(tmp_path, local_files_only=True)
    assert closed_vocabulary(loaded) == set(words)
    assert loaded.tokenize("banana ban an a fox.") == [
        f"{w}</w>" for w in ("banana", "ban", "an", "a", "fox", ".")
    ]
    assert loaded.model_max_length == 9


@pytest.mark.parametrize(("extra", "expected"), [(0, {"a", "fox", "."}), (600, None)])
def test_without_a_word_list_the_vocabulary_decides(extra: int, expected: set[str] | None) -> None:
    vocabulary = {"<|startoftext|>": 0, "<|endoftext|>": 1}
    for token in ("f", "o", "x</w>", "a</w>", ".</w>", "fo", "fox</w>"):
        vocabulary[token] = len(vocabulary)
    for code in range(extra):
        vocabulary[chr(0x4E00 + code)] = len(vocabulary)
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=[("f", "o"), ("fo", "x</w>")])
    assert closed_vocabulary(tokenizer) == expected
