"""What sharing means for whole drawings: equal frames, several characters, branches, refusals."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from consistent_gen.attention.layers import find_sites
from consistent_gen.attention.patch import attached
from consistent_gen.attention.roles import FrameRole, Source, Subject
from consistent_gen.attention.rows import Call, Row
from consistent_gen.attention.run import SharedRun
from consistent_gen.attention.settings import (
    Gate,
    MaskProbe,
    Mix,
    Place,
    Recipe,
    Rule,
    Select,
    Topology,
)
from consistent_gen.attention.sharing import Sharing
from consistent_gen.errors import ConsistentGenError, InputError
from consistent_gen.methods.tuning import recipe_of
from tests.attention.toys import FAMILIES, FOX, Sketch, Toy, anchors, build, draw, enter, held
from tests.every_run import or_slow

CAT = Subject(name="cat", tokens=(5,))
CLOSE = 1e-9


def recipe(**rule: object) -> Recipe:
    """Everything is shared at its own place, unless told otherwise."""
    settings = {"select": Select(tokens="all"), "place": Place(kind="own")} | rule
    return Recipe(name="all", rules=(Rule(**settings),))  # type: ignore[arg-type]


MASKED = Recipe(
    name="masked",
    rules=(Rule(select=Select(tokens="subject", gate="many"), place=Place(kind="own")),),
    masks=MaskProbe(source="running"),
)


@pytest.fixture(scope="module", params=FAMILIES)
def toy(request: pytest.FixtureRequest) -> Toy:
    return build(request.param)


@pytest.fixture(scope="module")
def unet() -> Toy:
    return build("unet")


def same(names: list[Sketch]) -> list[Sketch]:
    """The sketches with one seed: equal noise, equal prompt."""
    return [Sketch(s.id, 9, s.subjects, s.anchor) for s in names]


def test_equal_frames_that_share_all_are_vanilla(toy: Toy) -> None:
    """Duplicate keys cancel in the softmax (7a).

    Where text shares the softmax it is not copied with the image, so there only readers of equally
    many copies stay equal.
    """
    frames = same([*anchors(2), Sketch("a", 0, (FOX,)), Sketch("b", 0, (FOX,))])
    found = draw(toy, SharedRun(recipe()), [frames], 3)
    plain = toy.sample(same([Sketch("plain", 0)]), steps=3)["plain"]
    assert torch.allclose(found["fox0"], found["fox1"], atol=CLOSE)
    assert torch.allclose(found["a"], found["b"], atol=CLOSE)
    cancels = toy.family in ("unet", "sdxl")
    for latent in found.values():
        assert torch.allclose(latent, plain, atol=CLOSE) == cancels


def test_equal_frames_under_masks_fall_into_two_groups(unet: Toy) -> None:
    """Anchors read one copy of the subject's keys less than the others do (7b)."""
    frames = same([*anchors(2), Sketch("a", 0, (FOX,)), Sketch("b", 0, (FOX,))])
    found = draw(unet, SharedRun(MASKED), [frames])
    assert torch.allclose(found["fox0"], found["fox1"], atol=CLOSE)
    assert torch.allclose(found["a"], found["b"], atol=CLOSE)
    assert not torch.allclose(found["a"], found["fox0"], atol=1e-6)


@pytest.mark.parametrize("strength", [1e-12, 1.0, 3.0])
def test_strength_weighs_shared_keys(unet: Toy, strength: float) -> None:
    """k as a weight is ln k on the logits; towards nothing it is vanilla."""
    use = Subject(name="fox", tokens=(2,), strength=strength)
    one = recipe(topology=Topology(anchors=1))
    frame = Sketch("frame", 1, (use,))
    found = draw(unet, SharedRun(one), [anchors(1), [frame]], 3)["frame"]
    if strength < 1.0:
        expected = unet.sample([frame], steps=3)["frame"]
    else:
        bias = math.log(strength)
        mixed = recipe(topology=Topology(anchors=1), mix=Mix(bias=bias))
        plain = Sketch("frame", 1, (FOX,))
        expected = draw(unet, SharedRun(mixed), [anchors(1), [plain]], 3)["frame"]
    assert torch.allclose(found, expected, atol=1e-8)


def test_copies_of_an_anchor_are_a_strength(unet: Toy) -> None:
    """Three equal anchors count as one of strength 3, and as one with bias ln 3 (9)."""
    three = [Sketch(s.id, 9, s.subjects, s.anchor) for s in anchors(3)]
    frame = Sketch("frame", 1, (FOX,))
    many = recipe(topology=Topology(anchors=3))
    # Equal anchors that share all are vanilla, so each of the three is what one alone is.
    expected = draw(unet, SharedRun(many), [three, [frame]], 3)["frame"]
    strong = Sketch("frame", 1, (Subject(name="fox", tokens=(2, 3), strength=3.0),))
    one = recipe(topology=Topology(anchors=1))
    found = draw(unet, SharedRun(one), [three[:1], [strong]], 3)["frame"]
    assert torch.allclose(found, expected, atol=1e-8)
    biased = recipe(topology=Topology(anchors=1), mix=Mix(bias=math.log(3)))
    found = draw(unet, SharedRun(biased), [three[:1], [frame]], 3)["frame"]
    assert torch.allclose(found, expected, atol=1e-8)


