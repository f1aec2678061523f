from __future__ import annotations

import importlib.util
from types import SimpleNamespace

import pytest
import torch
from diffusers.models.attention_dispatch import AttentionBackendName

from consistent_gen.attention.backends import BACKENDS, check_backend, select_backend
from consistent_gen.attention.patch import attached
from consistent_gen.attention.policy import AttentionPolicy
from consistent_gen.attention.run import SharedRun
from consistent_gen.errors import InputError, MissingExtraError, UnknownNameError
from consistent_gen.methods.tuning import recipe_of
from tests.attention.toys import FOX, Sketch, anchors, build, draw


def test_every_name_is_diffusers_own() -> None:
    assert set(BACKENDS) <= {backend.value for backend in AttentionBackendName}


@pytest.mark.skipif(importlib.util.find_spec("xformers") is not None, reason="xformers is here")
def test_an_absent_package_names_its_extra() -> None:
    with pytest.raises(MissingExtraError, match=r"'xformers' needs xformers; .*\[xformers\]"):
        check_backend("xformers")


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'xformers'"):
        check_backend("xformer")


def test_the_chosen_backend_computes_shared_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    from diffusers.models import attention_dispatch

    toy = build("unet")
    frame = [Sketch("frame", 1, (FOX,))]
    recipe = recipe_of("style_aligned")
    native = draw(toy, SharedRun(recipe), [anchors(1), frame], 2)["frame"]
    seen = []
    real = attention_dispatch.dispatch_attention_fn

    def watch(*args: torch.Tensor, **options: object) -> torch.Tensor:
        seen.append(options["backend"])
        found: torch.Tensor = real(*args, **options)
        return found

    monkeypatch.setattr(attention_dispatch, "dispatch_attention_fn", watch)
    select_backend(toy.model, "_native_math")
    found = draw(toy, SharedRun(recipe), [anchors(1), frame], 2)["frame"]
    assert set(seen) == {AttentionBackendName._NATIVE_MATH}
    assert torch.allclose(found, native, atol=1e-9)
    with attached(toy.model, AttentionPolicy()):
        select_backend(toy.model, "native")
        kept = {p._attention_backend for p in toy.model.attn_processors.values()}
    assert kept == {AttentionBackendName.NATIVE}


# xformers -----------------------------------------------------------------------------------------
# Its wheels are built for CUDA. All of it that diffusers calls is one function, which stands here
# as its documentation tells it; everything around that is the real thing.


class FakeXformers:
    """`xformers.ops` with `memory_efficient_attention(query, key, value, ...)`: b n h d each."""

    def __init__(self) -> None:
        self.calls = 0

    def memory_efficient_attention(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attn_bias: torch.Tensor | None = None,
        p: float = 0.0,
        scale: float | None = None,
        *,
        op: object = None,
    ) -> torch.Tensor:
        assert op is None and p == 0.0
        self.calls += 1
        if query.ndim == 3:  # b n d: heads are part of the batch
            return torch.nn.functional.scaled_dot_product_attention(
                query, key, value, attn_bias, scale=scale
            )
        heads_first = [one.transpose(1, 2) for one in (query, key, value)]
        found = torch.nn.functional.scaled_dot_product_attention(
            *heads_first, attn_bias, scale=scale
        )
        return found.transpose(1, 2)


@pytest.fixture
def xformers(monkeypatch: pytest.MonkeyPatch) -> FakeXformers:
    """The package as if it were installed for this torch, on a machine without a GPU."""
    from diffusers.models import attention_dispatch, attention_processor

    from consistent_gen.attention import backends

    fake = FakeXformers()
    monkeypatch.setattr(backends.importlib.util, "find_spec", lambda name: SimpleNamespace())
    monkeypatch.setattr(attention_dispatch, "xops", fake, raising=False)
    monkeypatch.setattr(attention_dispatch, "_CAN_USE_XFORMERS_ATTN", True)
    monkeypatch.setattr(attention_processor, "is_xformers_available", lambda: True)
    package = SimpleNamespace(ops=fake)
    monkeypatch.setattr(attention_processor, "xformers", package, raising=False)
    return fake


@pytest.mark.parametrize("family", ["unet", "sd3"])
def test_xformers_computes_shared_attention_as_torch_does(
    family: str, xformers: FakeXformers, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy = build(family)
    frame = [Sketch("frame", 1, (FOX,))]
    recipe = recipe_of("style_aligned")
    native = draw(toy, SharedRun(recipe), [anchors(1), frame], 2)["frame"]
    assert xformers.calls == 0
    on_gpu(monkeypatch)
    select_backend(toy.model, "xformers")
    found = draw(toy, SharedRun(recipe), [anchors(1), frame], 2)["frame"]
    assert xformers.calls > 1
    assert torch.allclose(found, native, atol=1e-9)


def test_layers_of_a_unet_without_a_policy_take_xformers_too(
    xformers: FakeXformers, monkeypatch: pytest.MonkeyPatch
) -> None:
    from diffusers.models.attention_processor import XFormersAttnProcessor

    toy = build("unet")
    on_gpu(monkeypatch)
    select_backend(toy.model, "xformers")
    kinds = {type(processor) for processor in toy.model.attn_processors.values()}
    assert kinds == {XFormersAttnProcessor}


def test_without_a_gpu_xformers_is_refused_in_a_line(xformers: FakeXformers) -> None:
    with pytest.raises(InputError, match=r"xformers does not compute here: .*; leave"):
        select_backend(build("unet").model, "xformers")


def on_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let diffusers' trial of the kernel, on "cuda", run on the processor."""
    real = torch.randn

    def randn(*size: object, device: object = None, **options: object) -> torch.Tensor:
        drawn: torch.Tensor = real(*size, **options)  # type: ignore[call-overload]
        return drawn

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "randn", randn)
