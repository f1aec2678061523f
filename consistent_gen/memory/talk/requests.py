"""What in a user's sentence is a request to the memory itself: teach, draw, forget, tell all."""

from __future__ import annotations

import re
from dataclasses import dataclass

_NAME = r"(?P<name>[^\W\d_a-z][\w'\u2019-]*(?: [A-Z][\w'\u2019-]*){0,2})"
_END = r"[.!,]*(?:\s|$)"
# "A brown bear with a red scarf": where the words for a kind end.
_KIND_END = r"(?=\s+(?:with|who|that|which|wearing|in|on|from|of|and|but)\b|\s*[.!?,;]|\s*$)"
_TEACH = (
    re.compile(rf"\b(?i:this is (?:my|our)) (?P<kind>[a-z][a-z -]{{1,39}}?),? {_NAME}{_END}"),
    re.compile(
        rf"\b(?i:this is) {_NAME}[, ]+(?:my|our|the|a|an) "
        rf"(?P<kind>[a-z][a-z -]{{1,39}}?){_KIND_END}"
    ),
)
_DRAW = re.compile(
    r"^\s*(?:please |can you |could you )*(?:draw|paint|sketch)(?: me)?\s+"
    r"(?P<what>.{1,300}?)[.!?]*\s*$",
    re.I | re.S,
)
_FORGET = re.compile(
    r"^\s*(?:(?:please|pls|ok|okay|now|just|and|(?:can|could|would|will) (?:you|u)|you (?:can|may|"
    r"should)|i(?:'d| would) like you to|i want you to)[, ]+)*(?:forget|erase|delete|wipe|scrub)"
    r"(?: all of| everything| all| any(?:thing)?)?"
    r"(?: (?:about|that|what (?:i|we) (?:said|asked|told you|wrote|mentioned)(?: about)?))?\s+"
    r"(?P<what>.{1,300}?)[.!?]*\s*$",
    re.I | re.S,
)
_EVERYTHING = re.compile(
    r"^\s*(?:please |now )*(?:forget|erase|delete) (?:everything|all)"
    r"(?: (?:you know )?about me| of it)?[.!?]*\s*$",
    re.I,
)
_PROFILE = re.compile(
    r"^\s*(?:please |and |so )*(?:what (?:do|did|have) you (?:know|remember(?:ed)?|stored?|noted?|"
    r"ke(?:ep|pt)|got)(?: (?:about|of|on) me)?"
    r"|(?:tell|show) me (?:what|everything) you (?:know|remember)(?: about me)?"
    r"|who am I)[.!?]*\s*$",
    re.I,
)


@dataclass(frozen=True)
class TeachRequest:
    """ "This is my dog Bo": the class may have adjectives before its noun ("small brown dog")."""

    name: str
    kind: str

    @property
    def noun(self) -> str:
        return self.kind.split()[-1].lower()

    @property
    def description(self) -> str:
        """ "a small brown dog", or nothing when there is only the noun."""
        words = self.kind.strip().lower()
        if " " not in words:
            return ""
        return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


@dataclass(frozen=True)
class DrawRequest:
    """``what`` is the text after "draw"."""

    what: str


@dataclass(frozen=True)
class ForgetRequest:
    """``what`` shall be erased; ``everything`` when it is the whole memory."""

    what: str
    everything: bool = False


@dataclass(frozen=True)
class ProfileRequest:
    """ "What do you know about me?": all that is remembered shall be told."""


def read_request(
    text: str,
) -> TeachRequest | DrawRequest | ForgetRequest | ProfileRequest | None:
    """The request in a user's sentence, or ``None`` when it is ordinary talk."""
    if _PROFILE.match(text):
        return ProfileRequest()
    if _EVERYTHING.match(text):
        return ForgetRequest("everything", True)
    if match := _FORGET.match(text):
        return ForgetRequest(match["what"].strip())
    if match := _DRAW.match(text):
        return DrawRequest(match["what"].strip())
    for pattern in _TEACH:
        if match := pattern.search(text):
            return TeachRequest(match["name"].strip(), match["kind"].strip())
    return None
