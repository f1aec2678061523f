"""Character -> Identity: the words that stand for a character in prompts, and its pictures."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image, ImageOps

from consistent_gen.errors import InputError
from consistent_gen.story.types import Character, SourcePlace, Story
from consistent_gen.story.yaml_tree import refusal, shown

ARTICLES = ("a", "an", "the")
REFERENCE_FORMATS = ("PNG", "JPEG", "WEBP")
# What ends the noun group that a description starts with: "a brown bear | with a red scarf".
_GROUP_ENDS = (
    "with", "in", "wearing", "who", "that", "which", "whose", "holding", "carrying", "and", "of",
    "from", "on", "at", "named", "called",
)  # fmt: skip
_WORD = re.compile(r"[\w'\u2019-]+|[^\w\s]")


@dataclass(frozen=True, kw_only=True)
class Identity:
    """A cast character.

    words: the full description, as a first mention puts it into a prompt.
    noun: its head noun ("bear"), which attention methods look for.
    references: existing picture files; strength in [0, 1] or None for the method's default.
    """

    name: str
    words: str
    noun: str
    references: tuple[Path, ...] = ()
    strength: float | None = None
    place: SourcePlace = field(default=SourcePlace(), compare=False)

    def first_mention(self, adjectives: str = "") -> str:
        """The full description, with `adjectives` before its noun group: "a sad girl with ..."."""
        article, rest = _split_article(self.words)
        if not adjectives:
            return self.words
        if article.lower() in ("a", "an"):
            article = "an" if adjectives[0].lower() in "aeiou" else "a"
        return " ".join(part for part in (article, adjectives, rest) if part)

    def later_mention(self, adjectives: str = "") -> str:
        """The short form: "the girl", "the sad girl"."""
        return " ".join(part for part in ("the", adjectives, self.noun) if part)


def cast_story(story: Story, folder: Path | None = None) -> dict[str, Identity]:
    """The identities of all characters of `story`, by name.

    `folder` is where relative reference paths start (the story file's folder).

    Raises:
        StoryError: a description has no noun, or a reference picture does not exist.
    """
    return {name: _cast(c, folder) for name, c in story.characters.items()}


def head_noun(description: str) -> str | None:
    """The noun that a description is about: "bear" of "a brown bear with a red scarf"."""
    group: list[str] = []
    for word in _WORD.findall(description):
        if word.lower() in _GROUP_ENDS or not word[0].isalnum():
            break
        group.append(word)
    if group and group[0].lower() in ARTICLES:
        group.pop(0)
    return group[-1] if group else None


def _split_article(description: str) -> tuple[str, str]:
    first, _, rest = description.partition(" ")
    return (first, rest) if first.lower() in ARTICLES else ("", description)


def _cast(character: Character, folder: Path | None) -> Identity:
    noun = head_noun(character.description)
    if noun is None:
        message = (
            f"the description of {character.name} starts with no noun; "
            "write one such as 'a girl with curly hair'"
        )
        raise refusal(message, character.place)
    references = tuple((folder or Path()) / path for path in character.references)
    for path, written in zip(references, character.references, strict=True):
        if not path.is_file():
            message = f"the reference picture {shown(written)} of {character.name} does not exist"
            raise refusal(message, character.place)
        try:
            open_reference(path)
        except InputError as error:
            message = f"the reference picture {shown(written)} of {character.name} {error.message}"
            raise refusal(message, character.place) from None
    return Identity(
        name=character.name,
        words=character.description,
        noun=noun,
        references=references,
        strength=character.strength,
        place=character.place,
    )


def open_reference(path: Path) -> Image.Image:
    """The picture in the file `path`, upright, RGB.

    Raises:
        InputError: it is none, it is damaged, or it is too large; the message lacks its subject.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=REFERENCE_FORMATS) as opened:
                return ImageOps.exif_transpose(opened).convert("RGB")
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise InputError(f"has more than {Image.MAX_IMAGE_PIXELS:,} pixels") from None
    except (OSError, ValueError, SyntaxError, EOFError):
        raise InputError(
            "cannot be read; expected a PNG, JPEG or WebP file that a viewer opens"
        ) from None
