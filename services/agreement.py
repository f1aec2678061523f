"""What the reader sees of a picture's main character, and how well two such sights agree.

Agreement is a mean over the factors that make a character itself (not what it does): of discrete
factors the Bhattacharyya coefficient of the two predictions, of hues (1 + cos of their difference)
/ 2, of scalars 1 - |difference|. Factors that one of the pictures cannot show are left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import BaseModel

from services.prompt_factors import named_factors

if TYPE_CHECKING:
    from consistent_gen.encoders.factors import Reading, Schema

# What changes from frame to frame.
PASSING = frozenset({"action", "expression"})
_COVERING = ("dress", "overalls")


class Sight(BaseModel):
    """The main character and the scene of one picture; `present` False: nobody was seen.

    subject, scene: factor -> class -> probability. hues in [0, 1); scalars in [0, 1].
    `reader` names the network that looked.
    """

    present: bool
    subject: dict[str, dict[str, float]]
    hues: dict[str, float]
    scalars: dict[str, float]
    scene: dict[str, dict[str, float]]
    reader: str = ""

    def word(self, factor: str) -> str | None:
        """The likeliest class of a factor; the name of the colour for a hue."""
        from consistent_gen.world.palette import hue_name

        if factor in self.hues:
            return hue_name(self.hues[factor])
        classes = self.subject.get(factor) or self.scene.get(factor)
        return max(classes, key=lambda name: classes[name]) if classes else None

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


def sights(reading: Reading, schema: Schema, reader: str = "") -> list[Sight]:
    """What `reading` says about each picture's main character: the largest one."""
    areas = reading.masks.softmax(1)[:, 1:].mean((2, 3))  # b 3
    areas = areas * (reading.present > 0.5)
    slots = areas.argmax(1).tolist()
    angles = reading.hue_angles()
    found = []
    for row, (slot, count) in enumerate(zip(slots, reading.count().tolist(), strict=True)):
        hues, scalars = angles[row, slot].tolist(), reading.scalars[row, slot].clamp(0, 1).tolist()
        found.append(
            Sight(
                present=count > 0,
                subject={
                    name: _shares(logits[row, slot].softmax(-1).tolist(), schema.subject[name])
                    for name, logits in reading.subject.items()
                },
                hues=dict(zip(schema.hues, hues, strict=True)),
                scalars=dict(zip(schema.scalars, scalars, strict=True)),
                scene={
                    name: _shares(logits[row].softmax(-1).tolist(), schema.scene[name])
                    for name, logits in reading.scene.items()
                },
                reader=reader,
            )
        )
    return found


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


def alignment(sight: Sight, prompt: str | None) -> float | None:
    """Share of the attributes named in `prompt` that are seen; None when it names none we know."""
    wanted = {} if prompt is None else named_factors(prompt)
    if not wanted:
        return None
    return round(sum(sight.word(name) == word for name, word in wanted.items()) / len(wanted), 4)


def _shares(values: Sequence[float], classes: Sequence[str]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in zip(classes, values, strict=True)}
