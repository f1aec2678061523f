"""Comparing methods on one story: what to score, what the scores mean together, and the plots.

Pure, like `ui.markup`. A score that cannot be read is None and never counts as 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape

from consistent_gen.client.types import Job, StoryOut
from consistent_gen.story.script import placeholders
from ui.board import current_version
from ui.state import Draft, SceneCard, spoken_of

MIN_FOR_IDENTITY = 2
MIN_PORTRAITS = 3
# Plain enough for any model, and of words that the story-world model knows.
PORTRAITS = ("standing in a meadow", "walking on the beach", "sitting in a kitchen")


@dataclass(frozen=True)
class Score:
    """How a method did. `identity` and `alignment` in [0, 1]; `seconds` per picture."""

    method: str
    identity: float | None = None
    alignment: float | None = None
    seconds: float | None = None
    pictures: int = 0


@dataclass(frozen=True)
class PictureGroup:
    """Pictures that show one and the same character, with what they should show."""

    character: str
    artifacts: tuple[str, ...]
    prompts: tuple[str, ...]


def with_portraits(draft: Draft) -> Draft:
    """The draft with scenes added at its end until every character has three of its own: an
    identity can only be compared between pictures that show nobody else.
    """
    names = [card.name for card in draft.cast]
    extra: list[SceneCard] = []
    for name in names:
        alone = [scene for scene in draft.scenes if spoken_of(scene.prompt, names) == [name]]
        missing = max(0, MIN_PORTRAITS - len(alone))
        extra += [SceneCard(prompt=f"{{{name}}} {doing}") for doing in PORTRAITS[:missing]]
    return replace(draft, scenes=(*draft.scenes, *extra))


def groups(story: StoryOut, draft: Draft) -> list[PictureGroup]:
    """The pictures of a story by character. Only frames that speak of exactly one count: with two
    in a picture nobody can say whose factors are read.
    """
    looks = {card.name: card.description for card in draft.cast}
    found: dict[str, list[tuple[str, str]]] = {}
    for frame in story.frames:
        version = current_version(frame)
        names = spoken_of(frame.prompt, looks)
        if version is not None and len(names) == 1:
            words = written_out(frame.prompt, looks)
            found.setdefault(names[0], []).append((version.artifact, words))
    return [
        PictureGroup(name, tuple(a for a, _ in pairs), tuple(words for _, words in pairs))
        for name, pairs in found.items()
    ]


def written_out(prompt: str, looks: Mapping[str, str]) -> str:
    """A prompt with every `{name}` replaced by the character's description."""
    text, position = "", 0
    for found in placeholders(prompt, looks):
        text += prompt[position : found.start] + looks.get(found.name, found.name)
        position = found.end
    return text + prompt[position:]


def identity_mean(matrices: Sequence[Sequence[Sequence[float | None]]]) -> float | None:
    """The mean agreement of two different pictures of one character, over all characters."""
    values = [
        value
        for matrix in matrices
        for i, row in enumerate(matrix)
        for value in row[i + 1 :]
        if value is not None
    ]
    return mean(values)


def mean(values: Sequence[float | None]) -> float | None:
    """The mean of what is known, None when nothing is."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def seconds_per_picture(job: Job) -> float | None:
    """From the job's start in the queue to its last change, per frame; None while it runs."""
    if not job.state.finished or not job.frames:
        return None
    return (job.updated_at - job.created_at).total_seconds() / len(job.frames)


def scores_html(scores: Sequence[Score]) -> str:
    """The plots and, for screen readers and copying, the same numbers as a table."""
    if not scores:
        return ""
    plots = "".join(
        (
            bars_svg("Same character", {s.method: s.identity for s in scores}, top=1.0),
            bars_svg("What the words ask", {s.method: s.alignment for s in scores}, top=1.0),
            bars_svg("Seconds a picture", {s.method: s.seconds for s in scores}, digits=1),
        )
    )
    rows = "".join(
        f'<tr><th scope="row">{escape(s.method)}</th><td>{_number(s.identity)}</td>'
        f"<td>{_number(s.alignment)}</td><td>{_number(s.seconds, 1)}</td><td>{s.pictures}</td></tr>"
        for s in scores
    )
    return (
        f'<div class="plots">{plots}</div><table class="numbers"><thead><tr>'
        '<th scope="col">Method</th><th scope="col">Same character</th>'
        '<th scope="col">Words</th><th scope="col">Seconds</th><th scope="col">Pictures</th>'
        f"</tr></thead><tbody>{rows}</tbody></table>"
    )


def bars_svg(
    title: str, values: Mapping[str, float | None], *, top: float | None = None, digits: int = 2
) -> str:
    """Horizontal bars, one a method; `top` is the value of a full bar (None: the largest)."""
    known = [value for value in values.values() if value is not None]
    full = top or max(known, default=1.0) or 1.0
    row, left, width = 34, 118, 190
    height = 34 + row * len(values)
    parts = [f'<text x="0" y="16" class="plot-title">{escape(title)}</text>']
    for number, (name, value) in enumerate(values.items()):
        y = 34 + row * number
        parts.append(f'<text x="{left - 8}" y="{y + 15}" class="plot-name">{escape(name)}</text>')
        parts.append(f'<rect x="{left}" y="{y}" width="{width}" height="20" class="plot-back"/>')
        if value is not None:
            length = round(width * min(1.0, max(0.0, value / full)), 1)
            parts.append(
                f'<rect x="{left}" y="{y}" width="{length}" height="20" class="plot-bar"/>'
            )
        shown = _number(value, digits)
        parts.append(f'<text x="{left + width + 6}" y="{y + 15}" class="plot-value">{shown}</text>')
    said = ", ".join(f"{name} {_number(value, digits)}" for name, value in values.items())
    return (
        f'<svg viewBox="0 0 {left + width + 44} {height}" role="img" '
        f'aria-label="{escape(f"{title}: {said}", quote=True)}">{"".join(parts)}</svg>'
    )


def _number(value: float | None, digits: int = 2) -> str:
    return "?" if value is None else f"{value:.{digits}f}"
