"""From an idea to a story: told by templates or by a language model, in words that can be drawn."""

from __future__ import annotations

import itertools
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consistent_gen.errors import InputError
from consistent_gen.language.endpoints import Endpoint
from consistent_gen.language.models import EndpointModel, Replay
from consistent_gen.story.ideas.plots import (
    BEATS,
    FEWEST_FRAMES,
    MOST_FRAMES,
    PLOTS,
    beats,
    fitting,
    lines,
)
from consistent_gen.story.ideas.reading import MAX_IDEA, NAMES, read_idea
from consistent_gen.story.ideas.writing import TEMPLATES, WrittenStory, write_story
from consistent_gen.story.script import dump_story, parse_story
from consistent_gen.story.types import Story
from consistent_gen.story.wording import Vocabulary, telling, word_story
from consistent_gen.story.wording.drawing_words import table
from consistent_gen.world.captions import MAX_WORDS, vocabulary
from tests.every_run import or_slow
from tests.memory.test_embedders import serving

WORLD = Vocabulary("world", frozenset(vocabulary()), MAX_WORDS)
OPEN = Vocabulary("open", None, 75)
IDEAS = [
    "a shy fox finds a balloon",
    "A rainy day.",
    "two friends build a sandcastle at the beach",
    "a dragon who wants to fly",
    "Mia and her dog Bo go to the beach",
    "a grumpy bear",
    "a robot learns to dance",
    "a girl in a red hat looks for her lost kitten in the forest",
    "three little foxes and a kite",
    "a trip to the moon",
    "homework",
    "Zed, a lonely robot, saves the world",
    "an elephant and a mouse are best friends",
]


def written(idea: str, *, frames: int = 6, seed: int = 0, words: Vocabulary = WORLD) -> Story:
    return write_story(idea, words, frames=frames, seed=seed).story


def told(story: Story) -> str:
    return " ".join(frame.caption or "" for frame in story.frames)


# templates --------------------------------------------------------------------------------------
LENGTHS = [2, 3, 5, 6, 12, 24]
# In every run: each idea at the length that is written by default, and one idea at each length.
QUICK = [(idea, 6) for idea in IDEAS] + [(IDEAS[0], frames) for frames in LENGTHS]


@pytest.mark.parametrize("case", or_slow(itertools.product(IDEAS, LENGTHS), QUICK), ids=str)
def test_a_story_is_drawn_word_for_word(case: tuple[str, int]) -> None:
    idea, frames = case
    for seed in range(3):
        story = parse_story(dump_story(written(idea, frames=frames, seed=seed)))
        assert len(story.frames) == frames and story.seed == seed
        wording = word_story(story, WORLD)
        assert telling.full(wording) == [] and telling.problems(wording, WORLD, strict=True) == []
        for frame in story.frames:
            assert frame.caption and "<" not in frame.caption and "@" not in frame.caption
            assert "[" not in frame.caption and frame.caption[-1] in ".!?”"
            first = frame.caption.lstrip("“")[0]
            assert first == first.upper()
            assert "{" in frame.prompt  # nobody's frame is empty


def test_equal_seeds_give_equal_bytes_and_others_other_stories() -> None:
    texts = [dump_story(written(IDEAS[0], seed=seed)) for seed in range(8)]
    assert texts == [dump_story(written(IDEAS[0], seed=seed)) for seed in range(8)]
    assert len({told(parse_story(text)) for text in texts}) >= 7


def test_a_story_has_many_places_actions_moods_hours_and_views() -> None:
    prompts = " ".join(frame.prompt for frame in written(IDEAS[0], frames=12, seed=1).frames)
    for category, least in (("place", 4), ("action", 3), ("mood", 3), ("weather", 2)):
        found = {v for v, said in table(category).items() if said[0] and said[0] in prompts}
        assert len(found) >= least, (category, found)
    views = [frame.prompt for frame in written(IDEAS[0], frames=24).frames]
    assert any("close up" in v for v in views) and any("far away" in v for v in views)


def test_no_line_comes_twice_in_a_long_story() -> None:
    for idea in IDEAS:
        captions = [frame.caption for frame in written(idea, frames=24, seed=4).frames]
        assert len(set(captions)) == len(captions)


