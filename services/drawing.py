"""`bentoml serve services.drawing:Illustrator`: pictures, stories and scores as a BentoML service.

One process draws what it is asked for and keeps nothing; the page of its routes is at /. It knows
no keys, so it stands behind something that does. Stories are tasks: `POST /story/submit`, then
`GET /story/status` and `GET /story/get`. Pictures come in as base64: of file fields BentoML fetches
any address that a caller writes there.

The model is the shipped one or that of CONSISTENT_GEN_ENGINE_MODEL; the other variables of the
groups `engine`, `limits` and `safety` hold, too (docs/serving.md). With several BentoML workers,
worker n uses GPU n - 1.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import io
import os
import secrets
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Annotated

from services.bento import choose_card  # before bentoml, which it keeps from reporting its use

# isort: split
import bentoml
import numpy as np
from bentoml.exceptions import BentoMLException
from bentoml.validators import ContentType
from pydantic import AfterValidator, Field

from consistent_gen.client.types import ImageIn, ScoreOut, StoryIn
from consistent_gen.draw_settings import costly_mistake
from consistent_gen.engine.exactness import DEFAULT_BUCKET
from consistent_gen.errors import ConsistentGenError, InputError, LimitError
from consistent_gen.rewards.looking import MAX_BATCH
from consistent_gen.rewards.sight import Sight
from consistent_gen.story.draw import draw_story
from consistent_gen.story.output import frame_path
from consistent_gen.story.plan import StoryPlan
from services.errors import Refusal
from services.keys import Quota
from services.painting.warm_up import loaded
from services.plans import Planner
from services.safety import Safety
from services.scores import LocalScorer
from services.scores.scorer import small
from services.settings import load_settings

MAX_LATENCY_MS = 30_000
MAX_SCORED = 64
MAX_BASE64 = 28_000_000  # characters, of a file of 20 MiB


def _decoded(text: str) -> np.ndarray:
    try:
        return small(base64.b64decode(text, validate=True))
    except binascii.Error:
        raise Refusal(400, "invalid", "a picture is not base64") from None


def _readable(text: str) -> str:
    """Refuse here what would fail the batch that it shares with pictures of other callers."""
    try:
        _decoded(text)
    except Refusal as refusal:
        raise ValueError(refusal.message) from None
    return text


Picture = Annotated[
    str,
    Field(max_length=MAX_BASE64, description="a PNG, JPEG or WebP file in base64"),
    AfterValidator(_readable),
]
Png = Annotated[Path, ContentType("image/png")]


@bentoml.service(
    name="drawing",
    workers=1,
    threads=4,  # pictures are read while one is drawn
    resources={"cpu": "2", "memory": "4Gi"},
    traffic={"timeout": 3600, "max_concurrency": 64},
    labels={"model": "storyworld"},
)
class Illustrator:
    """Draws pictures and stories of which the characters stay the same, and scores pictures. It is
    ready once the weights are read.
    """

    def __init__(self) -> None:
        choose_card()
        settings = load_settings(None, os.environ)
        settings.check()
        self._limits = settings.limits
        self._bucket = settings.engine.bucket or DEFAULT_BUCKET
        self._backbone = loaded(settings.engine)
        self._planner = Planner(loaded=self._backbone)
        self._scorer = LocalScorer()
        self._safety = Safety(settings.safety, lambda owner: Quota())
        self._one_at_a_time = asyncio.Lock()

    @bentoml.api(route="/txt2img")
    async def txt2img(self, image: ImageIn, /, ctx: bentoml.Context) -> Png:
        """One picture: a PNG file that says how to draw it again. Any words, put into the model's;
        without a seed every call draws another one.
        """
        seed = secrets.randbits(31) if image.seed is None else image.seed
        told = image.model_dump(exclude={"prompt", "negative", "seed"})
        frame = {"prompt": image.prompt, "negative": image.negative}
        story = StoryIn.model_validate(
            {"title": "picture", "words": "own", "seed": seed, "frames": [frame], **told}
        )
        return await self._drawn(story, Path(ctx.temp_dir)) / frame_path(0)

    @bentoml.task(route="/story")
    async def story(self, story: StoryIn, /, ctx: bentoml.Context) -> str:
        """A story, as the HTTP API and story files tell it: a ZIP file, as base64, with its frames,
        page.png, index.html and report.json.
        """
        # BentoML 1.4.39 loses a task whose result is a file: it cannot store the answer.
        folder = await self._drawn(story, Path(ctx.temp_dir))
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
            for file in sorted(path for path in folder.rglob("*") if path.is_file()):
                archive.write(file, file.relative_to(folder).as_posix())
        return base64.b64encode(packed.getvalue()).decode()

    @bentoml.api(
        route="/read", batchable=True, max_batch_size=MAX_BATCH, max_latency_ms=MAX_LATENCY_MS
    )
    def read(
        self, pictures: Annotated[list[Picture], Field(min_length=1, max_length=MAX_BATCH)]
    ) -> list[Sight]:
        """The main character in each picture. Pictures of many callers are read in one call."""
        with _refusing():
            return self._scorer.see(np.stack([_decoded(text) for text in pictures]))

    @bentoml.api(route="/score")
    def score(
        self,
        pictures: Annotated[list[Picture], Field(min_length=1, max_length=MAX_SCORED)],
        prompts: list[str] | None = None,
    ) -> ScoreOut:
        """How well pictures agree with each other and, where there are prompts, with these."""
        if prompts is not None and len(prompts) != len(pictures):
            raise _refused(400, f"{len(prompts)} prompts for {len(pictures)} pictures")
        with _refusing():
            return self._scorer.score([base64.b64decode(text) for text in pictures], prompts)

    async def _drawn(self, story: StoryIn, parent: Path) -> Path:
        """The folder of a drawn story, in `parent`."""
        async with self._one_at_a_time:
            return await asyncio.to_thread(self._draw, story, parent)

    def _draw(self, story: StoryIn, parent: Path) -> Path:
        with _refusing():
            if len(story.frames) > self._limits.frames:
                raise LimitError(f"{len(story.frames)} frames; at most {self._limits.frames}")
            worded = self._planner.word(story)
            plan = self._planner.plan(worded.request)
            self._check(plan)
            said = worded.wording
            wording = None if said is None else said.model_dump(mode="json")
            folder = Path(tempfile.mkdtemp(dir=parent))
            draw_story(plan, self._backbone, folder, bucket=self._bucket, wording=wording)
            for index in range(len(plan.frames)):
                # One is enough: the page and its pictures would show the frame as well.
                if told := self._safety.withheld("", (folder / frame_path(index)).read_bytes()):
                    raise Refusal(422, told.code, f"frame {index + 1}: {told.detail}")
            return folder

    def _check(self, plan: StoryPlan) -> None:
        limits, (width, height) = self._limits, plan.size
        if plan.settings.steps > limits.steps:
            raise LimitError(f"steps is {plan.settings.steps}; at most {limits.steps}")
        if max(width, height) > limits.size:
            raise LimitError(f"size is {width}x{height}; at most {limits.size} a side")
        native = self._backbone.default_size
        if costly := costly_mistake(plan.size, native, limits.size_times):
            raise costly.at("size")


@contextmanager
def _refusing() -> Iterator[None]:
    """What is wrong with a request as an answer that says so."""
    try:
        yield
    except Refusal as refusal:
        raise _refused(refusal.status, refusal.message) from None
    except InputError as error:
        raise _refused(422, str(error)) from None
    except ConsistentGenError as error:
        raise _refused(500, str(error)) from error


def _refused(status: int, message: str) -> BentoMLException:
    return BentoMLException(message, error_code=HTTPStatus(status))
