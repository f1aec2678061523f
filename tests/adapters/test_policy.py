"""What holds of every adapter in attention, exactly where it can be exact."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from consistent_gen.adapters.adapter import Adapter
from consistent_gen.adapters.layout import BACKGROUND, TokenLayout, person
from consistent_gen.adapters.policy import (
    BranchRules,
    Capture,
    IdentityPolicy,
    IdentityTokens,
)
from consistent_gen.adapters.scales import ScalePlan
from consistent_gen.attention.layers import Site, find_sites
from consistent_gen.attention.patch import attached
from consistent_gen.attention.policy import AttentionPolicy
from consistent_gen.attention.rows import Call, Row
from consistent_gen.errors import ConsistentGenError, InputError
from tests.adapters.toys import (
    LATENT,
    SYSTEM_NAMES,
    TEXT,
    WIDTH,
    call_of,
    denoise,
    noise,
    small,
    small_unet,
    somebody,
)
from tests.attention.toys import state

OFF = ScalePlan(image=0.0, lora=0.0)
FULL = ScalePlan()


@pytest.fixture(scope="module")
def unet() -> Any:
    return small_unet(dtype=torch.float64)


def drawn(
    unet: Any, adapter: Adapter, shown: dict[str, IdentityTokens | None], *,
    capture: Capture | None = None, rows: list[str] | None = None, step: int = 0, **more: Any,
) -> Tensor:  # fmt: skip
    """The prediction of a guided call, frames by name; None shows nobody."""
    policy = adapter.policy(capture=capture)
    frames = rows or list(shown)
    with attached(unet, policy), torch.no_grad():
        for frame, identities in shown.items():
            policy.show(frame, identities)
        policy.begin(call_of(frames, step=step))
        out = denoise(unet, 2 * len(frames), **more)
        policy.end()
    return out


def plain(unet: Any, rows: int, **more: Any) -> Tensor:
    with torch.no_grad():
        return denoise(unet, rows, **more)


@pytest.mark.parametrize("name", SYSTEM_NAMES)
def test_off_is_the_model_itself(unet: Any, name: str) -> None:
    """Also with weights that are no numbers: what is off is skipped, not multiplied by 0."""
    adapter = small(name, unet)
    before, base = state(unet), plain(unet, 2)
    cast = [somebody(adapter, 1)]
    on = drawn(unet, adapter, {"a": adapter.identities(cast, plan=FULL)})
    assert not torch.allclose(on, base, atol=1e-3)
    identities = adapter.identities(cast, plan=OFF)
    for weight in adapter.attention.parameters():
        weight.data.fill_(torch.nan)
    assert torch.equal(drawn(unet, adapter, {"a": identities}), base)
    assert state(unet) == before


def test_the_lora_acts_without_the_branch_and_is_nothing_at_first(unet: Any) -> None:
    base = plain(unet, 2)
    lora_only = ScalePlan(image=0.0)
    adapter = small("faceid", unet)
    shown = adapter.identities([somebody(adapter, 1)], plan=lora_only)
    assert not torch.allclose(drawn(unet, adapter, {"a": shown}), base, atol=1e-4)
    fresh = small("faceid", unet, trained=False)
    shown = fresh.identities([somebody(fresh, 1)], plan=lora_only)
    assert torch.equal(drawn(unet, fresh, {"a": shown}), base)


@pytest.mark.parametrize("name", ["ip_adapter", "faceid", "consistent_id", "storymaker", "pulid"])
def test_rows_do_not_know_each_other(unet: Any, name: str) -> None:
    """Rows that show nobody are the model's own, and who sits beside a row changes nothing."""
    adapter = small(name, unet)
    mia, bruno = (adapter.identities([somebody(adapter, i)]) for i in (1, 2))
    base = plain(unet, 6)
    out = drawn(unet, adapter, {"a": mia, "b": None, "c": bruno})
    assert torch.allclose(out[1::3], base[1::3], atol=1e-12)
    assert not torch.allclose(out[0::3], base[0::3], atol=1e-4)
    other = drawn(unet, adapter, {"a": bruno, "b": None, "c": bruno})
    assert torch.equal(out[[1, 2, 4, 5]], other[[1, 2, 4, 5]])
    assert not torch.allclose(out[3], other[3], atol=1e-4)


