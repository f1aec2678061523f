"""A text cut into words, names and signs, each with its place; speech in quotes is one piece."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

Kind = Literal["word", "number", "sign", "name", "speech"]

_WORD = re.compile(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)*|\d+(?:[.,:]\d+)*|[^\w\s]|_")
_DOUBLE = re.compile(
    r"[\"\u201c\u201d\u201e\u00ab]([^\"\u201c\u201d\u00bb]+)[\"\u201c\u201d\u00bb]"
)
_SINGLE = re.compile(
    r"(?<!\w)['\u2018]((?=\w)[^'\u2018\u2019]+(?:\w['\u2019]\w[^'\u2019]*)*)['\u2019](?!\w)"
)
_BRACES = re.compile(r"\{([^{}]*)\}")
_POSSESSIVE = re.compile(r"(?<=\w)['\u2019]s$", re.IGNORECASE)
# Words in which 's belongs to the word or is a verb.
_WHOLE = ("it's", "he's", "she's", "that's", "there's", "what's", "who's", "let's", "here's",
          "where's", "one's")  # fmt: skip


@dataclass(frozen=True)
class Token:
    """`text[start:end]`. low: in lower case, without accents and with plain apostrophes.

    name: of a character, where the token is one. possessive: whether 's follows.
    """

    start: int
    end: int
    text: str
    low: str
    kind: Kind
    name: str = ""
    possessive: bool = False


def folded(text: str) -> str:
    """Lower case, plain apostrophes, no accents."""
    plain = unicodedata.normalize("NFD", text.replace("\u2019", "'").replace("\u2018", "'"))
    return "".join(c for c in plain if not unicodedata.combining(c)).lower()


def tokens(text: str, names: Mapping[str, Iterable[str]], ordinary: Iterable[str]) -> list[Token]:
    """The tokens of `text`, in order.

    names: character -> other forms of its name. ordinary: words of the language; a name that is
    also one of these is taken for the name only where it is written as the name is.
    """
    speech = _speech(text)
    pieces = [*speech, *_in_braces(text, names, speech)]
    pieces += _names(text, names, frozenset(ordinary), pieces)
    pieces.sort(key=lambda token: token.start)
    found: list[Token] = []
    position = 0
    for piece in pieces:
        found += _words(text, position, piece.start) if piece.start >= position else []
        found.append(piece)
        position = piece.end
    return found + _words(text, position, len(text))


def _speech(text: str) -> list[Token]:
    found = [Token(m.start(), m.end(), m[1].strip(), "", "speech") for m in _DOUBLE.finditer(text)]
    for match in _SINGLE.finditer(text):
        if not any(t.start < match.end() and match.start() < t.end for t in found):
            found.append(Token(match.start(), match.end(), match[1].strip(), "", "speech"))
    return found


def _in_braces(text: str, names: Mapping[str, Iterable[str]], taken: list[Token]) -> list[Token]:
    found = []
    for match in _BRACES.finditer(text):
        if any(t.start < match.end() and match.start() < t.end for t in taken):
            continue
        words = match[1].strip()
        for name in sorted(names, key=len, reverse=True):
            if words == name or words.endswith(f" {name}"):
                start = match.start()
                if len(words) > len(name):  # "{sad Mia}": adjectives are words of their own
                    start = text.rindex(name, match.start(), match.end())
                    found += _words(text, match.start() + 1, start)
                end, possessive = _owner(text, match.end())
                whole = text[start:end]
                found.append(Token(start, end, whole, folded(name), "name", name, possessive))
                break
    return found


def _names(
    text: str, names: Mapping[str, Iterable[str]], ordinary: frozenset[str], taken: list[Token]
) -> list[Token]:
    found: list[Token] = []
    forms = [(form, name) for name, others in names.items() for form in (name, *others)]
    low = _same_length_fold(text)
    for form, name in sorted(forms, key=lambda pair: -len(pair[0])):
        plain = _same_length_fold(form)
        for match in re.finditer(rf"(?<!\w){re.escape(plain)}(?!\w)", low):
            start, end = match.span()
            if any(t.start < end and start < t.end for t in (*taken, *found)):
                continue
            written = text[start:end]
            if plain in ordinary and written[:1].islower() and form[:1].isupper():
                continue
            if plain in ordinary and form[:1].isupper() and not _like_a_name(text, start):
                continue
            end, possessive = _owner(text, end)
            found.append(Token(start, end, text[start:end], plain, "name", name, possessive))
    return found


def _like_a_name(text: str, start: int) -> bool:
    """Whether no article stands before it: "Goat has plans", not "The Goat House"."""
    before = text[:start].rstrip().rpartition(" ")[2].lower()
    return before not in ("a", "an", "this", "that", "every")


def _same_length_fold(text: str) -> str:
    """As `folded`, but letter by letter, so that places stay true."""
    out = []
    for character in text:
        plain = folded(character)
        out.append(plain if len(plain) == 1 else character.lower()[:1])
    return "".join(out)


def _owner(text: str, end: int) -> tuple[int, bool]:
    """(where the token ends, whether 's follows): takes in "'s" and the apostrophe of "boys'"."""
    if re.match(r"['\u2019][sS](?!\w)", text[end:]):
        return end + 2, True
    if re.match(r"['\u2019](?!\w)", text[end:]) and text[end - 1 : end].lower() == "s":
        return end + 1, True
    return end, False


def _words(text: str, start: int, end: int) -> list[Token]:
    found: list[Token] = []
    for match in _WORD.finditer(text, start, end):
        word = match[0]
        kind: Kind = "sign"
        if word[0].isdecimal():
            kind = "number"
        elif word[0].isalnum():
            kind = "word"
        low, possessive = folded(word), False
        if kind == "word" and _POSSESSIVE.search(word) and low not in _WHOLE:
            low, possessive = low[:-2], True
        if word == "-" and _inside_a_word(text, match.start()):
            continue
        if word not in "{}":
            found.append(Token(match.start(), match.end(), word, low, kind, possessive=possessive))
    return found


def _inside_a_word(text: str, at: int) -> bool:
    return 0 < at < len(text) - 1 and text[at - 1].isalnum() and text[at + 1].isalnum()
