"""What YAML makes of a prompt that starts with a brace is told in words."""

from __future__ import annotations

import pytest

from consistent_gen.errors import StoryError
from consistent_gen.story.script import parse_story


@pytest.mark.parametrize("frame", ["{Mia} waves", "prompt: {Mia} waves"])
def test_a_brace_without_quotes(frame: str) -> None:
    text = f"title: x\ncharacters:\n  Mia: a girl\nframes:\n  - {frame}\n"
    with pytest.raises(StoryError) as caught:
        parse_story(text, source="f.yaml")
    assert str(caught.value).startswith("f.yaml:5: ")
    assert "put quotes around" in caught.value.message
