"""From a request to a job: limits, names and words checked, references found, everything stored.

The story, its job and its events are one transaction, so there is no story without its job. The
same Idempotency-Key with the same request gives the same job, also when both come at once.
"""

from __future__ import annotations

import hashlib
import json
import logging
import secrets
from collections.abc import Iterator, Mapping, Sequence

from pydantic import BaseModel

from consistent_gen.client.types import Accepted, ImageIn, Job, RerollIn, StoryIn, WordingOut
from consistent_gen.draw_settings import costly_mistake
from consistent_gen.errors import InputError, LimitError, all_of
from consistent_gen.runtime import frame_seed
from consistent_gen.story.plan import StoryPlan
from services.errors import NotFound, Refusal
from services.jobs import OrderedFrame
from services.plans import FrameOrder
from services.plans.orders import DrawnPart
from services.plans.planner import with_prompt
from services.store.looks import look_of
from services.web.security import Caller
from services.web.state import ServerState

IMAGE_TITLE = "Picture"
MAX_KEY_CHARACTERS = 255
References = Mapping[str, Sequence[str]]
_prompts = logging.getLogger("services.prompts")


def order_story(
    state: ServerState,
    caller: Caller,
    request: StoryIn,
    *,
    kind: str = "story",
    idempotency: tuple[str, str] | None = None,
    references: References | None = None,
) -> Job:
    """Put a story into the queue.

    idempotency: what `fingerprint` made. references: artifacts beside those of the library.

    Raises:
        InputError, LimitError: what cannot be drawn, with its place in the request.
        NotFound, Conflict, QuotaError, BusyError, StorageFull: as the stores.
    """
    if idempotency and (known := state.jobs.replay(caller.owner, caller.user, idempotency)):
        return known
    request = state.planner.begun(request)
    shown = {**library_references(state, caller.owner, request), **(references or {})}
    looks = _looks(state, caller.owner, references or {})
    drawn = state.planner.word(request, pictured(shown)).request
    plan = planned(state, drawn)
    frames = [
        ordered(
            state,
            drawn,
            plan,
            index,
            version=1,
            seed=frame.seed,
            references=shown,
            looks=looks,
            caller=caller,
        )
        for index, frame in enumerate(plan.frames)
    ]
    with state.database.transaction():
        if idempotency and (known := state.jobs.replay(caller.owner, caller.user, idempotency)):
            return known
        story = state.stories.create(caller.owner, request)
        job, _ = state.jobs.create(
            owner=caller.owner,
            user=caller.user,
            kind=kind,
            story=story,
            frames=frames,
            bulk=request.bulk,
            deadline_s=request.deadline_s,
            idempotency=idempotency,
        )
    return job


def planned(state: ServerState, request: StoryIn) -> StoryPlan:
    """The plan of a story that this server would draw.

    Raises:
        InputError, LimitError: what cannot be drawn, with its place in the request.
    """
    _refuse(_mistakes_of_counts(state, request))
    plan = state.planner.plan(request)
    _refuse(_mistakes_of_settings(state, plan))
    return plan


def order_reroll(
    state: ServerState,
    caller: Caller,
    story: str,
    index: int,
    request: RerollIn,
    *,
    part: DrawnPart | None = None,
    idempotency: tuple[str, str] | None = None,
) -> Job:
    """Draw one frame again, or a part of it, as a new version; the others stay as they are. Raises
    as above.
    """
    if idempotency and (known := state.jobs.replay(caller.owner, caller.user, idempotency)):
        return known
    stored = state.stories.get(caller.owner, story)
    asked = stored.request
    if not 0 <= index < len(asked.frames):
        raise NotFound(f"the story has {len(asked.frames)} frames, counted from 0")
    # A prompt that an earlier re-roll changed stays changed.
    prompt = request.prompt or stored.frames[index].prompt
    override = None if prompt == asked.frames[index].prompt else prompt
    references = library_references(state, caller.owner, asked, missing_ok=True)
    given = pictured(references)
    drawn = state.planner.word(asked, given).request
    words = override and state.planner.word_reroll(asked, index, override, given)
    plan = state.planner.plan_reroll(drawn, index, words)
    _refuse(_mistakes_of_settings(state, plan))
    with state.database.transaction():
        if idempotency and (known := state.jobs.replay(caller.owner, caller.user, idempotency)):
            return known
        version = state.stories.next_version(caller.owner, story, index, caption=request.caption)
        derived = frame_seed(plan.seed, index, version - 1)
        frame = ordered(
            state,
            drawn,
            plan,
            index,
            version=version,
            seed=derived if request.seed is None else request.seed,
            prompt=words,
            references=references,
            part=part,
            caller=caller,
        )
        job, _ = state.jobs.create(
            owner=caller.owner,
            user=caller.user,
            kind="reroll",
            story=story,
            frames=[frame],
            deadline_s=asked.deadline_s,
            idempotency=idempotency,
        )
    return job


def checked(state: ServerState, owner: str, request: StoryIn) -> WordingOut:
    """What would be drawn of a story, with what keeps it from being drawn."""
    model = state.planner.model.name
    try:
        shown = library_references(state, owner, request, missing_ok=True)
        worded = state.planner.read(request, pictured(shown))
    except InputError as error:
        return WordingOut(model=model, problems=[str(part) for part in error.all])
    wrong = worded.problems
    try:
        if not wrong:
            planned(state, worded.request)
    except InputError as error:
        wrong = error.all
    wording = worded.wording or WordingOut(model=model)
    return wording.model_copy(update={"problems": [str(problem) for problem in wrong]})