def test_without_the_prompt_nobody_is_known(unet: Any) -> None:
    """The uncond row depends on features without the prompt alone, which are nobody's."""
    adapter = small("storymaker", unet)
    mia, bruno = (adapter.identities([somebody(adapter, i)]) for i in (1, 2))
    assert torch.equal(mia.uncond, bruno.uncond)
    assert not torch.equal(mia.cond, bruno.cond)
    assert torch.equal(drawn(unet, adapter, {"a": mia})[0], drawn(unet, adapter, {"a": bruno})[0])


def test_features_without_the_prompt_are_a_switch(unet: Any) -> None:
    """Of zeros as StoryMaker is drawn, or of a picture of zeros as it is trained."""
    zeros, pixels = (small("storymaker", unet, uncond=u) for u in ("features", "pixels"))
    mia = somebody(zeros, 1)
    assert not torch.equal(zeros.identities([mia]).uncond, pixels.identities([mia]).uncond)
    blind = replace(mia, features={k: replace(f, blank=None) for k, f in mia.features.items()})
    zeros.identities([blind])
    with pytest.raises(InputError, match="reads in a picture of zeros"):
        pixels.identities([blind])
    plain_background = small("storymaker", unet, learned_background=False)
    tokens = plain_background.identities([mia])
    span = tokens.layout.span(BACKGROUND)
    assert torch.count_nonzero(tokens.uncond[span]) == 0
    assert torch.count_nonzero(tokens.cond[span]) > 0


def first_cross(unet: Any) -> Site:
    return next(site for site in find_sites(unet).values() if site.kind == "cross")


