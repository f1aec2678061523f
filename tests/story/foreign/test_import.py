"""Stories of other programs: each format becomes a story file, or one line says why not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from consistent_gen.cli import main
from consistent_gen.errors import InputError, LimitError
from consistent_gen.story.foreign import Imported, import_story
from consistent_gen.story.script import dump_story, load_story, parse_story

CONSISTORY = """
animals:
  - style: "A felt puppet photo of"
    subject: a stripy badger
    concept_token: [badger]
    settings: [digging a hole, sleeping in a hammock]
  - style: An ink drawing of
    subject: an old tortoise
    concept_token: [tortoise]
    settings: [drinking tea]
"""
VISTORY: dict[str, Any] = {
    "Story_type": {"en": "Picture book", "ch": "x"},
    "Characters": {
        "Tove": {"name_en": "Tove", "prompt_en": "a small girl with a red hat", "tag": "realistic"},
    },
    "Shots": [
        {
            "index": 1,
            "Setting Description": {"en": "A snowy yard.", "ch": "x"},
            "Plot Correspondence": {"en": "Tove finds a key.", "ch": "x"},
            "Characters Appearing": {"en": ["Tove"], "ch": ["x"]},
            "Static Shot Description": {"en": "She kneels and looks at it.", "ch": "x"},
            "Shot Perspective Design": {"en": "Close-up", "ch": "x"},
        }
    ],
}
T2IS = [
    {"prompt": "A 2x2 grid. [TOP-LEFT]: a seed [TOP-RIGHT]: a sprout [BOTTOM-LEFT]: a bud "
     "[BOTTOM-RIGHT]: a rose", "criteria": {"style": ["x"]}},
    {"instruction": "A cat grows up", "prompts": ["a kitten", "a cat"]},
]  # fmt: skip
PROMPTS = """[Lin] a woman in a blue coat
[Ove] an old man, white beard

