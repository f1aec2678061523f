from __future__ import annotations

from pathlib import Path

import pytest

from consistent_gen.models.tiny import build_tiny

STORY = """\
title: "Mia & Bo <3"
style: pencil
seed: 5
size: 64x64
characters:
  Mia: a girl with a red hat
  Bo: a small bear
frames:
  - prompt: "{Mia} reading in the forest"
    caption: Mia reads.
  - "{Bo} walking"
  - {prompt: "{Mia} and {Bo}", style: pencil, seed: 3, negative: old}
"""


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def story_text() -> str:
    return STORY


@pytest.fixture
def story_file(tmp_path: Path) -> Path:
    path = tmp_path / "story.yaml"
    path.write_text(STORY)
    return path
