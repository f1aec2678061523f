"""The desk: JSON of a browser in, requests out."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from consistent_gen.client.types import StoryFrame, StoryIn, StoryOut
from consistent_gen.errors import InputError
from consistent_gen.story.script import parse_story
from ui.state import (
    CastCard,
    Draft,
    SceneCard,
    caption_patch,
    change_request,
    draft_of_file,
    draft_of_story,
    draft_problems,
    origins_of,
    read_draft,
    read_script,
    read_seed,
    story_request,
    with_seed,
    write_draft,
    write_script,
    write_where,
)
from ui.studio import examples

MIA = CastCard("Mia", "a girl with curly ginger hair")
BRUNO = CastCard("Bruno", "a brown bear", library="chr_0123456789abcdef0", strength=0.4)
DRAFT = Draft(
    title="Two Friends",
    style="watercolor",
    steps=4,
    seed="7",
    locked=True,
    cast=(MIA, BRUNO),
    scenes=(
        SceneCard("{Mia} reading", "She reads."),
        SceneCard("{Mia} and {sad Bruno} waving", style="pencil", seed="9", negative="rain"),
    ),
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["cast", "scenes", "name", "prompt", "strength", "steps", "seed", "title"]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=30,
)
LINE = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), max_size=30)
DRAFTS = st.builds(
    Draft,
    title=LINE,
    style=LINE,
    method=LINE,
    steps=st.none() | st.integers(1, 150),
    seed=st.integers(0, 2**63 - 1).map(str),
    locked=st.booleans(),
    cast=st.lists(
        st.builds(CastCard, LINE, LINE, LINE, st.none() | st.floats(0, 1)), max_size=4
    ).map(tuple),
    scenes=st.lists(st.builds(SceneCard, LINE, LINE, LINE, LINE, LINE), max_size=6).map(tuple),
)


def drawn(draft: Draft) -> StoryOut:
    """What a server keeps of a drawn draft."""
    asked = story_request(draft)
    now = datetime(2026, 11, 23, tzinfo=UTC)
    frames = [
        StoryFrame(index=i, prompt=f.prompt, caption=f.caption or "")
        for i, f in enumerate(asked.frames)
    ]
    return StoryOut(
        id="sto_x", title=asked.title, revision=3, layout="grid", created_at=now, updated_at=now,
        request=asked, frames=frames,
    )  # fmt: skip


@settings(max_examples=50)
@given(DRAFTS)
def test_a_draft_survives_the_browser_and_the_file(draft: Draft) -> None:
    assert read_draft(write_draft(draft)) == draft
    assert read_script(write_script(draft)) == (draft.cast, draft.scenes)


@given(JSON)
def test_anything_a_browser_sends_reads_as_some_draft(value: object) -> None:
    draft = read_draft(value)
    assert read_draft(write_draft(draft)) == draft


@settings(max_examples=50)
@given(DRAFTS)
def test_what_has_no_problem_is_a_valid_request(draft: Draft) -> None:
    if draft_problems(draft):
        with pytest.raises(InputError):
            story_request(draft)
        return
    try:
        request = story_request(draft)
    except ValidationError as error:  # styles, methods and library ids are the server's to judge
        assert {e["loc"][0] for e in error.errors()} <= {"style", "method", "library"}
        return
    assert StoryIn.model_validate_json(request.model_dump_json()) == request
    assert len(request.frames) == len(draft.scenes)


def test_every_field_of_the_desk_reaches_the_request() -> None:
    request = story_request(draft=DRAFT, preview_every=2)
    assert (request.title, request.style, request.steps) == ("Two Friends", "watercolor", 4)
    assert (request.seed, request.preview_every) == (7, 2)
    bruno = request.characters["Bruno"]
    assert (bruno.library, bruno.strength) == (BRUNO.library, 0.4)
    second = request.frames[1]
    assert (second.style, second.seed, second.negative) == ("pencil", 9, "rain")
    assert second.caption is None
    assert request.frames[0].caption == "She reads."


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"scenes": ()}, "no scene yet"),
        ({"scenes": (SceneCard(""),)}, "Scene 1: say what is in the picture"),
        ({"scenes": (SceneCard("{Mai} reading"),)}, "did you mean {Mia}?"),
        ({"scenes": (SceneCard("{Zorro} reading"),)}, "nobody is called 'Zorro'"),
        ({"scenes": (SceneCard("{Mia reading"),)}, "without its partner"),
        ({"scenes": (SceneCard("x" * 801),)}, "801 letters"),
        ({"scenes": (SceneCard("x", seed="12a"),)}, "'12a' is not a whole number"),
        ({"cast": (MIA, MIA)}, "Two characters are called Mia"),
        ({"cast": (CastCard("", "a dog"),)}, "Character 1 has no name"),
        ({"cast": (CastCard("Bo", ""),)}, "say what Bo looks like"),
        ({"cast": (CastCard("{Bo}", "a dog"),)}, "cannot be a name"),
        ({"seed": str(2**63)}, "not a whole number"),
        ({"title": "x" * 121}, "121 letters"),
    ],
)
def test_what_is_wrong_is_said_by_place(change: dict[str, object], words: str) -> None:
    problems = "\n".join(draft_problems(replace(DRAFT, **change)))  # type: ignore[arg-type]
    assert words in problems


def test_a_locked_seed_stays_and_an_open_one_is_new() -> None:
    assert with_seed(DRAFT).seed == "7"
    first, second = (with_seed(replace(DRAFT, locked=False)).seed for _ in range(2))
    assert first != second
    assert read_seed(first) is not None
    assert read_seed(str(2**63 - 1)) == 2**63 - 1
    assert [read_seed(text) for text in ("", "-1", "1.5", "٣", str(2**63), "9" * 5000)] == [
        None
    ] * 6


def test_a_drawn_story_comes_back_to_the_desk() -> None:
    said = replace(DRAFT, mend=1)
    assert draft_of_story(drawn(said)) == said
    # One that was stored before there was such a choice stays as it was drawn.
    assert draft_of_story(drawn(DRAFT)) == replace(DRAFT, mend=0)


def test_scenes_are_the_frames_that_they_were() -> None:
    story = drawn(DRAFT)
    first, second = DRAFT.scenes
    edited = replace(second, prompt="{Bruno} sleeping", caption="Zzz")
    added = SceneCard("a fox in the snow")
    for scenes, origins in (
        ((first, second), [0, 1]),
        ((first, edited), [0, 1]),
        ((first, second, added), [0, 1, None]),
        ((added, first, second), [None, 0, 1]),
        ((first, added, second), [0, None, 1]),
        ((second, first), [1, 0]),
        ((second,), [1]),
        ((first, first, second), [0, None, 1]),
        ((added, replace(first, prompt=first.prompt + " at night"), second), [None, 0, 1]),
        ((), []),
    ):
        assert origins_of(replace(DRAFT, scenes=scenes), story) == origins, scenes


def test_what_the_desk_does_not_say_stays_as_it_was_drawn() -> None:
    story = drawn(DRAFT)
    asked = story.request.model_copy(update={"guidance": 3.0, "size": "64x64", "seed": 7})
    story = story.model_copy(update={"request": asked})
    change = change_request(replace(DRAFT, seed="8", locked=False, style="flat"), story)
    assert (change.story.guidance, change.story.size, change.story.seed) == (3.0, "64x64", 7)
    assert (change.story.style, change.revision, change.origins) == ("flat", 3, [0, 1])
    assert change_request(replace(DRAFT, seed="8", locked=True), story).story.seed == 8


def test_captions_and_title_follow_the_desk() -> None:
    story = drawn(DRAFT)
    assert caption_patch(DRAFT, story) is None
    renamed = replace(DRAFT.scenes[0], caption="")
    patch = caption_patch(replace(DRAFT, title="Friends", scenes=(renamed, DRAFT.scenes[1])), story)
    assert patch is not None
    assert (patch.revision, patch.title) == (3, "Friends")
    assert [(frame.index, frame.caption) for frame in patch.frames] == [(0, "")]
    assert caption_patch(replace(DRAFT, scenes=DRAFT.scenes[:1]), story) is None


def test_every_example_can_be_drawn_as_it_is() -> None:
    assert next(iter(examples())) == "Two Friends"
    for draft in examples().values():
        assert draft_problems(draft) == []
        assert story_request(draft).frames


def test_where_somebody_stands_goes_to_the_request_and_back() -> None:
    draft = draft_of_file(
        parse_story(
            "title: x\ncharacters: {Mia: a girl, Mia Bo: a dog}\nframes:\n"
            "  - {prompt: '{Mia} and {Mia Bo}', boxes: {Mia: right, Mia Bo: [0, 0.25, 0.5, 1]}}"
        )
    )
    assert draft.scenes[0].where == "Mia right, Mia Bo 0 0.25 0.5 1"
    (frame,) = story_request(draft).frames
    assert frame.boxes == {"Mia": "right", "Mia Bo": [0.0, 0.25, 0.5, 1.0]}
    assert write_where(frame.boxes) == draft.scenes[0].where
    assert read_script(write_script(draft))[1] == draft.scenes


@pytest.mark.parametrize("where", ["left", "Bo left", "Mia up", "Mia 0 0 1", "Mia 0.5 0 0.5 1"])
def test_a_place_that_is_none_is_said_at_its_scene(where: str) -> None:
    scene = SceneCard(prompt="{Mia} runs", where=where)
    draft = Draft(cast=(CastCard("Mia", "a girl"),), scenes=(scene,))
    (told,) = draft_problems(draft)
    assert told.startswith("Scene 1: where is") and "0.5 0 1 1" in told
