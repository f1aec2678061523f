"""Each method at one layer against its paper's formula, written out densely in float64.

A stage holds two anchors and one frame with everything their passes would have found: masks,
features, and what the unshared twins left. The policy then acts as in a denoiser call, in which
every picture has a second row that looks on.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from consistent_gen.attention.attend import attend
from consistent_gen.attention.layers import Site
from consistent_gen.attention.ops import adain, token_statistics
from consistent_gen.attention.policy import Heads
from consistent_gen.attention.roles import FrameRole, Source, Subject, twin_id
from consistent_gen.attention.rows import Call, Row
from consistent_gen.attention.run import SharedRun
from consistent_gen.attention.settings import Recipe
from consistent_gen.attention.sharing import Sharing
from consistent_gen.methods.tuning import recipe_of

GRID, N, H, D = (4, 6), 24, 2, 8
SITE = Site("layer", "self", "up", depth=1.0, channels=H * D)
NAMES = ("anchor0", "anchor1", "frame")
STEP, STEPS = 3, 10
CPU = torch.device("cpu")


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Stage:
    """Anchors, a frame, and what is known of them."""

    def __init__(
        self, recipe: Recipe, *, strength: float = 1.0, step: int = STEP, ahead: int = 0
    ) -> None:
        self.recipe = recipe
        self.run = SharedRun(recipe, seed=3)
        self.count = recipe.anchors
        self.names = [*NAMES[: self.count], "frame"]
        self.masks, self.features, self.twins = {}, {}, {}
        use = Subject(name="fox", tokens=(1,), strength=strength)
        for i, name in enumerate(self.names):
            anchor = None if name == "frame" else i
            self.run.add_with_twin(FrameRole(frame=name, subjects=(use,), anchor=anchor))
            mask = torch.zeros(GRID)
            mask[1:3, 1 + i : 4 + i] = 1.0
            self.masks[name] = mask.flatten() > 0
            for drawing in (name, twin_id(name)):
                self.run.masks.set_external(drawing, "fox", mask)
            self.features[name] = random(N, 5, seed=40 + i)
            if self.run.features is not None:
                # Unsmoothed, so that the oracle can use them as they are.
                self.run.features._found[twin_id(name)] = (0.0, self.features[name], GRID)
            self.twins[name] = random(N, H, D, seed=70 + i)
            self.run.record(name, step, ("layer", "cond", "v"), self.twins[name])
        b = len(self.names)
        self.q, self.k, self.v = (random(b, N, H, D, seed=80 + i) for i in range(3))
        # What the second rows bring; their keys and values are nobody's.
        self.looks, *self._beside = (random(b, N, H, D, seed=85 + i) for i in range(3))
        self.hidden = random(b, N, H * D, seed=90)
        rows = [
            Row(i, n, "cond", step + (0 if n == "frame" else ahead), STEPS, 0.5)
            for i, n in enumerate(self.names)
        ]
        rows += [replace(row, slot=b + row.slot, look=True) for row in rows]
        self.policy = Sharing(self.run)
        self.policy.bind({"layer": SITE})
        self.policy.begin(Call(2 * b, GRID, tuple(rows)))
        self.step = step

    def heads(self) -> Heads:
        """The layer's queries, keys and values, 2b n h d: pictures, then looks."""
        seconds = (self.looks, *self._beside)
        pairs = zip((self.q, self.k, self.v), seconds, strict=True)
        return Heads(*(torch.cat(pair) for pair in pairs))

    def attention(self) -> Tensor:
        """The layer's result under the policy, b n h d."""
        heads = self.heads()
        if self.policy.acts(SITE):
            self.policy.self_attention(heads, SITE)
        found = attend(heads)[0]
        b = len(self.names)
        plain = attend(self.heads())[0]
        assert torch.equal(found[b:], plain[b:])  # looks share nothing
        return found[:b]

    def drawn(self, anchor: int) -> Tensor:
        """Log-mask [n] of what an anchor exports: its mask less the dropped tokens."""
        rule = next(r for r in self.recipe.rules if r.mix.keys == "concat")
        role = self.run.roles[self.names[anchor]]
        tokens = self.run.masks.shared(
            role, role.leaving[0], rule.select, self.step, GRID, torch.device("cpu")
        )
        assert tokens is not None
        if rule.select.tokens == "subject":
            allowed = self.masks[self.names[anchor]]
            assert bool(allowed[tokens].all())
            assert len(tokens) == int(allowed.sum()) // 2
        mask = torch.full((N,), -math.inf, dtype=torch.float64)
        mask[tokens] = 0.0
        return mask


