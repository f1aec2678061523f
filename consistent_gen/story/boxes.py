"""Where characters stand: what follows from the boxes of a frame.

The story-world model has learnt that whoever is named first stands on the left and somebody alone
in the middle, and holding words to regions does not outweigh that (docs/adapters.md). So the prompt
is told from left to right: "{Mia} reading and {Bruno} dancing in a meadow", with Mia on the right,
becomes "{Bruno} dancing and {Mia} reading in a meadow". And what the model draws in the middle is
moved while it is drawn, where there is room for that.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from itertools import pairwise, permutations

from consistent_gen.registry import resolve
from consistent_gen.story.script import Placeholder, placeholders
from consistent_gen.story.types import Frame, PictureBox
from consistent_gen.story.yaml_tree import refusal

# The story world's own words; looked up by name, as other models draw without it.
WORLD_WORDS = {
    "phrases": "consistent_gen.world.phrases:ACTION_PHRASES",
    "reads": "consistent_gen.world.naming:read_prompt",
}
MOST_NAMED = 5  # characters of a frame with boxes
# Where the model draws the middles of one, two or three characters.
SLOTS = {1: (0.5,), 2: (0.29, 0.71), 3: (0.18, 0.5, 0.82)}
EDGE = 0.2  # how near to the picture's edge a middle may be moved
LEAST_MOVE = 0.1
_JOINT = re.compile(r"(\s*,\s*and\s+|\s*,\s*|\s+and\s+)$")


def told_in_order(frame: Frame, names: Collection[str]) -> str:
    """The prompt of a frame with its characters from left to right, as its boxes say.

    names: of the story's characters.

    Raises:
        StoryError: its words cannot be put into that order; names the place of the boxes.
    """
    mentions = placeholders(frame.prompt, names)
    named = list(dict.fromkeys(found.name for found in mentions))
    strangers = resolve(WORLD_WORDS, "reads")(frame.prompt).characters
    if strangers:
        message = "the prompt also shows somebody who is no character of the story"
        hint = "make a character of them too, or leave the boxes out"
        raise refusal(f"{message}; {hint}", frame.place_of("boxes"))
    if len(named) > MOST_NAMED:
        message = (
            f"the prompt names {len(named)} characters; boxes are read of at most {MOST_NAMED}"
        )
        raise refusal(message, frame.place_of("boxes"))
    order = left_to_right(named, frame.boxes)
    if order == named:
        return frame.prompt
    units = _units(frame.prompt, mentions)
    if units is None:
        first, second = _apart(named, order)
        message = (
            f"{first} shall stand to the left of {second}, but the prompt speaks of {second} "
            f"first, and who is named first stands on the left; name {first} first"
        )
        raise refusal(message, frame.place_of("boxes"))
    by_name = {found.name: unit for found, unit in zip(mentions, units, strict=True)}
    text, position = "", 0
    for unit, name in zip(units, order, strict=True):
        start = frame.prompt.index(unit, position)
        text += frame.prompt[position:start] + by_name[name]
        position = start + len(unit)
    return text + frame.prompt[position:]


def check_boxed(frame: Frame, names: Collection[str]) -> None:
    """Raises ``StoryError``: somebody has a box whom the frame's prompt does not name."""
    named = {found.name for found in placeholders(frame.prompt, names)}
    for name in frame.boxes:
        if name not in named:
            message = f"{name} has a box here, but the prompt does not name {name}"
            hint = f"name {name} there, or leave the box out"
            raise refusal(f"{message}; {hint}", frame.place_of("boxes"))


def left_to_right(named: Sequence[str], boxes: Mapping[str, PictureBox]) -> list[str]:
    """The names [n] in the order in which their boxes are nearest to where n characters stand;
    those without a box keep theirs as far as they can.
    """
    middles = [(i + 0.5) / len(named) for i in range(len(named))]

    def cost(order: tuple[str, ...]) -> tuple[float, int]:
        away = [
            abs(boxes[name].middle - middle)
            for name, middle in zip(order, middles, strict=True)
            if name in boxes
        ]
        places = [named.index(name) for name in order]
        turned = sum(a > b for i, a in enumerate(places) for b in places[i + 1 :])
        return round(sum(away), 6), turned

    best: tuple[str, ...] = min(permutations(named), key=cost)
    return list(best)


def moved(named: Sequence[str], boxes: Mapping[str, PictureBox]) -> float:
    """How far to the right a picture of these characters, from left to right, is moved while it is
    drawn, as a share of its width: what their boxes are away from where the model draws them on
    the average, as far as nobody leaves the picture.
    """
    places = SLOTS.get(len(named), ())
    away = [boxes[n].middle - at for n, at in zip(named, places, strict=False) if n in boxes]
    if not away:
        return 0.0
    wanted = sum(away) / len(away)
    found = min(max(wanted, EDGE - places[0]), 1.0 - EDGE - places[-1])
    return found if abs(found) >= LEAST_MOVE else 0.0


def _apart(named: Sequence[str], order: Sequence[str]) -> tuple[str, str]:
    """Two names that stand in the other order in `named` than in `order`, as in the latter."""
    places = [named.index(name) for name in order]
    at = next(i for i, (a, b) in enumerate(pairwise(places)) if a > b)
    return order[at], order[at + 1]


def _units(prompt: str, mentions: Sequence[Placeholder]) -> list[str] | None:
    """What a prompt says of each character, in its order: words that can change places. None where
    there is no telling: somebody is named twice, or does something to somebody.
    """
    if len({found.name for found in mentions}) < len(mentions):
        return None
    units = []
    for found, following in pairwise(mentions):
        said = prompt[found.start : following.start]
        joint = _JOINT.search(said)
        if joint is None:
            return None
        units.append(said[: joint.start()])
    last = mentions[-1]
    end = last.end
    names = [prompt[found.start : found.end] for found in mentions[:-1]]
    if units != names:  # each does something of its own
        doing = _actions().match(prompt, last.end)
        end = last.end if doing is None else doing.end()
    return [*units, prompt[last.start : end]]


@cache
def _actions() -> re.Pattern[str]:
    table = resolve(WORLD_WORDS, "phrases")
    phrases = {form for forms in table.values() for pair in forms for form in pair}
    longest = sorted(phrases, key=len, reverse=True)
    words = "|".join(re.escape(phrase) for phrase in longest)
    return re.compile(rf"\s+(?:is\s+)?(?:{words})(?!\w)", re.IGNORECASE)
