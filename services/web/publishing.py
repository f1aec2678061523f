"""A stored story as a book, and the book as one file."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any

from PIL import Image

from consistent_gen.client.types import StoryFrame, StoryOut
from consistent_gen.engine.metadata import CHUNK
from consistent_gen.errors import LimitError
from consistent_gen.methods import default_method
from consistent_gen.story.book import Book, BookPanel, Speech
from consistent_gen.story.enlarge import check_enlarging, enlarged_book
from consistent_gen.story.export import Exported, export_story
from consistent_gen.story.layouts import DEFAULT_LAYOUT, LAYOUTS
from consistent_gen.story.script import dump_story
from services.errors import Refusal
from services.plans.own_words import story_of
from services.web.state import ServerState

PIXEL_STYLE = "pixel"
MAX_ENLARGED_PIXELS = 3_000_000  # 45 pictures of 256 x 256: one core needs about a minute


def publish(
    state: ServerState,
    owner: str,
    story: str,
    format: str,
    layout: str | None,
    enlarge: int | None = None,
) -> Exported:
    """The drawings of a story that count, in the page layout that was asked for or is stored, and
    enlarged where that was asked for.

    Raises:
        NotFound: no such story. Refusal: 409 while nothing is drawn.
        UnknownNameError, LimitError: as `export_story` and `enlarged_book`; more pictures than a
            request may enlarge.
    """
    if enlarge is not None:
        check_enlarging(enlarge)
    stored = state.stories.get(owner, story)
    panels = [
        panel
        for frame in stored.frames
        if (panel := _panel(state, owner, stored, frame)) is not None
    ]
    if not panels:
        raise Refusal(409, "not_drawn", "no frame of the story is drawn yet")
    chosen = layout or (stored.layout if stored.layout in LAYOUTS else DEFAULT_LAYOUT)
    method = stored.request.method or default_method(state.planner.model.unable)
    book = Book(
        title=stored.title,
        panels=tuple(panels),
        layout=chosen,
        made_with=f"{state.planner.model.name}, {method}",
        story=None if state.settings.privacy.strip_metadata else _story_file(stored),
    )
    if enlarge is not None:
        source = sum(panel.picture.width * panel.picture.height for panel in panels)
        if source > MAX_ENLARGED_PIXELS:
            raise LimitError(
                f"{source} pixels to enlarge; a request may have {MAX_ENLARGED_PIXELS}. Export "
                "without, or with the command line"
            )
        book = enlarged_book(book, enlarge)
    return export_story(book, format)


def _story_file(stored: StoryOut) -> str:
    """The story as a story file, with the prompts and captions that it has now."""
    frames = [
        asked.model_copy(update={"prompt": frame.prompt, "caption": frame.caption or None})
        for asked, frame in zip(stored.request.frames, stored.frames, strict=True)
    ]
    request = stored.request.model_copy(update={"title": stored.title, "frames": frames})
    return dump_story(story_of(request, {}))


def _panel(state: ServerState, owner: str, story: StoryOut, frame: StoryFrame) -> BookPanel | None:
    version = next((v for v in frame.versions if v.version == frame.current), None)
    if version is None:
        return None
    data = state.artifacts.read(owner, version.artifact)
    with Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "WEBP")) as opened:
        opened.load()
        metadata = None if state.settings.privacy.strip_metadata else _metadata(opened.info)
        picture = opened.convert("RGB")
    asked = story.request.frames[frame.index]
    style = (asked.style or story.request.style or "").casefold()
    return BookPanel(
        picture=picture,
        caption=frame.caption,
        bubbles=tuple(
            Speech(
                text=bubble.text,
                x=bubble.x,
                y=bubble.y,
                tail_x=bubble.tail_x,
                tail_y=bubble.tail_y,
                thought=bubble.thought,
            )
            for bubble in frame.bubbles
        ),
        pixelated=style == PIXEL_STYLE,
        metadata=metadata,
        png=data if data.startswith(b"\x89PNG") and metadata is not None else None,
    )


def _metadata(info: Mapping[Any, Any]) -> Mapping[str, Any] | None:
    text = info.get(CHUNK)
    try:
        found = json.loads(text) if isinstance(text, str) else None
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