def test_anchors_in_another_order(unet: Toy) -> None:
    """Their order is free (6) unless each draws the tokens that it drops by its number, or takes
    over matched features when its turn comes.
    """
    frame = Sketch("frame", 1, (FOX,))
    turned = [Sketch(f"fox{i}", 101 - i, (FOX,), anchor=i) for i in range(2)]
    for dropout, first_pass, free in (
        (0.0, "twin", True), (0.5, "twin", False), (0.0, "shared", False)
    ):  # fmt: skip
        method = recipe_of("consistory", {"dropout": dropout, "first_pass": first_pass})
        first = draw(unet, SharedRun(method), [anchors(2), [frame]])["frame"]
        second = draw(unet, SharedRun(method), [turned, [frame]])["frame"]
        assert torch.allclose(first, second, atol=CLOSE) == free


def test_appending_frames_changes_no_earlier_one(unet: Toy) -> None:
    """1..N, then N+1, equals all at once, in any order (6)."""
    frames = [Sketch(f"f{i}", i, (FOX,)) for i in range(3)]
    first = draw(unet, SharedRun(MASKED), [anchors(2), frames[:2], frames[2:]])
    whole = draw(unet, SharedRun(MASKED), [anchors(2), frames[::-1]])
    for frame in frames:
        assert torch.allclose(first[frame.id], whole[frame.id], atol=CLOSE)


def test_characters_are_isolated(unet: Toy) -> None:
    """The fox's frames do not change when another character is cast, or what it looks like."""
    frame = Sketch("frame", 1, (FOX,))
    alone = draw(unet, SharedRun(MASKED), [anchors(2), [frame]])["frame"]
    for seed in (300, 400):
        others = anchors(2, CAT, seed)
        run = SharedRun(MASKED)
        assert torch.equal(draw(unet, run, [others, anchors(2), [frame]])["frame"], alone)
        assert set(run.subjects()) == {"cat", "fox"}


GATES = [("many", 0.0, 4), ("many", 0.5, 0), ("nearest", 0.0, 3)]


@pytest.mark.parametrize("case", or_slow(GATES, [GATES[0], GATES[2]]))
def test_a_frame_with_two_characters_reads_each_in_its_own_region(
    unet: Toy, case: tuple[Gate, float, int]
) -> None:
    """Moving the cat's bank leaves attention at the fox's tokens of that layer alone, at step 1 of
    4; unless the gate still stands open there. With "nearest" nobody's tokens in between, which
    are those of column 3, read whom they are closer to.

    reach: the first column of tokens that the cat's bank changes.
    """
    gate, until, reach = case
    select = Select(tokens="subject", gate=gate, open=until)
    gated = replace(MASKED, rules=(replace(MASKED.rules[0], select=select),))
    left, right = torch.zeros(8, 12), torch.zeros(8, 12)
    left[:, :5], right[:, 7:] = 1.0, 1.0
    site = next(s for s in find_sites(unet.model).values() if s.kind == "self" and s.block == "up")
    seen = {}
    for seed in (300, 400):
        run = SharedRun(gated)
        draw(unet, run, [anchors(2), anchors(2, CAT, seed)])
        role = FrameRole(frame="both", subjects=(FOX, CAT))
        run.add(role)
        run.masks.set_external("both", "fox", left)
        run.masks.set_external("both", "cat", right)
        policy = Sharing(run)
        policy.bind(find_sites(unet.model))
        outputs = []
        layer = unet.model.get_submodule(site.name)
        with attached(unet.model, policy):
            hook = layer.register_forward_hook(lambda _m, _i, out, o=outputs: o.append(out))
            unet.sample([Sketch("both", 1, (FOX, CAT))], policy, steps=4)
            hook.remove()
        seen[seed] = outputs[1][1]  # conditional row; with step 0 unread, the input is still equal
    changed = (seen[300] != seen[400]).any(-1).reshape(4, 6)
    assert bool(changed[:, reach].any())
    assert not bool(changed[:, :reach].any())


def test_overlapping_regions_go_to_the_clearer_subject() -> None:
    run = SharedRun(MASKED)
    role = FrameRole(frame="both", subjects=(FOX, CAT))
    run.roles["both"] = role
    fox = torch.tensor([[1.0, 0.9, 0.6, 0.0]])
    cat = torch.tensor([[0.0, 0.7, 0.8, 0.6]])
    run.masks.set_external("both", "fox", fox)
    run.masks.set_external("both", "cat", cat)
    regions = [run.masks.region(role, use, 1, (1, 4)) for use in (FOX, CAT)]
    assert [r.tolist() for r in regions if r is not None] == [[0, 1], [2, 3]]


