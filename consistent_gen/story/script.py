"""A story file or a request becomes a `Story`, or one error that names the place and the remedy.

The format is described in docs/story_file.md. Everything that can be known without a model is
checked here; names of methods, styles and words where they are known (plan.py).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import yaml

from consistent_gen.draw_settings import (
    BEST_OF,
    GONE,
    MEND,
    OFFERED,
    SettingFacts,
    fitting_mistake,
    parse_size,
    written,
)
from consistent_gen.errors import InputError, all_of, all_read
from consistent_gen.inputs import missing_file
from consistent_gen.models.loras import MAX_LORAS, WEIGHT, LoraFile
from consistent_gen.registry import nearest, unknown_name
from consistent_gen.story.types import (
    PLACES,
    SEED,
    STRENGTH,
    Character,
    Frame,
    PictureBox,
    SourcePlace,
    Story,
)
from consistent_gen.story.yaml_tree import (
    MAX_FILE_BYTES,
    Mapping,
    Node,
    Scalar,
    Sequence,
    kind_of,
    parse_yaml,
    refusal,
    shown,
)

STORY_KEYS = (
    "title",
    "style",
    "method",
    "seed",
    "best_of",
    "mend",
    *OFFERED,
    "loras",
    "characters",
    "frames",
)
CHARACTER_KEYS = ("description", "references", "strength")
LORA_KEYS = ("file", "weight", "name")
FRAME_KEYS = ("prompt", "caption", "style", "seed", "negative", "boxes")

STORY_SUFFIXES = (".yaml", ".yml")
SMALLEST_MULTIPLE = 8  # of sides in pixels, for any model
MAX_FRAMES = 200
MAX_CHARACTERS = 20
MAX_REFERENCES = 16
MAX_CHARS = {
    "title": 120,
    "style": 80,
    "method": 60,
    "scheduler": 60,
    "description": 400,
    "reference": 400,
    "file": 400,
    "name": 60,
    "prompt": 800,
    "negative": 800,
    "caption": 600,
}

# A letter first; then letters, digits, spaces and the signs that occur in names.
NAME = re.compile(r"[^\W\d_][\w .'\u2019-]{0,39}")
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_Value = TypeVar("_Value")


def load_story(path: str | Path) -> Story:
    """Read and check a story file.

    Raises:
        InputError: there is no such file, or it is no file.
        StoryError, UnknownNameError: the file is wrong; the message names the line.
    """
    file = Path(path)
    try:
        if file.is_dir():
            raise InputError("this is a folder; expected a story file (.yaml)", source=file)
        if not file.exists():
            raise missing_file(file, STORY_SUFFIXES)
        if not file.is_file():
            raise InputError("this is not a regular file; expected a story file", source=file)
        with file.open("rb") as stream:
            data = stream.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise InputError(f"cannot be read: {reason}", source=file) from None
    return read_story(parse_yaml(data, str(path)))


def parse_story(data: bytes | str, *, source: str = "<story>") -> Story:
    """The story in the bytes (or text) of a story file; errors as in `load_story`."""
    raw = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    return read_story(parse_yaml(raw, source))


def read_story(root: Node) -> Story:
    """The story that a tree says.

    Raises:
        StoryError, UnknownNameError: what is wrong, with its place in the tree.
    """
    if not isinstance(root, Mapping):
        _fail(f"a story is 'key: value' lines, not {kind_of(root)}", root.place)
    for name in GONE.keys() & root.items.keys():
        raise GONE[name].mistake(name).at(*root.places[name])
    _check_keys(root, STORY_KEYS, "key of a story", required=("title", "frames"))
    get = root.items.get
    characters = _characters(get("characters"))
    return Story(
        title=_text(root.items["title"], "title"),
        style=_optional_text(get("style"), "style"),
        method=_optional_text(get("method"), "method"),
        seed=_optional_number(get("seed"), "seed", SEED),
        best_of=_optional_number(get("best_of"), "best_of", BEST_OF),
        mend=_optional_number(get("mend"), "mend", MEND),
        settings=_settings(root),
        loras=_loras(get("loras")),
        characters=characters,
        frames=_frames(root.items["frames"], characters),
        place=root.place,
        places=root.places,
    )


@dataclass(frozen=True)
class Placeholder:
    """`prompt[start:end]` is `{name}`, or `{sad name}` with `adjectives` "sad"."""

    start: int
    end: int
    name: str
    adjectives: str


def placeholders(prompt: str, names: Iterable[str]) -> list[Placeholder]:
    """Every `{name}` in `prompt`. A name that is not in `names` is returned as it is written."""
    longest_first = sorted(names, key=len, reverse=True)
    found = []
    for match in _PLACEHOLDER.finditer(prompt):
        words = match[1].strip()
        # Names may have spaces, so the words alone do not say where the adjectives end.
        ends = (n for n in longest_first if words == n or words.endswith(f" {n}"))
        name = next(ends, words)
        adjectives = words[: len(words) - len(name)].strip()
        found.append(Placeholder(match.start(), match.end(), name, adjectives))
    return found


def dump_story(story: Story) -> str:
    """The text of a story file that reads back as `story` (apart from line numbers)."""
    keys = ("title", "style", "method", "seed", "best_of", "mend")
    said = {key: getattr(story, key) for key in keys}
    tree: dict[str, object] = {key: value for key, value in said.items() if value is not None}
    tree |= written(story.settings)
    if story.loras:
        tree["loras"] = [_lora_tree(lora) for lora in story.loras]
    if story.characters:
        tree["characters"] = {c.name: _character_tree(c) for c in story.characters.values()}
    tree["frames"] = [_frame_tree(frame) for frame in story.frames]
    text: str = yaml.safe_dump(tree, sort_keys=False, allow_unicode=True, width=96)
    return text


def _character_tree(character: Character) -> dict[str, object]:
    tree: dict[str, object] = {"description": character.description}
    if character.references:
        tree["references"] = list(character.references)
    if character.strength is not None:
        tree["strength"] = character.strength
    return tree


def _lora_tree(lora: LoraFile) -> dict[str, object]:
    tree: dict[str, object] = {"file": str(lora.path), "weight": lora.weight}
    return tree if lora.name is None else tree | {"name": lora.name}


def _frame_tree(frame: Frame) -> dict[str, object]:
    tree: dict[str, object] = {key: getattr(frame, key) for key in FRAME_KEYS}
    named = {box: place for place, box in PLACES.items()}
    tree["boxes"] = {name: named.get(box, list(box)) for name, box in frame.boxes.items()}
    return {key: value for key, value in tree.items() if value not in (None, "", {})}


def _settings(root: Mapping) -> dict[str, Any]:
    """The settings that a story names; what is wrong with them is said all at once."""
    found: dict[str, Any] = {}
    wrong: list[InputError] = []
    for name, node in root.items.items():
        if name in OFFERED:
            try:
                found[name] = _setting(node, name, OFFERED[name])
            except InputError as error:
                wrong.append(error)
    if wrong:
        raise all_of(wrong)
    return found


def _setting(node: Node, name: str, setting: SettingFacts) -> Any:
    if setting.kind is tuple:
        return _size(node, name, setting)
    if setting.kind is str:
        return _checked(_text(node, name), node, name, setting)
    return _number(node, name, setting)


def _characters(node: Node | None) -> dict[str, Character]:
    if node is None or (isinstance(node, Scalar) and node.kind == "nothing"):
        return {}
    if not isinstance(node, Mapping):
        _fail(f"characters is 'name: description' lines, not {kind_of(node)}", node.place)
    if len(node.items) > MAX_CHARACTERS:
        message = f"{len(node.items)} characters; a story has at most {MAX_CHARACTERS}"
        _fail(message, node.place)
    reading = (
        partial(_character, name, entry, node.places[name]) for name, entry in node.items.items()
    )
    return {character.name: character for character in all_read(reading)}


def _character(name: str, node: Node, place: SourcePlace) -> Character:
    if not NAME.fullmatch(name) or name != name.strip():
        message = f"{shown(name)} cannot be a name; start with a letter, at most 40 letters, "
        _fail(message + "digits, spaces and . ' -", place)
    if isinstance(node, Scalar):
        words = _text(node, "description", place)
        return Character(name=name, description=words, place=node.place)
    if not isinstance(node, Mapping):
        _fail(f"{name} needs a description, not {kind_of(node)}", node.place)
    _check_keys(node, CHARACTER_KEYS, "key of a character", required=("description",))
    return Character(
        name=name,
        description=_text(node.items["description"], "description"),
        references=_references(node.items.get("references")),
        strength=_optional_number(node.items.get("strength"), "strength", STRENGTH),
        place=node.places["description"],
    )


def _references(node: Node | None) -> tuple[str, ...]:
    if node is None:
        return ()
    entries = node.items if isinstance(node, Sequence) else (node,)
    if len(entries) > MAX_REFERENCES:
        _fail(f"{len(entries)} references; at most {MAX_REFERENCES}", node.place)
    return tuple(_text(entry, "reference") for entry in entries)


def _loras(node: Node | None) -> tuple[LoraFile, ...]:
    if node is None:
        return ()
    if not isinstance(node, Sequence):
        _fail(f"loras is a list ('- file: ...' lines), not {kind_of(node)}", node.place)
    if len(node.items) > MAX_LORAS:
        _fail(f"{len(node.items)} loras; a story has at most {MAX_LORAS}", node.place)
    return all_read(partial(_lora, entry) for entry in node.items)


def _lora(node: Node) -> LoraFile:
    if isinstance(node, Scalar):
        return LoraFile(path=_text(node, "file"))
    if not isinstance(node, Mapping):
        _fail(f"a LoRA is a file or 'key: value' lines, not {kind_of(node)}", node.place)
    _check_keys(node, LORA_KEYS, "key of a LoRA", required=("file",))
    weight = _optional_number(node.items.get("weight"), "weight", WEIGHT)
    return LoraFile(
        path=_text(node.items["file"], "file"),
        weight=1.0 if weight is None else weight,
        name=_optional_text(node.items.get("name"), "name"),
    )


def _frames(node: Node, characters: dict[str, Character]) -> tuple[Frame, ...]:
    if not isinstance(node, Sequence):
        _fail(f"frames is a list ('- ...' lines), not {kind_of(node)}", node.place)
    if not node.items:
        _fail("frames is empty; a story needs at least one", node.place)
    if len(node.items) > MAX_FRAMES:
        _fail(f"{len(node.items)} frames; a story has at most {MAX_FRAMES}", node.place)
    return all_read(partial(_frame, entry, characters) for entry in node.items)


def _frame(node: Node, characters: dict[str, Character]) -> Frame:
    if isinstance(node, Scalar):
        prompt = _prompt(node, characters)
        return Frame(prompt=prompt, place=node.place, places={"prompt": node.place})
    if not isinstance(node, Mapping):
        _fail(f"a frame is a prompt or 'key: value' lines, not {kind_of(node)}", node.place)
    if len(node.items) == 1 and not set(node.items) & set(FRAME_KEYS):
        _check_flow_braces(node)
    _check_keys(node, FRAME_KEYS, "key of a frame", required=("prompt",))
    get = node.items.get
    return Frame(
        prompt=_prompt(node.items["prompt"], characters),
        caption=_optional_text(get("caption"), "caption"),
        style=_optional_text(get("style"), "style"),
        seed=_optional_number(get("seed"), "seed", SEED),
        negative=_optional_text(get("negative"), "negative") or "",
        boxes=_boxes(get("boxes"), characters),
        place=node.place,
        places=node.places,
    )


def _boxes(node: Node | None, characters: dict[str, Character]) -> dict[str, PictureBox]:
    """Where characters stand, by name."""
    if node is None:
        return {}
    if not isinstance(node, Mapping):
        _fail(f"boxes is 'name: left' or 'name: [x0, y0, x1, y1]', not {kind_of(node)}", node.place)
    for name in node.items:
        if name not in characters:
            place = node.places[name]._asdict()
            raise unknown_name("character in boxes", name[:60], characters, **place)
    return {name: _box(name, entry) for name, entry in node.items.items()}


def _box(name: str, node: Node) -> PictureBox:
    if isinstance(node, Scalar) and node.kind == "text":
        if node.value not in PLACES:
            raise unknown_name("place of a box", node.value[:60], PLACES, **node.place._asdict())
        return PLACES[node.value]
    entries = node.items if isinstance(node, Sequence) else ()
    numbers = [e.number for e in entries if isinstance(e, Scalar) and e.kind == "number"]
    sides = [float(number) for number in numbers if number is not None]
    if len(sides) != 4 or len(entries) != 4:
        known = ", ".join(PLACES)
        _fail(f"the box of {name} is one of {known} or four numbers: [x0, y0, x1, y1]", node.place)
    box = PictureBox(*sides)
    if not box.fits:
        said = ", ".join(f"{side:g}" for side in sides)
        message = f"the box of {name} is [{said}]; expected shares of the picture from 0 to 1, "
        _fail(message + "left before right and top before bottom", node.place)
    return box


def _check_flow_braces(node: Mapping) -> None:
    ((key, value),) = node.items.items()
    if isinstance(value, Scalar) and value.kind == "nothing":
        message = f"YAML reads '{{{key}}}' at the start of a line as a mapping; put quotes around"
        _fail(f"{message} the whole prompt", node.place)


def _prompt(node: Node, characters: dict[str, Character]) -> str:
    if isinstance(node, Mapping):
        _check_flow_braces(node) if len(node.items) == 1 else None
    prompt = _text(node, "prompt")
    for found in placeholders(prompt, characters):
        if found.name not in characters:
            last = found.name.rpartition(" ")[2]
            word = last if nearest(last, characters) else found.name
            what = "character in a frame"
            raise unknown_name(what, word[:60], characters, **node.place._asdict())
    if re.search(r"[{}]", _PLACEHOLDER.sub("", prompt)):
        _fail("a '{' or '}' without its partner; write {name}", node.place)
    return prompt


def _text(node: Node, key: str, place: SourcePlace | None = None) -> str:
    if not isinstance(node, Scalar):
        hint = "; put the text in quotes" if isinstance(node, Mapping) else ""
        _fail(f"{key} must be text, not {kind_of(node)}{hint}", node.place)
    if node.kind == "nothing":
        _fail(f"{key} is empty; write some text", place or node.place)
    if node.kind != "text":
        _fail(f"{key} must be text, not {kind_of(node)}; put it in quotes", node.place)
    text = unicodedata.normalize("NFC", " ".join(node.value.split()))
    if not text:
        _fail(f"{key} is empty; write some text", node.place)
    if len(text) > MAX_CHARS[key]:
        message = f"{key} has {len(text)} characters; at most {MAX_CHARS[key]} are read"
        _fail(message, node.place)
    return text


def _optional_text(node: Node | None, key: str) -> str | None:
    return None if node is None else _text(node, key)


def _optional_number(node: Node | None, key: str, setting: SettingFacts) -> Any:
    return None if node is None else _number(node, key, setting)


def _number(node: Node, key: str, setting: SettingFacts) -> Any:
    value = node.number if isinstance(node, Scalar) and node.kind == "number" else None
    if value is None or not isinstance(value, (int, setting.kind)):
        what = "whole number" if setting.kind is int else "number"
        _fail(f"{key} must be a {what}, not {_given(node)}", node.place)
    return _checked(setting.kind(value), node, key, setting)


def _size(node: Node, key: str, setting: SettingFacts) -> tuple[int, int]:
    try:
        size = parse_size(node.value if isinstance(node, Scalar) else "")
    except InputError:
        _fail(f"{key} must look like 128x128, not {_given(node)}", node.place)
    unfit = fitting_mistake(size, SMALLEST_MULTIPLE)
    return _checked(size, node, key, setting, unfit)


def _checked(
    value: _Value, node: Node, key: str, setting: SettingFacts, otherwise: InputError | None = None
) -> _Value:
    mistake = setting.mistake(key, value) or otherwise
    if mistake is not None:
        raise mistake.at(*node.place)
    return value


def _check_keys(
    node: Mapping, allowed: Iterable[str], kind: str, *, required: Iterable[str]
) -> None:
    for key in node.items:
        if key not in allowed:
            raise unknown_name(kind, key, allowed, **node.places[key]._asdict())
    for key in required:
        if key not in node.items:
            _fail(f"'{key}:' is missing here", node.place)


def _fail(message: str, place: SourcePlace) -> NoReturn:
    raise refusal(message, place)


def _given(node: Node) -> str:
    return shown(node.value) if isinstance(node, Scalar) and node.value else kind_of(node)
