"""What characters say in a drawn story, from a YAML file beside it.

A list, one entry per bubble: ``{frame: 1, text: "Hello!", x: 0.3, y: 0.1, tail_x: 0.4, tail_y:
0.5, thought: yes}``. Frames count from 1; x and y are shares of the picture's width and height.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from consistent_gen.errors import InputError
from consistent_gen.registry import unknown_name
from consistent_gen.story.book import Book, Speech
from consistent_gen.story.types import SourcePlace
from consistent_gen.story.yaml_tree import (
    MAX_FILE_BYTES,
    Mapping,
    Node,
    Scalar,
    kind_of,
    parse_yaml,
    refusal,
)
from consistent_gen.story.yaml_tree import Sequence as YamlSequence

MAX_TEXT = 1000
PLACES = ("x", "y", "tail_x", "tail_y")
KEYS = ("frame", "text", *PLACES, "thought")
YES, NO = ("yes", "true", "on"), ("no", "false", "off")


def with_speech(book: Book, path: str | Path) -> Book:
    """`book` with the bubbles of a speech file added to those that it has.

    Raises:
        StoryError: the file is not such a list; names file and line.
        InputError: the file cannot be read.
        LimitError: more bubbles in a frame than `book.MAX_SPEECHES`.
    """
    source = Path(path)
    found: dict[int, list[Speech]] = {}
    for entry in _entries(source):
        frame, speech = _Entry(entry).speech(len(book.panels))
        found.setdefault(frame, []).append(speech)
    panels = tuple(
        replace(panel, bubbles=(*panel.bubbles, *found.get(number, ())))
        for number, panel in enumerate(book.panels, start=1)
    )
    return replace(book, panels=panels)


def _entries(source: Path) -> Sequence[Node]:
    try:
        with source.open("rb") as stream:
            data = stream.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", source=source) from None
    root = parse_yaml(data, str(source))
    if not isinstance(root, YamlSequence):
        message = f"expected a list of bubbles ('- frame: 1'), not {kind_of(root)}"
        raise refusal(message, root.place)
    return root.items


class _Entry:
    """One bubble of the file."""

    def __init__(self, node: Node) -> None:
        self.place = node.place
        if not isinstance(node, Mapping):
            self.fail(f"expected a bubble ('frame: 1'), not {kind_of(node)}", node.place)
        self.node = node
        for key in node.items:
            if key not in KEYS:
                raise unknown_name("key of a bubble", key, KEYS, **node.places[key]._asdict())

    def speech(self, frames: int) -> tuple[int, Speech]:
        """The number of its frame, from 1, and what is said there."""
        frame = self.number("frame", 1, frames)
        if frame != int(frame):
            self.fail(f"frame is {frame:g}; expected a whole number", self.place)
        text = self.scalar("text")
        if text is None or not text.value.strip():
            self.fail("text is missing; what does the bubble say?", self.place)
        if len(text.value) > MAX_TEXT:
            self.fail(f"text has {len(text.value)} characters; at most {MAX_TEXT}", text.place)
        if ("tail_x" in self.node.items) != ("tail_y" in self.node.items):
            self.fail("a tail needs both tail_x and tail_y, or neither", self.place)
        x, y = self.number("x", 0, 1, 0.5), self.number("y", 0, 1, 0.12)
        tailed = "tail_x" in self.node.items
        return int(frame), Speech(
            text=text.value,
            x=x,
            y=y,
            tail_x=self.number("tail_x", 0, 1) if tailed else None,
            tail_y=self.number("tail_y", 0, 1) if tailed else None,
            thought=self.yes("thought"),
        )

    def scalar(self, key: str) -> Scalar | None:
        """The single value at `key`, None when it is absent."""
        node = self.node.items.get(key)
        if node is not None and not isinstance(node, Scalar):
            self.fail(f"{key} is {kind_of(node)}; expected a single value", node.place)
        return node

    def number(self, key: str, low: float, high: float, default: float | None = None) -> float:
        """The number at `key`, from `low` to `high`."""
        node = self.scalar(key)
        if node is None:
            if default is None:
                self.fail(
                    f"{key} is missing; expected a number from {low:g} to {high:g}", self.place
                )
            return default
        value = node.number
        if value is None or not low <= value <= high:
            message = f"{key} is {kind_of(node)}; expected a number from {low:g} to {high:g}"
            self.fail(message, node.place)
        return value

    def yes(self, key: str) -> bool:
        """Whether `key` says yes."""
        node = self.scalar(key)
        word = "no" if node is None else node.value.lower()
        if word not in YES + NO:
            assert node is not None
            self.fail(f"{key} is {kind_of(node)}; expected yes or no", node.place)
        return word in YES

    def fail(self, message: str, place: SourcePlace) -> NoReturn:
        """Refuse the entry."""
        raise refusal(message, place)
