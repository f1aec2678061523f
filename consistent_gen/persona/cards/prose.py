"""What card authors write, taken apart: macros, sentences, attribute lists, example messages.

Nothing here is executed: a macro that is not known stays as it was written, and is told. A card may
be hostile, so every pattern is linear in the length of the text: repeats are bounded, or stop where
the next one could begin.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from consistent_gen.persona.persona import MAX_STATEMENT
from consistent_gen.persona.transcript import Transcript, Utterance

_CHARACTER = re.compile(r"\{\{\s*char\s*\}\}|<\s*(?:char|bot)\s*>", re.I)
_USER = re.compile(r"\{\{\s*user\s*\}\}|<\s*user\s*>", re.I)
_COMMENT = re.compile(r"\{\{\s*(?://|comment:|hidden_key:)[^{}]*\}\}", re.I)
_ORIGINAL = re.compile(r"\{\{\s*original\s*\}\}", re.I)
_MACRO = re.compile(r"\{\{\s*([^{}]{0,80}?)\s*\}\}")
_KNOWN = re.compile(r"^(?:char|user|original|//.*|comment:.*|hidden_key:.*)$", re.I | re.S)

_ABBREVIATED = re.compile(
    r"(?:\b(?:Mr|Mrs|Ms|Dr|St|Prof|Lt|Col|Sgt|Capt|Jr|Sr|No|vs|approx|etc|e\.g|i\.e)|\b[A-Z])\.$"
)
_SENTENCE = re.compile(r"(?<=[.!?\u2026])[\"'\u201d\u2019)*_]*\s+|(?<=[\u3002\uff01\uff1f])")
_RULE = re.compile(r"^[\s\-=_*#~+|<>\[\](){}/\\.:;,\"'`!?]*$")
_BULLET = re.compile(r"^\s*(?:[-*\u2022+>]|\d{1,3}[.)]|#{1,6})\s+")
_TAG_LINE = re.compile(r"^\s*</?[\w\s.:-]{1,60}/?>\s*$")
_SPOKEN = re.compile(
    r"^\s*(\{\{\s*(?:char|user|random_user_\d)\s*\}\}|<(?:user|bot|char)>)\s*:", re.I
)
_START = re.compile(r"^\s*<\s*start\s*>\s*$", re.I | re.M)


def with_names(text: str, character: str, user: str) -> str:
    """The text with `{{char}}`, `{{user}}` and their older forms filled in; comments are left out.

    `{{original}}` stands for the program's own prompt, and for nothing here. Any other macro
    (`{{random:...}}`, `{{roll:...}}`, `{{getvar::...}}`) stays as written.
    """
    text = _ORIGINAL.sub("", _COMMENT.sub("", text))
    text = _CHARACTER.sub(lambda _: character, text)
    return _USER.sub(lambda _: user, text)


def unknown_macros(text: str) -> tuple[str, ...]:
    """Macros of a text that `with_names` leaves alone, each once."""
    found = (m[1] for m in _MACRO.finditer(text))
    return tuple(dict.fromkeys(name for name in found if name and not _KNOWN.match(name)))


def sentences(text: str) -> Iterator[str]:
    """Sentences of prose, line by line; bullets lose their mark, lines without a word are left out.

    Nothing else is dropped: a sentence longer than a statement may be is cut between words.
    """
    for line in text.split("\n"):
        line = _BULLET.sub("", line).strip()
        if not line or _RULE.match(line) or _TAG_LINE.match(line):
            continue
        pieces: list[str] = []
        begin = 0
        for cut in _SENTENCE.finditer(line):
            if not _ABBREVIATED.search(line[max(begin, cut.start() - 9) : cut.end()].strip()):
                pieces.append(line[begin : cut.end()].strip())
                begin = cut.end()
        pieces.append(line[begin:].strip())
        for piece in pieces:
            if piece and not _RULE.match(piece):
                yield from chopped(piece)


def chopped(text: str, most: int = MAX_STATEMENT) -> Iterator[str]:
    """The text in pieces of at most `most` characters, cut between words where there are any."""
    text = text.strip()
    begin = 0
    while len(text) - begin > most:
        cut = text.rfind(" ", begin + most // 2, begin + most)
        end = cut if cut > 0 else begin + most
        yield text[begin:end].strip()
        begin = end
    if text[begin:].strip():
        yield text[begin:].strip()


_W_BLOCK = re.compile(
    r"\[?\s{0,9}\b\w{1,40}\s{0,9}\(\s{0,9}[\"\u201c][^\"\u201d]{0,200}[\"\u201d]\s{0,9}\)"
    r"\s{0,9}\{([^{}]*)\}\s{0,9}\]?"
)
_W_ATTRIBUTE = re.compile(
    r"([A-Za-z][\w '/&-]{0,60}?)\s*\(((?:[^()\"\u201c\u201d]|\"[^\"]*\"|\u201c[^\u201d]*\u201d)*)\)"
)
_W_VALUE = re.compile(r"\"([^\"]*)\"|\u201c([^\u201d]*)\u201d")
_P_LIST = re.compile(r"\[([^\[\]\n:=]{0,80})[:=]\s{0,9}([^\[\]]{3,})\]")
_P_PART = re.compile(r"([^:;=,(]{1,60})(?:[:=](.+)|\((.+)\))", re.S)

_P_VALUE = re.compile(r"^([^\[\]=:\n]{1,80})[=:][ \t]{0,9}\[([^\[\]]+)\]", re.M)

Attributes = dict[str, list[str]]


def w_plus_plus(text: str) -> tuple[Attributes, str]:
    """Attributes of W++ (`[character("Mia") { Hair("red" + "long") }]`), and what is left."""
    found: Attributes = {}

    def take(block: re.Match[str]) -> str:
        inside = list(_W_ATTRIBUTE.finditer(block[1]))
        if not inside:
            return block[0]
        for attribute in inside:
            values = [a or b for a, b in _W_VALUE.findall(attribute[2])]
            if not values:
                values = [part.strip() for part in re.split(r"[+,]", attribute[2])]
            kept = [value.strip() for value in values if value.strip()]
            found.setdefault(attribute[1].strip(), []).extend(kept)
        return "\n"

    return found, _W_BLOCK.sub(take, text)


def p_list(text: str) -> tuple[Attributes, str]:
    """Attributes of a PList (`[Mia: kind; Hair: red]`, `Hair = [red]`), and what is left."""
    found: Attributes = {}

    def take(block: re.Match[str]) -> str:
        if not re.search(r"[;,]", block[2]):
            return block[0]
        head = block[1].strip().removesuffix("'s persona").removesuffix("\u2019s persona")
        for number, part in enumerate(block[2].split(";")):
            named = _P_PART.fullmatch(part.strip())
            key = named[1].strip() if named else (head if number == 0 else "")
            told = (named[2] or named[3]) if named else part
            values = [v.strip().strip("\"'") for v in _commas(told)]
            if any(values):
                found.setdefault(key or head, []).extend(v for v in values if v)
        return "\n"

    def take_one(line: re.Match[str]) -> str:
        if "," not in line[2] or "|" in line[2]:  # not a list, but a mark of some program
            return line[0]
        values = [v.strip().strip("\"'") for v in _commas(line[2])]
        found.setdefault(line[1].strip(), []).extend(v for v in values if v)
        return "\n"

    return found, _P_VALUE.sub(take_one, _P_LIST.sub(take, text))


def _commas(text: str) -> list[str]:
    """Parts between commas that stand in no brackets."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter == "(") - (letter == ")")
        if letter == "," and depth <= 0:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def spoken_apart(text: str) -> tuple[str, str]:
    """(example messages, everything else) of a description that mixes them (ali:chat).

    A message goes on to the next one or to an empty line.
    """
    said: list[str] = []
    rest: list[str] = []
    speaking = False
    for line in text.split("\n"):
        if _SPOKEN.match(line) or _START.match(line):
            speaking = True
        elif not line.strip():
            speaking = False
        (said if speaking else rest).append(line)
    return "\n".join(said), "\n".join(rest)


