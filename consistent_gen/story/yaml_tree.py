"""YAML text -> a small tree in which every value knows its line. A strict, bounded subset of YAML.

Read are mappings with text keys, lists and scalars. Refused are anchors and aliases (they make
"YAML bombs"), tags, merge keys, several documents, repeated keys and anything deeper or larger than
a story needs. PyYAML only parses; nothing is constructed from tags.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Any, NoReturn

import yaml

from consistent_gen.errors import StoryError

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
    """A single value as written. `kind` is one of the values of `_KINDS`: "text", "number", ..."""

    value: str
    kind: str
    line: int


@dataclass(frozen=True)
class Sequence:
    """A list."""

    items: tuple[Node, ...]
    line: int


@dataclass(frozen=True)
class Mapping:
    """A mapping; `key_lines` gives the line of every key."""

    items: dict[str, Node]
    key_lines: dict[str, int]
    line: int


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
            self._fail("a second document starts here ('---'); one story per file", line)
        return root

    def _node(self, depth: int) -> Node:
        event: Any = self.parser.get_event()
        line = event.start_mark.line + 1
        self.nodes += 1
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            self._fail(
                "anchors and aliases ('&name', '*name') are not read; write the text out", line
            )
        if event.tag not in (None, "!") or (event.tag == "!" and not _is_quoted(event)):
            self._fail(f"tags such as {shown(event.tag)} are not read; delete it", line)
        if depth > MAX_DEPTH:
            self._fail(f"nested deeper than {MAX_DEPTH} levels", line)
        if self.nodes > MAX_NODES:
            self._fail(f"more than {MAX_NODES} values in the file", line)
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event, line)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(depth, line)
        return self._mapping(depth, line)

    def _scalar(self, event: Any, line: int) -> Scalar:
        for character in event.value:
            if unicodedata.category(character) in ("Cc", "Cs") and character not in "\n\t":
                self._fail(f"character {character!r} is not allowed in a story file", line)
        if event.style in _LITERAL_STYLES:
            return Scalar(event.value, "text", line)
        if event.value in _NULLS:
            return Scalar("", "nothing", line)
        tag = self.parser.resolve(yaml.ScalarNode, event.value, (True, False))
        return Scalar(event.value, _KINDS.get(tag, "text"), line)

    def _sequence(self, depth: int, line: int) -> Sequence:
        items = []
        while not self.parser.check_event(yaml.SequenceEndEvent):
            items.append(self._node(depth + 1))
        self.parser.get_event()
        return Sequence(tuple(items), line)

    def _mapping(self, depth: int, line: int) -> Mapping:
        items: dict[str, Node] = {}
        key_lines: dict[str, int] = {}
        while not self.parser.check_event(yaml.MappingEndEvent):
            key = self._node(depth + 1)
            if not isinstance(key, Scalar) or key.kind != "text":
                self._fail(f"a key must be text, not {kind_of(key)}; put it in quotes", key.line)
            if len(key.value) > MAX_KEY_CHARS or "\n" in key.value:
                self._fail(f"the key {shown(key.value)} is no name of a story file", key.line)
            name = unicodedata.normalize("NFC", key.value)
            if name in items:
                first = key_lines[name]
                self._fail(f"{shown(name)} is given twice; the first is on line {first}", key.line)
            items[name] = self._node(depth + 1)
            key_lines[name] = key.line
        self.parser.get_event()
        return Mapping(items, key_lines, line)

    def _fail(self, message: str, line: int) -> NoReturn:
        raise StoryError(message, source=self.source, line=line)


def _is_quoted(event: Any) -> bool:
    return isinstance(event, yaml.ScalarEvent) and event.style in _LITERAL_STYLES


_INTEGER = re.compile(r"[+-]?(0|[1-9][0-9]{0,18})")
_NUMBER = re.compile(r"[+-]?(0|[1-9][0-9]{0,18})(\.[0-9]{0,18})?")


def integer(text: str) -> int | None:
    """The decimal integer that `text` spells; None for octal, hexadecimal, 12:30 and 1_000."""
    return int(text) if _INTEGER.fullmatch(text) else None


def number(text: str) -> float | None:
    """The finite decimal number that `text` spells, or None."""
    return float(text) if _NUMBER.fullmatch(text) else None
