from __future__ import annotations

from pathlib import Path

import pytest

from consistent_gen.models import load_backbone
from consistent_gen.models.backbone import Backbone
from consistent_gen.models.tiny import build_tiny
from consistent_gen.world.captions import MAX_WORDS, vocabulary


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    """An untrained model with few words and room for 22 tokens."""
    return load_backbone(build_tiny(tmp_path_factory.mktemp("models") / "tiny"), device="cpu")


@pytest.fixture(scope="session")
def worldly(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    """The same with all words of the story world and its room for 62; for planning only."""
    folder: Path = tmp_path_factory.mktemp("models") / "worldly"
    model = load_backbone(build_tiny(folder, words=vocabulary()), device="cpu")
    model.tokenizer.model_max_length = MAX_WORDS + 2
    return model
