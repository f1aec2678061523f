"""Own words: what becomes of them, whom they mean, and that nothing gets lost in silence."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from benchmarks.wording import VOICES, measure, measure_attributes, silent_drops, story_of
from consistent_gen.errors import StoryError
from consistent_gen.models.backbone import Backbone
from consistent_gen.story.plan import plan_story
from consistent_gen.story.prompts import story_world_styles
from consistent_gen.story.script import load_story, parse_story
from consistent_gen.story.wording import (
    TextWording,
    Vocabulary,
    Wording,
    read_vocabulary,
    telling,
    vocabulary_of,
    word_story,
)
from consistent_gen.story.wording.drawing_words import TABLES, table
from consistent_gen.story.wording.lexicon import RELATIONS, lexicon
from consistent_gen.world.captions import MAX_WORDS, vocabulary

ROOT = Path(__file__).resolve().parents[3]
WORLD = Vocabulary("world", frozenset(vocabulary()), MAX_WORDS)
OPEN = Vocabulary("open", None, 75)
STORIES: list[dict[str, Any]] = yaml.safe_load((VOICES / "stories.yaml").read_text("utf-8"))
ATTRIBUTES = yaml.safe_load((VOICES / "attributes.yaml").read_text("utf-8"))
PAIR = {"Mia": "a girl with long black hair wearing a red dress", "Bruno": "a brown bear"}


def worded(*frames: str, model: Vocabulary = WORLD, **characters: str) -> Wording:
    return word_story(story_of({"characters": characters, "frames": frames}), model)


def prompts(*frames: str, **characters: str) -> list[str]:
    return [frame.prompt for frame in worded(*frames, **characters).story.frames]


def first(text: str, **characters: str) -> TextWording:
    return worded(text, **characters).text("frames[0].prompt")


# the lexicon ------------------------------------------------------------------------------------
def test_the_lexicon_is_large_and_says_only_what_the_world_has() -> None:
    words = lexicon()
    assert words.entries >= 1500
    scene = {name: set(table(name)) for name in TABLES}
    for form, senses in words.senses.items():
        assert form == form.lower().strip() and "-" not in form
        for sense in senses:
            assert sense.relation in RELATIONS
            for concept in sense.concepts:
                category, _, value = concept.partition(".")
                if category in scene and value not in ("adult", "child", "person", "people",
                                                       "children"):  # fmt: skip
                    assert value in scene[category], f"{form}: {concept}"
                if category == "part":
                    assert set(value.split("/")) <= scene["place"], f"{form}: {concept}"
                if category == "style":
                    assert value in story_world_styles()


@pytest.mark.parametrize(
    ("form", "base"),
    [("ran", "run"), ("hopping", "hop"), ("cried", "cry"), ("women", "woman"), ("puppies", "puppy"),
     ("sadly", "sad"), ("lying", "lie"), ("foxes", "fox"), ("waved", "wave"), ("swam", "swim")],
)  # fmt: skip
def test_words_are_inflected(form: str, base: str) -> None:
    assert base in {sense.base for sense in lexicon().of(form)}


# what stays -------------------------------------------------------------------------------------
@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda p: p.stem)
def test_stories_in_the_models_words_stay_as_they_are(path: Path, worldly: Backbone) -> None:
    story = load_story(path)
    found = word_story(story, vocabulary_of(worldly))
    assert found.story == story and not found.changed
    assert plan_story(found.story, worldly) == plan_story(story, worldly)


def test_what_was_put_into_the_models_words_stays_so() -> None:
    for entry in STORIES[:12]:
        once = word_story(story_of(entry), WORLD).story
        assert word_story(once, WORLD).story == once


# whom words mean --------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "drawn"),
    [
        ("Mia waves.", "waving"),
        ("MIA waves!!", "waving"),
        ("{Mia} waves...", "waving"),
        ("Mia's waving hello", "waving hello"),
        ("mia is waving;", "waving"),
    ],
)
def test_names_need_no_braces(text: str, drawn: str) -> None:
    (prompt,) = prompts(text, **PAIR)
    assert "Mia} " + drawn in prompt


def test_pronouns_mean_whom_the_story_spoke_of() -> None:
    found = prompts(
        "Mia and Bruno walk to the beach.", "She jumps.", "They dance.", "He reads her a book.",
        **PAIR,
    )  # fmt: skip
    assert "Mia} jumping" in found[1] and "Bruno}" not in found[1]
    assert "Mia}" in found[2] and "Bruno} dancing" in found[2]
    assert "Bruno} reading" in found[3] and "Mia}" in found[3]


def test_nouns_mean_a_character_that_fits() -> None:
    found = prompts("Mia sits.", "Her bear eats.", "The girl runs.", "A man waves.", **PAIR)
    assert "Bruno} eating" in found[1]
    assert "Mia} running" in found[2]
    assert "a calm man waving" in found[3] and "{" not in found[3]


def test_who_is_acted_upon_does_not_act() -> None:
    (prompt,) = prompts("Mia finds Bruno sleeping in the kitchen.", **PAIR)
    assert "Mia} standing and {sleepy Bruno} sitting in a kitchen" in prompt


def test_a_frame_that_names_nobody_shows_whom_the_last_one_showed() -> None:
    found = worded("Bruno dances.", "What a lovely evening!", **PAIR)
    assert "Bruno}" in found.story.frames[1].prompt
    assert any("nobody is named" in n for n in found.text("frames[1].prompt").notices)


# what is drawn and what is told -----------------------------------------------------------------
def test_near_concepts_are_drawn_and_told() -> None:
    text = first("Mia is in the garden with a puppy.", **PAIR)
    assert "in a meadow" in text.drawn and "dog" in text.drawn
    assert {w.said: w.fate for w in text.words}["garden"] == "near"


def test_what_cannot_be_drawn_is_told_with_what_is_nearest() -> None:
    text = first("Mia meets a dragon in the forest.", **PAIR)
    (dragon,) = [w for w in text.omissions if w.said == "dragon"]
    assert text.written[dragon.start : dragon.end] == "dragon"
    assert str(dragon).startswith("'dragon' cannot be drawn by this model and was left out")
    assert dragon.nearest == ("bear",)


def test_a_character_that_cannot_be_drawn_is_drawn_as_its_nearest_and_told() -> None:
    found = worded("Zog sleeps.", Zog="a green dragon")
    assert found.sheets["Zog"]["kind"] == "bear"
    assert any(
        "cannot draw a dragon" in n for n in found.text("characters.Zog.description").notices
    )


def test_speech_is_kept_for_a_bubble() -> None:
    text = first('"Where is my hat?" asks Mia.', **PAIR)
    assert [w.said for w in text.speech] == ["Where is my hat?"]
    assert "hat" not in text.drawn
    assert any("bubble" in n for n in text.notices)


def test_what_is_said_not_to_be_is_not_drawn() -> None:
    text = first("Mia is not sad.", **PAIR)
    assert "sad" not in text.drawn
    assert "calm Mia" in text.drawn


def test_a_colour_that_a_kind_never_has_goes_to_its_clothes() -> None:
    found = worded("Bot waves.", Bot="a blue robot")
    assert "blue" in found.story.characters["Bot"].description.split("wearing")[1]


def test_colours_before_clothes_and_hair_are_colours() -> None:
    """Many are fruit, metals or places as well: "in orange overalls"."""
    for colour in ("red", "orange", "yellow", "green", "teal", "blue", "purple", "pink"):
        for how in ("in", "wearing", "with", "who wears"):
            drawn = worded("{Ada} reads", Ada=f"a woman {how} {colour} overalls")
            assert f"{colour} overalls" in drawn.story.characters["Ada"].description, how
    ginger = worded("{Ada} reads", Ada="a lady with orange hair in a spotty orange jumper")
    assert "ginger" in ginger.story.characters["Ada"].description
    assert "dotted orange sweater" in ginger.story.characters["Ada"].description
    eaten = first("Ada gobbles an orange in the kitchen", Ada="a woman")
    assert "eating" in eaten.drawn


def test_moods_belong_to_their_frame() -> None:
    found = prompts("Mia is very sad.", "Mia eats.", "Mia is angry", **PAIR)
    assert "{sad Mia}" in found[0] and "{angry Mia}" in found[2]
    assert "{happy Mia}" in found[1] or "{calm Mia}" in found[1]


def test_sheets_are_complete_equal_every_time_and_without_headwear() -> None:
    entry = {"characters": {"Kim": "my daughter, six"}, "frames": ["Kim runs.", "Kim sits."]}
    found = word_story(story_of(entry), WORLD)
    assert found == word_story(story_of(entry), WORLD)
    sheet = found.sheets["Kim"]
    assert {"kind", "coat", "hair_style", "top", "top_colour", "pattern"} <= sheet.keys()
    assert sheet["pattern"] == "plain" and "accessory" not in sheet
    other = word_story(replace(story_of(entry), seed=5), WORLD).sheets["Kim"]
    assert sheet != other


def test_all_prompts_fit() -> None:
    long = (
        "a very tall girl with long curly ginger hair, freckles, green eyes, round glasses, a "
        "striped blue jumper, red trousers and yellow boots"
    )
    cast = {"Ann": long, "Bea": long, "Cleo": long}
    found = worded("Ann, Bea and Cleo read in the library at night with a lantern", **cast)
    assert telling.problems(found, WORLD) == []
    assert any("no room" in n for text in found.texts for n in text.notices)


@pytest.mark.parametrize(
    ("style", "drawn"),
    [("watercolour", "watercolor"), ("Pixel art, 8-bit", "pixel"), ("neon", "neon")],
)
def test_styles(style: str, drawn: str) -> None:
    story = replace(story_of({"frames": ["a fox"]}), style=style)
    assert word_story(story, WORLD).story.style == drawn


def test_strict_refuses_all_at_once() -> None:
    found = worded("Mia is in the garden.", "Mia rides a dragon.", **PAIR)
    errors = telling.problems(found, WORLD, strict=True)
    assert len(errors) >= 2
    with pytest.raises(StoryError, match=r"\d+ more"):
        telling.refuse(errors, "f.yaml")


# models of other kinds --------------------------------------------------------------------------
def test_an_open_vocabulary_keeps_the_words_and_finds_the_characters() -> None:
    found = worded(
        "Mia rides a dragon.", "She laughs at him.", "His hat falls.", model=OPEN, **PAIR
    )
    drawn = [frame.prompt for frame in found.story.frames]
    assert drawn[0] == "{Mia} rides a dragon."
    assert drawn[1] == "{Mia} laughs at {Bruno}."
    assert found.story.characters["Mia"].description == PAIR["Mia"]


def test_a_small_vocabulary_gets_only_words_that_it_knows(tiny: Backbone) -> None:
    small = vocabulary_of(tiny)
    for entry in STORIES[:6]:
        found = word_story(story_of(entry), small)
        for character in found.story.characters.values():
            assert small.knows(character.description), character.description


def test_the_vocabulary_is_read_from_json_as_the_model_has_it(worldly: Backbone) -> None:
    assert vocabulary_of(worldly).words == frozenset(vocabulary())
    read = read_vocabulary()
    assert read.words == frozenset(vocabulary()) and read.room == MAX_WORDS


# all voices -------------------------------------------------------------------------------------
def test_stories_of_many_voices_draw_and_nothing_is_lost_in_silence() -> None:
    figures = measure(STORIES, WORLD)
    assert figures["silent_drops"] == 0, figures["drops"]
    assert figures["stories_drawn"] >= 0.95
    assert figures["concepts_kept"] >= 0.79
    attributes = measure_attributes(ATTRIBUTES, WORLD)
    assert attributes["moods"] >= 0.95 and attributes["colours_told"] >= 0.9


def test_places_of_words_are_true() -> None:
    for entry in STORIES:
        for text in word_story(story_of(entry), WORLD).texts:
            for word in text.words:
                assert word.said and text.written[word.start : word.end].strip(), word
                if word.fate != "speech":
                    assert text.written[word.start : word.end] == word.said


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=120), st.text(max_size=80))
@example("at ² pm", "a ² year old girl")
def test_any_text_is_taken(prompt: str, description: str) -> None:
    prompt = prompt.replace("{", "").replace("}", "").strip() or "x"
    entry = {"characters": {"Mia": description.strip() or "x"}, "frames": [prompt]}
    found = word_story(story_of(entry), WORLD)
    assert WORLD.knows(found.story.characters["Mia"].description)
    assert silent_drops(found, lexicon(), ["Mia"]) == []
    assert word_story(story_of(entry), OPEN).story.frames[0].prompt


def test_checking_loads_no_torch(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("title: x\nframes: [Two friends are running in the garden.]", encoding="utf-8")
    program = (
        "import sys\nfrom consistent_gen.cli import main\n"
        f"code = main(['check', {str(file)!r}])\n"
        "print(code, [n for n in ('torch', 'transformers') if n in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stderr.strip().splitlines()[-1] == "0 []", done.stderr


def test_the_line_of_a_text_is_told() -> None:
    story = parse_story("title: x\nframes:\n  - a fox\n  - a wombat sings\n", source="f.yaml")
    text = word_story(story, WORLD).text("frames[1].prompt")
    assert (text.line, text.place) == (4, "frames[1].prompt")
