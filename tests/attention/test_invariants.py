"""What must hold for every method of the registry on every model family.

One set of drawings per (family, method), in float64, at tiny size: anchors and two frames drawn
together, and drawn one after the other from the bank. Windows are widened, since a few steps would
otherwise miss the narrow ones. Numbers in brackets are those of the list in the design notes; what
concerns one piece only (1: `test_patch`, 8 and 10: `test_oracles`, 11: `test_placing`, 13:
`test_masks` and `test_ops`, 14: `test_composition`, 15: `test_sharing`) stands beside its tests.
"""

from __future__ import annotations

import functools
import random
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from consistent_gen.attention.layers import find_sites
from consistent_gen.attention.patch import attached
from consistent_gen.attention.roles import Subject, twin_id
from consistent_gen.attention.run import SharedRun
from consistent_gen.attention.settings import Recipe, Window
from consistent_gen.attention.sharing import Sharing
from consistent_gen.methods import FOR_EVERY_MODEL, tuning
from tests.attention.toys import FAMILIES, FOX, Sketch, Toy, anchors, build, draw
from tests.every_run import or_slow

WIDE: dict[str, dict[str, Any]] = {
    "consistory": {"mixing_steps": 0.5, "injection_steps": (0.25, 0.75)},
    "consistyle": {
        "mixing_steps": 0.5,
        "structure_steps": (0.25, 0.75),
        "style_steps": (0.5, 0.75),
    },
    "story_diffusion": {"id_frames": 2},
}
NEVER = Window(steps=(0.0, 0.0), skip=0)
# Settings under which no key is shared and nothing is copied (2).
NOTHING: dict[str, dict[str, Any]] = {
    "consistory": {"window": NEVER, "injection_steps": (0.0, 0.0), "mixing_steps": 0.0},
    "consistyle": {
        "window": NEVER,
        "structure_steps": (0.0, 0.0),
        "style_steps": (0.0, 0.0),
        "mixing_steps": 0.0,
    },
    "head_start": {"window": NEVER},
    "story_diffusion": {"dropout": 1.0},
    "style_aligned": {"steps": 0.0},
}
# Settings under which every token is shared, in every step but the first (7).
WHOLE: dict[str, dict[str, Any]] = {
    "consistory": {"dropout": 0.0},
    "consistyle": {"dropout": 0.0},
    "story_diffusion": {"dropout": 0.0, "early_chance": 1.0, "late_chance": 1.0},
}
# Anchors two of four steps ahead, where keys are shared, features matched and values copied.
AHEAD = ("consistory ahead", "consistyle ahead")
FRAMES = [Sketch(f"frame{i}", i, (FOX,)) for i in range(2)]
TOLERANCE = 1e-9  # the rounding of float64 through four steps stays near 1e-13


def recipe_of(method: str, **settings: Any) -> Recipe:
    name, _, ahead = method.partition(" ")
    lead = {"lead": 0.5} if ahead else {}
    return tuning.recipe_of(name, WIDE.get(name, {}) | lead | settings)


def new_run(method: str, **settings: Any) -> SharedRun:
    return SharedRun(recipe_of(method, **settings), seed=5)


def mask_all(run: SharedRun, names: list[str], value: float) -> None:
    """The fox is everywhere (1) or nowhere (0) in these frames and their twins."""
    for name in names:
        for drawing in (name, twin_id(name)):
            run.masks.set_external(drawing, "fox", torch.full((8, 12), value))


def cast_of(method: str) -> list[Sketch]:
    return anchors(max(recipe_of(method).anchors, 1))


@dataclass
class Drawn:
    """The drawings that the tests compare."""

    toy: Toy
    method: str
    vanilla: dict[str, Tensor]
    joint: dict[str, Tensor]
    cached: dict[str, Tensor]
    run: SharedRun

    @property
    def name(self) -> str:
        return self.method.split()[0]

    @property
    def couples(self) -> bool:
        return bool(self.run.recipe.rules)


# In every run: on a UNet the default and the method with every mechanism, which draws lots for its
# tokens, too; on a rotary transformer the last and one that shares all tokens.
CASES = [(family, method) for family in FAMILIES for method in (*FOR_EVERY_MODEL, *AHEAD)]
QUICK = [
    *(("unet", name) for name in ("head_start", "consistyle ahead")),
    *(("flux", name) for name in ("style_aligned", "consistyle ahead")),
]