def dense(q: Tensor, keys: list[Tensor], values: list[Tensor], masks: list[Tensor]) -> Tensor:
    """softmax(q K+^T / sqrt(d) + log M+) V+ for one frame, with every key of every picture."""
    logits = torch.einsum("nhd,mhd->hnm", q, torch.cat(keys)) / math.sqrt(D)
    weights = (logits + torch.cat(masks)).softmax(-1)
    return torch.einsum("hnm,mhd->nhd", weights, torch.cat(values))


def nearest(stage: Stage, picture: str = "frame") -> tuple[Tensor, Tensor, Tensor]:
    """For a picture's subject tokens with a good match: token, anchor (another one) and anchor's
    token. What is good is decided among all tokens of the picture.
    """
    best = torch.full((N,), math.inf, dtype=torch.float64)
    source = torch.zeros(N, 2, dtype=torch.long)
    unit = {n: f / f.norm(dim=-1, keepdim=True) for n, f in stage.features.items()}
    for a, name in enumerate(stage.names[:-1]):
        for j in stage.masks[name].nonzero()[:, 0].tolist() if name != picture else ():
            distance = 1.0 - unit[picture] @ unit[name][j]
            closer = distance < best
            best[closer] = distance[closer]
            source[closer] = torch.tensor([a, j])
    inside = stage.masks[picture].nonzero()[:, 0]
    spread = {
        float(t): len(low) * len(high) * float(low.mean() - high.mean()) ** 2
        for t in best
        if len(low := best[best <= t]) and len(high := best[best > t])
    }
    good = inside[best[inside] <= max(spread, key=lambda t: spread[t])]
    return good, source[good, 0], source[good, 1]


ZERO = torch.zeros(N, dtype=torch.float64)


def test_style_aligned() -> None:
    stage = Stage(recipe_of("style_aligned", {"beta": 0.4, "s": 1.3}))
    found = stage.attention()
    (q0, q), (k0, k), (v0, v) = stage.q, stage.k, stage.v

    def toward(x: Tensor, y: Tensor) -> Tensor:
        return adain(x, token_statistics(x), token_statistics(y))

    expected = dense(toward(q, q0), [toward(k, k0), 1.3 * k0], [v, v0], [ZERO, ZERO + 0.4])
    assert torch.allclose(found[1], expected, atol=1e-12)
    assert torch.allclose(found[0], dense(q0, [k0], [v0], [ZERO]), atol=1e-12)


@pytest.mark.parametrize("strength", [1.0, 2.5])
def test_story_diffusion(strength: float) -> None:
    method = recipe_of("story_diffusion", {"id_frames": 2, "early_chance": 1.0, "late_chance": 1.0})
    stage = Stage(method, strength=strength)
    found = stage.attention()
    logs = [stage.drawn(0), stage.drawn(1)]
    assert [int(log.isfinite().sum()) for log in logs] == [12, 12]
    k, v, w = stage.k, stage.v, math.log(strength)
    frame = dense(
        stage.q[2], [k[2], k[0], k[1]], [v[2], v[0], v[1]], [ZERO, logs[0] + w, logs[1] + w]
    )
    assert torch.allclose(found[2], frame, atol=1e-12)
    anchor = dense(stage.q[0], [k[0], k[1]], [v[0], v[1]], [ZERO, logs[1]])
    assert torch.allclose(found[0], anchor, atol=1e-12)


