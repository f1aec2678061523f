"""What must hold for every method of the registry on every model family.

One set of drawings per (family, method), in float64, at tiny size: anchors and two frames drawn
together, and drawn one after the other from the bank. Windows are widened, since a few steps would
otherwise miss the narrow ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from consistent_gen.attention.roles import SubjectUse
from consistent_gen.attention.run import SharedRun
from consistent_gen.attention.settings import Recipe
from consistent_gen.methods import METHODS
from consistent_gen.registry import resolve
from tests.attention.toys import FAMILIES, FOX, Sketch, Toy, anchors, build, draw

WIDE: dict[str, dict[str, Any]] = {
    "consistory": {"mixing_steps": 0.5, "injection_steps": (0.25, 0.75)},
    "consistyle": {
        "mixing_steps": 0.5,
        "structure_steps": (0.25, 0.75),
        "style_steps": (0.5, 0.75),
    },
    "story_diffusion": {"id_frames": 2},
}
FRAMES = [Sketch(f"frame{i}", i, (FOX,)) for i in range(2)]
TOLERANCE = 1e-9  # the rounding of float64 through four steps stays near 1e-13


def recipe_of(method: str) -> Recipe:
    recipe: Recipe = resolve(METHODS, method)(**WIDE.get(method, {})).recipe()
    return recipe


def new_run(method: str, **options: Any) -> SharedRun:
    return SharedRun(recipe_of(method), seed=5, **options)


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
    def couples(self) -> bool:
        return bool(self.run.recipe.rules)


# One UNet and one rotary transformer in every run, the other two with the slow tests.
_EVERY_RUN = ("unet", "flux")
_PARAMS = [
    family if family in _EVERY_RUN else pytest.param(family, marks=pytest.mark.slow)
    for family in FAMILIES
]


@pytest.fixture(scope="module", params=_PARAMS)
def toy(request: pytest.FixtureRequest) -> Toy:
    return build(request.param)


@pytest.fixture(scope="module", params=METHODS)
def drawn(toy: Toy, request: pytest.FixtureRequest) -> Drawn:
    cast = cast_of(request.param)
    run = new_run(request.param)
    # The bank lies on the host and is read backwards, each frame in a batch of its own.
    cached = draw(toy, run, [cast, FRAMES[1:], FRAMES[:1]])
    joint = draw(toy, new_run(request.param), [cast + FRAMES])
    return Drawn(toy, request.param, toy.sample(FRAMES), joint, cached, run)


def difference(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    return max(float((a[name] - b[name]).abs().max()) for name in a.keys() & b.keys())


def test_cached_equals_joint(drawn: Drawn) -> None:
    """One batch with the anchors, and alone in another order from the bank (5, 6)."""
    assert drawn.joint.keys() == drawn.cached.keys()
    assert difference(drawn.joint, drawn.cached) < TOLERANCE


def test_methods_that_couple_change_frames(drawn: Drawn) -> None:
    moved = difference(drawn.vanilla, drawn.cached)
    assert moved > 1e-3 if drawn.couples else moved < TOLERANCE


def test_replay_of_one_frame_with_its_anchors(drawn: Drawn) -> None:
    """A batch of anchors and one frame, after unrelated draws from the global stream (3, 5)."""
    torch.rand(3)
    run = new_run(drawn.method)
    replayed = draw(drawn.toy, run, [[*FRAMES[1:], *cast_of(drawn.method)]])
    assert difference(replayed, drawn.joint) < TOLERANCE


def test_strength_zero_is_vanilla(drawn: Drawn) -> None:
    """A frame that reads nobody goes through the model's own processors: equal bytes (2)."""
    muted = [
        Sketch(f.id, f.seed, (SubjectUse(name="fox", tokens=(2, 3), strength=0.0),)) for f in FRAMES
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
    run, toy = drawn.run, drawn.toy
    from consistent_gen.attention.layers import find_sites

    sites = find_sites(toy.model)
    grids = {site.grid(toy.grid) for site in sites.values() if site.sees_images}
    shares: Any = {}
    for number, sketch in enumerate(cast_of(drawn.method)):
        for grid in grids:
            tokens = run.subject_tokens(sketch.id, "fox", 0, grid)
            shares[number, grid] = len(tokens) / (grid[0] * grid[1])
    predicted = run.predicted_bytes(
        sites.values(), toy.grid, steps=4, branches=("cond", "uncond"), element_bytes=8,
        subject_share=shares,
    )  # fmt: skip
    assert predicted == pytest.approx(run.bank.bytes, rel=0.05)
    assert (run.bank.bytes > 0) == drawn.couples


def test_the_model_is_left_as_it_was(drawn: Drawn) -> None:
    again = drawn.toy.sample(FRAMES)
    for frame in FRAMES:
        assert torch.equal(again[frame.id], drawn.vanilla[frame.id])
