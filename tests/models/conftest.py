from __future__ import annotations

from pathlib import Path

import pytest

from consistent_gen.models import load_backbone
from consistent_gen.models.backbone import Backbone
from consistent_gen.models.tiny import build_tiny


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def tiny(tiny_folder: Path) -> Backbone:
    return load_backbone(tiny_folder, device="cpu")


@pytest.fixture(scope="session")
def tiny_xl(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return load_backbone(
        build_tiny(tmp_path_factory.mktemp("models") / "xl", xl=True), device="cpu"
    )
