"""What a reader sees of the characters in a picture, and how well two such sights agree.

Agreement is a mean over the factors that make a character itself (not what it does): of discrete
factors the Bhattacharyya coefficient of the two predictions, of hues (1 + cos of their difference)
/ 2, of scalars 1 - |difference|. Factors that one of the pictures cannot show are left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from consistent_gen.rewards.colors import color_shares, has_color

if TYPE_CHECKING:
    from consistent_gen.encoders.factors import Reading, Schema


def hue_word(angle: float, anchors: Mapping[str, float]) -> str:
    """The nearest name on the hue circle; `angle` and the values of `anchors` lie in [0, 1)."""
    return min(anchors, key=lambda name: abs((angle - anchors[name] + 0.5) % 1.0 - 0.5))


# What changes from frame to frame.
PASSING = frozenset({"action", "expression"})
_COVERING = ("dress", "overalls")
FIGURE_HUE = "figure_hue"  # the colour of a whole figure: read from its pixels
# Part of a figure -> samples from which on it is seen, and what it shows.
_PARTS_OF_FACTORS = {"shoes": (2, ("shoes", "shoe_hue")), "bottom": (3, ("bottom", "bottom_hue"))}
_SIZES = {"tall": 0.6, "small": 0.4}  # of the scalar "height": above the one, below the other


@dataclass(frozen=True, kw_only=True)
class Sight:
    """One character and the scene around it; `present` False: nobody was seen.

    subject, scene: factor -> class -> probability. hues in [0, 1); scalars in [0, 1].
    `area` is the character's share of the picture; `colors` the shares of its pixels by colour
    name, {} where nobody looked; `cut_off` are factors that the picture's edge cuts off; `reader`
    names the network that looked.
    """

    present: bool
    subject: Mapping[str, Mapping[str, float]]
    hues: Mapping[str, float]
    scalars: Mapping[str, float]
    scene: Mapping[str, Mapping[str, float]]
    area: float = 0.0
    reader: str = ""
    colors: Mapping[str, float] = field(default_factory=dict)
    cut_off: tuple[str, ...] = ()

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
        if factor == FIGURE_HUE:
            return has_color(self.colors, word)
        if factor in self.scalars:
            value = self.scalars[factor]
            return value > _SIZES[word] if word == "tall" else value < _SIZES[word]
        return self.word(factor) == word

    def reads(self, factor: str) -> bool:
        """Whether this sight can say anything about a factor."""
        if factor == FIGURE_HUE:
            return bool(self.colors) or not self.present
        if factor in self.cut_off:
            return False
        return any(factor in known for known in (self.scene, self.subject, self.hues, self.scalars))

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


def main_sights(
    reading: Reading,
    schema: Schema,
    reader: str = "",
    pictures: NDArray[np.uint8] | None = None,
) -> list[Sight]:
    """What `reading` says about each picture's main character: the largest one."""
    found = all_sights(reading, schema, reader, pictures)
    return [max(sights, key=lambda sight: sight.area) for sights in found]


def all_sights(
    reading: Reading,
    schema: Schema,
    reader: str = "",
    pictures: NDArray[np.uint8] | None = None,
) -> list[list[Sight]]:
    """What `reading` says about the characters of each picture, from left to right; when there
    are none, one sight of nobody. pictures: b h w 3, for the colours of the figures.
    """
    counts = reading.count().tolist()
    found = []
    for row, (sights, count) in enumerate(
        zip(_sights(reading, schema, reader), counts, strict=True)
    ):
        if not count:
            found.append([replace(sights[0], present=False)])
            continue
        seen = [replace(s, cut_off=_cut_off(reading, schema, row, k, s)) for k, s in
                enumerate(sights[:count])]  # fmt: skip
        if pictures is not None:
            planes = owners(reading, row, pictures.shape[1])
            seen = [
                replace(s, colors=color_shares(pictures[row], planes == k))
                for k, s in enumerate(seen, 1)
            ]
        found.append(seen)
    return found


def owners(reading: Reading, row: int, side: int) -> NDArray[np.intp]:
    """Whose each pixel of a picture is, side side: 0 the background, then from left to right."""
    plane: NDArray[np.intp] = reading.masks[row].argmax(0).numpy()
    times = side // len(plane)
    return plane.repeat(times, 0).repeat(times, 1)


def _cut_off(
    reading: Reading, schema: Schema, row: int, slot: int, sight: Sight
) -> tuple[str, ...]:
    """Factors of parts that a close-up does not hold. Parts that are not there in a whole figure
    are another matter: they were to be seen.
    """
    if reading.parts is None or sight.word("camera") != "close":
        return ()
    own = reading.masks[row].argmax(0) == slot + 1
    part = reading.parts[row].argmax(0)
    return tuple(
        factor
        for name, (least, factors) in _PARTS_OF_FACTORS.items()
        if int((own & (part == 1 + schema.parts.index(name))).sum()) < least
        for factor in factors
    )


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


@dataclass(frozen=True)
class Alignment:
    """Which of the named attributes a picture shows.

    shown, missed: factors. unread: what could not be read, as factors and as words of the prompt;
    it counts neither way. value: share of the read ones that are shown; None if none was read.
    """

    shown: tuple[str, ...]
    missed: tuple[str, ...]
    unread: tuple[str, ...]

    @property
    def value(self) -> float | None:
        """In [0, 1]."""
        count = len(self.shown) + len(self.missed)
        return round(len(self.shown) / count, 4) if count else None


def aligned(
    sight: Sight,
    wanted: Mapping[str, str],
    anchors: Mapping[str, float],
    unread: Sequence[str] = (),
) -> Alignment:
    """How `sight` fits `wanted` (factor -> word).

    anchors: colour name -> place on the hue circle, in [0, 1). unread: words of the prompt of which
    no factor was made.
    """
    known = {factor: word for factor, word in wanted.items() if sight.reads(factor)}
    shown = tuple(f for f, word in known.items() if sight.shows(f, word, anchors))
    return Alignment(
        shown,
        tuple(factor for factor in known if factor not in shown),
        (*(f"{factor}: {word}" for factor, word in wanted.items() if factor not in known), *unread),
    )


def alignment(
    sight: Sight, wanted: Mapping[str, str], anchors: Mapping[str, float]
) -> float | None:
    """The value of `aligned`; None when nothing that is named can be read."""
    return aligned(sight, wanted, anchors).value


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
