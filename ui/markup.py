"""HTML of what is shown but not typed: board, versions, quality, memories. Pure; escapes all text.

Pictures are given as file paths; `file_url` makes the address under which Gradio serves them,
relative to the page, so that it holds under any mount path.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from html import escape
from pathlib import Path
from urllib.parse import quote

from consistent_gen.client.types import (
    FrameVersion,
    LibraryCharacter,
    MemoryOut,
    Reference,
    StoryFrame,
)
from ui.board import Board, BoardCell
from ui.pictures import PICTURES

FindPicture = Callable[[str], str | None]
_STATES = {
    "blank": "not drawn yet",
    "queued": "waiting",
    "drawing": "drawing",
    "done": "drawn",
    "failed": "failed",
    "cancelled": "stopped",
}


def file_url(path: str) -> str:
    """Where the browser finds a picture of ours (see `ui.pictures.PictureAddresses`)."""
    return f"gradio_api/file={PICTURES}/{quote(Path(path).name)}"


def board_html(board: Board, picture: FindPicture, selected: int | None = None) -> str:
    """The board as a list of buttons; `picture` gives the file of an artifact."""
    if not board.cells:
        return (
            '<div class="board-empty"><p class="big">Your pictures appear here.</p>'
            "<p>The story on the desk is ready: press <strong>Draw</strong>.</p></div>"
        )
    cells = "".join(_cell_html(cell, picture, cell.index == selected) for cell in board.cells)
    return f'<ol class="board" aria-label="Scenes of {_attribute(board.title)}">{cells}</ol>'


def _cell_html(cell: BoardCell, picture: FindPicture, selected: bool) -> str:
    number = cell.index + 1
    file = picture(cell.picture) if cell.picture else None
    if file:
        words = cell.caption or cell.prompt
        kind = "Preview of scene" if cell.preview else "Scene"
        alt = _attribute(f"{kind} {number}: {words}")
        drawn = (
            f'<img src="{file_url(file)}" alt="{alt}" class="{"preview" if cell.preview else ""}">'
        )
    else:
        drawn = f'<span class="no-picture" aria-hidden="true">{number}</span>'
    label = _attribute(f"Open scene {number}, {_STATES[cell.state]}")
    return (
        f'<li class="cell {cell.state}{" selected" if selected else ""}">'
        f'<button type="button" class="frame" data-frame="{cell.index}" aria-label="{label}"'
        f' aria-pressed="{str(selected).lower()}">{drawn}{_progress(cell)}</button>'
        f'<div class="under"><p class="caption">{escape(cell.caption or cell.prompt)}</p>'
        f'<p class="facts">{_facts(cell)}</p>{_missing(cell)}</div></li>'
    )


def _progress(cell: BoardCell) -> str:
    if cell.state == "drawing":
        percent = 100 * cell.step // cell.steps if cell.steps else 0
        return (
            f'<span class="bar" aria-hidden="true"><span style="width:{percent}%"></span></span>'
            f'<span class="badge">{cell.step} / {cell.steps or "?"}</span>'
        )
    if cell.state in ("queued", "failed", "cancelled"):
        return f'<span class="badge">{_STATES[cell.state]}</span>'
    return ""


def _missing(cell: BoardCell) -> str:
    if not cell.missing or cell.state != "done":
        return ""
    names = " and ".join(escape(name) for name in cell.missing)
    verb = "is" if len(cell.missing) == 1 else "are"
    return (
        f'<p class="missing"><span>{names} {verb} not to be seen.</span> '
        f'<button type="button" class="quiet" data-again="{cell.index}"'
        f' aria-label="Draw scene {cell.index + 1} again">Draw again</button> '
        f'<button type="button" class="quiet" data-there="{cell.index}" aria-label='
        f'"Everybody is in scene {cell.index + 1}">All are there</button></p>'
    )


def _facts(cell: BoardCell) -> str:
    if cell.error:
        return f'<span class="trouble">{escape(cell.error)}</span>'
    parts = []
    if cell.seed is not None and cell.state == "done":
        parts.append(f"seed {cell.seed}")
    if cell.versions > 1 and cell.version:
        parts.append(f"version {cell.version} of {cell.versions}")
    parts += [escape(text) for text in score_words(cell.scores)]
    return " · ".join(parts) or "&nbsp;"


LIKE = "reference_likeness/"  # and the name of a character who is given by pictures


def score_words(scores: Mapping[str, float]) -> list[str]:
    """A picture's scores in the words of somebody who tells a story."""
    told: dict[str, Callable[[float], str]] = {
        "alignment": lambda value: f"{value:.0%} of its words shown",
        "likeness": lambda value: f"{value:.0%} sure: the same as in other scenes",
        "nothing_unasked": lambda value: "something is in it that nobody asked for",
        "candidate": lambda value: f"candidate {value:.0f} was kept",
        "drawing": lambda value: f"drawing {value:.0f}: the others showed what nobody asked for",
    }
    silent = {"nothing_unasked"} if scores.get("nothing_unasked", 1.0) >= 1.0 else set()
    known = [told[name](scores[name]) for name in told if name in scores and name not in silent]
    by_name = {key: key.partition("/")[2] for key in scores if key.startswith(LIKE)}
    known += [f"{name}: {scores[key]:.0%} like the pictures" for key, name in by_name.items()]
    silent |= {LIKE.rstrip("/")} if by_name else set()
    others = sorted(scores.keys() - told.keys() - by_name.keys() - silent)
    return known + [f"{name.replace('_', ' ')} {scores[name]:.2f}" for name in others]


