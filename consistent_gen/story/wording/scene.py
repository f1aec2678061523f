"""What a frame shows: who is in it and what they do, before it is put into words."""

from __future__ import annotations

from dataclasses import dataclass, field

from consistent_gen.story.wording.reading import Item

MAX_ACTORS = 3  # the story world's pictures hold no more
SOFT = (",", "and", "&", "or", "then", "with")
HARD = (".", "!", "?", ";", ":", "\u2026", "\u2013", "\u2014", "-", "(", ")", "but", "so", "while",
         "when", "because", "until", "though", "although", "as", "whilst", "if", "since", "that",
         "which", "who", "where")  # fmt: skip
TRAITS = ("colour", "size", "shade", "age", "pattern", "hair")
INDOOR = ("bedroom", "kitchen", "library")


@dataclass
class Actor:
    """Somebody in a frame: a character of the story (`name`) or somebody else (`kind`).

    action, mood: values of the story world, None where the sentence names none. implied: the mood
    that goes with an action, where none is named. pose: what it does otherwise. rank: how sure the
    action is. traits: words before the noun of somebody else.
    """

    name: str | None
    kind: str
    action: str | None = None
    mood: str | None = None
    rank: float = 0.0
    action_item: Item | None = None
    implied: str | None = None
    pose: str = "standing"
    traits: list[str] = field(default_factory=list)
    wears: str = ""
    subject: bool = False


@dataclass
class Scene:
    """What a frame shows: values of the story world; None where nothing is said.

    items: every word with what became of it. spoken: speech, for bubbles.
    """

    actors: list[Actor] = field(default_factory=list)
    place: str | None = None
    weather: str | None = None
    prop: str | None = None
    camera: str | None = None
    style: str | None = None
    items: list[Item] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    spoken: list[str] = field(default_factory=list)
