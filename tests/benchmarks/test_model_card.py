"""The model card draws several sets of prompts with one engine and reads each by itself."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.model_card import HEADLINE, draw, prompt_set, read
from consistent_gen.checkpoints import weights_folder
from consistent_gen.encoders.reader import Reader
from consistent_gen.engine import Engine
from consistent_gen.models import load_backbone


@pytest.mark.weights
def test_sets_share_an_engine_and_real_pictures_are_read_well() -> None:
    engine = Engine(load_backbone(), bucket=4)
    sets = (prompt_set("one", "validation", 2, 1), prompt_set("two", "held_out", 2, 2))
    drawn = [draw(prompts, engine, steps=1, guidance=3.0) for prompts in sets]
    assert [pictures.shape for pictures in drawn] == [(2, 256, 256, 3)] * 2
    assert not np.array_equal(drawn[0], drawn[1])
    again = draw(sets[0], Engine(load_backbone(), bucket=4), steps=1, guidance=3.0)
    assert np.array_equal(again, drawn[0])


@pytest.mark.weights
def test_real_pictures_are_read_well() -> None:
    prompts = prompt_set("real", "validation", 24, 1)
    real = np.stack([prompts.world.picture(i).rgb for i in prompts.indices])
    seen = read(Reader.load(weights_folder("reader")), real, prompts)
    assert set(seen["headline"]) == set(HEADLINE)
    assert seen["kinds_right"] > 0.7 and seen["headline"]["style"] > 0.8
