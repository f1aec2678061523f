"""Published files of other programs, which are not kept here: every story in them becomes a story
file that loads again.

`PUBLISHED_STORIES=FOLDER make test PYTEST_ARGS=tests/story/foreign` with, for example, these in the
folder: `resource/consistory+.yaml` and `resource/example.json` of 1Prompt1Story,
`demo_request.json` of StoryDiffusion, `PaCo-GRPO/dataset/T2IS/*/test_metadata.jsonl` of PaCo-RL, a
story.json of ViStoryBench, workflows of ComfyUI_examples.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from consistent_gen.story.foreign import import_story
from consistent_gen.story.script import dump_story, parse_story
from consistent_gen.story.wording import read_vocabulary, word_story

FOLDER = os.environ.get("PUBLISHED_STORIES")


@pytest.mark.skipif(FOLDER is None, reason="PUBLISHED_STORIES names no folder of published files")
def test_published_stories_load_and_can_be_drawn() -> None:
    files = sorted(p for p in Path(str(FOLDER)).iterdir() if p.is_file())
    assert files, "the folder is empty"
    vocabulary = read_vocabulary()
    for path in files:
        for number in range(1, import_story(path).count + 1):
            found = import_story(path, number=number)
            again = parse_story(dump_story(found.story))
            place = f"{path.name}, story {number}"
            assert [f.prompt for f in again.frames] == [f.prompt for f in found.story.frames], place
            assert again.characters.keys() == found.story.characters.keys(), place
            wording = word_story(again, vocabulary)
            empty = [frame for frame in wording.story.frames if not frame.prompt.strip()]
            assert len(empty) < len(again.frames), place
