from __future__ import annotations

import importlib.util

import pytest
import torch
from diffusers.models.attention_dispatch import AttentionBackendName

from consistent_gen.attention.backends import BACKENDS, check_backend, select_backend
from consistent_gen.attention.patch import attached
from consistent_gen.attention.policy import AttentionPolicy
from consistent_gen.attention.run import SharedRun
from consistent_gen.errors import MissingExtraError, UnknownNameError
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
