"""The caption probe reads what a caption names, and nothing that it leaves out."""

from __future__ import annotations

import torch

from consistent_gen.training.probes import CaptionProbe, caption_targets
from consistent_gen.training.truth import schema
from consistent_gen.world.captions import words_of
from consistent_gen.world.dataset import StoryWorld

TOKENS = 64


def test_states_at_the_ends_of_phrases_and_text_are_read() -> None:
    """Only these states get a gradient, and a probe that learns from them alone is soon right."""
    world = StoryWorld("train")
    captions = [world.caption(i, share=1.0) for i in range(8)]
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(8, TOKENS, 48, generator=generator).requires_grad_()
    probe = CaptionProbe(schema(), 48)
    probe.loss(states, caption_targets(schema(), captions)).backward()
    assert states.grad is not None
    touched = states.grad.abs().sum(-1).nonzero().tolist()
    expected = {(row, end) for row, c in enumerate(captions) for _, end in c.spans}
    expected |= {(row, 1 + len(words_of(c.text))) for row, c in enumerate(captions)}
    assert set(map(tuple, touched)) == expected
    optimizer = torch.optim.AdamW(probe.parameters(), lr=0.05, weight_decay=0.0)
    for _ in range(60):
        optimizer.zero_grad()
        loss = probe.loss(states.detach(), caption_targets(schema(), captions))
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1


def test_what_is_not_named_teaches_nothing() -> None:
    world = StoryWorld("train")
    bare = world.caption(0, share=0.0)
    probe = CaptionProbe(schema(), 8)
    probe.loss(torch.randn(1, TOKENS, 8), caption_targets(schema(), [bare])).backward()
    assert probe.at_phrase.bias.grad is not None
    groups = probe.at_phrase.bias.grad.split([len(v) for v in probe.phrase.values()])
    named = {name for phrase in bare.named for name in phrase}
    taught = {n for n, g in zip(probe.phrase, groups, strict=True) if g.abs().sum() > 0}
    assert taught == named & set(probe.phrase) and "kind" in taught


def test_a_picture_without_words_costs_nothing() -> None:
    states = torch.randn(1, TOKENS, 8, requires_grad=True)
    loss = CaptionProbe(schema(), 8).loss(states, caption_targets(schema(), [None]))
    loss.backward()
    assert loss.item() == 0.0 and states.grad is not None and not states.grad.any()
