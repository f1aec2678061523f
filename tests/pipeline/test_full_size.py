"""One step of a network of SDXL's size at 1024 pixels, random weights. Takes 16 GB of memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import consistent_gen
from benchmarks.full_size import XL, full_size_pipe
from consistent_gen.attention.budget import available_memory

NEEDED = 16 << 30


@pytest.mark.slow
def test_one_step_of_sdxl() -> None:
    """An anchor and a frame, without guidance, in the mode that the machine has room for."""
    if available_memory() < NEEDED:
        pytest.skip("needs 16 GB of free memory")
    pipe = full_size_pipe(XL)
    pipe.set_progress_bar_config(disable=True)
    options: dict[str, Any] = {"num_inference_steps": 1, "guidance_scale": 1.0,
                               "output_type": "latent"}  # fmt: skip
    with consistent_gen.share(pipe, "style_aligned", **options) as story:
        hero = story.anchor("a red fox", 1, subject="fox")
        plan = story.plans["fox"]
        assert plan.keeping.exact and story.run.bank.bytes == plan.bytes
        found = story.frame("a fox reading", 3, [hero])
    assert found.shape == (4, 128, 128)
    assert np.isfinite(found.numpy()).all()