def branch_of(
    unet: Any, adapter: Adapter, identities: IdentityTokens, rules: BranchRules | None = None
) -> Tensor:
    """What the branch of the first cross-attention layer adds to a cond row, [n h d]."""
    site = first_cross(unet)
    policy = IdentityPolicy(adapter.attention, rules or adapter.rules, FULL)
    policy.show("a", identities)
    policy.begin(call_of(["a"]))
    heads = unet.get_submodule(site.name).heads
    n = site.grid(LATENT)[0] * site.grid(LATENT)[1]
    q = noise((2, n, heads, site.channels // heads), 8).double()
    with torch.no_grad():
        return policy.branch(q, noise(tuple(q.shape), 9).double(), site)[1]


def halves() -> dict[int, Tensor]:
    left = torch.zeros(64, 96)
    left[:, :48] = 1.0
    return {0: left, 1: 1.0 - left}


@pytest.mark.parametrize("combine", ["joint", "separate"])
@pytest.mark.parametrize("name", ["ip_adapter_plus", "storymaker"])
def test_a_mask_is_exact_in_a_layer(unet: Any, name: str, combine: Any) -> None:
    """Outside its mask a character changes exactly nothing; where nobody may be, and there is no
    background, the branch is exactly zero.
    """
    adapter = small(name, unet)
    rules = BranchRules(combine=combine)
    mia, bruno, tom = (somebody(adapter, i) for i in (1, 2, 3))
    masks = {0: halves()[0], 1: torch.zeros(64, 96)}

    def drawn_with(other: Any) -> Tensor:
        return branch_of(unet, adapter, adapter.identities([other, mia], masks=masks, plan=FULL),
                         rules)  # fmt: skip

    one, two = drawn_with(bruno), drawn_with(tom)
    left = (halves()[0][::8, ::8] > 0).flatten()
    assert torch.equal(one[~left], two[~left])
    assert not torch.allclose(one[left], two[left], atol=1e-3)
    if name == "ip_adapter_plus":
        assert torch.count_nonzero(one[~left]) == 0


def test_one_character_everywhere_is_no_mask(unet: Any) -> None:
    adapter = small("ip_adapter_plus", unet)
    ones = {0: torch.ones(64, 96)}
    alone = [somebody(adapter, 1)]
    without = branch_of(unet, adapter, adapter.identities(alone))
    assert torch.equal(branch_of(unet, adapter, adapter.identities(alone, masks=ones)), without)
    separate = BranchRules(combine="separate")
    found = branch_of(unet, adapter, adapter.identities(alone, masks=ones), separate)
    assert torch.allclose(found, without, atol=1e-12)


def test_two_characters_in_one_softmax_are_not_two_softmaxes(unet: Any) -> None:
    adapter = small("ip_adapter_plus", unet)
    both = adapter.identities([somebody(adapter, 1), somebody(adapter, 2)],
                              masks={0: torch.ones(64, 96), 1: torch.ones(64, 96)})  # fmt: skip
    joint = branch_of(unet, adapter, both)
    separate = branch_of(unet, adapter, both, BranchRules(combine="separate"))
    assert not torch.allclose(joint, separate, atol=1e-3)
    # Ones are no mask, in either.
    free = replace(both, masks={})
    assert torch.equal(branch_of(unet, adapter, free), joint)
    alone = BranchRules(combine="separate")
    assert torch.allclose(branch_of(unet, adapter, free, alone), separate, atol=1e-12)
    mia, bruno = (adapter.identities([somebody(adapter, i)]) for i in (1, 2))
    summed = branch_of(unet, adapter, mia) + branch_of(unet, adapter, bruno)
    assert torch.allclose(separate, summed, atol=1e-10)


def test_order_within_a_group_is_irrelevant(unet: Any) -> None:
    adapter = small("storymaker", unet)
    shown = adapter.identities([somebody(adapter, 1)])
    face = shown.layout.span(person(0, "face"))
    turned = shown.cond.clone()
    turned[face] = shown.cond[face].flip(0)
    assert torch.allclose(
        branch_of(unet, adapter, shown), branch_of(unet, adapter, replace(shown, cond=turned)),
        atol=1e-12,
    )  # fmt: skip


def test_order_of_people_counts_through_positions_only(unet: Any) -> None:
    adapter = small("storymaker", unet)
    mia, bruno = somebody(adapter, 1), somebody(adapter, 2)

    def drawn_with(people: list[Any]) -> Tensor:
        return branch_of(unet, adapter, adapter.identities(people))

    one, two = drawn_with([mia, bruno]), drawn_with([bruno, mia])
    assert not torch.allclose(one, two, atol=1e-3)
    positions = adapter.projector.pos_embed
    learned = positions.data.clone()
    positions.data[:2] = learned[:2].flip(0)
    assert torch.allclose(drawn_with([bruno, mia]), one, atol=1e-12)
    positions.data.zero_()
    assert torch.allclose(drawn_with([mia, bruno]), drawn_with([bruno, mia]), atol=1e-12)


def test_maps_sum_to_one_and_the_open_softmax_is_the_fused_one(unet: Any) -> None:
    adapter = small("storymaker", unet)
    both = adapter.identities([somebody(adapter, 1), somebody(adapter, 2)], masks=halves())
    capture = Capture(lambda site: True, text=True)
    seen = drawn(unet, adapter, {"a": both}, capture=capture)
    assert torch.allclose(seen, drawn(unet, adapter, {"a": both}), atol=1e-10)
    crossing = sum(site.kind == "cross" for site in find_sites(unet).values())
    assert len(capture.words) == crossing
    assert len(capture.branch) == 2 * crossing  # rows are computed alone where nobody learns
    for one in capture.branch:
        assert torch.allclose(one.attention.sum(-1), torch.ones(()).double())
    for one in capture.words:
        assert one.attention.shape[0] == 2
        assert one.attention.shape[-1] == TEXT
    groups = both.layout.sums(capture.branch[0].attention, [person(0), person(1), BACKGROUND])
    assert torch.allclose(groups.sum(-1), torch.ones(()).double())
    capture.clear()
    assert not capture.branch and not capture.words
    adapter.rules = BranchRules(combine="separate", zeros=2)
    apart = drawn(unet, adapter, {"a": both}, capture=capture)
    assert torch.allclose(apart, drawn(unet, adapter, {"a": both}), atol=1e-10)
    paths = [person(0), person(1), BACKGROUND]
    shares = both.layout.sums(capture.branch[0].attention, paths)
    assert ((shares > 0.0) & (shares < 1.0)).all(), "each has a softmax of its own, with zeros"


def test_zero_tokens_dilute_and_the_residual_is_orthogonal(unet: Any) -> None:
    adapter = small("pulid", unet, mode="plain")
    shown = adapter.identities([somebody(adapter, 1)])
    sizes = [
        float(branch_of(unet, adapter, shown, BranchRules(zeros=zeros)).norm())
        for zeros in (0, 8, 64)
    ]
    assert sizes == sorted(sizes, reverse=True)
    added = branch_of(unet, adapter, shown, BranchRules(residual="orthogonal"))
    attended = noise((2, *added.shape), 9).double()[1]
    along = (added * attended).sum(0)  # over the picture, per channel
    assert torch.allclose(along, torch.zeros_like(along), atol=1e-4)
    whole = branch_of(unet, adapter, shown)
    assert (whole * attended).sum(0).abs().max() > 1.0
    weighted = branch_of(unet, adapter, shown, BranchRules(residual="orthogonal_weighted"))
    assert not torch.allclose(weighted, added, atol=1e-4)
    # If all attention is on the first tokens, nothing is taken away.
    few = BranchRules(residual="orthogonal_weighted", first=len(shown.cond))
    assert torch.allclose(branch_of(unet, adapter, shown, few), whole, atol=1e-5)


def test_a_plan_is_a_pure_function(unet: Any) -> None:
    adapter = small("faceid", unet)
    mia = [somebody(adapter, 1)]
    always = {"a": adapter.identities(mia, plan=FULL)}
    until = {"a": adapter.identities(mia, plan=ScalePlan(stop=0.5))}
    base = plain(unet, 2)
    for step in range(4):
        wanted = drawn(unet, adapter, always) if step < 2 else base
        assert torch.equal(drawn(unet, adapter, until, step=step), wanted)
    assert torch.equal(drawn(unet, adapter, until, step=0), drawn(unet, adapter, always))
    site = first_cross(unet)
    layout = TokenLayout((("char:0/face", 4), ("char:0/body", 2), ("char:1/face", 4)))
    plan = ScalePlan(image=0.5, layers={"down": 2.0, site.name: 3.0},
                     groups={"char:0": 0.1, "char:0/body": 0.0})  # fmt: skip
    assert plan.branch_at(0, 4, site, layout) == pytest.approx((0.15, 0.0, 1.5))
    up = next(s for s in find_sites(unet).values() if s.block == "up")
    assert plan.branch_at(0, 4, up, layout) == (0.0, 0.0, 0.0)
    assert ScalePlan(fuse_after=0.6).fuses(30, 50) is False
    assert ScalePlan(fuse_after=0.6).fuses(31, 50) is True
    for wrong in ({"image": -1.0}, {"start": 0.6, "stop": 0.5}, {"lora": float("nan")}):
        with pytest.raises(InputError):
            ScalePlan(**wrong)


def test_weights_of_characters(unet: Any) -> None:
    adapter = small("storymaker", unet)
    mia, bruno = somebody(adapter, 1), somebody(adapter, 2)
    shown = adapter.identities([mia, replace(bruno, weight=0.0)])
    assert shown.plan is not None
    weights = shown.plan.branch_at(0, 4, first_cross(unet), shown.layout)
    assert weights == (0.8, 0.8, 0.8, 0.0, 0.0)
    tom = adapter.identities([mia, replace(somebody(adapter, 3), weight=0.0)])
    assert not torch.equal(shown.cond, tom.cond)


def test_fusing_changes_marked_words_only_and_late(unet: Any) -> None:
    adapter = small("consistent_id", unet)
    mia = somebody(adapter, 1)
    fusing = adapter.fusing([mia], {"face": 2, "eyes": 4})  # type: ignore[operator]
    shown = adapter.identities([mia], fusing=fusing)
    policy = adapter.policy()
    policy.show("a", shown)
    text = noise((4, TEXT, WIDTH), 3).double()
    for step in range(5):
        policy.begin(call_of(["a", "b"], step=step, steps=5))
        fused = policy.text(text)
        if step <= 3:
            assert fused is text
            continue
        changed = (fused != text).any(-1)  # rows, places
        assert changed[[0, 2]].nonzero()[:, 1].tolist() == [2, 4, 2, 4]
        assert not changed[[1, 3]].any()
        assert not torch.equal(fused[0, 2] - text[0, 2], fused[2, 2] - text[2, 2])
    with attached(unet, policy), torch.no_grad():
        policy.begin(call_of(["a"], step=4, steps=5))
        with_words = denoise(unet, 2, text=text[:2])
        policy.show("a", replace(shown, fusing=None))
        policy.begin(call_of(["a"], step=4, steps=5))
        without = denoise(unet, 2, text=text[:2])
    assert not torch.allclose(with_words, without, atol=1e-4)


def test_identity_without_the_prompt_is_a_switch(unet: Any) -> None:
    zero, kept = (
        small("consistent_id", unet, identity_without_prompt=way) for way in ("zero", "kept")
    )
    mia = somebody(zero, 1)
    bruno = replace(
        mia, features={**mia.features, "identity": somebody(zero, 2).features["identity"]}
    )
    one, two = (zero.identities([who]).uncond for who in (mia, bruno))
    assert torch.equal(one, two)
    one, two = (kept.identities([who]).uncond for who in (mia, bruno))
    assert not torch.equal(one, two)


def test_half_precision_and_weights_of_another_format(unet: Any) -> None:
    """A file's float32 in a bfloat16 model, and bfloat16 in one of float32."""
    for model, weights in ((torch.bfloat16, torch.float32), (torch.float32, torch.bfloat16)):
        other = small_unet(dtype=model)
        for name in ("storymaker", "consistent_id", "pulid"):
            adapter = small(name, other).to(weights)
            shown: dict[str, IdentityTokens | None] = {
                "a": adapter.identities([somebody(adapter, 1)], plan=FULL)
            }
            out = drawn(other, adapter, shown)
            assert out.dtype == model
            assert out.isfinite().all()
            assert not torch.equal(out, plain(other, 2))


def test_weights_that_learn_are_not_kept(unet: Any) -> None:
    adapter = small("ip_adapter", unet)
    policy = adapter.policy()
    with attached(unet, policy), torch.no_grad():
        policy.show("a", adapter.identities([somebody(adapter, 1)]))
        outs = []
        for training in (False, False, True, False):
            adapter.train(training)
            policy.begin(call_of(["a"]))
            outs.append(denoise(unet, 2))
            if training:
                for weight in adapter.attention.parameters():
                    weight.data.mul_(2.0)
    assert torch.equal(outs[0], outs[1])
    assert torch.equal(outs[0], outs[2])
    assert not torch.allclose(outs[0], outs[3], atol=1e-3)


def test_what_the_model_cannot_do_is_said(unet: Any) -> None:
    adapter = small("faceid", unet)
    policy = adapter.policy()
    with attached(unet, policy), torch.no_grad():
        policy.show("a", adapter.identities([somebody(adapter, 1)]))
        policy.begin(call_of(["a"]))
        with pytest.raises(ConsistentGenError, match="4 rows, 2 were announced"):
            denoise(unet, 4)
        with pytest.raises(InputError, match="attention mask"):
            denoise(unet, 2, encoder_attention_mask=torch.ones(2, TEXT))


class Watcher(AttentionPolicy):
    """Keeps what the rows look at, as sharing methods see it: each row alone."""

    def __init__(self) -> None:
        self.seen: dict[tuple[str, int], Tensor] = {}
        self.rows: tuple[Row, ...] = ()

    def begin(self, call: Call) -> None:
        self.rows = call.rows

    def watched(self, site: Site) -> tuple[Row, ...]:
        return self.rows

    def text_attention(self, row: Row, attention: Tensor, site: Site) -> None:
        self.seen[site.name, row.slot] = attention


def test_whoever_watches_a_row_sees_it_with_its_lora(unet: Any) -> None:
    """Watched rows go through the linear maps one by one, and keep the LoRA that is theirs."""
    adapter = small("faceid", unet)
    capture = Capture(lambda site: True, text=True)
    policy, watcher = adapter.policy(capture=capture), Watcher()
    with attached(unet, policy, watcher), torch.no_grad():
        policy.show("a", adapter.identities([somebody(adapter, 1)], plan=FULL))
        call = call_of(["b", "a"])
        policy.begin(call)
        watcher.begin(call)
        denoise(unet, 4)
    with attached(unet, alone := Watcher()), torch.no_grad():
        alone.begin(call)
        denoise(unet, 4)
    for one in capture.words:
        for slot, maps in zip(one.slots, one.attention, strict=True):  # h n t
            assert torch.allclose(watcher.seen[one.site.name, slot].double(), maps.mean(0),
                                  atol=1e-6)  # fmt: skip
            assert not torch.allclose(watcher.seen[one.site.name, slot],
                                      alone.seen[one.site.name, slot], atol=1e-4)  # fmt: skip
    for key, seen in alone.seen.items():
        if key[1] in (0, 2):
            assert torch.allclose(watcher.seen[key], seen, atol=1e-6)


def test_a_lora_adds_to_fused_projections_too() -> None:
    unet = small_unet(dtype=torch.float64)
    adapter = small("faceid", unet)
    shown = adapter.identities([somebody(adapter, 1)])
    apart = drawn(unet, adapter, {"a": shown})
    policy = adapter.policy()
    with attached(unet, policy), torch.no_grad():
        policy.show("a", shown)
        policy.begin(call_of(["a"]))
        unet.fuse_qkv_projections()
        with pytest.raises(InputError, match="fuse them first"):
            denoise(unet, 2)
    assert torch.allclose(drawn(unet, adapter, {"a": shown}), apart, atol=1e-10)
