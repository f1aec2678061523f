"""Pair scorers: what they learn from, the recipe at toy size, folders, and who admits to what."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from consistent_gen.errors import CheckpointError, InputError
from consistent_gen.language.embedders import minilm_folder
from consistent_gen.persona import Nli, PairScorer
from consistent_gen.persona.evaluate import pair_network
from consistent_gen.persona.evaluate.pair_scorer import (
    LexicalPairs,
    NliFolder,
    TrainedPairs,
    asked_and_said,
)
from consistent_gen.training import pair_scorer
from consistent_gen.training.statement_pairs import (
    LABELS,
    TABLE,
    generate,
    read_pairs,
    topics,
)

WRITTEN = Path(__file__).parents[2] / "benchmarks" / "persona_pairs"


def test_pairs_are_balanced_and_never_reuse_what_is_held_out() -> None:
    made = {part: generate(part, 1500, 3) for part in ("train", "words", "templates", "both")}
    assert made["train"] == generate("train", 1500, 3)
    for pairs in made.values():
        shares = Counter(pair.label for pair in pairs)
        assert min(shares.values()) > 0.28 * len(pairs)
    places = {"Tokyo", "Nairobi", "Havana", "Texas", "Brazil"}  # two of them are held out
    seen = {p for p in places for pair in made["train"] if pair.statement.endswith(f"in {p}.")}
    held = {p for p in places for pair in made["words"] if pair.statement.endswith(f"in {p}.")}
    assert not seen & held
    # No sentence of a held-out template and word can have been learnt.
    learnt = {pair.statement for pair in made["train"]}
    assert not learnt & {pair.statement for pair in made["both"]}
    assert len({topic.name for topic in topics()[0]}) == len(topics()[0])


def test_written_pairs_are_enough_and_a_broken_table_is_refused(tmp_path: Path) -> None:
    opened, closed = (read_pairs(WRITTEN / f"{name}.tsv") for name in ("open", "closed"))
    assert len(opened) + len(closed) >= 150
    assert 0.3 < len(closed) / (len(opened) + len(closed)) < 0.36
    table = tmp_path / "pairs.tsv"
    table.write_text(f"{TABLE}\nmaybe\t1\ta\tb\tc\n")
    with pytest.raises(InputError, match="line 2"):
        read_pairs(table)
    table.write_text("a\tb\n")
    with pytest.raises(InputError, match="columns"):
        read_pairs(table)


def toy(folder: Path, images: int) -> pair_scorer.PairScorerConfig:
    return pair_scorer.PairScorerConfig(
        run=folder / "run", space=pair_network.HASHED_SPACE, pairs=60, images=images, batch=16,
        held_out=12, width=32, depth=1, warmup_images=32, every_s=0.0, threads=1, device="cpu",
        written=WRITTEN / "open.tsv", closed=WRITTEN / "closed.tsv",
    )  # fmt: skip


def test_the_recipe_at_toy_size(tmp_path: Path) -> None:
    config = toy(tmp_path, 160)
    scores = pair_scorer.main(config)
    assert scores["closed"]["pairs"] == 51
    scorer = TrainedPairs(config.run / "weights")
    assert isinstance(scorer, PairScorer)
    assert "51 pairs that people wrote" in scorer.accuracy
    pairs = [("I keep bees.", "No."), ("I keep bees.", "Why?"), ("My name is Ana.", "I'm Ana.")]
    found = scorer.nli(pairs)
    assert [n.label for n in found] == [n.label for n in scorer.nli(pairs)]
    # A batch does not change what one of it gets.
    assert scorer.nli(pairs[:1])[0].entailed == pytest.approx(found[0].entailed, abs=1e-5)
    assert all(0.0 <= p <= 1.0 for p in scorer.relevance(pairs))
    assert scorer.nli([]) == []
    # Stopped and gone on is as if never stopped.
    half = replace(config, run=tmp_path / "half", decay_share=0.0)
    pair_scorer.main(replace(half, images=80))
    pair_scorer.main(replace(half, images=160))
    whole = replace(half, run=tmp_path / "whole", images=160)
    pair_scorer.main(whole)
    twice, once = ((c.run / "weights" / "model.safetensors").read_bytes() for c in (half, whole))
    assert twice == once


def test_other_weights_are_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"kind": "pair network 2"}))
    with pytest.raises(CheckpointError, match="expected a 'statement pair network"):
        TrainedPairs(tmp_path)


def test_padding_says_nothing() -> None:
    torch.manual_seed(0)
    network = pair_network.StatementPairNetwork(pair_network.HASHED_SPACE, 32, 1).eval()
    words = pair_network.HashedWords().read(["I keep bees.", "Yes.", "It rains and rains again."])
    short = pair_network.together([(words[0], words[1])])
    padded = pair_network.together([(words[0], words[1]), (words[0], words[2])])
    alone = network(short, torch.tensor([0]))[0][0]
    assert torch.allclose(alone, network(padded, torch.tensor([0, 0]))[0][0], atol=1e-5)


def classifier(folder: Path, labels: list[str]) -> Path:
    """A DeBERTa classifier of a few hundred weights with its tokenizer, as a folder on disk."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        DebertaV2Config,
        DebertaV2ForSequenceClassification,
        PreTrainedTokenizerFast,
    )

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "i", "keep", "bees", "no", "yes"]
    core = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]",
        sep_token="[SEP]",
    )  # fmt: skip
    torch.manual_seed(0)
    config = DebertaV2Config(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16, id2label=dict(enumerate(labels)),
        label2id={label: i for i, label in enumerate(labels)},
    )  # fmt: skip
    DebertaV2ForSequenceClassification(config).eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_a_folder_is_read_by_its_labels(tmp_path: Path) -> None:
    """The same weights under two orders of labels give the same columns, rearranged."""
    usual = classifier(tmp_path / "a", ["CONTRADICTION", "NEUTRAL", "ENTAILMENT"])
    other = classifier(tmp_path / "b", ["entailment", "neutral", "contradiction"])
    pairs = [("i keep bees", asked_and_said("yes", "no")), ("bees", "i keep")]
    a, b = NliFolder(usual).nli(pairs), NliFolder(other).nli(pairs)
    for x, y in zip(a, b, strict=True):
        assert (x.contradicted, x.neutral) == pytest.approx((y.entailed, y.neutral))
    relevance = classifier(tmp_path / "c", ["no", "yes"])
    scorer = NliFolder(usual, relevance, form="apc", character="Mia", accuracy="0.9 on theirs")
    assert isinstance(scorer, PairScorer)
    assert scorer.accuracy == "0.9 on theirs"
    assert 0.0 < scorer.relevance([("i keep bees", "yes")])[0] < 1.0
    assert scorer.nli(pairs) != a  # written as APC's discriminators read it
    with pytest.raises(InputError, match="id2label"):
        NliFolder(classifier(tmp_path / "d", ["LABEL_0", "LABEL_1", "LABEL_2"]))
    with pytest.raises(InputError, match="not a transformers folder"):
        NliFolder(tmp_path / "nowhere")


