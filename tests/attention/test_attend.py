"""The gathered attention against dense logits with log-masks, and its independence of company."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from consistent_gen.attention.attend import Text, attend
from consistent_gen.attention.policy import Extra, Heads

B, N, H, D, T = 4, 10, 2, 8, 3


def random(*shape: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    drawn = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return drawn.to(dtype)


def heads(dtype: torch.dtype = torch.float64) -> Heads:
    return Heads(*(random(B, N, H, D, seed=i, dtype=dtype) for i in range(3)))


def text(before: int, words: Tensor | None = None) -> Text:
    made = (random(B, T, H, D, seed=10 + i) for i in range(3))
    return Text(*made, before=before, words=words)


def extra(m: int, seed: int, **more: object) -> Extra:
    k, v = random(m, H, D, seed=seed), random(m, H, D, seed=seed + 1)
    return Extra(k, v, **more)  # type: ignore[arg-type]


def dense(q: Tensor, parts: Sequence[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
    """q [n h d]; parts of keys, values and log-mask [n m]: one softmax over all logits."""
    k, v = torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])
    logits = torch.einsum("nhd,mhd->hnm", q, k) / math.sqrt(q.shape[-1])
    weights = (logits + torch.cat([p[2] for p in parts], dim=1)).softmax(-1)
    return torch.einsum("hnm,mhd->nhd", weights, v)


def own(x: Heads, slot: int, mask: float = 0.0) -> tuple[Tensor, Tensor, Tensor]:
    return x.k[slot], x.v[slot], torch.full((N, N), mask, dtype=torch.float64)


def allowed(e: Extra) -> Tensor:
    """Log-mask [n m] of an extra: its bias where it may be read."""
    mask = torch.full((N, len(e.k)), -math.inf, dtype=torch.float64)
    mask[slice(None) if e.queries is None else e.queries] = e.bias
    return mask


def test_rows_with_and_without_extras() -> None:
    x = heads()
    gate = torch.tensor([1, 4, 5])
    other = torch.tensor([0, 7])
    x.reads = {
        0: [extra(5, 20), extra(3, 30, bias=0.7)],
        1: [extra(4, 40, queries=gate), extra(6, 50, queries=gate, bias=-1.0)],
        3: [extra(4, 60, queries=gate), extra(4, 70, queries=other), extra(2, 80)],
    }
    found, none = attend(x)
    assert none is None
    for slot in range(B):
        parts = [own(x, slot), *((e.k, e.v, allowed(e)) for e in x.reads.get(slot, []))]
        assert torch.allclose(found[slot], dense(x.q[slot], parts), atol=1e-13)


def test_a_row_that_leaves_its_own_keys_out_reads_the_extras_alone() -> None:
    x = heads()
    x.reads = {2: [extra(5, 20)]}
    x.without_self = {1, 2}  # row 1 has nothing else to read and keeps its own
    found, _ = attend(x)
    e = x.reads[2][0]
    assert torch.allclose(found[2], dense(x.q[2], [(e.k, e.v, allowed(e))]), atol=1e-13)
    assert torch.allclose(found[1], dense(x.q[1], [own(x, 1)]), atol=1e-13)


@pytest.mark.parametrize("first", [True, False])
def test_text_reads_no_extras_and_keeps_its_side(first: bool) -> None:
    x, words = heads(), text(T if first else 0)
    plain_image, plain_text = attend(x, words)
    x.reads = {0: [extra(5, 20)], 1: [extra(5, 24, queries=torch.tensor([2]))]}
    image, after = attend(x, words)
    assert after is not None and plain_text is not None
    assert torch.allclose(after, plain_text, atol=1e-13)
    keys = torch.zeros(N, T, dtype=torch.float64)
    for slot in range(B):
        parts = [
            own(x, slot),
            (words.k[slot], words.v[slot], keys),
            *((e.k, e.v, allowed(e)) for e in x.reads.get(slot, [])),
        ]
        assert torch.allclose(image[slot], dense(x.q[slot], parts), atol=1e-13)
    assert torch.equal(image[2:], plain_image[2:])


@pytest.mark.parametrize("before", [0, 1, T])
def test_padding_is_no_key_wherever_text_stands(before: int) -> None:
    """Rows of unequal lengths, with and without extras, and with none of their own image keys."""
    known = torch.tensor([[1, 1, 0], [1, 0, 0], [1, 1, 1], [1, 1, 0]], dtype=torch.bool)
    x, words = heads(), text(before, known)
    x.reads = {0: [extra(5, 20, bias=0.7)], 1: [extra(5, 24, queries=torch.tensor([2]))],
               2: [extra(4, 30)]}  # fmt: skip
    x.without_self = {2}
    image, after = attend(x, words)
    assert after is not None
    mask = torch.where(known, 0.0, -math.inf).double()  # b t
    for slot in range(B):
        said = words.k[slot], words.v[slot], mask[slot].expand(N, T)
        gone = -math.inf if slot in x.without_self else 0.0
        extras = [(e.k, e.v, allowed(e)) for e in x.reads.get(slot, [])]
        expected = dense(x.q[slot], [own(x, slot, gone), said, *extras])
        assert torch.allclose(image[slot], expected, atol=1e-13)
        unshared = [(*own(x, slot)[:2], torch.zeros(T, N).double())]
        asked = dense(words.q[slot], [*unshared, (*said[:2], mask[slot].expand(T, T))])
        assert torch.allclose(after[slot], asked, atol=1e-13)


def test_copies_of_a_key_are_a_bias() -> None:
    e = extra(5, 20)
    once, thrice = heads(), heads()
    once.reads = {0: [Extra(e.k, e.v, bias=math.log(3))]}
    thrice.reads = {0: [e, e, e]}
    assert torch.allclose(attend(once)[0], attend(thrice)[0], atol=1e-13)


def test_a_bias_towards_minus_infinity_is_no_sharing() -> None:
    plain, biased = heads(), heads()
    biased.reads = {0: [extra(5, 20, bias=-60.0)]}
    assert torch.allclose(attend(plain)[0], attend(biased)[0], atol=1e-13)


def test_replacing_by_oneself_is_no_sharing() -> None:
    plain, replaced = heads(), heads()
    replaced.reads = {0: [Extra(replaced.k[0], replaced.v[0])]}
    replaced.without_self = {0}
    assert torch.allclose(attend(plain)[0], attend(replaced)[0], atol=1e-13)


def test_a_row_knows_nothing_of_its_company() -> None:
    """Bytes, in float32: alone, beside readers, and in a group of readers."""
    plain = attend(heads(torch.float32))[0]
    mixed = heads(torch.float32)
    mixed.reads = {1: [extra(5, 20)], 2: [extra(5, 24)]}
    found = attend(mixed)[0]
    assert torch.equal(found[0], plain[0])
    assert torch.equal(found[3], plain[3])
    alone = heads(torch.float32)
    alone.reads = {1: [extra(5, 20)]}
    assert torch.equal(attend(alone)[0][1], found[1])


def test_empty_extras_are_none() -> None:
    plain, empty = heads(torch.float32), heads(torch.float32)
    empty.reads = {0: [extra(0, 20)], 1: [extra(3, 24, queries=torch.empty(0, dtype=torch.long))]}
    assert torch.equal(attend(plain)[0], attend(empty)[0])
