"""Does a character stay itself? Agreement of its sights over the pictures that show it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from consistent_gen.rewards.base import Scores, mean
from consistent_gen.rewards.sight import Sight, agreement


def character_consistency(shown: Sequence[Mapping[str, Sight]]) -> Scores:
    """Per picture how well its characters agree with themselves in the other pictures.

    shown: per picture, name -> sight, of the characters that can be told apart in it. `parts` has
    the same for each character; the mean of a part is that character's consistency, the mean over
    all pairs of its pictures. A character seen in fewer than two pictures has none.
    """
    names = dict.fromkeys(name for picture in shown for name in picture)
    parts = {name: Scores.of(_with_the_others(name, shown)) for name in names}
    rows = zip(*(part.optional() for part in parts.values()), strict=True)
    values = [mean(row) for row in rows] if parts else [None] * len(shown)
    return Scores.of(values, parts)


def _with_the_others(name: str, shown: Sequence[Mapping[str, Sight]]) -> list[float | None]:
    found: list[float | None] = []
    for index, picture in enumerate(shown):
        others = [p[name] for i, p in enumerate(shown) if i != index and name in p]
        own = picture.get(name)
        found.append(None if own is None else mean(agreement(own, other) for other in others))
    return found