[Lin] waits at the bus stop #Nobody comes.
[NC] an empty street at night
[Ove] waves from the tram
"""
A1111 = """(masterpiece:1.3), ((a girl)) with [red] hair, <lora:ink:0.8>, in a forest BREAK smiling
Negative prompt: (blurry:1.4), hat
Steps: 20, Sampler: Euler, CFG scale: 7, Seed: 4242, Size: 512x512
"""
COMFY = {
    "3": {"class_type": "KSampler", "inputs": {"positive": ["6", 0], "negative": ["7", 0]}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a (red:1.2) fox, embedding:shiny"}},
    "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "hat"}},
}
COMFY_GRAPH = {
    "nodes": [
        {"type": "CLIPTextEncode", "widgets_values": ["a fox in a forest"]},
        {"type": "CLIPTextEncode", "widgets_values": ["hat"]},
    ]
}


# A node between sampler and texts that passes both on, and texts in the unlucky order.
COMFY_PASSED_ON = {
    "nodes": [
        {"id": 9, "type": "CLIPTextEncode", "widgets_values": ["hat"]},
        {"id": 5, "type": "CLIPTextEncode", "widgets_values": ["a fox in a forest"]},
        {"id": 4, "type": "KSampler", "inputs": [{"name": "model", "link": 1},
         {"name": "positive", "link": 12}, {"name": "negative", "link": 13}]},
        {"id": 3, "type": "VideoConditioning", "inputs": [{"name": "negative", "link": 11},
         {"name": "positive", "link": 10}]},
    ],
    "links": [[10, 5, 0, 3, 1, "CONDITIONING"], [11, 9, 0, 3, 0, "CONDITIONING"],
              [12, 3, 0, 4, 1, "CONDITIONING"], [13, 3, 1, 4, 2, "CONDITIONING"]],
}  # fmt: skip
REQUEST = {
    "general_prompt": "[Lin] a woman\n[Ove]an old man", "style_name": "Line art",
    "prompt_array": "[Lin] calls [Ove] #[Ove] answers.\n[NC]rain", "negative_prompt": "hat",
}  # fmt: skip


def imported(folder: Path, name: str, value: Any, **options: Any) -> Imported:
    path = folder / name
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    found = import_story(path, **options)
    again = parse_story(dump_story(found.story))
    assert [f.prompt for f in again.frames] == [f.prompt for f in found.story.frames]
    return found


def test_consistory(tmp_path: Path) -> None:
    found = imported(tmp_path, "a.yaml", CONSISTORY)
    assert (found.format, found.count) == ("consistory", 2)
    assert found.story.style == "A felt puppet photo"
    assert found.story.characters["Badger"].description == "a stripy badger"
    prompts = [f.prompt for f in found.story.frames]
    assert prompts == ["{Badger} digging a hole", "{Badger} sleeping in a hammock"]
    assert "Tortoise" in imported(tmp_path, "b.yaml", CONSISTORY, number=2).story.characters


def test_vistory(tmp_path: Path) -> None:
    found = imported(tmp_path, "story.json", VISTORY)
    assert found.format == "vistory"
    (frame,) = found.story.frames
    assert frame.prompt == "{Tove}. She kneels and looks at it. A snowy yard. Close-up"
    assert frame.caption == "Tove finds a key."
    assert found.story.characters["Tove"].description == "a small girl with a red hat"


def test_t2is(tmp_path: Path) -> None:
    lines = "\n".join(json.dumps(entry) for entry in T2IS)
    found = imported(tmp_path, "a.jsonl", lines)
    assert (found.format, found.count) == ("t2is", 2)
    assert [f.prompt for f in found.story.frames] == ["a seed", "a sprout", "a bud", "a rose"]
    second = imported(tmp_path, "b.jsonl", lines, number=2)
    assert [f.prompt for f in second.story.frames] == ["a kitten", "a cat"]


def test_a_prompt_list(tmp_path: Path) -> None:
    found = imported(tmp_path, "a.txt", PROMPTS)
    assert found.format == "prompts"
    assert found.story.characters["Ove"].description == "an old man, white beard"
    prompts = [f.prompt for f in found.story.frames]
    assert prompts[0] == "{Lin} waits at the bus stop"
    assert prompts[1:] == ["an empty street at night", "{Ove} waves from the tram"]
    assert found.story.frames[0].caption == "Nobody comes."


def test_a_prompt_with_weights(tmp_path: Path) -> None:
    found = imported(tmp_path, "a.txt", A1111)
    assert (found.format, found.story.seed) == ("a1111", 4242)
    (frame,) = found.story.frames
    assert frame.prompt == "masterpiece, a girl with red hair, in a forest, smiling"
    assert frame.negative == "blurry, hat"
    assert any("<lora:ink:0.8>" in note for note in found.notes)


@pytest.mark.parametrize("value", [COMFY, COMFY_GRAPH], ids=["api", "graph"])
def test_a_workflow(value: Any, tmp_path: Path) -> None:
    found = imported(tmp_path, "a.json", value)
    assert found.format == "comfyui"
    assert "fox" in found.story.frames[0].prompt
    assert "(" not in found.story.frames[0].prompt
    assert found.story.frames[0].negative == "hat"


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.yaml", "title: x\n", "of no format"),
        ("a.json", '{"a": 1}', "of no format"),
        ("a.txt", "", "of no format"),
        ("a.json", "[" * 100 + "]" * 100, "nested deeper"),
    ],
)
def test_what_is_refused(name: str, text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    with pytest.raises((InputError, LimitError)) as caught:
        import_story(path)
    assert words in str(caught.value)


def test_a_number_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(CONSISTORY, encoding="utf-8")
    with pytest.raises(InputError, match="expected 1 to 2"):
        import_story(path, number=3)


def test_the_command_writes_a_story_that_can_be_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.txt").write_text(PROMPTS, encoding="utf-8")
    out = tmp_path / "story.yaml"
    assert main(["import", str(tmp_path / "a.txt"), "--out", str(out)]) == 0
    assert len(load_story(out).frames) == 3
    assert "prompts: 3 frames, 2 characters" in capsys.readouterr().out
    assert main(["import", str(tmp_path / "a.txt"), "--out", str(out)]) == 2
    assert "is there already" in capsys.readouterr().err


def test_both_ends_of_a_node_that_passes_them_on(tmp_path: Path) -> None:
    frame = imported(tmp_path, "a.json", COMFY_PASSED_ON).story.frames[0]
    assert (frame.prompt, frame.negative) == ("a fox in a forest", "hat")
    sent = {
        "1": {"class_type": "KSampler", "inputs": {"negative": ["2", 1], "positive": ["2", 0]}},
        "2": {"class_type": "Both", "inputs": {"negative": ["4", 0], "positive": ["3", 0]}},
        "3": {"class_type": "CLIPTextEncode", "inputs": {"text": "a fox"}},
        "4": {"class_type": "CLIPTextEncode", "inputs": {"text": "hat"}},
    }
    frame = imported(tmp_path, "b.json", sent).story.frames[0]
    assert (frame.prompt, frame.negative) == ("a fox", "hat")


def test_requests_one_after_the_other(tmp_path: Path) -> None:
    nameless = {"general_prompt": "a girl, black tie", "prompt_array": "at home\n[NC]a squirrel"}
    text = json.dumps(REQUEST, indent=1) + "\n\n\n" + json.dumps(nameless)
    found = imported(tmp_path, "a.json", text)
    assert (found.format, found.count, found.story.style) == ("storydiffusion", 2, "Line art")
    assert found.story.characters["Ove"].description == "an old man"
    first, second = found.story.frames
    assert (first.prompt, first.caption) == ("{Lin} calls {Ove}", "Ove answers.")
    assert (second.prompt, second.negative) == ("rain", "hat")
    story = imported(tmp_path, "b.json", text, number=2).story
    assert [f.prompt for f in story.frames] == ["{Subject} at home", "a squirrel"]


def test_one_prompt_one_story(tmp_path: Path) -> None:
    group = {"id_prompt": "a photo of a dog", "frame_prompt_list": ["on a boat", "in the rain"]}
    found = imported(tmp_path, "a.json", {"combinations": [group, group]})
    assert (found.format, found.count) == ("1prompt1story", 2)
    assert [f.prompt for f in found.story.frames] == [
        "{Subject} on a boat",
        "{Subject} in the rain",
    ]


def test_panels_named_by_their_sides(tmp_path: Path) -> None:
    text = (
        "TWO-PANEL Images of a cook. All images share a warm kitchen. [LEFT]:he stirs "
        "[RIGHT]:he tastes"
    )
    found = imported(tmp_path, "a.jsonl", json.dumps({"prompt": text}))
    assert [f.prompt for f in found.story.frames] == ["he stirs", "he tastes"]
    assert found.story.style == "a warm kitchen"
    corners = "x [TOP]-[LEFT]: one [TOP]-[RIGHT]: two [BOTTOM]-[LEFT]: 3 a [BOTTOM]-[RIGHT]: four"
    found = imported(tmp_path, "b.jsonl", json.dumps({"prompt": corners}))
    assert [f.prompt for f in found.story.frames] == ["one", "two", "3 a", "four"]


def test_whom_all_panels_show_becomes_a_character(tmp_path: Path) -> None:
    text = (
        "TWO-PANEL Images with a 1x2 grid layout depicting a young barber with red hair. "
        "[LEFT]:A barber cuts hair. [RIGHT]:Light falls in; the tired barber sweeps."
    )
    story = imported(tmp_path, "a.jsonl", json.dumps({"prompt": text})).story
    assert story.characters["Barber"].description == "a young barber with red hair"
    assert [f.prompt for f in story.frames] == [
        "{Barber} cuts hair",
        "Light falls in; {Barber} sweeps",
    ]
