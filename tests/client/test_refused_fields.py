"""What stands in story files and has no place in a request."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from consistent_gen.client.types import StoryIn


def test_lora_files_are_refused_with_the_reason() -> None:
    story = {"title": "A", "frames": [{"prompt": "a cat"}]}
    with pytest.raises(ValidationError, match="without LoRA files; draw the story file with"):
        StoryIn.model_validate({**story, "loras": ["a.safetensors"]})
