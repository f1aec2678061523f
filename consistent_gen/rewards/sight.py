"""What a reader sees of the characters in a picture, and how well two such sights agree.

Agreement is a mean over the factors that make a character itself (not what it does): of discrete
factors the Bhattacharyya coefficient of the two predictions, of hues (1 + cos of their difference)
/ 2, of scalars 1 - |difference|. Factors that one of the pictures cannot show are left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from consistent_gen.encoders.factors import Reading, Schema


def hue_word(angle: float, anchors: Mapping[str, float]) -> str:
    """The nearest name on the hue circle; `angle` and the values of `anchors` lie in [0, 1)."""
    return min(anchors, key=lambda name: abs((angle - anchors[name] + 0.5) % 1.0 - 0.5))


# What changes from frame to frame.
PASSING = frozenset({"action", "expression"})
_COVERING = ("dress", "overalls")


@dataclass(frozen=True, kw_only=True)
class Sight:
    """One character and the scene around it; `present` False: nobody was seen.

    subject, scene: factor -> class -> probability. hues in [0, 1); scalars in [0, 1].
    `area` is the character's share of the picture; `reader` names the network that looked.
    """

    present: bool
    subject: Mapping[str, Mapping[str, float]]
    hues: Mapping[str, float]
    scalars: Mapping[str, float]
    scene: Mapping[str, Mapping[str, float]]
    area: float = 0.0
    reader: str = ""

    def word(self, factor: str) -> str | None:
        """The likeliest class of a factor; None for one that has no classes."""
        classes = self.subject.get(factor) or self.scene.get(factor)
        return max(classes, key=lambda name: classes[name]) if classes else None

    def shows(self, factor: str, word: str, anchors: Mapping[str, float]) -> bool:
        """Whether the picture shows what `word` says of `factor`; hues are named by `anchors`.

        Of nobody nothing is shown but the scene.
        """
        if factor not in self.scene and not self.present:
            return False
        if factor in self.hues:
            return hue_word(self.hues[factor], anchors) == word
        return self.word(factor) == word

    def hidden(self) -> set[str]:
        """Factors of which this picture shows nothing."""
        hidden: set[str] = set()
        if self.word("top") in _COVERING:
            hidden |= {"bottom", "bottom_hue"}
        if self.word("pattern") == "plain":
            hidden |= {"pattern_hue", "pattern_scale"}
        if self.word("accessory") == "none":
            hidden.add("accessory_hue")
        return hidden


def main_sights(reading: Reading, schema: Schema, reader: str = "") -> list[Sight]:
    """What `reading` says about each picture's main character: the largest one."""
    found = all_sights(reading, schema, reader)
    return [max(sights, key=lambda sight: sight.area) for sights in found]


def all_sights(reading: Reading, schema: Schema, reader: str = "") -> list[list[Sight]]:
    """What `reading` says about the characters of each picture, from left to right; when there
    are none, one sight of nobody.
    """
    counts = reading.count().tolist()
    return [
        sights[:count] if count else [replace(sights[0], present=False)]
        for sights, count in zip(_sights(reading, schema, reader), counts, strict=True)
    ]


def agreement(a: Sight, b: Sight) -> float | None:
    """How much `a` and `b` look like one character, in [0, 1]; None when one shows nobody."""
    if not (a.present and b.present):
        return None
    hidden = a.hidden() | b.hidden() | PASSING
    parts = [
        sum(math.sqrt(max(p, 0.0) * max(b.subject[name].get(c, 0.0), 0.0)) for c, p in own.items())
        for name, own in a.subject.items()
        if name in b.subject and name not in hidden
    ]
    parts += [
        (1.0 + math.cos(2.0 * math.pi * (hue - b.hues[name]))) / 2.0
        for name, hue in a.hues.items()
        if name in b.hues and name not in hidden
    ]
    parts += [
        1.0 - abs(value - b.scalars[name])
        for name, value in a.scalars.items()
        if name in b.scalars and name not in hidden
    ]
    return round(min(1.0, max(0.0, sum(parts) / len(parts))), 4) if parts else None


def alignment(
    sight: Sight, wanted: Mapping[str, str], anchors: Mapping[str, float]
) -> float | None:
    """Share of the attributes in `wanted` (factor -> word) that are seen; None when it is empty.

    anchors: colour name -> place on the hue circle, in [0, 1).
    """
    if not wanted:
        return None
    hits = sum(sight.shows(factor, word, anchors) for factor, word in wanted.items())
    return round(hits / len(wanted), 4)


def _sights(reading: Reading, schema: Schema, reader: str) -> list[list[Sight]]:
    """Every slot of every picture, whether somebody is there or not."""
    angles, scalars = reading.hue_angles().tolist(), reading.scalars.clamp(0, 1).tolist()
    subject = {name: logits.softmax(-1).tolist() for name, logits in reading.subject.items()}
    scene = {name: logits.softmax(-1).tolist() for name, logits in reading.scene.items()}
    areas = reading.masks.softmax(1)[:, 1:].mean((2, 3)).tolist()  # b 3
    found = []
    for row in range(len(angles)):
        around = {n: _shares(values[row], schema.scene[n]) for n, values in scene.items()}
        found.append(
            [
                Sight(
                    present=True,
                    subject={
                        name: _shares(values[row][slot], schema.subject[name])
                        for name, values in subject.items()
                    },
                    hues=dict(zip(schema.hues, angles[row][slot], strict=True)),
                    scalars=dict(zip(schema.scalars, scalars[row][slot], strict=True)),
                    scene=around,
                    area=round(areas[row][slot], 4),
                    reader=reader,
                )
                for slot in range(len(angles[row]))
            ]
        )
    return found


def _shares(values: Sequence[float], classes: Sequence[str]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in zip(classes, values, strict=True)}