def test_consistory() -> None:
    method = recipe_of("consistory", {"mixing_steps": 0.5, "injection_steps": (0.1, 0.5)})
    stage = Stage(method)
    found = stage.attention()
    logs = [stage.drawn(0), stage.drawn(1)]
    # Steps 1 to 4 mix, and w falls from 0.9 in step 0 to 0.82 in step 4.
    w = 0.9 + (0.82 - 0.9) * 3 / 4
    q = torch.stack([(1 - w) * stage.q[i] + w * stage.looks[i] for i in range(3)])
    k, v = stage.k, stage.v
    frame = dense(q[2], [k[2], k[0], k[1]], [v[2], v[0], v[1]], [ZERO, *logs])
    assert torch.allclose(found[2], frame, atol=1e-12)
    assert torch.allclose(
        found[1], dense(q[1], [k[1], k[0]], [v[1], v[0]], [ZERO, logs[0]]), atol=1e-12
    )
    output = stage.policy.output(stage.hidden, SITE)
    expected = stage.hidden.clone()
    for i in (0, 1):  # the second takes from the first what that has taken already
        before = expected.clone()
        for p, a, j in zip(*nearest(stage, NAMES[i]), strict=True):
            expected[i, p] = 0.2 * before[i, p] + 0.8 * before[a, j]
    anchors = expected.clone()
    for p, a, j in zip(*nearest(stage), strict=True):
        expected[2, p] = 0.2 * stage.hidden[2, p] + 0.8 * anchors[a, j]
    assert torch.allclose(output, expected, atol=1e-12)
    assert all(not torch.equal(output[i], stage.hidden[i]) for i in range(3))


def test_anchors_of_consistory_once_took_what_was_there_before() -> None:
    """As pictures were drawn whose first pass shared nothing: they are drawn again so."""
    wide = {"first_pass": "twin", "mixing_steps": 0.5, "injection_steps": (0.1, 0.5)}
    stage = Stage(recipe_of("consistory", wide))
    expected, w = stage.hidden.clone(), 0.9 + (0.82 - 0.9) * 2 / 3
    query = (1 - w) * stage.q[0] + w * stage.looks[0]
    k, v, log = stage.k, stage.v, stage.drawn(1)
    first = dense(query, [k[0], k[1]], [v[0], v[1]], [ZERO, log])
    assert torch.allclose(stage.attention()[0], first, atol=1e-12)
    for i in (0, 1):
        for p, a, j in zip(*nearest(stage, NAMES[i]), strict=True):
            expected[i, p] = 0.2 * stage.hidden[i, p] + 0.8 * stage.hidden[a, j]
    assert torch.allclose(stage.policy.output(stage.hidden, SITE)[:2], expected[:2], atol=1e-12)


def test_first_passes_of_consistory_share_and_inject_nothing() -> None:
    """Twins read the twins of anchors, with masks of their own; what they leave lies apart."""
    stage = Stage(recipe_of("consistory", {"injection_steps": (0.1, 0.5), "mixing": (0.0, 0.0)}))
    final = stage.attention()
    shown = torch.zeros(GRID)
    shown[0, :4] = 1.0
    for name in NAMES:
        stage.run.masks.set_external(twin_id(name), "fox", shown)
    rows = [Row(i, twin_id(name), "cond", STEP, STEPS, 0.5) for i, name in enumerate(NAMES)]
    stage.policy.begin(Call(6, GRID, tuple(rows)))
    heads = stage.heads()
    stage.policy.self_attention(heads, SITE)
    first = attend(heads)[0][:3]
    q, k, v, allowed = stage.q, stage.k, stage.v, shown.flatten() > 0
    logs = []
    for i in (0, 1):
        (export,) = (
            e for e in stage.run.bank.get((Source("fox"), "layer, first pass", STEP, "cond"), CPU)
            if e.anchor == i
        )  # fmt: skip
        assert len(export.tokens) == 2 and bool(allowed[export.tokens].all())
        logs.append(torch.full((N,), -math.inf, dtype=torch.float64))
        logs[-1][export.tokens] = 0.0
    frame = dense(q[2], [k[2], k[0], k[1]], [v[2], v[0], v[1]], [ZERO, *logs])
    assert torch.allclose(first[2], frame, atol=1e-12) and not torch.allclose(first, final)
    assert torch.equal(stage.policy.output(stage.hidden, SITE), stage.hidden)


@pytest.mark.parametrize("strength", [1.0, 2.5])
def test_head_start(strength: float) -> None:
    """At step 3 of 10 a frame reads what its anchor left at step 7, e^0.7 times."""
    stage = Stage(recipe_of("head_start"), strength=strength, ahead=4)
    found = stage.attention()
    log = torch.full((N,), -math.inf, dtype=torch.float64)
    log[stage.masks["anchor0"]] = 0.7 + math.log(strength)
    (q0, q), (k0, k), (v0, v) = stage.q, stage.k, stage.v
    assert torch.allclose(found[1], dense(q, [k, k0], [v, v0], [ZERO, log]), atol=1e-12)
    assert torch.allclose(found[0], dense(q0, [k0], [v0], [ZERO]), atol=1e-12)
    assert stage.run.rules_at(SITE, STEP, STEPS, "uncond") == ()