def test_who_is_named_plays_the_part_and_keeps_the_looks() -> None:
    story = written("Mia and her dog Bo go to the beach")
    assert list(story.characters)[:2] == ["Mia", "Bo"]
    assert "girl" in story.characters["Mia"].description
    assert "dog" in story.characters["Bo"].description
    assert "Mia and Bo go to the beach." in told(story)
    (girl, cat) = written(IDEAS[7]).characters.values()
    assert "red hat" in girl.description and " cat" in cat.description
    zed = written("Zed, a lonely robot, saves the world").characters["Zed"]
    assert "robot" in zed.description
    anna = written("a brown bear named Anna dances").characters["Anna"]
    assert "brown bear" in anna.description


def test_somebody_who_is_looked_for_is_found_and_not_seen_before() -> None:
    story = written("a boy looks for his dog")
    boy, dog = story.characters
    seen = [f"{dog}}}" in frame.prompt for frame in story.frames]
    assert not seen[0] and seen[-1] and seen == sorted(seen)
    assert f"{boy} looks for {dog}." in told(story)


def test_a_plural_becomes_so_many() -> None:
    kinds = [c.description for c in written("three little foxes and a kite").characters.values()]
    assert len(kinds) == 3 and all(" fox" in kind for kind in kinds)
    assert len(written("two cats").characters) == 2


def test_an_idea_that_names_nobody_gets_somebody() -> None:
    found = write_story("a rainy day", WORLD)
    assert len(found.story.characters) >= 1
    assert "names nobody" in found.notices[0]
    assert "rain" in found.story.frames[0].prompt


def test_what_cannot_be_drawn_is_told_and_the_nearest_taken() -> None:
    found = write_story("a dragon who wants to fly", WORLD)
    assert any("dragon" in notice and "bear" in notice for notice in found.notices)
    assert " bear" in next(iter(found.story.characters.values())).description
    found = write_story("a girl finds an old submarine", WORLD)
    assert any("submarine" in notice for notice in found.notices)
    assert "submarine" in told(found.story)  # the caption keeps the writer's word


def test_a_model_that_reads_any_word_has_nothing_told() -> None:
    found = write_story("a dragon who wants to fly", OPEN)
    assert found.notices == () and len(found.story.frames) == 6


def test_a_small_vocabulary_is_enough() -> None:
    few = Vocabulary(
        "few",
        frozenset({"a", "an", "the", "fox", "happy", "standing", "in", "forest", ",", "shirt"}),
        40,
    )
    story = written("a shy fox finds a balloon", words=few)
    wording = word_story(story, few)
    assert telling.problems(wording, few, strict=True) == []


def test_the_lines_are_complete() -> None:
    for plot in PLOTS:
        for beat in BEATS:
            found = plot == "seek" and beat == "turn"  # whom one seeks is always met
            assert fitting(plot, beat, meets=found), (plot, beat)
        own = [line for line in lines() if plot in line.plots]
        assert plot == "friends" or any(line.friend for line in own)
    for line in lines():
        assert set(line.plots) <= {*PLOTS, "any"}
        assert line.caption.count("@") in (0, 2)
    for frames in range(FEWEST_FRAMES, MOST_FRAMES + 1):
        arc = beats(frames)
        assert len(arc) == frames and arc[-1] == "ending" and "idea" in arc
        assert [BEATS.index(beat) for beat in arc] == sorted(BEATS.index(beat) for beat in arc)


