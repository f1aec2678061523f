"""A story file becomes a `Story`, or one error that names the file, the line and the remedy.

The format is described in docs/story_file.md. Everything that can be known without a model is
checked here; names of methods, styles and words where they are known (plan.py).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import yaml

from consistent_gen.errors import InputError, StoryError
from consistent_gen.registry import nearest, unknown_name
from consistent_gen.story.settings import parse_size, range_problem, size_problem
from consistent_gen.story.types import Character, Frame, Story
from consistent_gen.story.yaml_tree import (
    MAX_FILE_BYTES,
    Mapping,
    Node,
    Scalar,
    Sequence,
    integer,
    kind_of,
    number,
    parse_yaml,
    shown,
)

STORY_KEYS = (
    "title", "style", "method", "seed", "steps", "guidance", "contours", "guidance_until",
    "scheduler", "size", "characters", "frames",
)  # fmt: skip
CHARACTER_KEYS = ("description", "references", "strength")
FRAME_KEYS = ("prompt", "caption", "style", "seed", "negative")

MAX_FRAMES = 200
MAX_CHARACTERS = 20
MAX_REFERENCES = 16
MAX_CHARS = {
    "title": 120,
    "style": 80,
    "method": 60,
    "scheduler": 60,
    "size": 20,
    "description": 400,
    "reference": 400,
    "prompt": 800,
    "negative": 800,
    "caption": 600,
}

# A letter first; then letters, digits, spaces and the signs that occur in names.
NAME = re.compile(r"[^\W\d_][\w .'\u2019-]{0,39}")
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


def load_story(path: str | Path) -> Story:
    """Read and check a story file. `Story.source` is `path` as given.

    Raises:
        InputError: there is no such file, or it is no file.
        StoryError, UnknownNameError: the file is wrong; the message names the line.
    """
    return parse_story(_read(Path(path)), source=str(path))


def parse_story(data: bytes | str, *, source: str = "<story>") -> Story:
    """The story in the bytes (or text) of a story file; errors as in `load_story`."""
    raw = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    return _StoryReader(source).story(parse_yaml(raw, source))


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
    tree: dict[str, object] = {"title": story.title}
    for key in STORY_KEYS[1 : STORY_KEYS.index("size")]:
        value = getattr(story, key)
        if value is not None:
            tree[key] = value
    if story.size is not None:
        tree["size"] = f"{story.size[0]}x{story.size[1]}"
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


def _frame_tree(frame: Frame) -> dict[str, object]:
    tree = {key: getattr(frame, key) for key in FRAME_KEYS}
    return {key: value for key, value in tree.items() if value not in (None, "")}


def _read(path: Path) -> bytes:
    try:
        if path.is_dir():
            raise InputError("this is a folder; expected a story file (.yaml)", source=path)
        if not path.exists():
            raise InputError("there is no such file" + _sibling_hint(path), source=path)
        if not path.is_file():
            raise InputError("this is not a regular file; expected a story file", source=path)
        with path.open("rb") as stream:
            return stream.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise InputError(f"cannot be read: {reason}", source=path) from None


def _sibling_hint(path: Path) -> str:
    if not path.parent.is_dir():
        return f"; the folder {shown(str(path.parent))} does not exist either"
    stories = [p.name for p in path.parent.iterdir() if p.suffix in (".yaml", ".yml")]
    close = unknown_name("story", path.name, stories).message
    return f"; {close.partition('; ')[2].partition('? ')[0]}?" if "did you mean" in close else ""


class _StoryReader:
    """Turns the tree of one file into values; holds nothing but the file's name."""

    def __init__(self, source: str) -> None:
        self.source = source

    def story(self, root: Node) -> Story:
        if not isinstance(root, Mapping):
            self._fail(f"a story is 'key: value' lines, not {kind_of(root)}", root.line)
        self._check_keys(root, STORY_KEYS, "key of a story", required=("title", "frames"))
        get = root.items.get
        characters = self._characters(get("characters"))
        story = Story(
            title=self._text(root.items["title"], "title"),
            style=self._optional_text(get("style"), "style"),
            method=self._optional_text(get("method"), "method"),
            seed=self._optional_integer(get("seed"), "seed"),
            steps=self._optional_integer(get("steps"), "steps"),
            guidance=self._optional_number(get("guidance"), "guidance"),
            contours=self._optional_number(get("contours"), "contours"),
            guidance_until=self._optional_number(get("guidance_until"), "guidance_until"),
            scheduler=self._optional_text(get("scheduler"), "scheduler"),
            size=self._size(get("size")),
            characters=characters,
            frames=self._frames(root.items["frames"], characters),
            source=self.source,
            lines=dict(root.key_lines),
        )
        return story

    def _characters(self, node: Node | None) -> dict[str, Character]:
        if node is None or (isinstance(node, Scalar) and node.kind == "nothing"):
            return {}
        if not isinstance(node, Mapping):
            self._fail(f"characters is 'name: description' lines, not {kind_of(node)}", node.line)
        if len(node.items) > MAX_CHARACTERS:
            message = f"{len(node.items)} characters; a story has at most {MAX_CHARACTERS}"
            self._fail(message, node.line)
        return {
            name: self._character(name, entry, node.key_lines[name])
            for name, entry in node.items.items()
        }

    def _character(self, name: str, node: Node, line: int) -> Character:
        if not NAME.fullmatch(name) or name != name.strip():
            message = f"{shown(name)} cannot be a name; start with a letter, at most 40 letters, "
            self._fail(message + "digits, spaces and . ' -", line)
        if isinstance(node, Scalar):
            return Character(
                name=name, description=self._text(node, "description", line), line=node.line
            )
        if not isinstance(node, Mapping):
            self._fail(f"{name} needs a description, not {kind_of(node)}", node.line)
        self._check_keys(node, CHARACTER_KEYS, "key of a character", required=("description",))
        return Character(
            name=name,
            description=self._text(node.items["description"], "description"),
            references=self._references(node.items.get("references")),
            strength=self._optional_number(node.items.get("strength"), "strength"),
            line=node.key_lines["description"],
        )

    def _references(self, node: Node | None) -> tuple[str, ...]:
        if node is None:
            return ()
        entries = node.items if isinstance(node, Sequence) else (node,)
        if len(entries) > MAX_REFERENCES:
            self._fail(f"{len(entries)} references; at most {MAX_REFERENCES}", node.line)
        return tuple(self._text(entry, "reference") for entry in entries)

    def _frames(self, node: Node, characters: dict[str, Character]) -> tuple[Frame, ...]:
        if not isinstance(node, Sequence):
            self._fail(f"frames is a list ('- ...' lines), not {kind_of(node)}", node.line)
        if not node.items:
            self._fail("frames is empty; a story needs at least one", node.line)
        if len(node.items) > MAX_FRAMES:
            self._fail(f"{len(node.items)} frames; a story has at most {MAX_FRAMES}", node.line)
        return tuple(self._frame(entry, characters) for entry in node.items)

    def _frame(self, node: Node, characters: dict[str, Character]) -> Frame:
        if isinstance(node, Scalar):
            prompt = self._prompt(node, characters)
            return Frame(prompt=prompt, line=node.line, lines={"prompt": node.line})
        if not isinstance(node, Mapping):
            self._fail(f"a frame is a prompt or 'key: value' lines, not {kind_of(node)}", node.line)
        if len(node.items) == 1 and not set(node.items) & set(FRAME_KEYS):
            self._check_flow_braces(node)
        self._check_keys(node, FRAME_KEYS, "key of a frame", required=("prompt",))
        get = node.items.get
        return Frame(
            prompt=self._prompt(node.items["prompt"], characters),
            caption=self._optional_text(get("caption"), "caption"),
            style=self._optional_text(get("style"), "style"),
            seed=self._optional_integer(get("seed"), "seed"),
            negative=self._optional_text(get("negative"), "negative") or "",
            line=node.line,
            lines=dict(node.key_lines),
        )

    def _check_flow_braces(self, node: Mapping) -> None:
        ((key, value),) = node.items.items()
        if isinstance(value, Scalar) and value.kind == "nothing":
            message = (
                f"YAML reads '{{{key}}}' at the start of a line as a mapping; put quotes around"
            )
            self._fail(f"{message} the whole prompt", node.line)

    def _prompt(self, node: Node, characters: dict[str, Character]) -> str:
        if isinstance(node, Mapping):
            self._check_flow_braces(node) if len(node.items) == 1 else None
        prompt = self._text(node, "prompt")
        for found in placeholders(prompt, characters):
            if found.name not in characters:
                last = found.name.rpartition(" ")[2]
                word = last if nearest(last, characters) else found.name
                what = "character in a frame"
                raise unknown_name(what, word[:60], characters, source=self.source, line=node.line)
        if re.search(r"[{}]", _PLACEHOLDER.sub("", prompt)):
            self._fail("a '{' or '}' without its partner; write {name}", node.line)
        return prompt

    def _text(self, node: Node, key: str, line: int | None = None) -> str:
        if not isinstance(node, Scalar):
            hint = "; put the text in quotes" if isinstance(node, Mapping) else ""
            self._fail(f"{key} must be text, not {kind_of(node)}{hint}", node.line)
        if node.kind == "nothing":
            self._fail(f"{key} is empty; write some text", line or node.line)
        if node.kind != "text":
            self._fail(f"{key} must be text, not {kind_of(node)}; put it in quotes", node.line)
        text = unicodedata.normalize("NFC", " ".join(node.value.split()))
        if not text:
            self._fail(f"{key} is empty; write some text", node.line)
        if len(text) > MAX_CHARS[key]:
            message = f"{key} has {len(text)} characters; at most {MAX_CHARS[key]} are read"
            self._fail(message, node.line)
        return text

    def _optional_text(self, node: Node | None, key: str) -> str | None:
        return None if node is None else self._text(node, key)

    def _optional_integer(self, node: Node | None, key: str) -> int | None:
        if node is None:
            return None
        value = integer(node.value) if isinstance(node, Scalar) and node.kind == "number" else None
        if value is None:
            self._fail(f"{key} must be a whole number, not {_given(node)}", node.line)
        self._check_range(key, value, node.line)
        return value

    def _optional_number(self, node: Node | None, key: str) -> float | None:
        if node is None:
            return None
        value = number(node.value) if isinstance(node, Scalar) and node.kind == "number" else None
        if value is None:
            self._fail(f"{key} must be a number, not {_given(node)}", node.line)
        self._check_range(key, value, node.line)
        return value

    def _check_range(self, key: str, value: float, line: int) -> None:
        problem = range_problem(key, value)
        if problem is not None:
            self._fail(problem, line)

    def _size(self, node: Node | None) -> tuple[int, int] | None:
        if node is None:
            return None
        size = parse_size(node.value) if isinstance(node, Scalar) else None
        if size is None:
            self._fail(f"size must look like 128x128, not {_given(node)}", node.line)
        problem = size_problem(size)
        if problem is not None:
            self._fail(problem, node.line)
        return size

    def _check_keys(
        self, node: Mapping, allowed: Iterable[str], kind: str, *, required: Iterable[str]
    ) -> None:
        for key in node.items:
            if key not in allowed:
                line = node.key_lines[key]
                raise unknown_name(kind, key, allowed, source=self.source, line=line)
        for key in required:
            if key not in node.items:
                self._fail(f"'{key}:' is missing here", node.line)

    def _fail(self, message: str, line: int) -> NoReturn:
        raise StoryError(message, source=self.source, line=line)


def _given(node: Node) -> str:
    return shown(node.value) if isinstance(node, Scalar) and node.value else kind_of(node)
