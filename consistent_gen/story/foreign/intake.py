"""A file of another program: read within bounds, told by its content, made into one story."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from consistent_gen.errors import InputError, LimitError
from consistent_gen.inputs import missing_file
from consistent_gen.story.foreign import formats
from consistent_gen.story.foreign.formats import ForeignStory, Imported, as_story
from consistent_gen.story.yaml_tree import Mapping, Node, Scalar, Sequence, parse_yaml

MAX_BYTES = 8 << 20
MAX_DEPTH = 60
_SPACE = re.compile(r"\s*")
# Format -> what it is, for people.
FORMATS = {
    "consistory": "ConsiStory+ YAML: groups of style, subject and settings",
    "vistory": "ViStoryBench story.json: Characters and Shots",
    "1prompt1story": "1Prompt1Story JSON: id_prompt and frame_prompt_list",
    "storydiffusion": "a StoryDiffusion request: general_prompt and prompt_array",
    "t2is": "T2IS JSON lines: one instruction of several pictures each",
    "prompts": "a prompt list: [Name] before each line, # before a caption",
    "comfyui": "a ComfyUI workflow",
    "a1111": "a prompt with weights, as A1111 and ComfyUI write them",
}
_Reader = Callable[[Any], list[ForeignStory]]


def import_story(path: str | Path, *, number: int = 1) -> Imported:
    """The story in a file of another program.

    number: which one, counted from 1, where the file holds several.

    Raises:
        InputError: there is no such file, it is of no known format, or it has no such story; says
            what was looked for.
        LimitError: the file is too large.
    """
    path = Path(path)
    text = _read(path)
    name, found = _recognised(text, path)
    if not found:
        listed = "; ".join(FORMATS.values())
        raise InputError(f"of no format that can be imported. Known: {listed}", source=path)
    if not 1 <= number <= len(found):
        raise InputError(f"story {number} of {len(found)}; expected 1 to {len(found)}", source=path)
    story, notes = as_story(found[number - 1], path.stem)
    if len(found) > 1:
        notes = [f"story {number} of {len(found)}; choose another with --number", *notes]
    return Imported(story, name, len(found), tuple(notes))


def _read(path: Path) -> str:
    if not path.is_file():
        raise missing_file(path)
    if path.stat().st_size > MAX_BYTES:
        raise LimitError(f"{path} is larger than {MAX_BYTES >> 20} MiB")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(
            "not UTF-8 text; a picture's prompt can be copied out", source=path
        ) from None


def _recognised(text: str, path: Path) -> tuple[str, list[ForeignStory]]:
    """(format, the stories in it); no stories where nothing fits."""
    start = text.lstrip()[:1]
    if start in "{[" and start:
        value = _json(text, path)
        readers: dict[str, _Reader] = {
            "vistory": formats.vistory,
            "1prompt1story": formats.one_prompt,
            "storydiffusion": formats.story_diffusion,
            "comfyui": formats.comfyui,
            "t2is": formats.t2is,
        }
        for name, reader in readers.items():
            found = reader(value) if value is not None else []
            if found:
                return name, found
        if value is not None and start == "{":
            return "", []
    if path.suffix.lower() in (".yaml", ".yml"):
        return "consistory", formats.consistory(_plain(parse_yaml(text.encode(), str(path))))
    if found := formats.prompt_list(text):
        return "prompts", found
    return "a1111", formats.weighted(text)


def _json(text: str, path: Path) -> Any:
    """A JSON value, a list of the values of JSON lines, or None for other text."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = _lines(text)
    if value is not None and _deep(value, MAX_DEPTH):
        raise LimitError(f"{path} is nested deeper than {MAX_DEPTH} levels")
    return value


def _lines(text: str) -> list[Any] | None:
    """The JSON values that stand in `text` one after the other, on lines of their own or not."""
    decoder = json.JSONDecoder()
    found, place = [], _end_of_space(text, 0)
    while place < len(text):
        try:
            value, place = decoder.raw_decode(text, place)
        except (ValueError, RecursionError):
            return None
        found.append(value)
        place = _end_of_space(text, place)
    return found or None


def _end_of_space(text: str, start: int) -> int:
    space = _SPACE.match(text, start)
    assert space is not None, "it matches nothing, too"
    return space.end()


def _deep(value: Any, left: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return left == 0 or any(_deep(item, left - 1) for item in inner)


def _plain(node: Node) -> Any:
    if isinstance(node, Mapping):
        return {key: _plain(item) for key, item in node.items.items()}
    if isinstance(node, Sequence):
        return [_plain(item) for item in node.items]
    assert isinstance(node, Scalar)
    return node.value
