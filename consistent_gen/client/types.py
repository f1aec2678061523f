"""What travels over HTTP, as pydantic models: one definition for the server, the client and the UI.

Inputs refuse unknown fields and are bounded here as far as a bound needs no model; the server's
own limits (`Limits`) may be lower. Times are UTC in ISO 8601. Ids are opaque.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from consistent_gen.client.base import Id, Input, Name, Output, Prompt, Seed, Words, setting
from consistent_gen.client.loras import LoraIn as LoraIn
from consistent_gen.client.loras import LoraOut as LoraOut
from consistent_gen.client.wording import TextWordingOut as TextWordingOut
from consistent_gen.client.wording import WordingOut as WordingOut
from consistent_gen.client.wording import WordOut as WordOut
from consistent_gen.draw_settings import BEST_OF, MEND

MAX_FRAMES = 200
MAX_CHARACTERS = 20
MAX_IDEA = 300  # characters
FEWEST_IDEA_FRAMES, MOST_IDEA_FRAMES = 2, 24


# Stories and jobs -------------------------------------------------------------------------------
class CharacterIn(Input):
    """A character of a story. `library` names a library character whose references are used;
    `strength` in [0, 1] says how strongly anchors bind.
    """

    description: Annotated[str, StringConstraints(min_length=1, max_length=400)]
    strength: float | None = Field(default=None, ge=0.0, le=1.0)
    library: Id | None = None


PlaceIn = (
    Annotated[str, StringConstraints(max_length=20)]
    | Annotated[list[float], Field(min_length=4, max_length=4)]
)


class FrameIn(Input):
    """A frame; `{name}` in `prompt` stands for a character. `boxes`: where characters stand, by
    name: left, middle, right, or [x0, y0, x1, y1] in shares of the picture.
    """

    prompt: Prompt
    caption: Words | None = None
    style: Annotated[str, StringConstraints(max_length=80)] | None = None
    seed: Seed | None = None
    negative: Annotated[str, StringConstraints(max_length=800)] = ""
    boxes: dict[Name, PlaceIn] | None = Field(default=None, max_length=MAX_CHARACTERS)


class StoryIn(Input):
    """A story to draw: the fields of a story file (docs/story_file.md), and how to serve it."""

    title: Annotated[str, StringConstraints(min_length=1, max_length=120)]
    frames: list[FrameIn] = Field(min_length=1, max_length=MAX_FRAMES)
    characters: dict[Name, CharacterIn] = Field(default_factory=dict, max_length=MAX_CHARACTERS)
    style: Annotated[str, StringConstraints(max_length=80)] | None = None
    method: Annotated[str, StringConstraints(max_length=60)] | None = None
    scheduler: str | None = setting("scheduler")
    seed: Seed | None = None
    steps: int | None = setting("steps")
    guidance: float | None = setting("guidance")
    contours: float | None = setting("contours")
    guidance_until: float | None = setting("guidance_until")
    retouch: float | None = setting("retouch")
    refine: int | None = setting("refine")
    polish: int | None = setting("polish")
    likeness: float | None = setting("likeness")
    size: str | None = setting("size")
    loras: list[LoraIn] | None = Field(
        default=None, max_length=8,
        description="the server's own, which it draws with in any case; others are refused",
    )  # fmt: skip
    best_of: int | None = Field(
        default=None,
        ge=int(BEST_OF.low),
        le=int(BEST_OF.high),
        description=f"{BEST_OF.about}; its number is the score `candidate`, `seed` the first one's",
    )
    mend: int | None = Field(
        default=None, ge=0, le=int(MEND.high),
        description=f"{MEND.about}; which drawing was kept is the score `drawing`",
    )  # fmt: skip
    preview_every: int | None = Field(
        default=None, ge=0, le=1000,
        description="steps between previews, 0 for none; the server's number if it is not given",
    )  # fmt: skip
    deadline_s: float | None = Field(default=None, gt=0.0, le=86_400.0)
    bulk: bool = Field(default=False, description="drawn when no interactive work waits")
    words: Literal["own", "strict", "as_written"] = Field(
        default="as_written",
        description="own: any words, put into the model's; strict: refused where one would be "
        "drawn as something else or left out; as_written: left alone",
    )


class IdeaIn(Input):
    """An idea for a story. The same idea, number of frames and seed give the same story."""

    idea: Annotated[str, StringConstraints(min_length=1, max_length=MAX_IDEA)] = Field(
        description="a sentence, such as: a shy fox finds a balloon"
    )
    frames: int = Field(default=6, ge=FEWEST_IDEA_FRAMES, le=MOST_IDEA_FRAMES)
    seed: Seed = 0


class IdeaOut(Output):
    """A story to edit and draw. `notices`: what of the idea cannot be drawn as it is said."""

    story: StoryIn
    notices: list[str] = Field(default_factory=list)


class ImageIn(Input):
    """One picture without characters: a story of one frame."""

    prompt: Prompt
    negative: Annotated[str, StringConstraints(max_length=800)] = ""
    seed: Seed | None = None
    steps: int | None = setting("steps")
    guidance: float | None = setting("guidance")
    size: str | None = setting("size")


class RerollIn(Input):
    """Draw one frame of a story again; what is None stays. Without `seed` a new one is derived."""

    seed: Seed | None = None
    prompt: Prompt | None = None
    caption: Words | None = None


class RedrawIn(Input):
    """Draw a part of a drawing again, as a new version; outside of it every pixel stays.

    Marked by one of: `box`, [x0, y0, x1, y1] in shares of the picture; `mask`, an artifact of the
    drawing's size that is light there; `character`, a name. `only` the "face" of that character
    (with hair and what is worn there), or its "body" (the rest). `version`: of which drawing, the
    one that counts if it is not said. Without `seed` a new one is derived.
    """

    box: Annotated[list[float], Field(min_length=4, max_length=4)] | None = None
    mask: Id | None = None
    character: Name | None = None
    only: Literal["face", "body"] | None = None
    version: int | None = Field(default=None, ge=1)
    seed: Seed | None = None
    prompt: Prompt | None = None


class JobState(StrEnum):
    """`partial`: at least one frame succeeded and at least one failed."""

    queued = "queued"
    running = "running"
    succeeded = "succeeded"
    partial = "partial"
    failed = "failed"
    cancelled = "cancelled"

    @property
    def finished(self) -> bool:
        """Whether nothing more will happen."""
        return self not in (JobState.queued, JobState.running)


class JobFrameState(StrEnum):
    """Where a frame of a job is."""

    queued = "queued"
    running = "running"
    succeeded = "succeeded"
    failed = "failed"
    cancelled = "cancelled"


class JobFrame(Output):
    """A frame of a job. `index` is its place in the story, `version` counts its drawings from 1."""

    index: int
    version: int
    state: JobFrameState
    step: int = 0
    steps: int
    seed: int
    attempt: int = 0
    artifact: str | None = None
    scores: dict[str, float] = Field(default_factory=dict)
    error: Problem | None = None


class Job(Output):
    """A job and its frames, in order of index."""

    id: str
    story: str
    kind: Literal["story", "image", "reroll", "changes"]
    state: JobState
    created_at: datetime
    updated_at: datetime
    frames: list[JobFrame]
    queue_position: int | None = Field(default=None, description="frames ahead, while queued")
    eta_s: float | None = None


class JobPage(Output):
    """A page of jobs, newest first; `next` is the `after` of the next page."""

    jobs: list[Job]
    next: str | None = None


class Accepted(Output):
    """What 202 answers carry; of stories also what became of the words."""

    job: str
    story: str
    events_url: str
    position: int
    wording: WordingOut | None = None


class EventType(StrEnum):
    """`error` is about a frame; `done` is always the last event of a job."""

    queued = "queued"
    started = "started"
    step = "step"
    preview = "preview"
    frame = "frame"
    score = "score"
    error = "error"
    done = "done"


class Event(Output):
    """One line of a job's event stream. `id` grows by job; data by type:

    queued {position}; started, step {step, steps}; preview {step, artifact}; frame {artifact,
    version, seed}; score {name: value}; error {a Problem}; done {state}.
    """

    id: int
    type: EventType
    job: str
    frame: int | None = None
    at: datetime
    data: dict[str, Any] = Field(default_factory=dict)


# What was drawn -----------------------------------------------------------------------------------
class FrameVersion(Output):
    """One drawing of a frame. `scores`, where they apply: `alignment` (its words), `likeness` (to
    the first frames of its characters), `nothing_unasked`, `reference_likeness` (to the characters'
    pictures; of each as `reference_likeness/NAME`), and with `best_of` the kept `candidate`.
    """

    version: int
    artifact: str
    seed: int
    prompt: str
    job: str
    created_at: datetime
    scores: dict[str, float] = Field(default_factory=dict)


class StoryFrame(Output):
    """A frame of a story: what was asked, all its drawings, and which of them counts."""

    index: int
    prompt: str
    caption: str = ""
    bubbles: list[Bubble] = Field(default_factory=list)
    current: int | None = None
    versions: list[FrameVersion] = Field(default_factory=list)


class Bubble(Input):
    """A speech bubble. `x`, `y` in [0, 1] are its middle in the frame, `tail_*` where it points."""

    text: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    x: float = Field(ge=0.0, le=1.0)
    y: float = Field(ge=0.0, le=1.0)
    tail_x: float | None = Field(default=None, ge=0.0, le=1.0)
    tail_y: float | None = Field(default=None, ge=0.0, le=1.0)
    thought: bool = False


class StoryOut(Output):
    """A story as it stands. `revision` grows with every edit and guards `StoryPatch`;
    drawings that arrive do not change it."""

    id: str
    title: str
    revision: int
    layout: str
    created_at: datetime
    updated_at: datetime
    request: StoryIn
    frames: list[StoryFrame]


class FramePatch(Input):
    """Changes to one frame that need no drawing; None leaves a field."""

    index: int = Field(ge=0)
    caption: Words | None = None
    bubbles: list[Bubble] | None = Field(default=None, max_length=6)
    current: int | None = Field(default=None, ge=1)


class StoryPatch(Input):
    """Body of PUT /v1/stories/{id}; 409 when `revision` is not the story's."""

    revision: int
    title: Annotated[str, StringConstraints(min_length=1, max_length=120)] | None = None
    layout: Annotated[str, StringConstraints(max_length=40)] | None = None
    frames: list[FramePatch] = Field(default_factory=list, max_length=MAX_FRAMES)


