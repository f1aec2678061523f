"""Every way of keeping exports gives the same frames: exactly, or as near as its bits allow."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import torch

from consistent_gen.attention.bank import AnchorBank, Export
from consistent_gen.attention.budget import (
    KeepingPlan,
    Sampling,
    available_memory,
    choose,
    free_bytes,
    plan_for,
)
from consistent_gen.attention.keeping import KV, MODES, Keeping, Where, keeping, pack
from consistent_gen.attention.layers import find_sites
from consistent_gen.attention.roles import Source
from consistent_gen.attention.run import SharedRun
from consistent_gen.attention.sharing import Sharing
from consistent_gen.errors import InputError, LimitError, OutputError, UnknownNameError
from tests.attention.test_invariants import CASES, FRAMES, TOLERANCE, cast_of, recipe_of, toy_of
from tests.attention.toys import draw
from tests.every_run import or_slow

FOX = Source("fox")
EXACT = [mode for mode in MODES.values() if mode.exact and mode.what != "replay"]
COUPLED = [case for case in CASES if case[1] != "vanilla"]
# In every run: each way where no mask decides, and the one that costs most work where one does.
QUICK = [("unet", "style_aligned", EXACT), ("unet", "consistyle", [MODES["hidden-disk"]])]


def frames_of(family: str, method: str, way: Keeping) -> tuple[dict[str, Any], SharedRun]:
    run = SharedRun(recipe_of(method), seed=5, keeping=way)
    return draw(toy_of(family), run, [cast_of(method), FRAMES]), run


@functools.cache  # what tests compare with is drawn once
def kept_as(family: str, method: str, name: str) -> tuple[dict[str, Any], SharedRun]:
    return frames_of(family, method, MODES[name])


@pytest.mark.slow
@pytest.mark.parametrize("case", COUPLED, ids="-".join)
def test_exact_ways_agree_in_every_model(case: tuple[str, str]) -> None:
    agree(*case, EXACT)


@pytest.mark.parametrize(("family", "method", "ways"), QUICK)
def test_exact_ways_agree(family: str, method: str, ways: list[Keeping]) -> None:
    agree(family, method, ways)


def agree(family: str, method: str, ways: list[Keeping]) -> None:
    expected, usual = kept_as(family, method, KV.name)
    sites = find_sites(toy_of(family).model).values()
    for way in ways:
        found, run = frames_of(family, method, way)
        for name, latent in expected.items():
            assert torch.allclose(found[name], latent, atol=TOLERANCE), (way.name, name)
        assert run.bank.error_of(FOX) == 0.0
        predicted = run.most_bytes(
            sites, toy_of(family).grid, steps=4, guided=4, element_bytes=8, keeping=way
        )
        assert 0 < run.bank.bytes <= predicted
        if run.recipe.masks is None:
            assert run.bank.bytes == predicted
        if way.what == "kv":
            assert run.bank.bytes == usual.bank.bytes
        else:
            assert run.bank.bytes < usual.bank.bytes
        run.bank.close()
        assert run.bank.bytes == len(run.bank) == 0


BITS = [("kv", 16, 1e-3), ("kv", 8, 0.02), ("hidden", 16, 1e-3), ("hidden", 8, 0.02)]


@pytest.mark.parametrize("case", or_slow(BITS, [BITS[1], BITS[2]]))
def test_fewer_bits_tell_their_error(case: tuple[Any, Any, float]) -> None:
    what, bits, most = case
    way = Keeping(what, bits)
    expected, usual = kept_as("unet", "consistyle", what)
    found, run = frames_of("unet", "consistyle", way)
    assert run.bank.bytes < usual.bank.bytes * (0.4 if bits == 16 else 0.3)
    error = run.bank.error_of(FOX)
    assert most / 100 < error < most
    size = max(float(latent.abs().max()) for latent in expected.values())
    moved = max(float((found[name] - x).abs().max()) for name, x in expected.items())
    assert 0.0 < moved < 10 * error * size


def test_what_is_kept_in_eight_bits() -> None:
    x = torch.randn(50, 3, 16, generator=torch.Generator().manual_seed(0))
    x[7] = 0.0
    kept = pack(x, Keeping(bits=8))
    assert kept.nbytes == 50 * 3 * (16 + 4)
    back = kept.on(torch.device("cpu"))
    rounding = x.abs().amax(-1, keepdim=True) / 127 / 2  # half a unit of each row
    assert bool(((back - x).abs() <= rounding * 1.001).all())
    assert torch.equal(back[7], torch.zeros(3, 16))
    for dtype in (torch.float16, torch.bfloat16):
        same = pack(x.to(dtype), Keeping(bits=16))
        assert same.error == (0.0, 0.0) and same.on(torch.device("cpu")).dtype == dtype
    with pytest.raises(InputError, match="exceeds 65504"):
        pack(x * 1e6, Keeping(bits=16))


def export(count: int = 4) -> Export:
    x = torch.arange(count * 8.0).reshape(count, 2, 4)
    return Export(anchor=0, tokens=torch.arange(count), k=x, v=-x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_on_disk(dtype: torch.dtype, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files appear with the first export, one per source, and go with it."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    bank = AnchorBank(keeping=MODES["kv-disk"])
    assert not list(tmp_path.iterdir())
    given = export()
    exact = Export(anchor=0, tokens=given.tokens, k=given.k.to(dtype), v=given.v.to(dtype))
    for step in range(3):
        bank.put((FOX, "layer", step, "cond"), exact)
        bank.put_result((FOX, "layer", step, "cond"), 0, torch.ones(2, 8, dtype=dtype))
    bank.put((Source("cat"), "layer", 0, "cond"), exact)
    (folder,) = tmp_path.iterdir()
    assert len(list(folder.iterdir())) == 2
    on_disk = sum(file.stat().st_size for file in folder.iterdir())
    assert bank.bytes == on_disk == 4 * exact.bytes + 3 * 16 * dtype.itemsize
    (read,) = bank.get((FOX, "layer", 2, "cond"), torch.device("cpu"))
    assert torch.equal(read.k, exact.k) and torch.equal(read.v, exact.v)
    assert bank.results((FOX, "layer", 2, "cond"), read.k.device)[0].shape == (2, 8)
    bank.drop(FOX)
    assert len(list(folder.iterdir())) == 1
    bank.close()
    assert not list(tmp_path.iterdir()) and bank.bytes == 0


def test_a_disk_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    bank = AnchorBank(keeping=MODES["kv-disk"])
    bank.put((FOX, "layer", 0, "cond"), export())
    (folder,) = tmp_path.iterdir()
    (file,) = folder.iterdir()
    file.unlink()
    file.mkdir()
    with pytest.raises(
        OutputError, match=r"cannot be written .*; set TMPDIR to a folder with more"
    ):
        bank.put((FOX, "layer", 1, "cond"), export())
    file.rmdir()
    bank.close()


def test_numbers_that_are_not_finite_are_refused_with_their_place() -> None:
    broken = export()
    broken.v[1, 0, 2] = float("inf")
    with pytest.raises(InputError, match=r"'fox' .*not finite at step 4 in layer up\.2 \(cond\)"):
        AnchorBank().put((FOX, "up.2", 3, "cond"), broken)


def test_names() -> None:
    assert keeping("hidden-8bit-host") == Keeping("hidden", 8, "host")
    assert len(MODES) == 19 and all(keeping(name).name == name for name in MODES)
    with pytest.raises(UnknownNameError, match="did you mean 'hidden'"):
        keeping("hiden")


def test_an_adapter_on_projections_and_hidden_states_are_refused_together() -> None:
    """The adapter adds something of the anchor's own row, which a reader does not know."""
    from consistent_gen.attention.patch import attached
    from consistent_gen.attention.policy import AttentionPolicy
    from tests.attention.toys import draw_under

    class Adding(AttentionPolicy):
        acts_on_projections = True

    toy = toy_of("unet")
    policy = Sharing(SharedRun(recipe_of("style_aligned"), keeping=MODES["hidden"]))
    policy.bind(find_sites(toy.model))
    with (
        attached(toy.model, policy, Adding()),
        pytest.raises(InputError, match=r"adds to its projections.* choose memory='kv'"),
    ):
        draw_under(toy, policy, [cast_of("style_aligned")])