@pytest.mark.parametrize(
    ("idea", "words"),
    [("", "a sentence"), ("?!", "a sentence"), ("see https://example.org/x", "not read"),
     ("a\x00b", "control"), ("x" * (MAX_IDEA + 1), str(MAX_IDEA))],
)  # fmt: skip
def test_what_is_no_idea_is_refused_in_words(idea: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        write_story(idea, WORLD)


def test_numbers_are_bounded() -> None:
    for frames in (1, 25, -3):
        with pytest.raises(InputError, match="2 to 24"):
            write_story("a fox", WORLD, frames=frames)
    with pytest.raises(InputError, match="seed"):
        write_story("a fox", WORLD, seed=-1)


@given(st.text(max_size=80), st.integers(2, 24))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_any_text_is_a_story_or_refused(idea: str, frames: int) -> None:
    try:
        found = write_story(idea, WORLD, frames=frames)
    except InputError:
        return
    assert len(parse_story(dump_story(found.story)).frames) == frames


def test_names_are_told_apart_from_words() -> None:
    rng = random.Random(1)
    assert [h.name for h in read_idea("Rose paints", WORLD, rng).heroes] == ["Rose"]
    (hero,) = read_idea("The King is sad", WORLD, rng).heroes
    assert hero.name in NAMES["he"] and hero.description == "a King"


def test_nothing_heavy_is_imported() -> None:
    program = (
        "import sys\nfrom consistent_gen.cli import main\n"
        "assert main(['write', 'a fox dances']) == 0\n"
        "bad = {'torch', 'transformers', 'diffusers', 'spacy'} & set(sys.modules)\n"
        "assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.DEVNULL)


# language models --------------------------------------------------------------------------------
GOOD = {
    "title": "Kite and Co",
    "characters": {"Ivo": "a small brown bear wearing a red sweater"},
    "frames": [
        {"prompt": "{happy Ivo} running in a meadow with a kite", "caption": "Ivo has a kite."},
        {"prompt": "{sad Ivo} sitting in a forest", "caption": "The kite is gone!"},
        {"prompt": "{Ivo} holding a kite at the old harbour", "caption": "There it is."},
    ],
}


def asked(*replies: str, frames: int = 3) -> tuple[WrittenStory, list[Any]]:
    """A story by an endpoint that answers with `replies`, one after the other."""
    waiting = list(replies)

    def answer(body: dict[str, Any]) -> dict[str, Any]:
        return {"choices": [{"message": {"role": "assistant", "content": waiting.pop(0)}}]}

    with serving(answer) as (url, seen):
        model = EndpointModel(Endpoint(url=url), "writer")
        found = write_story("a bear and a kite", WORLD, frames=frames, model=model)
    return found, seen


def test_a_language_model_writes() -> None:
    found, seen = asked(f"Here you are:\n```json\n{json.dumps(GOOD)}\n```")
    assert found.by.startswith("writer") and found.story.title == "Kite and Co"
    assert [frame.caption for frame in found.story.frames][1] == "The kite is gone!"
    assert telling.full(word_story(found.story, WORLD)) == []
    assert any("harbour" in notice for notice in found.notices)
    system, user = seen[0][1]["messages"]
    assert "exactly 3 frames" in system["content"] and "a bear and a kite" in user["content"]
    for word in ("in a meadow", "next to flowers", "holding a balloon", "robot"):
        assert word in system["content"]


def test_its_mistake_is_told_once_and_mended() -> None:
    short = {**GOOD, "frames": GOOD["frames"][:2]}
    found, seen = asked(json.dumps(short), json.dumps(GOOD))
    assert found.by.startswith("writer") and len(seen) == 2
    assert "2 frames; 3 are wanted" in seen[1][1]["messages"][-1]["content"]


@pytest.mark.parametrize(
    "reply",
    ["", "I cannot do that.", "{", "{}", "[1]", '{"title": 3, "frames": [{}]}', "[" * 5000 + "{}",
     json.dumps({**GOOD, "frames": [{"prompt": "{Nobody} runs", "caption": "x"}] * 3}),
     json.dumps({**GOOD, "references": ["http://x"]}),
     json.dumps({**GOOD, "characters": {"Ivo": {"description": "a bear", "references": ["a"]}}}),
     json.dumps({**GOOD, "frames": [{"prompt": "{Ivo} runs"}] * 3}),
     json.dumps({**GOOD, "title": True}), '{"a": ' * 3000 + "1" + "}" * 3000,
     json.dumps({**GOOD, "title": "\ud800"})],
)  # fmt: skip
def test_templates_write_when_it_cannot(reply: str) -> None:
    found, seen = asked(reply, reply)
    assert found.by == TEMPLATES and len(seen) == 2
    assert "templates wrote this one" in found.notices[0]
    assert "a bear and a kite".capitalize() == found.story.title


def test_templates_write_when_it_cannot_be_reached() -> None:
    with serving(lambda body: {}) as (url, _):
        pass
    model = EndpointModel(Endpoint(url=url, connect_s=0.5), "writer")
    found = write_story("a bear", WORLD, model=model)
    assert found.by == TEMPLATES and "templates wrote" in found.notices[0]


def test_a_transcript_gives_the_same_story_again(tmp_path: Path) -> None:
    path = tmp_path / "replies.jsonl"
    waiting = [json.dumps(GOOD)]

    def answer(body: dict[str, Any]) -> dict[str, Any]:
        return {"choices": [{"message": {"role": "assistant", "content": waiting.pop()}}]}

    with serving(answer) as (url, _):
        recorder = EndpointModel(Endpoint(url=url), "writer")
        model = Replay(path, recorder=recorder)
        first = write_story("a bear and a kite", WORLD, frames=3, model=model)
    again = write_story(
        "a bear and a kite", WORLD, frames=3, model=Replay(path, model=recorder.name)
    )
    assert first == again and again.by == recorder.name