# One frame -------------------------------------------------------------------------------------
def compare_html(
    frame: StoryFrame, chosen: FrameVersion, candidate: FrameVersion | None, picture: FindPicture
) -> str:
    """The drawing in the book and, where given, another one beside it."""
    figures = [_figure(frame, chosen, picture, "In the book")]
    if candidate is not None and candidate.version != chosen.version:
        figures.append(_figure(frame, candidate, picture, "Beside it"))
    return f'<div class="compare n{len(figures)}">{"".join(figures)}</div>'


def _figure(frame: StoryFrame, version: FrameVersion, picture: FindPicture, title: str) -> str:
    file = picture(version.artifact)
    words = _attribute(f"Scene {frame.index + 1}, version {version.version}: {version.prompt}")
    drawn = (
        f'<img src="{file_url(file)}" alt="{words}">'
        if file
        else '<span class="no-picture">?</span>'
    )
    scores = " · ".join(escape(text) for text in score_words(version.scores))
    return (
        f"<figure>{drawn}<figcaption><strong>{title}</strong> · version {version.version}<br>"
        f"seed <code>{version.seed}</code>{f'<br>{scores}' if scores else ''}</figcaption></figure>"
    )


def notices_html(notices: Iterable[str]) -> str:
    """Sentences that stay until they are no longer true."""
    return "".join(f'<p class="question" role="status">{escape(text)}</p>' for text in notices)


def keep_html(names: Iterable[str]) -> str:
    """A button for each character of a picture, to keep it in the library."""
    buttons = "".join(
        f'<button type="button" class="quiet" data-portrait="{_attribute(name)}">'
        f"Keep {escape(name)}</button>"
        for name in names
    )
    told = "<span>For other stories, too:</span>"
    return f'<p class="keep">{told}{buttons}</p>' if buttons else ""


# Characters ------------------------------------------------------------------------------------
def shelf_html(
    characters: Iterable[LibraryCharacter], picture: FindPicture, selected: str = ""
) -> str:
    """The library as a shelf of buttons."""
    cards = []
    for one in characters:
        file = picture(one.references[0].artifact) if one.references else None
        face = (
            f'<img src="{file_url(file)}" alt="">'
            if file
            else f'<span class="no-picture">{escape(one.name[:1].upper())}</span>'
        )
        count = len(one.references)
        pictures = "words only" if not count else f"{count} picture{'s' if count > 1 else ''}"
        pressed = str(one.id == selected).lower()
        cards.append(
            f'<li><button type="button" class="shelf-card" data-character="{_attribute(one.id)}"'
            f' aria-pressed="{pressed}">{face}<span class="name">{escape(one.name)}</span>'
            f'<span class="looks">{escape(one.description)}</span>'
            f'<span class="count">{pictures}</span></button></li>'
        )
    if not cards:
        return '<p class="hint">Nobody lives here yet. Describe somebody on the right.</p>'
    return f'<ul class="shelf" aria-label="Library of characters">{"".join(cards)}</ul>'


def quality_html(references: Iterable[Reference], picture: FindPicture, question: str = "") -> str:
    """What we think of each reference picture, with advice and a button to remove it; `question`
    is about all of them.
    """
    rows = []
    for number, reference in enumerate(references, 1):
        file = picture(reference.artifact)
        face = f'<img src="{file_url(file)}" alt="Reference {number}">' if file else ""
        quality = reference.quality
        advice = "".join(f"<li>{escape(line)}</li>" for line in quality.advice)
        rows.append(
            f'<li class="ref-card {quality.verdict}">{face}<div><p><strong class="verdict">'
            f"{quality.verdict}</strong> {quality.width} by {quality.height} px</p>"
            f"{_meter('sharpness', quality.sharpness)}{_meter('brightness', quality.brightness)}"
            f"{f'<ul>{advice}</ul>' if advice else ''}"
            f'<button type="button" class="quiet" data-reference="{_attribute(reference.id)}"'
            f' aria-label="Remove reference {number}">Remove</button></div></li>'
        )
    if not rows:
        return '<p class="hint">No reference pictures: the words alone describe this character.</p>'
    asked = f'<p class="question" role="status">{escape(question)}</p>' if question else ""
    return f'{asked}<ul class="references" aria-label="Reference pictures">{"".join(rows)}</ul>'


