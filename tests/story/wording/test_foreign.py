"""Own words of voices that were heard after the lexicon was written, and what they taught."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from benchmarks.wording import VOICES, measure, measure_attributes, story_of
from consistent_gen.story.types import Frame
from consistent_gen.story.wording import TextWording, Vocabulary, Wording, telling, word_story
from consistent_gen.story.wording.lexicon import lexicon
from consistent_gen.story.wording.reading import nearest_spelling
from consistent_gen.world.captions import MAX_WORDS, vocabulary

WORLD = Vocabulary("world", frozenset(vocabulary()), MAX_WORDS)
STORIES = yaml.safe_load((VOICES / "foreign.yaml").read_text("utf-8"))
ATTRIBUTES = yaml.safe_load((VOICES / "foreign_attributes.yaml").read_text("utf-8"))
CAST = {"Mia": "a girl with long black hair", "Bruno": "a brown bear", "Sam": "a boy"}


def worded(*frames: str, **characters: str) -> Wording:
    return word_story(story_of({"characters": characters or CAST, "frames": frames}), WORLD)


def last(*frames: str, **characters: str) -> str:
    return worded(*frames, **characters).story.frames[-1].prompt


def sheet(text: str) -> dict[str, str]:
    return dict(worded("X.", X=text).sheets["X"])


def negative(text: str) -> TextWording:
    story = replace(story_of({"frames": []}), frames=(Frame(prompt="a fox", negative=text),))
    return word_story(story, WORLD).text("frames[0].negative")


def test_all_stories_draw_and_nothing_is_lost_in_silence() -> None:
    figures = measure(STORIES, WORLD)
    assert figures["silent_drops"] == 0, figures["drops"]
    assert figures["stories_drawn"] == 1.0
    assert figures["concepts_kept"] >= 0.7
    assert measure_attributes(ATTRIBUTES, WORLD)["colours_told"] == 1.0


# whom words mean --------------------------------------------------------------------------------
def test_who_tells_the_story_is_who_is_never_named() -> None:
    cast = {"Rex": "a brown dog", "Kev": "a farmer"}
    assert "Kev}" in last("So me and Rex walked home.", "I sat down.", **cast)
    assert "Me} running" in last("I ran home.", Zog="a bear", Me="a girl")


def test_a_narrator_is_nobody_whom_he_or_she_means() -> None:
    cast = {"Seamus": "old man, that's me", "Pat": "a man with a hat"}
    assert "Seamus}" not in last("I saw Pat.", "He ran away.", **cast)


def test_a_writer_who_is_no_character_is_drawn_and_told() -> None:
    found = worded("Leo slept and I read a book.", Leo="my five-year-old")
    assert "a calm woman reading" in found.story.frames[0].prompt
    assert any("no character" in n for n in found.text("frames[0].prompt").notices)


def test_everybody_is_the_characters_unless_some_are_named() -> None:
    assert last("Mia and Sam walk.", "Everybody is smiling.").count("{happy") == 3
    assert last("The party creeps down the stairs.").endswith("walking in a bedroom")
    assert "woman" in last("Everyone stares at Mia.")


def test_a_noun_that_is_a_name_is_the_character() -> None:
    cast = {"Boss": "a woman in a white suit", "Jaz": "a girl"}
    assert "Boss} standing" in last("The boss looks at him.", **cast)
    assert "Imp}" in last("Behind a bush sat an imp.", Imp="a small man", Jaz="a girl")


def test_people_who_are_only_named_are_drawn_by_their_names() -> None:
    assert "a calm man walking" in last("Danny climbs the ladder.", Mia="a woman")
    assert "a calm boy walking" in last("Danny climbs the ladder.", Mia="a girl")
    assert "woman" in last("Mrs Dobbs waits.", Mia="a woman")


def test_a_pronoun_is_not_who_is_named_after_it() -> None:
    cast = {"Sam": "a boy", "Nut": "a hamster"}
    prompt = last("And there he was, asleep in Sam's slipper.", **cast)
    assert "sleepy Nut" in prompt and "sleepy Sam" not in prompt


def test_the_cubs_of_a_fox_are_foxes() -> None:
    assert " fox " in last("Vix runs with three cubs.", Vix="a red fox")


# what is only like it, and what things do -------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "never"),
    [("Mia ran like a rocket.", "moon"), ("Mia saw a whale, big as a church.", "city"),
     ("A wave as tall as a cathedral came.", "city"), ("A wave swept Sam away.", "waving"),
     ("Mia sits; between them floats a yellow leaf.", "walking"),
     ("Mia waits, flames leaping from the pan.", "jumping"), ("The book falls.", "reading"),
     ("Something scratches. Mia sits.", "scratching"), ("Mia wears a starry hat.", "night"),
     ("Mia reads a story about a castle.", "castle"), ("Mia took off her hat.", "jumping")],
)  # fmt: skip
def test_misreadings(text: str, never: str) -> None:
    assert never not in last(text)


@pytest.mark.parametrize(
    ("text", "drawn"),
    [("Sam wept with joy.", "happy Sam"), ("Sam wasn't happy.", "sad Sam"),
     ("Their mouths fell open.", "surprised"), ("The heavens opened.", "in the rain"),
     ("It's chucking it down.", "in the rain"), ("Mia walks at dawn.", "at sunset"),
     ("Mia is out in minus four degrees.", "in the snow"), ("Mia waits on the couch.", "sitting"),
     ("Mia meets Sam in the museum.", "in a library"), ("Mia dives into the sea.", "by the sea"),
     ("Mia walks into the school garden.", "in a meadow"), ("Mia runs round the pond.", "meadow"),
     ("Mia is in the dungeon.", "castle"), ('"Help!" cried Mia.', "standing")],
)  # fmt: skip
def test_classes_of_words(text: str, drawn: str) -> None:
    assert drawn in last(text)


def test_a_new_place_ends_the_old_one() -> None:
    frames = ("Mia and Sam read in the classroom.", "They troop out to the school garden.")
    assert "in a meadow" in last(*frames) and "library" not in last(*frames)


def test_slips_are_mended_and_other_words_are_not() -> None:
    words = lexicon()
    assert nearest_spelling("spagetti", words) == "spaghetti"
    assert nearest_spelling("gardne", words) == "garden"
    assert nearest_spelling("wringle", words) is None


# descriptions -----------------------------------------------------------------------------------
def test_the_noun_is_found_behind_of_and_between_adjectives() -> None:
    of = sheet("a mystical illustration of a wise wizard with a long, flowing beard")
    assert of["kind"] == "man"
    rabbit = worded("X.", X="A warm and kind big rabbit with chestnut fur")
    assert rabbit.sheets["X"]["kind"] == "rabbit" and rabbit.sheets["X"]["size"] == "tall"
    told = {w.said: w.fate for w in rabbit.text("characters.X.description").words}
    assert told["big"] != "left_out" and told["rabbit"] != "left_out"
    assert sheet("a group of foxes in red hats")["kind"] == "fox"
    assert sheet("a robot butler")["kind"] == "robot"


@pytest.mark.parametrize(
    "colour",
    ["teal", "mustard", "khaki", "navy", "cream", "silver", "lilac", "maroon", "turquoise",
     "beige", "charcoal", "plum"],
)  # fmt: skip
def test_colours_of_everyday_speech_are_drawn_or_told(colour: str) -> None:
    text = worded("X.", X=f"a girl in a {colour} jumper").text("characters.X.description")
    (word,) = [w for w in text.words if w.said == colour]
    assert word.fate in ("kept", "same", "near") and word.drawn in text.drawn


# negatives and what a check prints --------------------------------------------------------------
def test_a_negative_keeps_what_the_model_has_and_tells_the_rest_once() -> None:
    text = negative("bad anatomy, poorly drawn face, extra fingers, cartoon, rain, sad")
    assert text.drawn == "cartoon, rain, sad"
    (notice,) = text.notices
    assert all(part in notice for part in ("bad anatomy", "poorly drawn face", "extra fingers"))
    assert negative("lousy hands").drawn == "" and negative("two heads, garden").drawn == ""


def test_a_check_lists_what_was_left_out_of_a_frame_in_one_line() -> None:
    found = worded("Mia meets a dragon, a wyvern and a kraken with spanners and a hamper.")
    lines = [line for line in telling.full(found) if "left out" in line]
    assert len(lines) == 1 and "'dragon' (nearest: bear)" in lines[0]
    assert len(found.texts[-1].to_json()["words"]) >= 5


def test_a_check_of_twelve_frames_loads_no_torch(tmp_path: Path) -> None:
    frames = [f for entry in STORIES[:3] for f in entry["frames"]][:12]
    file = tmp_path / "a.yaml"
    file.write_text(yaml.safe_dump({"title": "x", "frames": frames}), encoding="utf-8")
    program = (
        "import sys\nfrom consistent_gen.cli import main\n"
        f"main(['check', {str(file)!r}])\n"
        "print([n for n in ('torch', 'transformers') if n in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stderr.strip().splitlines()[-1] == "[]", done.stderr