class StoryChange(Input):
    """What a drawn story shall become. `revision` is that of the story; `origins` has an entry for
    each frame of `story`: the frame that it was so far, null for an added one. Seeds that are not
    said stay those with which the frames were drawn.
    """

    revision: int
    story: StoryIn
    origins: list[Annotated[int, Field(ge=0)] | None] = Field(max_length=MAX_FRAMES)


class Changed(Output):
    """A story that became another. `drawn` are the frames that have to be drawn again; `job` draws
    them, null where there are none.
    """

    story: str
    revision: int
    drawn: list[int]
    job: str | None = None
    wording: WordingOut | None = None


class StorySummary(Output):
    """One line of the list of stories; `cover` is an artifact."""

    id: str
    title: str
    updated_at: datetime
    frames: int
    drawn: int
    cover: str | None = None


class StoryList(Output):
    """Stories, newest first."""

    stories: list[StorySummary]
    next: str | None = None


# Scores, limits, problems -------------------------------------------------------------------------
class ScoreIn(Input):
    """Pictures (artifacts) to score, each showing one character, or all of one character."""

    artifacts: list[str] = Field(min_length=1, max_length=64)
    prompts: list[Prompt] | None = None


class ScoreOut(Output):
    """`identity`: pairwise agreement of factors, n x n in [0, 1], null where it cannot be read.
    `alignment`: per picture, share of the prompt's named attributes that are seen.
    `unread`: per picture, words of its prompt that could not be read and count neither way.
    """

    identity: list[list[float | None]]
    alignment: list[float | None]
    scorer: str
    unread: list[list[str]] = Field(default_factory=list)