# What fits.


def plans(room: dict[str, int], name: str = "auto", **more: Any) -> KeepingPlan:
    run = SharedRun(recipe_of("style_aligned"))
    sites = find_sites(toy_of("unet").model).values()
    drawing = Sampling((8, 12), 4, 2, 8, 4 * 96 * 8)

    def free(where: Where) -> int:
        return room.get(where, 0)

    more = {"on_processor": False} | more
    return choose(name, run, sites, drawing, free, **more)


def test_the_cheapest_that_fits_is_chosen() -> None:
    whole = plans({"device": 1 << 40}).bytes
    half = plans({"device": whole - 1}).bytes
    assert half < 0.6 * whole
    rooms: list[tuple[dict[str, int], dict[str, Any], str]] = [
        ({"device": whole}, {}, "kv"),
        ({"device": whole - 1, "host": 1 << 40}, {}, "hidden"),
        ({"device": half - 1, "host": half, "disk": 1 << 40}, {}, "hidden-host"),
        ({"device": half - 1, "host": whole}, {"refused": ("hidden",)}, "kv-host"),
        ({"device": half - 1, "disk": 1 << 40}, {}, "replay"),
        ({"device": half - 1, "disk": 1 << 40}, {"on_processor": True}, "hidden-disk"),
        ({"device": half - 1, "disk": 1}, {"on_processor": True}, "replay"),
        ({"disk": half}, {"refused": ("replay",)}, "hidden-disk"),
    ]
    for room, more, name in rooms:
        plan = plans(room, **more)
        assert plan.keeping.name == name and plan.bytes <= plan.free, (room, name)
    with pytest.raises(
        LimitError, match=r"does not fit: kv takes .* replay takes .* raise the lim"
    ):
        plans({"device": 100})
    with pytest.raises(LimitError, match=r"hidden takes .* another memory mode \(auto"):
        plans({"device": half - 1}, name="hidden")


