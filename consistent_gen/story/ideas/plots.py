"""The lines of which stories are made (`plots.txt`): read once, chosen by plot and beat."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

FILE = Path(__file__).parent / "plots.txt"
PLOTS = ("thing", "go", "do", "feel", "friends", "seek", "day", "quest")
BEATS = ("opening", "idea", "trouble", "try", "turn", "after", "solve", "ending")
FEWEST_FRAMES, MOST_FRAMES = 2, 24
# The beats of short stories; a longer one repeats "try" and "after" of the longest.
_SHORT = {
    2: ("idea", "ending"),
    3: ("idea", "turn", "ending"),
    4: ("opening", "idea", "turn", "ending"),
    5: ("opening", "idea", "try", "turn", "ending"),
    6: ("opening", "idea", "try", "turn", "solve", "ending"),
    7: ("opening", "idea", "trouble", "try", "turn", "solve", "ending"),
}


@dataclass(frozen=True)
class PlotLine:
    """One line of `plots.txt`; its head says what the columns mean.

    action, mood: of the heroes; friend: the same of a friend who comes along, None for nobody.
    where, hour, view: "" where the line leaves them open.
    """

    plots: tuple[str, ...]
    beat: str
    action: str
    mood: str
    friend: tuple[str, str] | None
    where: str
    hour: str
    view: str
    caption: str


@lru_cache(maxsize=1)
def lines() -> tuple[PlotLine, ...]:
    """All lines, in the order of the file."""
    text = FILE.read_text(encoding="utf-8")
    return tuple(_line(row) for row in text.splitlines() if row and not row.startswith("#"))


def _line(row: str) -> PlotLine:
    plots, beat, doing, setting, caption = (part.strip() for part in row.split("|", 4))
    heroes, _, friend = doing.partition(" + ")
    action, mood = heroes.split()
    said = setting.split()
    found = {
        "where": next((w for w in said if w in ("home", "goal", "here", "in", "out")), ""),
        "hour": next((w for w in said if w in ("sunset", "night")), ""),
        "view": next((w for w in said if w in ("close", "far")), ""),
    }
    assert beat in BEATS and len(said) == sum(bool(value) for value in found.values()), row
    other = tuple(friend.split()) or None
    assert other is None or len(other) == 2, row
    return PlotLine(tuple(plots.split()), beat, action, mood, other, caption=caption, **found)


def beats(frames: int) -> list[str]:
    """The beats of a story of so many frames."""
    if frames in _SHORT:
        return list(_SHORT[frames])
    more = frames - len(_SHORT[7])
    start, end = _SHORT[7][:4], _SHORT[7][4:]
    tries, after = [*["try"] * ((more + 1) // 2)], ["after"] * (more // 2)
    return [*start, *tries, end[0], *after, *end[1:]]


def fitting(plot: str, beat: str, *, meets: bool) -> list[PlotLine]:
    """Lines for a beat of a plot, its own before those that fit all plots.

    meets: whether a friend is to come along here.
    """
    found = [line for line in lines() if line.beat == beat and (line.friend is not None) == meets]
    own = [line for line in found if plot in line.plots]
    return [*own, *(line for line in found if "any" in line.plots)]
