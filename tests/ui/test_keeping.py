"""Drawn pictures become characters of the library; two subjects under one name are noticed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from consistent_gen.checkpoints import weights_root
from consistent_gen.client.types import LibraryCharacterIn
from consistent_gen.errors import InputError
from consistent_gen.world.dataset import StoryWorld
from consistent_gen.world.scene import render
from services.scores.scorer import png
from tests.services.web.hand import Hand
from tests.ui.conftest import Place
from ui.frames import Frames
from ui.keeping import question, unlike
from ui.state import CastCard, Draft, SceneCard
from ui.story_actions import StoryActions


def drawn(actions: StoryActions, name: str, *prompts: str) -> str:
    """A project with a drawn story; every test has names of its own."""
    project, _ = actions.project(None)
    cast = (CastCard(name, "a girl with curly ginger hair", strength=0.4), CastCard("Rex", "a dog"))
    scenes = tuple(SceneCard(prompt) for prompt in prompts)
    list(actions.draw(project.id, Draft(title="x", steps=2, cast=cast, scenes=scenes)))
    return project.id


def test_a_drawn_picture_becomes_a_library_character(
    actions: StoryActions, frames: Frames, hand: Hand, place: Place
) -> None:
    project = drawn(actions, "Mina", "{Mina} reading", "{Mina} and {Rex} walking")
    assert frames.open(project, 1).cast == ("Mina", "Rex")
    told = frames.keep_character(project, 0, "Mina")
    assert told.startswith("Mina is in the library.")
    kept = next(one for one in place.client.characters().characters if one.name == "Mina")
    assert (kept.description, kept.strength) == ("a girl with curly ginger hair", 0.4)
    assert len(kept.references) == 1
    # A picture of two is no portrait of one: the nearest where she is alone is taken.
    told = frames.keep_character(project, 1, "Mina")
    assert "as in scene 1, where nobody else is" in told
    assert len(place.client.character(kept.id).references) == 2
    told = frames.keep_character(project, 1, "Rex")
    assert told == "Rex is in the library, in words: no picture shows Rex alone."
    with pytest.raises(InputError, match="Nobody in this story"):
        frames.keep_character(project, 1, "Zorro")


def test_somebody_else_of_that_name_is_kept_beside(
    actions: StoryActions, frames: Frames, hand: Hand, place: Place
) -> None:
    place.client.create_character(LibraryCharacterIn(name="Nora", description="an old robot"))
    project = drawn(actions, "Nora", "{Nora} reading")
    assert frames.keep_character(project, 0, "Nora").startswith("Nora 2 is in the library.")
    assert frames.keep_character(project, 0, "Nora").startswith("Nora 2 is in the library.")


@pytest.mark.weights
def test_two_subjects_as_references_of_one_are_noticed(place: Place) -> None:
    if not (weights_root() / "reader").is_dir():
        pytest.skip("the reader's weights are not here")
    frames = [f for f in map(StoryWorld("validation").frame, range(60)) if len(f.subjects) == 1]
    first, second = frames[0], frames[1]
    moved = replace(second, subjects=(replace(second.subjects[0],
                                              identity=first.subjects[0].identity),))  # fmt: skip
    client = place.client
    one = client.create_character(LibraryCharacterIn(name="Quill", description="a girl"))
    for frame in (first, moved):
        client.add_reference(one.id, png(render(frame, 256).rgb))
    one = client.character(one.id)
    assert question(client, one) == ""
    client.add_reference(one.id, png(render(second, 256).rgb))
    one = client.character(one.id)
    pair = unlike(client, [reference.artifact for reference in one.references])
    assert pair in ((0, 2), (1, 2))
    assert "two different subjects. Which of them is Quill?" in question(client, one)
    client.delete_reference(one.id, one.references[2].id)
    assert question(client, client.character(one.id)) == ""
