"""Which of many like cases run every time; the others run with the slow tests, as CI does."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from consistent_gen.methods import FOR_EVERY_MODEL

COUPLING = tuple(name for name in FOR_EVERY_MODEL if name != "vanilla")
# The default, and the one with every mechanism. Each method alone is held by its oracle.
QUICK_METHODS = ("head_start", "consistyle")
# One of each family. ControlNets and distilled models have tests of their own.
QUICK_PIPELINES = (
    "StableDiffusionPipeline", "StableDiffusionXLImg2ImgPipeline", "StableDiffusion3Pipeline",
    "FluxPipeline", "FluxKontextPipeline", "QwenImagePipeline", "PixArtSigmaPipeline",
)  # fmt: skip


def or_slow(cases: Iterable[Any], quick: Iterable[Any] = QUICK_METHODS) -> list[Any]:
    """The cases of a parametrised test, all but the quick ones marked slow."""
    quick = tuple(quick)
    return [case if case in quick else pytest.param(case, marks=pytest.mark.slow) for case in cases]