def example_dialogues(text: str, character: str, user: str) -> list[Transcript]:
    """Example messages (`<START>` between dialogues, `{{user}}:` before messages) as transcripts.

    A line that names nobody belongs to the message before it; text before any message is left out
    unless it is all there is, which is then taken as said by the character.
    """
    mark = re.compile(
        r"^\s*(?:(?P<user>\{\{\s*user\s*\}\}|\{\{\s*random_user_\d\s*\}\}|<user>|You|"
        rf"{re.escape(user)})|(?P<char>\{{\{{\s*char\s*\}}\}}|<bot>|<char>|"
        rf"{re.escape(character)}))\s*:",
        re.I,
    )
    found: list[Transcript] = []
    for block in _START.split(text):
        turns: list[tuple[str, list[str]]] = []
        before: list[str] = []
        for line in block.split("\n"):
            begins = mark.match(line)
            if begins:
                side = user if begins["user"] else character
                turns.append((side, [line[begins.end() :]]))
            elif turns:
                turns[-1][1].append(line)
            else:
                before.append(line)
        if not turns and "\n".join(before).strip():
            turns = [(character, before)]
        spoken = [
            Utterance(who, said)
            for who, lines in turns
            if (said := with_names("\n".join(lines), character, user).strip())
        ]
        if spoken:
            found.append(Transcript((character, user), tuple(spoken)))
    return found