def test_the_fallback_says_what_it_is_worth() -> None:
    pairs = read_pairs(WRITTEN / "open.tsv")
    said = LexicalPairs().nli([(p.statement, asked_and_said(p.question, p.reply)) for p in pairs])
    right = sum(n.label + 1 == p.label for n, p in zip(said, pairs, strict=True)) / len(pairs)
    assert f"{right:.2f} on {len(pairs)} pairs" in LexicalPairs.accuracy
    assert LexicalPairs().nli([("I have two cats.", "I have seven cats.")])[0].label == -1
    assert isinstance(LexicalPairs(), PairScorer)


@pytest.mark.weights
@pytest.mark.skipif(minilm_folder() is None, reason="MiniLM is in the extra `local`")
def test_the_shipped_weights_are_as_good_as_they_say() -> None:
    scorer = TrainedPairs()
    pairs = read_pairs(WRITTEN / "closed.tsv")
    said = scorer.nli([(p.statement, asked_and_said(p.question, p.reply)) for p in pairs])
    right = sum(LABELS[n.label + 1] == LABELS[p.label] for n, p in zip(said, pairs, strict=True))
    assert f"{right / len(pairs):.2f} of three labels on {len(pairs)} pairs" in scorer.accuracy
    denied = Nli(0.9, 0.05, 0.05)
    assert scorer.nli([("I keep bees.", "I have no animals at all.")])[0].label == denied.label