@functools.cache
def toy_of(family: str) -> Toy:
    made = build(family)
    made.own = dict(made.model.attn_processors)
    return made


@pytest.fixture(scope="module", params=or_slow(CASES, QUICK), ids="-".join)
def drawn(request: pytest.FixtureRequest) -> Drawn:
    return drawn_of(*request.param)


@functools.cache  # so that tests in any order draw it once
def drawn_of(family: str, method: str) -> Drawn:
    toy, cast, run = toy_of(family), cast_of(method), new_run(method)
    # The bank lies on the host and is read backwards, each frame in a batch of its own.
    cached = draw(toy, run, [cast, FRAMES[1:], FRAMES[:1]])
    joint = draw(toy, new_run(method), [cast + FRAMES])
    return Drawn(toy, method, toy.sample(FRAMES), joint, cached, run)


def difference(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    return max(float((a[name] - b[name]).abs().max()) for name in a.keys() & b.keys())


def test_cached_equals_joint(drawn: Drawn) -> None:
    """One batch with the anchors, and alone in another order from the bank (5, 6)."""
    assert drawn.joint.keys() == drawn.cached.keys()
    assert difference(drawn.joint, drawn.cached) < TOLERANCE


def test_methods_that_couple_change_frames(drawn: Drawn) -> None:
    moved = difference(drawn.vanilla, drawn.cached)
    assert moved > 1e-3 if drawn.couples else moved < TOLERANCE


def test_any_split_in_any_order(drawn: Drawn) -> None:
    """Three frames, shuffled and cut at random, before the anchors in a batch or behind (5, 6)."""
    frames = [*FRAMES, Sketch("frame2", 2, (FOX,))]
    cast, rng = cast_of(drawn.method), random.Random(drawn.method + drawn.toy.family)
    order, cut = rng.sample(frames, 3), rng.randrange(4)
    parts = [part for part in (order[:cut], order[cut:]) if part]
    batches = [cast, *parts] if rng.random() < 0.5 else [parts[0] + cast, *parts[1:]]
    found = draw(drawn.toy, new_run(drawn.method), batches)
    assert found.keys() == drawn.joint.keys() | {"frame2"}
    assert difference(found, drawn.joint) < TOLERANCE


def test_twice_is_equal_bytes(drawn: Drawn) -> None:
    """No random choice comes from a global stream (3)."""
    torch.rand(3)
    cast = cast_of(drawn.method)
    again = draw(drawn.toy, new_run(drawn.method), [cast, FRAMES[1:], FRAMES[:1]])
    assert all(torch.equal(again[name], latent) for name, latent in drawn.cached.items())


def test_a_call_per_branch_equals_one_for_both(drawn: Drawn) -> None:
    """Guidance batched or one after the other (12)."""
    apart = replace(drawn.toy, apart=True)
    found = draw(apart, new_run(drawn.method), [cast_of(drawn.method), FRAMES])
    assert difference(found, drawn.cached) < TOLERANCE


def test_without_guidance_no_unconditional_bank(drawn: Drawn) -> None:
    """It is neither made nor read (12)."""
    run = new_run(drawn.method)
    draw(replace(drawn.toy, guided=False), run, [cast_of(drawn.method), FRAMES[:1]])
    assert {key[3] for key in run.bank._exports} == ({"cond"} if drawn.couples else set())


def test_sharing_nothing_is_vanilla(drawn: Drawn) -> None:
    """Rules that never act, tokens that are all dropped, a subject that is nowhere (2).

    SD3's own processor adds up in another order than ours where queries and values were swapped for
    equal ones, so there the numbers are equal and the last bits may differ.
    """
    cast = cast_of(drawn.method)
    runs = [new_run(drawn.method, **NOTHING.get(drawn.name, {}))]
    if drawn.run.recipe.masks is not None:
        edits = {k: v for k, v in NOTHING[drawn.name].items() if k != "window"}
        runs += [new_run(drawn.method, dropout=1.0, **edits), new_run(drawn.method)]
        mask_all(runs[-1], [s.id for s in (*cast, *FRAMES)], 0.0)
    for run in runs:
        found = draw(drawn.toy, run, [cast, FRAMES])
        if drawn.toy.family == "sd3":
            assert difference(found, drawn.vanilla) < 1e-12
            continue
        for frame in FRAMES:
            assert torch.equal(found[frame.id], drawn.vanilla[frame.id])


def test_a_frame_of_nobody_is_vanilla(drawn: Drawn) -> None:
    """Beside the anchors in one batch, and alone while the policy is attached (1, 2)."""
    plain = [replace(frame, subjects=()) for frame in FRAMES]
    found = draw(drawn.toy, drawn.run, [plain])
    assert all(torch.equal(found[f.id], drawn.vanilla[f.id]) for f in FRAMES)
    beside = draw(drawn.toy, new_run(drawn.method), [[*cast_of(drawn.method), *plain]])
    assert difference({f.id: beside[f.id] for f in FRAMES}, drawn.vanilla) < TOLERANCE


def test_equal_frames_that_share_all_stay_equal(drawn: Drawn) -> None:
    """Where keys are image tokens alone, copies cancel in the softmax, whatever is aligned (7).

    Where text shares the softmax it is not copied with the image, so there only readers of equally
    many copies stay equal.
    """
    cast = [Sketch(s.id, 9, s.subjects, s.anchor) for s in cast_of(drawn.method)]
    frames = [Sketch(f.id, 9, f.subjects) for f in FRAMES]
    run = new_run(drawn.method, **WHOLE.get(drawn.name, {}))
    mask_all(run, [s.id for s in (*cast, *frames)], 1.0)
    found = draw(drawn.toy, run, [cast, frames])
    assert torch.allclose(found["frame0"], found["frame1"], atol=TOLERANCE)
    alike = run.recipe.lead(4) == 1  # readers of anchors that are ahead read something else
    if drawn.toy.family in ("unet", "sdxl") and alike:
        plain = drawn.toy.sample([Sketch("plain", 9)])["plain"]
        assert all(torch.allclose(latent, plain, atol=TOLERANCE) for latent in found.values())


def test_strength_zero_is_vanilla(drawn: Drawn) -> None:
    """A frame that reads nobody goes through the model's own processors: equal bytes (2)."""
    muted = [
        Sketch(f.id, f.seed, (Subject(name="fox", tokens=(2, 3), strength=0.0),)) for f in FRAMES
    ]
    found = draw(drawn.toy, drawn.run, [muted])
    for frame in FRAMES:
        assert torch.equal(found[frame.id], drawn.vanilla[frame.id])


def test_anchors_are_isolated(drawn: Drawn) -> None:
    """Other readers, with other prompts and seeds, leave anchors as they are, byte by byte (4)."""
    others = [Sketch("other", 77, (FOX,))]
    again = draw(drawn.toy, new_run(drawn.method), [cast_of(drawn.method), others])
    for sketch in cast_of(drawn.method):
        assert torch.equal(again[sketch.id], drawn.cached[sketch.id])


def test_bytes_are_predicted(drawn: Drawn) -> None:
    """What is said before anything is drawn is enough, and exact where no mask decides."""
    run, toy = drawn.run, drawn.toy
    sites = find_sites(toy.model).values()
    predicted = run.most_bytes(sites, toy.grid, steps=4, guided=4, element_bytes=8)
    assert predicted >= run.bank.bytes
    if run.recipe.masks is None:
        assert predicted == run.bank.bytes
    assert (run.bank.bytes > 0) == drawn.couples


def test_the_model_is_left_as_it_was(drawn: Drawn) -> None:
    """While the method is attached and idle, and afterwards; processors by identity (1)."""
    toy = drawn.toy
    with attached(toy.model, Sharing(new_run(drawn.method))):
        assert toy.model.attn_processors != toy.own
        idle = toy.sample(FRAMES)
    again = toy.sample(FRAMES)
    for frame in FRAMES:
        assert torch.equal(idle[frame.id], drawn.vanilla[frame.id])
        assert torch.equal(again[frame.id], drawn.vanilla[frame.id])
    now = toy.model.attn_processors
    assert now.keys() == toy.own.keys()
    assert all(now[name] is processor for name, processor in toy.own.items())