class Missing(Output):
    """Characters of a frame whom the drawing `version` does not show."""

    index: int
    version: int
    names: list[str]


class MissingOut(Output):
    """The frames of a story in which somebody is missing, as far as the reader can tell."""

    frames: list[Missing]


class Limits(Output):
    """What this server accepts, for clients that check before they send."""

    body_bytes: int
    image_pixels: int
    frames: int
    steps: int
    size: int
    size_times: float = Field(default=4.0, description="area, as a multiple of the model's own")
    queue: int
    running_per_key: int
    queued_per_key: int


class ModelInfo(Output):
    """The model that draws, and the names that a story may use."""

    name: str
    sha256: str
    loras: list[LoraOut] = Field(default_factory=list)
    width: int
    height: int
    size_multiple: int
    methods: list[str]
    default_method: str
    schedulers: list[str]
    styles: list[str]
    layouts: list[str]
    words: list[str] | None = Field(default=None, description="a closed vocabulary, or null")
    steps: int
    guidance: float


class Artifact(Output):
    """A stored file; GET /v1/artifacts/{id} returns its bytes."""

    id: str
    media_type: str
    bytes: int
    sha256: str


class Problem(Output):
    """An error (RFC 9457). `code` is stable and for programs, `detail` for people."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    code: str
    retry_after: float | None = None
    request_id: str | None = None


JobFrame.model_rebuild()
StoryFrame.model_rebuild()


# Characters ---------------------------------------------------------------------------------------
class LibraryCharacterIn(Input):
    """A character for the library."""

    name: Name
    description: Annotated[str, StringConstraints(min_length=1, max_length=400)]
    strength: float | None = Field(default=None, ge=0.0, le=1.0)


class LibraryCharacterPatch(Input):
    """Changes to a library character; None leaves a field."""

    name: Name | None = None
    description: Annotated[str, StringConstraints(min_length=1, max_length=400)] | None = None
    strength: float | None = Field(default=None, ge=0.0, le=1.0)


class Quality(Output):
    """What we think of a reference picture. `verdict` is good, usable or poor; `advice` says how to
    mend it. sharpness: variance of the Laplacian over that of a sharp picture, in [0, 1].
    """

    width: int
    height: int
    sharpness: float
    brightness: float
    verdict: Literal["good", "usable", "poor"]
    advice: list[str]


class Reference(Output):
    """A reference picture of a library character."""

    id: str
    artifact: str
    quality: Quality
    created_at: datetime


class LibraryCharacter(Output):
    """A character of the library."""

    id: str
    name: str
    description: str
    strength: float | None = None
    references: list[Reference] = Field(default_factory=list)
    created_at: datetime
    updated_at: datetime


class LibraryCharacterList(Output):
    """All characters of the library, by name."""

    characters: list[LibraryCharacter]


# Personas (the memory half) -----------------------------------------------------------------------
class PersonaIn(Input):
    """A persona: one person's memory."""

    name: Name


