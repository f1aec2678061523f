"""Does a picture show what its words name? Read by a network that knows the factors.

A failure to see is a miss of that attribute; a factor that the words do not name is left out, never
0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from consistent_gen.encoders.factors import Reading
from consistent_gen.rewards.sight import hue_word


@dataclass(frozen=True)
class Wanted:
    """What the words of one picture name.

    subjects: from left to right, factor -> word; hue factors by colour name.
    scene: factor -> word.
    """

    subjects: tuple[Mapping[str, str], ...]
    scene: Mapping[str, str]


def read_words(
    reading: Reading,
    anchors: Mapping[str, float],
    row: int,
    slot: int,
    classes: Mapping[str, Sequence[str]],
    hues: Sequence[str],
) -> dict[str, str]:
    """What the reader sees of subject `slot` in picture `row`, factor -> word."""
    seen = {
        name: classes[name][int(logits[row, slot].argmax())]
        for name, logits in reading.subject.items()
    }
    angles = reading.hue_angles()[row, slot].tolist()
    return seen | {n: hue_word(a, anchors) for n, a in zip(hues, angles, strict=True)}


def attribute_hits(
    reading: Reading,
    wanted: Sequence[Wanted],
    classes: Mapping[str, Sequence[str]],
    hues: Sequence[str],
    scene_classes: Mapping[str, Sequence[str]],
    anchors: Mapping[str, float],
) -> list[dict[str, float]]:
    """Per picture: attribute -> 1.0 (shown) or 0.0 (not), averaged over the subjects that name it.

    Args:
        reading: of b pictures. wanted: b entries.
        classes, hues, scene_classes: the schema of the reader. anchors: hue names on [0, 1).
    """
    result = []
    for row, words in enumerate(wanted):
        hits: dict[str, list[float]] = {}
        for slot, named in enumerate(words.subjects):
            seen = read_words(reading, anchors, row, slot, classes, hues)
            for name, word in named.items():
                hits.setdefault(name, []).append(float(seen[name] == word))
        for name, word in words.scene.items():
            seen_word = scene_classes[name][int(reading.scene[name][row].argmax())]
            hits[name] = [float(seen_word == word)]
        result.append({name: sum(values) / len(values) for name, values in hits.items()})
    return result
