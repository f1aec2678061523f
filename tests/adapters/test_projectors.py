"""From features to tokens: what one system is of another, words, points of a face."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from consistent_gen.adapters.consistent_id import (
    MARKED,
    PARTS,
    facial_prompt,
    fuse_table,
    word_positions,
)
from consistent_gen.adapters.fusing import FuseModule, Placement
from consistent_gen.adapters.instantid import keypoint_picture
from consistent_gen.adapters.layout import BACKGROUND, TokenLayout, people_layout, person
from consistent_gen.adapters.weights import places_of
from consistent_gen.errors import InputError, UnknownNameError
from tests.adapters.toys import noise, small, small_unet, somebody
from tests.attention.toys import redraw


@pytest.fixture(scope="module")
def unet() -> Any:
    return small_unet()


def test_storymaker_starts_as_faceid_plus_and_ip_adapter_plus(unet: Any) -> None:
    """Untrained, its tokens are a background of zeros, those of FaceID-Plus V2 and those of
    IP-Adapter-Plus, to the byte; and it is initialised from these systems' files.
    """
    story = small("storymaker", unet, trained=False, depth=4, body_depth=4)
    redraw(story.projector, 4)
    for zeroed in (story.projector.pos_embed, story.projector.bg_embed,
                   *story.projector.proj_out.parameters()):  # fmt: skip
        zeroed.data.zero_()
    story.projector.norm_out.bias.data.zero_()
    face = small("faceid_plus", unet, version=2).projector
    plus = small("ip_adapter_plus", unet).projector
    state = story.projector.state_dict()
    face.load_state_dict({key: state[key] for key in face.state_dict()})
    plus.load_state_dict({key: state[f"resample.{key}"] for key in plus.state_dict()})
    cast = [somebody(story, 1), somebody(story, 2)]
    with torch.no_grad():
        shown = story.identities(cast)
        value = {name: torch.cat([c.features[name].value for c in cast])
                 for name in ("identity", "face", "crop")}  # fmt: skip
        faces, crops = face(value["identity"], value["face"]), plus(value["crop"])
    assert torch.count_nonzero(shown.cond[shown.layout.span(BACKGROUND)]) == 0
    for i in range(2):
        assert torch.equal(shown.cond[shown.layout.span(person(i, "face"))], faces[i])
        assert torch.equal(shown.cond[shown.layout.span(person(i, "body"))], crops[i])


def test_face_only_and_body_only(unet: Any) -> None:
    """What is not shown is zeros before positions: nothing of it is left, and the rest stays."""
    adapter = small("storymaker", unet)
    mia, bruno = somebody(adapter, 1), somebody(adapter, 2)
    other = {**mia.features, "crop": bruno.features["crop"]}
    changed = replace(mia, features=other)
    for shown, same in (("face", True), ("body", False), ("all", False)):
        one, two = (adapter.identities([replace(c, shown=shown)]).cond for c in (mia, changed))
        assert torch.equal(one, two) == same
    whole = adapter.identities([mia])
    face = adapter.identities([replace(mia, shown="face")])
    span, body = whole.layout.span("char:0/face"), whole.layout.span("char:0/body")
    assert torch.equal(whole.cond[span], face.cond[span])
    assert not torch.equal(whole.cond[body], face.cond[body])
    dressed = mia.dressed(bruno.features["crop"])
    assert torch.equal(adapter.identities([dressed]).cond, adapter.identities([changed]).cond)


def test_more_people_than_trained_are_told(unet: Any) -> None:
    adapter = small("storymaker", unet)
    cast = [somebody(adapter, i) for i in range(4)]
    assert adapter.identities(cast[:3]).notes == ()
    told = adapter.identities(cast)
    assert told.layout.people == 4
    assert told.notes == ("StoryMaker was trained with up to 3 characters; this picture has 4",)


def test_several_pictures(unet: Any) -> None:
    """Picture prompts keep the tokens of each; the others take the mean, so one twice is one."""
    plus = small("ip_adapter_plus", unet)
    two = plus.identities([somebody(plus, 1, pictures=2), somebody(plus, 2)])
    assert [name for name, _ in two.layout.groups] == [
        "char:0/picture:0", "char:0/picture:1", "char:1/picture:0",
    ]  # fmt: skip
    assert two.layout.owners == (0,) * 6 + (1,) * 3
    face = small("faceid_plus", unet)
    once = somebody(face, 1)
    twice = replace(once, features={
        name: replace(f, value=f.value.repeat(2, *[1] * (f.value.ndim - 1)))
        for name, f in once.features.items()
    })  # fmt: skip
    both = face.identities([twice, somebody(face, 2, pictures=3)])
    assert torch.allclose(both.cond[:4], face.identities([once]).cond, atol=1e-6)
    alone = face.identities([somebody(face, 2, pictures=3)])
    assert torch.allclose(both.cond[4:], alone.cond, atol=1e-6)


def test_layouts() -> None:
    layout = TokenLayout(((BACKGROUND, 2),)) + people_layout(2, (("face", 1), ("body", 2)))
    assert len(layout) == 8
    assert layout.tokens("char:1") == [5, 6, 7]
    assert layout.tokens("char:1/body") == [6, 7]
    assert layout.tokens("char:11") == []
    assert layout.owners == (None, None, 0, 0, 0, 1, 1, 1)
    maps = torch.arange(8.0).expand(3, 8)
    assert layout.sums(maps, ["char:0", BACKGROUND])[0].tolist() == [9.0, 1.0]
    with pytest.raises(UnknownNameError, match="did you mean 'background'"):
        layout.span("backgrund")


# ConsistentID's words.


def test_which_part_goes_into_which_word() -> None:
    positions = {"face": 3, "ears": 5, "eyes": 8, "nose": 10, "mouth": 12}

    def pairs(order: Any, parts: Any = PARTS, words: Any = positions) -> dict[int, str]:
        return {place: PARTS[part] for place, _, part in fuse_table(words, parts, order=order)}

    assert pairs("semantic") == {3: "face", 8: "eye", 5: "ear", 10: "nose", 12: "lip"}
    # Published weights know the eye by "ears" and the ear by "eyes".
    assert pairs("published") == {3: "face", 5: "eye", 8: "ear", 10: "nose", 12: "lip"}
    # A part that was not found leaves its word alone; by number, the others move.
    without = [part for part in PARTS if part != "ear"]
    assert pairs("semantic", without) == {3: "face", 8: "eye", 10: "nose", 12: "lip"}
    assert pairs("published", without) == {3: "face", 8: "eye", 10: "nose", 12: "lip"}
    few = {"nose": 4, "eyes": 6}
    assert pairs("semantic", words=few) == {6: "eye", 4: "nose"}
    assert pairs("published", words=few) == {4: "face", 6: "eye"}
    assert pairs("published", words={}) == {}


def test_prompts_of_faces(tmp_path: Any) -> None:
    from consistent_gen.models.words import word_tokenizer

    prompt = facial_prompt("a girl")
    assert all(word in prompt for word in MARKED)
    words = prompt.replace(",", " ").replace(":", " ").split()
    tokenizer = word_tokenizer([*words, ",", ":", "face", "eyes"], max_tokens=32)
    positions = word_positions(tokenizer, prompt)
    assert list(positions) == list(MARKED)
    assert sorted(positions.values()) == list(positions.values())
    assert word_positions(tokenizer, "a girl") == {}
    with pytest.raises(InputError, match="describes 'hair'"):
        facial_prompt("a girl", {"hair": "red hair"})
    with pytest.raises(InputError, match="expected a clause that says"):
        facial_prompt("a girl", {"eyes": "they are red"})


def test_fusing_without_a_table_is_nothing() -> None:
    module = FuseModule(8)
    text, features = noise((5, 8), 1), noise((1, 2, 8), 2)
    assert module.fuse(text, features, ()) is text
    fused = module.fuse(text, features, [Placement(2, 0, 1)])
    assert torch.equal(fused[[0, 1, 3, 4]], text[[0, 1, 3, 4]])
    assert not torch.equal(fused[2], text[2])


def test_lists_of_words_are_counted(unet: Any) -> None:
    adapter: Any = small("consistent_id", unet)
    with pytest.raises(InputError, match="2 characters and 1 lists"):
        adapter.fusing([somebody(adapter, 1), somebody(adapter, 2)], {"face": 1})
    # Parts are optional: who has none keeps the words as they are fused with zeros.
    mia = somebody(adapter, 1)
    bare = replace(mia, features={k: f for k, f in mia.features.items() if k != "parts"})
    assert adapter.fusing([bare], {"face": 1}).cond.shape == (1, 5, 64)


# InstantID's ControlNet.


def test_a_picture_of_five_points() -> None:
    points = [(20, 20), (44, 20), (32, 34), (22, 46), (42, 46)]
    picture = np.asarray(keypoint_picture(points, (64, 64)))
    assert picture[20, 20].tolist() == [255, 0, 0]
    assert picture[46, 42].tolist() == [255, 0, 255]
    assert picture[2, 2].tolist() == [0, 0, 0]
    with pytest.raises(InputError, match="5 points"):
        keypoint_picture(points[:3], (64, 64))


def test_keys_and_values_can_start_as_those_of_the_text(unet: Any) -> None:
    adapter = small("faceid", unet)
    adapter.attention.start_from(unet)
    for place in places_of(unet):
        layer: Any = adapter.attention.at(place.name)
        assert hasattr(layer, "to_k_ip") == place.cross
        if place.cross:
            assert torch.equal(layer.to_k_ip.weight, unet.get_submodule(place.name).to_k.weight)