def _meter(name: str, value: float) -> str:
    percent = round(100 * min(1.0, max(0.0, value)))
    return (
        f'<p class="meter"><span>{name}</span><span class="track" role="img" '
        f'aria-label="{name} {percent} of 100"><span style="width:{percent}%"></span></span></p>'
    )


# Memories ----------------------------------------------------------------------------------------
_KINDS = {
    "core": "about you",
    "fact": "a fact",
    "habit": "a habit",
    "concept": "somebody or something you showed me",
    "episode": "what happened",
}
_CHANGES = {"+": "I will remember: ", "~": "I remember now: ", "-": "Forgotten: "}
_CHANGE = re.compile(r"([+~-]) (?:[a-z_]+)(?: [^:]+)?: (.*)", re.DOTALL)


def change_words(change: str) -> str:
    """A line of the memory's difference for people; "" for counts of what works inside."""
    found = _CHANGE.fullmatch(change)
    return _CHANGES[found[1]] + found[2].rpartition(" => ")[2] if found else ""


def memories_html(memories: Iterable[MemoryOut], selected: str = "", asking: str = "") -> str:
    """What is remembered: text, since when, and the words it was learnt from. `asking`: the one of
    which it is asked whether to forget it.
    """
    items = []
    for memory in memories:
        since = f"since {memory.since:%d %B %Y}" if memory.since else ""
        why = "".join(f"<li>“{escape(words)}”</li>" for words in memory.why)
        reasons = f"<details><summary>Why</summary><ul>{why}</ul></details>" if why else ""
        pressed = str(memory.id == selected).lower()
        key = _attribute(memory.id)
        items.append(
            f'<li class="memory{" selected" if memory.id == selected else ""}">'
            f'<p class="kind">{escape(_KINDS.get(memory.kind, "a memory"))} {since}</p>'
            f"<p>{escape(memory.text)}</p>"
            f'{reasons}<p class="memory-tools">{_memory_tools(key, pressed, memory.id == asking)}'
            "</p></li>"
        )
    if not items:
        return '<p class="hint">Nothing is remembered yet.</p>'
    return f'<ul class="memories" aria-label="What is remembered">{"".join(items)}</ul>'


def _memory_tools(key: str, pressed: str, asking: bool) -> str:
    if asking:
        return (
            "<span>Forget this, with the words it was learnt from? It cannot be undone.</span>"
            f'<button type="button" class="quiet" data-forget-sure="{key}">Forget for good</button>'
            '<button type="button" class="quiet" data-keep="yes">Keep it</button>'
        )
    return (
        f'<button type="button" class="quiet" data-correct="{key}" aria-pressed="{pressed}">Correct'
        f'</button><button type="button" class="quiet" data-forget="{key}">Forget</button>'
    )


# Lab ---------------------------------------------------------------------------------------------
def contact_sheet_html(
    rows: Mapping[str, list[str | None]], picture: FindPicture, prompts: list[str]
) -> str:
    """One row of pictures for each method, one column for each scene."""
    heads = "".join(f'<th scope="col">{number}</th>' for number in range(1, len(prompts) + 1))
    body = []
    for method, artifacts in rows.items():
        cells = []
        for index, artifact in enumerate(artifacts):
            file = picture(artifact) if artifact else None
            alt = _attribute(f"Scene {index + 1} by {method}: {prompts[index]}")
            cells.append(f'<td><img src="{file_url(file)}" alt="{alt}"></td>' if file else _EMPTY)
        body.append(f'<tr><th scope="row">{escape(method)}</th>{"".join(cells)}</tr>')
    return (
        '<div class="sheet-scroll" tabindex="0" role="region" aria-label="Pictures by method">'
        f'<table class="sheet"><thead><tr><th scope="col">Method</th>{heads}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


_EMPTY = '<td><span class="no-picture">…</span></td>'


def _attribute(text: str) -> str:
    """A text inside double quotes, on one line."""
    return escape(" ".join(text.split()), quote=True)