def consistyle(**settings: Any) -> Recipe:
    wide = {"mixing_steps": 0.5, "structure_steps": (0.1, 0.5), "style_steps": (0.1, 0.5)}
    return recipe_of("consistyle", wide | settings)


def test_consistyle() -> None:
    stage = Stage(consistyle())
    found = stage.attention()
    logs = [stage.drawn(0), stage.drawn(1)]
    w = 0.9 + (0.82 - 0.9) * 2 / 3
    q = torch.stack([(1 - w) * stage.q[i] + w * stage.looks[i] for i in range(3)])
    k = stage.k.clone()
    v = torch.stack([stage.twins[n] for n in NAMES])
    edited_q, edited_k = q.clone(), k.clone()
    for p, a, j in zip(*nearest(stage), strict=True):
        edited_q[2, p], edited_k[2, p] = q[a, j], k[a, j]
    own = token_statistics(v[2])
    shared = [adain(v[a], token_statistics(v[a]), own) for a in (0, 1)]
    frame = dense(edited_q[2], [edited_k[2], k[0], k[1]], [v[2], *shared], [ZERO, *logs])
    assert torch.allclose(found[2], frame, atol=1e-12)


def test_consistyle_of_a_frame_that_is_its_own_source_shares_like_consistory() -> None:
    """V substituted by itself, q and k gathered from equals: AdaIN of shared v is left (10)."""
    stage = Stage(consistyle())
    for i, name in enumerate(NAMES):
        stage.run.record(name, STEP, ("layer", "cond", "v"), stage.v[i])
    stage.looks = stage.q.clone()  # mixing a query with itself
    for p, a, j in zip(*nearest(stage), strict=True):
        for x in (stage.q, stage.k, stage.looks):
            x[2, p] = x[a, j]
    without = consistyle(structure_steps=(0.0, 0.0), style_steps=(0.0, 0.0), mixing_steps=0.0)
    other = Stage(without)
    other.q, other.k = stage.q, stage.k
    assert torch.allclose(stage.attention(), other.attention(), atol=1e-12)
    assert not torch.allclose(Stage(consistyle()).attention(), other.attention())


def test_consistyle_without_its_edits_is_consistory() -> None:
    """No v of the copy, no q-k gather and no statistics: ConsiStory's sharing is left."""
    plain = consistyle(structure_steps=(0.0, 0.0), style_steps=(0.0, 0.0), align_values=False)
    story = recipe_of("consistory", {"mixing_steps": 0.5, "injection": 0.0})
    assert torch.equal(Stage(plain).attention(), Stage(story).attention())


def test_consistyle_among_equal_frames_needs_no_statistics() -> None:
    """With equal frames the matches are the identity and AdaIN disappears."""
    results = []
    for align in (True, False):
        settings = consistyle(
            align_values=align, dropout=0.0, mixing_steps=0.0, style_steps=(0.0, 0.0)
        )
        stage = Stage(settings)
        for i, name in enumerate(NAMES):
            for x in (stage.q, stage.k, stage.v):
                x[i] = x[0]
            stage.run.masks.set_external(
                twin_id(name), "fox", stage.masks["anchor0"].float().reshape(GRID)
            )
            assert stage.run.features is not None
            stage.run.features._found[twin_id(name)] = (0.0, stage.features["anchor0"], GRID)
        heads, before = stage.heads(), stage.heads()
        stage.policy.self_attention(heads, SITE)
        assert torch.equal(heads.q, before.q) and torch.equal(heads.k, before.k)
        results.append(attend(heads)[0][2])
    assert torch.allclose(results[0], results[1], atol=1e-12)


def test_the_unconditional_branch_is_spared_where_the_papers_spare_it() -> None:
    stage = Stage(consistyle())
    rules = {b: stage.run.rules_at(SITE, STEP, STEPS, b) for b in ("cond", "uncond")}
    assert len(rules["cond"]) == len(rules["uncond"]) + 1


def test_nothing_is_shared_in_the_first_step() -> None:
    for recipe in (recipe_of("consistory"), recipe_of("consistyle"), recipe_of("story_diffusion")):
        stage = Stage(recipe, step=0)
        assert not stage.policy.acts(SITE)