def test_a_plan_says_what_it_costs() -> None:
    assert str(plans({"device": 1 << 40})).endswith("each frame that reads them costs nothing more")
    hidden = plans({"device": 1 << 40}, name="hidden")
    assert hidden.flop > 0 and "each frame that reads them projects for" in str(hidden)
    host = plans({"host": 1 << 40}, name="kv-host")
    assert host.moved == host.bytes and "in the host's memory" in str(host)
    replay = plans({"device": 1 << 40}, name="replay")
    assert replay.calls == 4 and "draws 4 steps of its anchors again" in str(replay)


def test_what_is_free_is_measured() -> None:
    cpu = torch.device("cpu")
    assert 0 < free_bytes("host", cpu) <= available_memory()
    assert abs(free_bytes("device", cpu) - free_bytes("host", cpu)) < free_bytes("host", cpu)
    assert free_bytes("disk", cpu) > 0


def test_looks_and_first_passes_count_where_anchors_are_drawn_again() -> None:
    run = SharedRun(recipe_of("consistyle"))
    sites = list(find_sites(toy_of("unet").model).values())
    plan = plan_for(
        MODES["replay"], run, sites, Sampling((8, 12), 4, 2, 8, 1), lambda where: 1 << 40
    )
    # Of two anchors: steps 1 to 3, a look in step 1, values of a first pass in step 2.
    assert plan.calls == 2 * (3 + 1 + 1)
