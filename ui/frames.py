"""One frame under the glass: its versions, its words, its speech; and the finished pages.

Handlers without Gradio's page, like those of `ui.story_actions`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from consistent_gen.client.types import (
    Bubble,
    FramePatch,
    FrameVersion,
    StoryFrame,
    StoryOut,
    StoryPatch,
)
from consistent_gen.errors import ConsistentGenError, InputError
from consistent_gen.story.export import unwritten_texts
from ui.board import current_version
from ui.keeping import keep_character
from ui.markup import compare_html
from ui.state import caption_patch, read_draft, spoken_of
from ui.story_actions import StoryActions, drawn_frames
from ui.studio import Studio

FORMATS = {"PDF": "pdf", "Comic archive (CBZ)": "cbz", "Pictures (ZIP)": "zip",
           "Moving picture (GIF)": "gif", "One page (PNG)": "png"}  # fmt: skip
MAX_BUBBLES = 6
PRINTED = 2  # times the size, where a file is for printing


@dataclass(frozen=True)
class FrameView:
    """What the panel shows. `index` -1 means that no frame is open; `seed` is shown as text;
    `beside` is the version that lies beside the chosen one, 0 for none; `cast` are the characters
    that the picture shows.
    """

    index: int = -1
    heading: str = ""
    compare: str = ""
    prompt: str = ""
    caption: str = ""
    seed: str = ""
    versions: tuple[tuple[str, str], ...] = ()
    picture: str | None = None
    bubbles: tuple[dict[str, Any], ...] = field(default=())
    beside: int = 0
    cast: tuple[str, ...] = ()


class Frames:
    """The frame panel and the pages of a desk."""

    def __init__(self, actions: StoryActions) -> None:
        self.actions = actions
        self.studio: Studio = actions.studio

    def open(self, project: str, index: int) -> FrameView:
        """The frame `index` of the open story; an empty view when there is no such frame."""
        story = self.actions.story(project)
        if story is None or not 0 <= index < len(story.frames):
            return FrameView()
        frame = story.frames[index]
        chosen = current_version(frame)
        if chosen is None:
            words = f"Scene {index + 1} is not drawn yet"
            return FrameView(index=index, heading=words, prompt=frame.prompt, caption=frame.caption)
        # The drawing before the chosen one (or the newest other) is what one compares with first.
        others = [v for v in frame.versions if v.version != chosen.version]
        return FrameView(
            index=index,
            heading=f"Scene {index + 1}",
            compare=compare_html(frame, chosen, others[-1] if others else None, self._picture),
            prompt=frame.prompt,
            caption=frame.caption,
            seed=str(chosen.seed),
            versions=self._gallery(frame, chosen),
            picture=self._picture(chosen.artifact),
            bubbles=tuple(bubble.model_dump() for bubble in frame.bubbles),
            beside=others[-1].version if others else 0,
            cast=tuple(spoken_of(frame.prompt, story.request.characters)),
        )

    def keep_character(self, project: str, index: int, name: str) -> str:
        """Put a character of an open picture into the library; what became of it, for people."""
        story, _, _ = self._drawn(project, index)
        return keep_character(self.studio.client, story, index, name)[1]

    def beside(self, project: str, index: int, place: int) -> tuple[str, int]:
        """The chosen drawing with the one at `place` of the gallery beside it, and its version."""
        _, frame, chosen = self._drawn(project, index)
        shown = [version for version in frame.versions if self._picture(version.artifact)]
        if not 0 <= place < len(shown):
            raise InputError("That version is gone; open the frame again.")
        other = shown[place]
        return compare_html(frame, chosen, other, self._picture), other.version

    def choose(self, project: str, index: int, version: int) -> FrameView:
        """Make a version the one that counts. Raises InputError when there is no such version."""
        _, frame, _ = self._drawn(project, index)
        if version not in [v.version for v in frame.versions]:
            raise InputError("Choose a version in the strip first.")
        self._patch(project, lambda _: FramePatch(index=index, current=version))
        return self.open(project, index)

    def counting(self, project: str, index: int) -> int:
        """The version of a drawn frame that counts. Raises InputError while there is none."""
        return self._drawn(project, index)[2].version

    def say(self, project: str, index: int, caption: str, bubbles: object) -> FrameView:
        """Set caption and speech of a frame; no picture changes."""
        words = read_bubbles(bubbles)
        text = " ".join(caption.split())
        self._patch(project, lambda _: FramePatch(index=index, caption=text, bubbles=words))
        return self.open(project, index)

    # Pages --------------------------------------------------------------------------------------
    def page(self, project: str, layout: str) -> str | None:
        """The file of the page as it will be printed, None while nothing is drawn."""
        story = self.actions.story(project)
        if story is None or not drawn_frames(story):
            return None
        return str(self._export(project, story, "png", layout))

    def export(self, project: str, format: str, layout: str, *, large: bool = False) -> Path:
        """A file to download. large: pictures of twice the size, for printing.

        Raises:
            InputError: nothing is drawn yet. ConsistentGenError: the server cannot enlarge.
        """
        story = self.studio.client.story(self.actions.story_of(project))
        if not drawn_frames(story):
            raise InputError("Nothing is drawn yet, so there is nothing to print.")
        return self._export(project, story, format, layout, PRINTED if large else None)

    def _export(
        self, project: str, story: StoryOut, format: str, layout: str, enlarge: int | None = None
    ) -> Path:
        kept = self.studio.projects.open(project)
        patch = caption_patch(read_draft(kept.draft), story) if kept else None
        if patch is not None:
            story = self.studio.client.patch_story(story.id, patch)
        if layout and layout != story.layout:
            wish = StoryPatch(revision=story.revision, layout=layout)
            story = self.studio.client.patch_story(story.id, wish)
        data = self.studio.client.export(story.id, format, story.layout, enlarge=enlarge)
        return self.studio.pictures.export(story.title, format, data)

    def unwritten(self, project: str) -> list[str]:
        """Sentences on what the fonts here cannot write of the open story."""
        story = self.actions.story(project)
        if story is None:
            return []
        texts = {"the title": [story.title]} | {
            f"scene {frame.index + 1}": [frame.caption, *(bubble.text for bubble in frame.bubbles)]
            for frame in story.frames
        }
        return list(unwritten_texts(texts))

    # Parts --------------------------------------------------------------------------------------
    def _drawn(self, project: str, index: int) -> tuple[StoryOut, StoryFrame, FrameVersion]:
        story = self.studio.client.story(self.actions.story_of(project))
        chosen = current_version(story.frames[index]) if 0 <= index < len(story.frames) else None
        if chosen is None:
            raise InputError("Choose a picture that is drawn first.")
        return story, story.frames[index], chosen

    def _patch(self, project: str, patch_of: Callable[[StoryOut], FramePatch]) -> StoryOut:
        """Change a frame; once more when somebody changed the story at the same moment."""
        for attempt in (1, 2):
            story = self.studio.client.story(self.actions.story_of(project))
            patch = StoryPatch(revision=story.revision, frames=[patch_of(story)])
            try:
                return self.studio.client.patch_story(story.id, patch)
            except ConsistentGenError as error:
                conflict = getattr(getattr(error, "problem", None), "status", None) == 409
                if not conflict or attempt == 2:
                    raise
        raise AssertionError("the loop returns or raises")

    def _gallery(self, frame: StoryFrame, chosen: FrameVersion) -> tuple[tuple[str, str], ...]:
        items = []
        for version in frame.versions:
            path = self._picture(version.artifact)
            mark = " (book)" if version.version == chosen.version else ""
            if path is not None:
                items.append((path, f"Version {version.version}{mark}"))
        return tuple(items)

    def _picture(self, artifact: str) -> str | None:
        return self.studio.picture(artifact)


def read_bubbles(value: object) -> list[Bubble]:
    """Speech bubbles of the browser's JSON; empty ones are left out.

    Raises:
        InputError: there are more than six, or a text is too long.
    """
    items = value.get("bubbles") if isinstance(value, Mapping) else value
    found: list[Bubble] = []
    for item in items if isinstance(items, list | tuple) else []:
        text = " ".join(str(item.get("text", "")).split()) if isinstance(item, Mapping) else ""
        if not text:
            continue
        if len(text) > 200:
            raise InputError(f"A bubble has {len(text)} letters; at most 200 fit.")
        found.append(
            Bubble(
                text=text,
                x=_unit(item.get("x"), 0.5),
                y=_unit(item.get("y"), 0.2),
                tail_x=_unit(item.get("tail_x"), None),
                tail_y=_unit(item.get("tail_y"), None),
                thought=item.get("thought") is True,
            )
        )
    if len(found) > MAX_BUBBLES:
        raise InputError(f"{len(found)} speech bubbles; at most {MAX_BUBBLES} fit a picture.")
    return found


def _unit(value: object, otherwise: Any) -> Any:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return otherwise
    return round(min(1.0, max(0.0, float(value))), 4)
