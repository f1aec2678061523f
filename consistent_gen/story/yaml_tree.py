"""YAML text, or a request's plain values -> a small tree in which every value knows its place.

Of YAML a strict, bounded subset is read: mappings with text keys, lists and scalars. Refused are
anchors and aliases (they make "YAML bombs"), tags, merge keys, several documents, repeated keys and
anything deeper or larger than a story needs. PyYAML only parses; nothing is constructed from tags.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Any, NoReturn

import yaml

from consistent_gen.errors import StoryError
from consistent_gen.story.types import SourcePlace

MAX_FILE_BYTES = 1 << 20
MAX_DEPTH = 6
MAX_NODES = 20_000
MAX_KEY_CHARS = 60

_NULLS = ("", "~", "null", "Null", "NULL")
_KINDS = {
    "tag:yaml.org,2002:str": "text",
    "tag:yaml.org,2002:int": "number",
    "tag:yaml.org,2002:float": "number",
    "tag:yaml.org,2002:bool": "a yes/no value",
    "tag:yaml.org,2002:null": "nothing",
    "tag:yaml.org,2002:timestamp": "a date",
    "tag:yaml.org,2002:merge": "a merge key",
    "tag:yaml.org,2002:value": "a sign",
}
_LITERAL_STYLES = ("'", '"', "|", ">")


@dataclass(frozen=True)
class Scalar:
    """A single value as written. `kind` is one of the values of `_KINDS`: "text", "number", ...

    `number` is the decimal number that it spells; None for 0x10, 1e5, 12:30 and 1_000 too.
    """

    value: str
    kind: str
    place: SourcePlace
    number: int | float | None = None


@dataclass(frozen=True)
class Sequence:
    """A list."""

    items: tuple[Node, ...]
    place: SourcePlace


@dataclass(frozen=True)
class Mapping:
    """A mapping; `places` says where every key stands."""

    items: dict[str, Node]
    places: dict[str, SourcePlace]
    place: SourcePlace

    def add(self, key: str, place: SourcePlace, node: Node) -> None:
        """Put `node` at `key`. Raises ``StoryError`` for a key that is no name or is there."""
        if len(key) > MAX_KEY_CHARS or "\n" in key:
            raise refusal(f"the key {shown(key)} is no name of a story file", place)
        name = unicodedata.normalize("NFC", key)
        if name in self.items:
            first = self.places[name].words
            raise refusal(f"{shown(name)} is given twice; the first is {first}", place)
        self.items[name] = node
        self.places[name] = place


Node = Scalar | Sequence | Mapping


def shown(text: str, limit: int = 40) -> str:
    """`text` in quotes on one line, shortened, safe to print."""
    short = text if len(text) <= limit else text[: limit - 1] + "…"
    return repr(short)


def kind_of(node: Node) -> str:
    """What a node is, in the words of an error message."""
    if isinstance(node, Mapping):
        return "a mapping (key: value lines)"
    if isinstance(node, Sequence):
        return "a list"
    return node.kind if node.kind in ("nothing", "text") else f"{node.kind} ({shown(node.value)})"


def refusal(message: str, place: SourcePlace) -> StoryError:
    """The error that says what is wrong at a place, ready to raise."""
    return StoryError(message, source=place.source, line=place.line)


def request_tree(value: object, path: str = "") -> Node:
    """The tree of a request's plain values; a place is a path in it, such as `frames[2].prompt`.

    None in a mapping is nothing said.

    Raises:
        StoryError: a character that no story has, or two keys that are one name.
    """
    place = SourcePlace(path or None)
    if isinstance(value, dict):
        tree = Mapping({}, {}, place)
        for key, entry in value.items():
            if entry is not None:
                at = f"{path}.{key}" if path else key
                tree.add(_readable(key, SourcePlace(at)), SourcePlace(at), request_tree(entry, at))
        return tree
    if isinstance(value, (list, tuple)):
        entries = (request_tree(entry, f"{path}[{i}]") for i, entry in enumerate(value))
        return Sequence(tuple(entries), place)
    if isinstance(value, str):
        return Scalar(_readable(value, place), "text", place)
    assert isinstance(value, (int, float)), f"{path} is {value!r}"
    return Scalar(str(value), "number", place, value)


def _readable(text: str, place: SourcePlace) -> str:
    for character in text:
        unreadable = unicodedata.category(character) in ("Cc", "Cs") or character in "\ufffe\uffff"
        if unreadable and character not in "\n\t":
            raise refusal(f"character {character!r} is not allowed in a story file", place)
    return text


def parse_yaml(data: bytes, source: str) -> Node:
    """The tree of a YAML file's bytes.

    Raises:
        StoryError: not UTF-8, not YAML, or outside the subset; names `source` and the line.
    """
    text = _decode(data, source)
    try:
        root = _Composer(text, source).single()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = None if mark is None else mark.line + 1
        raise StoryError(_plain_words(error), source=source, line=line) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        message = f"character {error.character!r} is not allowed in a story file; delete it"
        raise StoryError(message, source=source, line=line) from None
    except (ValueError, OverflowError):  # PyYAML's own chr() and int() of numbers in escapes
        message = "an escape such as \\x41 has a number that is no character"
        raise StoryError(message, source=source) from None
    return root


def _decode(data: bytes, source: str) -> str:
    if len(data) > MAX_FILE_BYTES:
        message = f"the file is larger than {MAX_FILE_BYTES // 1024} KiB, the most a story may be"
        raise StoryError(message, source=source)
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise StoryError("the file is UTF-16; save it as UTF-8", source=source, line=1)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        message = f"byte 0x{data[error.start]:02x} is not UTF-8 text; save the file as UTF-8"
        raise StoryError(message, source=source, line=line) from None


def _plain_words(error: yaml.MarkedYAMLError) -> str:
    problem = " ".join((error.problem or "not valid YAML").split())
    if "'\\t'" in problem:
        return "a tab is used to indent; use spaces"
    if problem == "mapping values are not allowed here":
        return "a ': ' stands where YAML allows none; check the indent or put the text in quotes"
    snippet = (error.problem_mark and error.problem_mark.get_snippet()) or ""
    if problem.startswith("expected <block end>") and "{" in snippet:
        return "not valid YAML: it reads '{' as a mapping; put quotes around the whole text"
    context = " ".join((error.context or "").split())
    return f"not valid YAML: {problem}" + (f" ({context})" if context else "")


class _Composer:
    """Our own composing over PyYAML's parser events: bounded, and keeping lines."""

    def __init__(self, text: str, source: str) -> None:
        self.parser: Any = yaml.SafeLoader(text)
        self.source = source
        self.nodes = 0

    def single(self) -> Node:
        """The one document of the file."""
        self.parser.get_event()
        if self.parser.check_event(yaml.StreamEndEvent):
            raise StoryError(
                "the file is empty; a story needs title and frames", source=self.source
            )
        self.parser.get_event()
        root = self._node(1)
        self.parser.get_event()
        if not self.parser.check_event(yaml.StreamEndEvent):
            line = self.parser.peek_event().start_mark.line + 1
            self._fail(
                "a second document starts here ('---'); one story per file",
                SourcePlace(self.source, line),
            )
        return root

    def _node(self, depth: int) -> Node:
        event: Any = self.parser.get_event()
        place = SourcePlace(self.source, event.start_mark.line + 1)
        self.nodes += 1
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            self._fail(
                "anchors and aliases ('&name', '*name') are not read; write the text out", place
            )
        if event.tag not in (None, "!") or (event.tag == "!" and not _is_quoted(event)):
            self._fail(f"tags such as {shown(event.tag)} are not read; delete it", place)
        if depth > MAX_DEPTH:
            self._fail(f"nested deeper than {MAX_DEPTH} levels", place)
        if self.nodes > MAX_NODES:
            self._fail(f"more than {MAX_NODES} values in the file", place)
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event, place)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(depth, place)
        return self._mapping(depth, place)

    def _scalar(self, event: Any, place: SourcePlace) -> Scalar:
        text = _readable(event.value, place)
        if event.style in _LITERAL_STYLES:
            return Scalar(text, "text", place, _number(text))
        if text in _NULLS:
            return Scalar("", "nothing", place)
        tag = self.parser.resolve(yaml.ScalarNode, text, (True, False))
        return Scalar(text, _KINDS.get(tag, "text"), place, _number(text))

    def _sequence(self, depth: int, place: SourcePlace) -> Sequence:
        items = []
        while not self.parser.check_event(yaml.SequenceEndEvent):
            items.append(self._node(depth + 1))
        self.parser.get_event()
        return Sequence(tuple(items), place)

    def _mapping(self, depth: int, place: SourcePlace) -> Mapping:
        tree = Mapping({}, {}, place)
        while not self.parser.check_event(yaml.MappingEndEvent):
            key = self._node(depth + 1)
            if not isinstance(key, Scalar) or key.kind != "text":
                self._fail(f"a key must be text, not {kind_of(key)}; put it in quotes", key.place)
            tree.add(key.value, key.place, self._node(depth + 1))
        self.parser.get_event()
        return tree

    def _fail(self, message: str, place: SourcePlace) -> NoReturn:
        raise refusal(message, place)


def _is_quoted(event: Any) -> bool:
    return isinstance(event, yaml.ScalarEvent) and event.style in _LITERAL_STYLES


_INTEGER = re.compile(r"[+-]?(0|[1-9][0-9]{0,18})")
_NUMBER = re.compile(r"[+-]?(0|[1-9][0-9]{0,18})(\.[0-9]{0,18})?")


def _number(text: str) -> int | float | None:
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _NUMBER.fullmatch(text) else None