def test_the_nearest_subject_has_every_token() -> None:
    run = SharedRun(MASKED)
    role = FrameRole(frame="both", subjects=(FOX, CAT))
    run.roles["both"] = role
    assert run.masks.nearest(role, FOX, 1, (1, 5)) is None
    run.masks.set_external("both", "fox", torch.tensor([[1.0, 0.3, 0.1, 0.1, 0.0]]))
    assert run.masks.nearest(role, FOX, 1, (1, 5)) is None, "the cat may be anywhere"
    run.masks.set_external("both", "cat", torch.tensor([[0.0, 0.2, 0.3, 0.1, 0.9]]))
    found = [run.masks.nearest(role, use, 1, (1, 5)) for use in (FOX, CAT)]
    assert [f.tolist() for f in found if f is not None] == [[0, 1, 3], [2, 4]]


def test_without_guidance_the_unconditional_bank_is_neither_made_nor_read(unet: Toy) -> None:
    toy = Toy(unet.family, unet.model, unet.dtype, guided=False)
    run = SharedRun(recipe())
    draw(toy, run, [anchors(2), [Sketch("frame", 1, (FOX,))]], 3)
    assert len(run.bank) > 0
    assert {key[3] for key in run.bank._exports} == {"cond"}


def test_branches_in_one_call_or_two(unet: Toy) -> None:
    """Batched guidance equals a call per branch (12), here for one step."""
    run = SharedRun(recipe())
    draw(unet, run, [anchors(2)], 3)
    enter(run, [Sketch("frame", 1, (FOX,))])
    policy = Sharing(run)
    policy.bind(find_sites(unet.model))
    text = [unet.text(1, branch) for branch in ("uncond", "cond")]
    tokens, pooled = (torch.stack(part) for part in zip(*text, strict=True))
    latents = torch.stack([unet.noise(1)] * 2)
    rows = [Row(i, "frame", b, 1, 3, 0.7) for i, b in enumerate(("uncond", "cond"))]  # type: ignore[arg-type]
    with attached(unet.model, policy), torch.no_grad():
        policy.begin(Call(2, unet.grid, tuple(rows)))
        both = unet.denoise(latents, [0.7, 0.7], tokens, pooled)
        policy.end()
        for i, row in enumerate(rows):
            one = Row(0, row.frame, row.branch, 1, 3, 0.7)
            policy.begin(Call(1, unet.grid, (one,)))
            alone = unet.denoise(latents[:1], [0.7], tokens[i : i + 1], pooled[i : i + 1])
            policy.end()
            assert torch.allclose(alone[0], both[i], atol=1e-12)


def test_a_reader_before_its_anchors_is_told_so(unet: Toy) -> None:
    run = SharedRun(recipe())
    with pytest.raises(InputError, match="shows 'fox', who has no anchors yet"):
        draw(unet, run, [[Sketch("frame", 1, (FOX,))]], 3)
    enter(run, anchors(2))
    with pytest.raises(ConsistentGenError, match="anchors of 'fox' left nothing at step 2"):
        draw(unet, run, [[Sketch("frame", 1, (FOX,))]], 3)


@pytest.mark.parametrize(
    ("name", "value"),
    [("steps", 5), ("scheduler", "dpm"), ("size", (64, 64)), ("adapters", ["style"])],
)
def test_other_settings_than_the_anchors_are_refused(name: str, value: object) -> None:
    """The error names what differs, both values and what to do (15)."""
    settings = {"steps": 4, "scheduler": "ddim", "size": (96, 64), "adapters": []}
    run = SharedRun(recipe())
    enter(run, anchors(2), settings)
    enter(run, [Sketch("good", 1, (FOX,))], settings)
    with pytest.raises(InputError) as caught:
        enter(run, [Sketch("bad", 1, (FOX,))], settings | {name: value})
    text = str(caught.value)
    assert f"{name} is {value!r}" in text
    assert repr(settings[name]) in text
    assert "draw the anchors again" in text


def test_an_anchor_shows_a_subject_and_leaves_all_that_it_shows() -> None:
    with pytest.raises(InputError, match="an anchor shows a subject; 'x' has none"):
        FrameRole(frame="x", subjects=(), anchor=0)
    role = FrameRole(frame="x", subjects=(FOX, CAT), anchor=0)
    assert role.leaving == ((FOX, Source("fox")), (CAT, Source("cat")))


@pytest.mark.parametrize("strength", [-0.1, 101.0, math.nan])
def test_a_strength_out_of_range_is_refused(strength: float) -> None:
    with pytest.raises(InputError, match=r"expected 0 \(off\) to 100"):
        Subject(name="fox", strength=strength)


def test_what_a_frame_needed_is_forgotten_with_it(unet: Toy) -> None:
    """Constant memory per added frame: after release only the anchors are left."""
    run = SharedRun(MASKED)
    draw(unet, run, [anchors(2)])

    before = held(run)
    for i in range(3):
        frame = Sketch(f"f{i}", i, (FOX,))
        draw(unet, run, [[frame]])
        run.release(frame.id)
        assert held(run) == before
    run.drop("fox")
    assert set(held(run)) == {0}
