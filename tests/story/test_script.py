"""Story files: what is read, and that every mistake is one error with file, line and remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from consistent_gen.errors import InputError
from consistent_gen.story.script import (
    CHARACTER_KEYS,
    FRAME_KEYS,
    MAX_CHARACTERS,
    MAX_FRAMES,
    STORY_KEYS,
    dump_story,
    load_story,
    parse_story,
    placeholders,
)
from consistent_gen.story.yaml_tree import MAX_FILE_BYTES

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))

FULL = """\
# a comment
title: Two Friends
style: watercolor
method: vanilla
seed: 7
steps: 25
guidance: 4.5
scheduler: dpm
size: 128x96
characters:
  Mia:
    description: a girl with a red hat
    strength: 0.5
  Bruno Bear: a small bear
frames:
  - prompt: "{Mia} reading"
    caption: |
      She reads
      and reads.
    style: pencil
    seed: 99
    negative: rain
  - "{Mia} and {sad Bruno Bear} in the city"
"""


def test_everything_is_read_with_its_line() -> None:
    story = parse_story(FULL, source="full.yaml")
    assert (story.title, story.style, story.method) == ("Two Friends", "watercolor", "vanilla")
    said = {"steps": 25, "guidance": 4.5, "scheduler": "dpm", "size": (128, 96)}
    assert (story.seed, story.settings) == (7, said)
    assert story.place_of("style") == ("full.yaml", 3)
    mia, bruno = story.characters.values()
    assert (mia.description, mia.strength, mia.place.line) == ("a girl with a red hat", 0.5, 12)
    assert (bruno.name, bruno.description, bruno.place.line) == ("Bruno Bear", "a small bear", 14)
    first, second = story.frames
    assert first.caption == "She reads and reads."
    assert (first.style, first.seed, first.negative) == ("pencil", 99, "rain")
    assert [first.place_of(k).line for k in ("prompt", "caption", "seed")] == [16, 17, 21]
    assert (second.prompt, second.place.line) == ("{Mia} and {sad Bruno Bear} in the city", 23)


@pytest.mark.parametrize("text", [FULL, "title: x\nframes: [a, 'b: c', \"{}\"]".replace("{}", "d")])
def test_dump_reads_back(text: str) -> None:
    story = parse_story(text)
    assert parse_story(dump_story(story)) == story


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_examples_read_back(path: Path) -> None:
    story = load_story(path)
    assert parse_story(dump_story(story)) == story


def test_byte_order_mark_and_windows_lines_are_read() -> None:
    raw = b"\xef\xbb\xbf" + FULL.replace("\n", "\r\n").encode()
    assert parse_story(raw) == parse_story(FULL)


def test_placeholders_take_the_longest_name() -> None:
    found = placeholders("{Bear} and {sad old Bruno Bear} { Mia }", ["Bear", "Bruno Bear", "Mia"])
    assert [(f.name, f.adjectives) for f in found] == [
        ("Bear", ""),
        ("Bruno Bear", "sad old"),
        ("Mia", ""),
    ]


HEAD = "title: x\n"
PEOPLE = HEAD + "characters:\n  Mia: a girl\n  Bruno: a bear\n"
MANY_FRAMES = HEAD + "frames:\n" + "  - a\n" * (MAX_FRAMES + 1)
MANY_PEOPLE = (
    HEAD + "characters:\n" + "".join(f"  A{i}: a cat\n" for i in range(MAX_CHARACTERS + 1))
)

# (name, text, line or None, words that the message must hold)
MALFORMED: list[tuple[str, str | bytes, int | None, tuple[str, ...]]] = [
    ("empty", "", None, ("empty",)),
    ("only a comment", "# nothing\n", None, ("empty",)),
    ("a list", "- a\n- b\n", 1, ("a list",)),
    ("a word", "hello", 1, ("text",)),
    ("no title", "frames: [a]\n", 1, ("'title:' is missing",)),
    ("no frames", HEAD, 1, ("'frames:' is missing",)),
    ("unknown key", HEAD + "stlye: flat\nframes: [a]\n", 2, ("'stlye'", "did you mean 'style'")),
    ("unknown frame key", HEAD + "frames:\n  - promt: a\n", 3, ("'promt'", "'prompt'")),
    (
        "unknown character key",
        HEAD + "characters:\n  Mia:\n    descripton: a\nframes: [a]\n",
        4,
        ("'descripton'", "'description'"),
    ),
    (
        "unknown character",
        PEOPLE + 'frames:\n  - ok\n  - "{Mai} runs"\n',
        7,
        ("character", "'Mai'", "did you mean 'Mia'", "Bruno"),
    ),
    ("unknown after an adjective", PEOPLE + 'frames: ["{sad Mai}"]\n', 5, ("'Mai'", "'Mia'")),
    ("no characters at all", HEAD + 'frames: ["{Mia}"]\n', 2, ("'Mia'", "none")),
    ("half a brace", HEAD + 'frames: ["a {Mia"]\n', 2, ("{", "partner")),
    ("prompt starts with a brace", PEOPLE + "frames:\n  - {Mia}\n", 6, ("quotes",)),
    ("prompt key with a brace", PEOPLE + "frames:\n  - prompt: {Mia}\n", 6, ("quotes",)),
    ("text after a brace", PEOPLE + "frames:\n  - {Mia} runs\n", 6, ("not valid YAML",)),
    ("frame without prompt", HEAD + "frames:\n  - caption: a\n", 3, ("'prompt:' is missing",)),
    ("empty prompt", HEAD + 'frames: [""]\n', 2, ("prompt is empty",)),
    ("missing prompt text", HEAD + "frames:\n  - prompt:\n", 3, ("prompt is empty",)),
    ("frames is text", HEAD + "frames: a\n", 2, ("frames is a list",)),
    ("frames is empty", HEAD + "frames: []\n", 2, ("empty",)),
    ("frame is a list", HEAD + "frames: [[a]]\n", 2, ("a list",)),
    ("characters is a list", HEAD + "characters: [Mia]\nframes: [a]\n", 2, ("characters",)),
    ("character is a list", HEAD + "characters: {Mia: [a]}\nframes: [a]\n", 2, ("description",)),
    ("character without words", HEAD + "characters:\n  Mia:\nframes: [a]\n", 3, ("empty",)),
    ("no name", HEAD + "characters:\n  '1': a\nframes: [a]\n", 3, ("cannot be a name",)),
    ("brace in a name", HEAD + "characters:\n  'M}': a\nframes: [a]\n", 3, ("cannot be a name",)),
    ("title is a number", "title: 1984\nframes: [a]\n", 1, ("quotes", "1984")),
    ("title is yes", "title: yes\nframes: [a]\n", 1, ("quotes", "yes/no")),
    ("title is a date", "title: 2024-01-01\nframes: [a]\n", 1, ("quotes", "date")),
    ("title is a mapping", "title: {a: b}\nframes: [a]\n", 1, ("mapping",)),
    ("key is a number", "1: x\n", 1, ("key must be text",)),
    ("key is no", "no: x\n", 1, ("key must be text",)),
    ("key is a list", "? [a]\n: x\n", 1, ("key must be text",)),
    ("merge key", "<<: {title: x}\nframes: [a]\n", 1, ("merge key",)),
    ("twice", HEAD + "title: y\nframes: [a]\n", 2, ("twice", "line 1")),
    ("character twice", PEOPLE + "  Mia: a cat\nframes: [a]\n", 5, ("'Mia'", "twice")),
    ("seed is text", HEAD + "seed: abc\nframes: [a]\n", 2, ("seed", "whole number", "'abc'")),
    ("seed is a fraction", HEAD + "seed: 1.5\nframes: [a]\n", 2, ("seed", "whole number")),
    ("seed is negative", HEAD + "seed: -1\nframes: [a]\n", 2, ("seed is -1",)),
    ("seed is huge", HEAD + f"seed: {2**63}\nframes: [a]\n", 2, ("2^63 - 1",)),
    ("seed is endless", HEAD + f"seed: {'9' * 5000}\nframes: [a]\n", 2, ("whole number",)),
    ("seed is octal", HEAD + "seed: 010\nframes: [a]\n", 2, ("whole number",)),
    ("seed is a time", HEAD + "seed: 12:30:45\nframes: [a]\n", 2, ("whole number",)),
    ("frame seed", HEAD + "frames:\n  - prompt: a\n    seed: x\n", 4, ("seed",)),
    ("steps is zero", HEAD + "steps: 0\nframes: [a]\n", 2, ("steps is 0", "1 to 1000")),
    ("guidance is text", HEAD + "guidance: high\nframes: [a]\n", 2, ("'high'",)),
    ("guidance is nan", HEAD + "guidance: .nan\nframes: [a]\n", 2, ("guidance",)),
    ("guidance is infinite", HEAD + "guidance: .inf\nframes: [a]\n", 2, ("guidance",)),
    ("size", HEAD + "size: big\nframes: [a]\n", 2, ("128x128",)),
    ("size multiple", HEAD + "size: 100x128\nframes: [a]\n", 2, ("width", "multiple of 8", "96")),
    ("size too large", HEAD + "size: 99999x128\nframes: [a]\n", 2, ("width", "2048")),
    ("strength", HEAD + "characters: {M: {description: a, strength: 2}}\nframes: [a]\n", 2, ("1",)),
    ("tab", HEAD + "frames:\n\t- a\n", 3, ("tab", "spaces")),
    ("unclosed quote", HEAD + 'frames: ["a\n', 3, ("not valid YAML",)),
    ("unclosed list", HEAD + "frames: [a\n", 3, ("not valid YAML",)),
    ("colon in text", "title: Mia: the story\nframes: [a]\n", 1, ("quotes",)),
    ("bad indent", HEAD + "  style: x\nframes: [a]\n", 2, ("indent",)),
    ("alias", HEAD + "frames: [&a b, *a]\n", 2, ("anchors",)),
    ("bomb", "a: &a [x, x]\nb: &b [*a, *a]\ntitle: *b\n", 1, ("anchors",)),
    ("undefined alias", "title: *a\nframes: [a]\n", 1, ("anchors",)),
    ("tag", "title: !!python/object/apply:os.system [ls]\n", 1, ("tags",)),
    ("plain tag", "title: !!str 5\nframes: [a]\n", 1, ("tags",)),
    ("two documents", HEAD + "frames: [a]\n---\ntitle: y\n", 3, ("second document",)),
    ("deep", "title: " + "[" * 5000, 1, ("nested deeper",)),
    ("many values", "title: [" + "a," * 30000 + "]\n", 1, ("more than",)),
    ("many frames", MANY_FRAMES, 3, ("201 frames", "200")),
    ("many characters", MANY_PEOPLE + "frames: [a]\n", 3, ("21 characters", "20")),
    ("long title", f"title: {'x' * 500}\nframes: [a]\n", 1, ("500 characters", "120")),
    ("long key", f"{'k' * 100}: x\n", 1, ("no name of a story file",)),
    ("large file", b"#" * (MAX_FILE_BYTES + 1), None, ("1024 KiB",)),
    ("UTF-16", HEAD.encode("utf-16"), 1, ("UTF-16", "UTF-8")),
    ("Latin-1", b"title: x\nstyle: caf\xe9\n", 2, ("0xe9", "UTF-8")),
    ("control character", "title: a\x07\nframes: [a]\n", 1, ("not allowed",)),
    ("escaped control", 'title: "a\\0"\nframes: [a]\n', 1, ("not allowed",)),
    ("half a pair", 'title: "\\ud800"\nframes: [a]\n', 1, ("not allowed",)),
    ("escape beyond", 'title: "\\UFFFFFFFF"\nframes: [a]\n', None, ("escape",)),
    ("bad escape", 'title: "\\q"\nframes: [a]\n', 1, ("not valid YAML",)),
    ("bad directive", "%YAML 9.9\n---\ntitle: x\n", 1, ("not valid YAML",)),
]


@pytest.mark.parametrize(
    ("text", "line", "words"), [m[1:] for m in MALFORMED], ids=[m[0] for m in MALFORMED]
)
def test_malformed(text: str | bytes, line: int | None, words: tuple[str, ...]) -> None:
    with pytest.raises(InputError) as caught:
        parse_story(text, source="bad.yaml")
    message = str(caught.value)
    place = "bad.yaml: " if line is None else f"bad.yaml:{line}: "
    assert message.startswith(place), message
    assert "\n" not in message and len(message) < 400
    for word in words:
        assert word in message


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "two_friends.yaml").write_text("title: x\nframes: [a]\n")
    with pytest.raises(InputError, match=r"no such file; did you mean 'two_friends\.yaml'"):
        load_story(tmp_path / "two_freinds.yaml")
    with pytest.raises(InputError, match=r"folder .* does not exist"):
        load_story(tmp_path / "nowhere" / "a.yaml")
    with pytest.raises(InputError, match="this is a folder"):
        load_story(tmp_path)
    with pytest.raises(InputError, match="not a regular file"):
        load_story("/dev/null")
    with pytest.raises(InputError):
        load_story("a\0b")
    with pytest.raises(InputError):
        load_story("x" * 5000)


@pytest.mark.parametrize("keys", [STORY_KEYS, FRAME_KEYS, CHARACTER_KEYS])
def test_every_key_is_documented(keys: tuple[str, ...]) -> None:
    page = (ROOT / "docs" / "story_file.md").read_text(encoding="utf-8")
    assert [key for key in keys if f"`{key}`" not in page] == []