class PersonaOut(Output):
    """A persona and how much it remembers."""

    id: str
    name: str
    memories: int
    assistant: str = Field(description="what answers, in one line")
    created_at: datetime


class PersonaList(Output):
    """All personas of the caller."""

    personas: list[PersonaOut]


class SayIn(Input):
    """Something said to the assistant; `picture` is an artifact of the caller."""

    text: Annotated[str, StringConstraints(min_length=1, max_length=4000)]
    picture: str | None = None


class SaidOut(Output):
    """The answer. `changes` are lines of what the memory gained or lost; `asks` awaits yes or no.

    `reasons` are the memories behind the answer. `picture` is an artifact, with `similarity` to the
    character it should show, and `verdict` in words.
    """

    text: str
    changes: list[str] = Field(default_factory=list)
    asks: bool = False
    reasons: list[str] = Field(default_factory=list)
    picture: str | None = None
    similarity: float | None = None
    verdict: str | None = None
    problems: list[str] = Field(default_factory=list)


class MemoryOut(Output):
    """A memory, as text for people. `why` are the words it was learnt from."""

    id: str
    kind: str
    text: str
    since: datetime | None = None
    why: list[str] = Field(default_factory=list)
    score: float | None = None


class MemoryList(Output):
    """Memories, newest or best first."""

    memories: list[MemoryOut]


class MemoryIn(Input):
    """A memory to add (POST) or its new text (PUT)."""

    text: Annotated[str, StringConstraints(min_length=1, max_length=600)]


class MemorySearchIn(Input):
    """What to look for: words, a picture (an artifact), or both."""

    text: Annotated[str, StringConstraints(max_length=600)] | None = None
    picture: str | None = None
    k: int = Field(default=8, ge=1, le=50)