def reroll_wording(
    state: ServerState, caller: Caller, story: str, index: int, prompt: str | None
) -> WordingOut | None:
    """What became of the words of another prompt; None where none was given."""
    if prompt is None:
        return None
    asked = state.stories.get(caller.owner, story).request
    shown = library_references(state, caller.owner, asked, missing_ok=True)
    return state.planner.word(with_prompt(asked, index, prompt), pictured(shown)).wording


def image_story(request: ImageIn, frames: int = 1, title: str = IMAGE_TITLE) -> StoryIn:
    """The story of `frames` frames that draws `request`; without a seed every call differs."""
    frame = {"prompt": request.prompt, "negative": request.negative}
    return StoryIn.model_validate(
        {
            # The answer has no room for what became of the words, so nothing becomes of them.
            "words": "as_written",
            "title": title,
            "frames": [frame] * frames,
            # 31 bits: short enough to be read out and typed.
            "seed": secrets.randbits(31) if request.seed is None else request.seed,
            **request.model_dump(exclude={"prompt", "negative", "seed"}),
        }
    )


def accepted(state: ServerState, job: Job, wording: WordingOut | None = None) -> Accepted:
    """What a 202 answer says of `job`, and of the words of its story."""
    return Accepted(
        job=job.id,
        story=job.story,
        events_url=address(state, f"/v1/jobs/{job.id}/events"),
        position=job.queue_position or 0,
        wording=wording,
    )


def address(state: ServerState, path: str) -> str:
    """`path` with the public address before it, where one is set."""
    return (state.settings.server.public_url or "").rstrip("/") + path


def fingerprint(key: str | None, kind: str, request: BaseModel) -> tuple[str, str] | None:
    """(key, hash of the request); None without a key. Raises ``Refusal`` for a key of no use."""
    if key is None:
        return None
    if not 1 <= len(key) <= MAX_KEY_CHARACTERS or not all("!" <= c <= "~" for c in key):
        detail = f"Idempotency-Key is 1 to {MAX_KEY_CHARACTERS} visible ASCII characters"
        raise Refusal(400, "malformed", detail)
    text = f"{kind}\n{request.model_dump_json()}"
    return key, hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def library_references(
    state: ServerState, owner: str, request: StoryIn, *, missing_ok: bool = False
) -> dict[str, list[str]]:
    """character -> artifacts of its library entry. missing_ok: for entries deleted since."""
    found = {}
    for name, character in request.characters.items():
        if character.library is None:
            continue
        try:
            entry = state.library.get(owner, character.library)
        except NotFound:
            if missing_ok:
                continue
            raise Refusal(
                422, "unknown_character", "a character's `library` is not in your library"
            ) from None
        found[name] = [reference.artifact for reference in entry.references]
    return found


def pictured(references: References) -> frozenset[str]:
    """The characters who have pictures; what their words leave open is not made up."""
    return frozenset(name for name, ids in references.items() if ids)


def _looks(state: ServerState, owner: str, references: References) -> list[str]:
    """Of pictures that are forgotten when they have been drawn from."""
    ids = [artifact for ids in references.values() for artifact in ids]
    found = [look_of(state.artifacts.read(owner, artifact)) for artifact in ids]
    return [look for look in found if look is not None]


def ordered(
    state: ServerState,
    request: StoryIn,
    plan: StoryPlan,
    index: int,
    *,
    version: int,
    seed: int,
    prompt: str | None = None,
    references: References,
    part: DrawnPart | None = None,
    looks: Sequence[str] = (),
    caller: Caller | None = None,
) -> OrderedFrame:
    """A frame as it goes into a job; `prompt` and `references` as in `FrameOrder`. Its words are
    logged where the operator asked for that (`privacy.log_prompts`).
    """
    every = state.settings.engine.preview_every  # 0: this server sends none, whoever asks
    if request.preview_every is not None:
        every = every and request.preview_every
    if state.settings.privacy.log_prompts:
        # As JSON, so that a line break in a prompt does not begin a line of the log.
        _prompts.info("%s", json.dumps(plan.frames[index].prompt, ensure_ascii=False))
    order = FrameOrder(
        story=request,
        frame=index,
        version=version,
        seed=seed,
        prompt=prompt,
        references=references,
        preview_every=every,
        part=part,
        looks=looks,
        loras=[(lora.sha256, lora.weight) for lora in state.planner.model.loras],
        request="" if caller is None else caller.request,
        trace="" if caller is None else caller.trace,
    )
    steps = plan.settings.steps * order.candidates(plan)
    return OrderedFrame(index, version, seed, steps, order.to_json())


def _mistakes_of_counts(state: ServerState, request: StoryIn) -> Iterator[InputError]:
    frames = state.settings.limits.frames
    if len(request.frames) > frames:
        yield LimitError(
            f"{len(request.frames)} frames; this server draws at most {frames} a story"
        )


def _mistakes_of_settings(state: ServerState, plan: StoryPlan) -> Iterator[InputError]:
    limits = state.settings.limits
    steps, (width, height) = plan.settings.steps, plan.size
    if steps > limits.steps:
        yield LimitError(f"steps is {steps}; this server draws with at most {limits.steps}")
    if max(width, height) > limits.size:
        yield LimitError(
            f"size is {width}x{height}; this server draws at most {limits.size} a side"
        )
    native = state.planner.model.default_size
    if costly := costly_mistake(plan.size, native, limits.size_times):
        yield costly.at("size")


def _refuse(mistakes: Iterator[InputError]) -> None:
    if found := list(mistakes):
        raise all_of(found)
