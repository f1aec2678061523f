"""One cast: who is drawn how, which frames are anchors, and who reads whom.

A character of a story file becomes a `CastMember` (the words that stand for it, and its pictures),
and in each frame that shows it a `Subject` (where those words stand in the prompt). A `Cast` draws
frames of one planned story in an engine, each together with the anchors that it reads. The command
line, the server and the chat all draw through it, one frame at a time, and anchors follow from the
plan alone: so a frame that is drawn alone is the frame that its story has.

With most methods a character's anchors are a neutral portrait, drawn but not shown, and the first
frames that show the character and nobody else. With others they are frames of the story alone: one
that shows two who meet is the anchor of both, and portraits are for who has no such frame.
Reference pictures of the writer's own are anchors before all others. With some methods, the first
frame that shows several characters who have anchors of their own is read by later frames of the
same.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

from PIL import ImageOps

from consistent_gen.errors import InputError
from consistent_gen.inputs import open_picture
from consistent_gen.methods.tuning import tuned
from consistent_gen.runtime import frame_seed
from consistent_gen.story.anchors import Anchors, compared, first_shown, plan_anchors
from consistent_gen.story.best_of import KEY as BEST_OF
from consistent_gen.story.best_of import ChosenFrame, ScoresFrames, Trial, candidate_seed, choose
from consistent_gen.story.boxes import moved
from consistent_gen.story.mending import Mending, SeesFaults, record
from consistent_gen.story.portraits import portrait_words
from consistent_gen.story.prompts import render, subjects_of
from consistent_gen.story.script import NAME
from consistent_gen.story.types import Character, Frame, SourcePlace, Story
from consistent_gen.story.yaml_tree import refusal, shown

if TYPE_CHECKING:
    import numpy as np

    from consistent_gen.attention.settings import Recipe
    from consistent_gen.engine.events import FrameDone
    from consistent_gen.engine.loop import Engine
    from consistent_gen.engine.redrawing import Redrawing
    from consistent_gen.engine.request import FrameRequest
    from consistent_gen.engine.sharing import SharedStory
    from consistent_gen.memory.talk.assistant import DrawJob
    from consistent_gen.story.identity import References
    from consistent_gen.story.plan import FramePlan, Model, StoryPlan

ARTICLES = ("a", "an", "the")
# What ends the noun group that a description starts with: "a brown bear | with a red scarf".
_GROUP_ENDS = (
    "with", "in", "wearing", "who", "that", "which", "whose", "holding", "carrying", "and", "of",
    "from", "on", "at", "named", "called",
)  # fmt: skip
_WORD = re.compile(r"[\w'\u2019-]+|[^\w\s]")

_PORTRAITS = 1 << 32  # frame numbers that no story reaches


# From the story file to the words and pictures of a character -------------------------------------


@dataclass(frozen=True, kw_only=True)
class CastMember:
    """A character of a planned story.

    words: the full description, as a first mention puts it into a prompt.
    noun: its head noun ("bear"), which attention methods look for.
    references: picture files, as paths or as their bytes; strength in [0, 1] or None for the
    method's default.
    """

    name: str
    words: str
    noun: str
    references: tuple[Path | bytes, ...] = ()
    strength: float | None = None
    place: SourcePlace = field(default=SourcePlace(), compare=False)

    def first_mention(self, adjectives: str = "") -> str:
        """The full description, with `adjectives` before its noun group: "a sad girl with ..."."""
        if not adjectives:
            return self.words
        article, _, rest = self.words.partition(" ")
        if article.lower() not in ARTICLES:
            article, rest = "", self.words
        if article.lower() in ("a", "an"):
            article = "an" if adjectives[0].lower() in "aeiou" else "a"
        return " ".join(part for part in (article, adjectives, rest) if part)

    def later_mention(self, adjectives: str = "") -> str:
        """The short form: "the girl", "the sad girl"."""
        return " ".join(part for part in ("the", adjectives, self.noun) if part)


def cast_members(story: Story, folder: Path | None = None) -> dict[str, CastMember]:
    """The characters of `story` by name, ready to be written into prompts.

    `folder` is where relative reference paths start (the story file's folder).

    Raises:
        StoryError: a description has no noun, or a reference picture does not exist.
    """
    return {name: _member(c, folder) for name, c in story.characters.items()}


def _member(character: Character, folder: Path | None) -> CastMember:
    noun = head_noun(character.description)
    if noun is None:
        message = (
            f"the description of {character.name} starts with no noun; "
            "write one such as 'a girl with curly hair'"
        )
        raise refusal(message, character.place)
    references: list[Path | bytes] = []
    for given in character.references:
        reference = given if isinstance(given, bytes) else (folder or Path()) / given
        problem = None
        if isinstance(reference, Path) and not reference.is_file():
            problem = "does not exist"
        try:
            problem or open_picture(reference)
        except InputError as error:
            problem = error.message
        if problem is not None:
            which = "" if isinstance(given, bytes) else f"{shown(given)} "
            message = f"the reference picture {which}of {character.name} {problem}"
            raise refusal(message, character.place)
        references.append(reference)
    return CastMember(
        name=character.name,
        words=character.description,
        noun=noun,
        references=tuple(references),
        strength=character.strength,
        place=character.place,
    )


def head_noun(description: str) -> str | None:
    """The noun that a description is about: "bear" of "a brown bear with a red scarf"."""
    group: list[str] = []
    for word in _WORD.findall(description):
        if word.lower() in _GROUP_ENDS or not word[0].isalnum():
            break
        group.append(word)
    if group and group[0].lower() in ARTICLES:
        group.pop(0)
    return group[-1] if group else None


def remembered_story(job: DrawJob, model: Model) -> Story:
    """What a talk wants drawn, as a story of one frame: the people it is about are its characters.

    Their names are the user's and may be anything; whose is none for a story gets a number. Words
    that the model does not know are left out of what is to be avoided, and all of them where it
    reads no negative prompts.
    """
    prompt = re.sub(r"[{}]", " ", job.prompt)
    characters: dict[str, Character] = {}
    numbered = enumerate(job.identities, 1)
    # The longest words first, since they may hold somebody else's.
    for number, identity in sorted(numbered, key=lambda pair: -len(pair[1].words)):
        words = " ".join(re.sub(r"[{}]", " ", identity.words).split())
        fits = NAME.fullmatch(identity.name) and identity.name.strip() == identity.name
        name = identity.name if fits and identity.name not in characters else f"character {number}"
        if words in prompt and head_noun(words) is not None:
            prompt = prompt.replace(words, f"{{{name}}}", 1)
            characters[name] = Character(
                name=name, description=words, references=identity.references
            )
    avoid = dict.fromkeys(word for identity in job.identities for word in identity.avoid)
    reads = "negative" not in model.unable
    known = [word for word in avoid if reads and not model.unknown_words(word)]
    frame = Frame(prompt=prompt, negative=", ".join(known))
    return Story(title="Drawn in a talk", characters=characters, frames=(frame,))


def _trial_key(first: Anchors) -> str:
    return f"candidates of {first.key}"


# Drawing ------------------------------------------------------------------------------------------


def frame_request(plan: StoryPlan, frame: FramePlan, **fields: Any) -> FrameRequest:
    """What the engine is asked for to draw a frame alone, with further fields of the request."""
    from consistent_gen.engine.request import FrameRequest

    return FrameRequest(
        prompt=frame.prompt,
        negative=frame.negative,
        seed=frame.seed,
        settings=plan.settings,
        subjects=frame.subjects,
        moved=moved([member.name for member in frame.members], frame.boxes),
        method=plan.method,
        story={"title": plan.title, "frame": frame.index, "seed": plan.seed},
        **fields,
    )


class Cast:
    """The characters of one planned story in one engine, and the frames that show them.

    Anchors are drawn once, when a frame first needs them, and kept. A frame that is an anchor
    itself is drawn with them and its picture is kept too, since the others need it whoever asked
    first. Drawing anchors again gives the same bytes, so they may be forgotten at any time that
    nobody reads them.

    Args:
        plan: the story as it was first asked for: what anchors are drawn from.
        prefix: of the ids of its frames, unlike that of every other story in the engine.
        limit_bytes: most memory for what anchors leave; None is the default of `AnchorBank`.
        scorer: by which candidates are chosen; None for `scoring.FrameScorer`.
        sees: who looks at first frames; None for `mending.shipped`.
    """

    def __init__(
        self,
        plan: StoryPlan,
        engine: Engine,
        *,
        prefix: str = "",
        limit_bytes: int | None = None,
        scorer: ScoresFrames | None = None,
        sees: SeesFaults | None = None,
    ) -> None:
        self.plan = plan
        self._engine = engine
        self._prefix = prefix
        self._limit_bytes = limit_bytes
        self._recipe: Recipe = tuned(plan.method, engine.backbone)
        found = plan_anchors(plan, self._recipe) if self._recipe.anchors else []
        self._anchors = {anchors.key: anchors for anchors in found}
        self._key_of_member = {n: a.key for a in found if not a.together for n in a.names}
        self._key_of_frame = {index: anchors.key for anchors in found for index in anchors.frames}
        # Of anchors that are drawn or being drawn: key -> id in the engine -> index in the story,
        # None for portraits.
        self._submitted: dict[str, dict[str, int | None]] = {}
        self._key_of_id: dict[str, str] = {}
        self._left: dict[str, set[str]] = {}  # key -> ids of those that are being drawn
        self._pictures: dict[int, FrameDone] = {}
        self._ids = Counter[str]()
        self._given_scorer = scorer
        self._firsts = first_shown(plan, found) if plan.best_of > 1 else []
        self._trials: dict[str, Trial] = {}  # key (see `_trial_key`) -> what is being drawn
        self._choices: dict[int, ChosenFrame] = {}  # of `_firsts`, by index in the story
        self.mending = Mending(plan.mend, sees)

    @cached_property
    def _shared(self) -> SharedStory:
        from consistent_gen.attention.bank import DEFAULT_LIMIT_BYTES
        from consistent_gen.engine.sharing import SharedStory

        limit = DEFAULT_LIMIT_BYTES if self._limit_bytes is None else self._limit_bytes
        return SharedStory(self._engine, self._recipe, seed=self.plan.seed, limit_bytes=limit)

    def draw(
        self,
        frame: FramePlan,
        *,
        seed: int | None = None,
        candidate: int = 0,
        redrawing: Redrawing | None = None,
        **seen: Any,
    ) -> str | FrameDone:
        """Submit a frame, and the anchors that it reads and that are not there yet.

        frame: one of the plan's, or the same with another prompt. seed: instead of its own.
        candidate: which one of the frame's, where it has several (see `candidates`).
        redrawing: a picture of the frame of which only a part is drawn.
        seen: further fields of the requests of frames that are shown (`preview`, `preview_every`).

        Returns the frame's id in the engine, or its picture if it is an anchor that is drawn.

        Raises:
            InputError: as `SharedStory.cast_all` and `SharedStory.submit`, or a reference picture
                can no longer be read. LimitError: there is no room for the anchors.
        """
        own = seed in (None, frame.seed) and frame == self.plan.frames[frame.index]
        planned = own and redrawing is None
        key = self._key_of_frame.get(frame.index) if planned else None
        if key is not None and frame.index in self._pictures:
            return self._pictures[frame.index]
        for wanted in self._wanted(frame):
            if wanted not in self._submitted:
                self._submit_anchors(self._anchors[wanted], frame, seen)
        if key is not None:
            return next(id_ for id_, at in self._submitted[key].items() if at == frame.index)
        fields = {"id": self._id(str(frame.index)), **seen}
        request = self._request(frame, candidate if planned else None, **fields)
        if not planned:
            request = replace(request, redrawing=redrawing)
            request = request if seed is None else replace(request, seed=seed)
        submit = self._shared.submit if self._recipe.anchors else self._engine.submit
        return submit(request)

    @cached_property
    def references(self) -> References:
        """What an adapter is told of the characters who have pictures."""
        from consistent_gen.story.identity import References

        return References(self.plan, self._engine.backbone, attention=bool(self._recipe.anchors))

    def _wanted(self, frame: FramePlan) -> list[str]:
        """Keys of the anchors that a frame reads, the first frame of its characters last."""
        if not self._recipe.anchors:
            return []
        for member in frame.members:
            if member.name not in self._key_of_member:  # only this frame's new prompt shows it
                self._key_of_member[member.name] = member.name
                self._anchors[member.name] = Anchors((member,), ())
        group = Anchors(frame.members, ()).key
        keys = dict.fromkeys(self._key_of_member[member.name] for member in frame.members)
        return [*keys, group] if group in self._anchors and group not in keys else [*keys]

    def _submit_anchors(self, anchors: Anchors, frame: FramePlan, seen: Mapping[str, Any]) -> None:
        """Draw them from the story as first asked for, whatever `frame` says, which reads them."""
        own = []
        for index in anchors.frames:
            choice = self._choices.get(index)
            number = self.mending.number(index) if choice is None else choice.number
            fields = {"id": self._id(str(index)), **seen}
            own.append(self._request(self.plan.frames[index], number, **fields))
        if anchors.together:
            ids = [self._shared.cast_together(own[0])]
        else:
            hidden = self._portraits(anchors.members[0], self._recipe.anchors - len(own), frame)
            ids = self._shared.cast_all(anchors.strengths, [*hidden, *own])
        indices = [*[None] * (len(ids) - len(own)), *anchors.frames]
        self._submitted[anchors.key] = dict(zip(ids, indices, strict=True))
        self._key_of_id |= dict.fromkeys(ids, anchors.key)
        self._left[anchors.key] = set(ids)

    def _portraits(self, member: CastMember, count: int, frame: FramePlan) -> list[FrameRequest]:
        """`count` hidden anchors for what the story's own frames leave open, in the style of the
        first frame that shows the character; reference pictures come first.
        """
        backbone = self._engine.backbone
        frames = (*self.plan.frames, frame)
        style = next(f.style for f in frames if member.name in (m.name for m in f.members))
        like = frame_request(self.plan, self.plan.frames[0])
        purpose = _PORTRAITS + crc32(member.name.encode())
        found = []
        for number in range(count):
            picture = None
            if number < len(member.references):
                picture = _fitted(member.references[number], *like.size(backbone))
            doing = portrait_words(backbone, number, drawn=picture is None)
            template = f"{{{member.name}}} {doing}".strip()
            story_world = backbone.vocabulary() is not None
            prompt = render(template, {member.name: member}, style, story_world=story_world)
            own: dict[str, Any] = {
                "prompt": prompt.text,
                "negative": "",
                "seed": frame_seed(self.plan.seed, purpose, number),
                "id": self._id(f"portrait {number + 1} of {member.name}"),
                "subjects": subjects_of(prompt, backbone.readers),
                "hidden": True,
                "moved": 0.0,
                "reference": picture,
                "identities": self.references.shown([member]) if picture is None else None,
            }
            found.append(replace(like, **own))
        return found

    def _id(self, what: str) -> str:
        """An id that was not used before: anchors may be drawn again, and frames anew."""
        self._ids[what] += 1
        again = f" ({self._ids[what]})" if self._ids[what] > 1 else ""
        return f"{self._prefix}{what}{again}"

    def _request(self, frame: FramePlan, number: int | None, **fields: Any) -> FrameRequest:
        """What the engine is asked for, with who is in the frame by their reference pictures.

        number: of the frame's candidate or drawing, where it is the plan's own.
        """
        by_name = {member.name: member for member in frame.members}
        named = dict.fromkeys(subject.name for subject in frame.subjects)
        people = [by_name[name] for name in named if name in by_name]
        request = frame_request(self.plan, frame, **fields)
        shown = self.references.shown(people, frame.boxes, moved=request.moved)
        request = replace(request, identities=shown)
        if number is None:
            return request
        told = record(number, frame.seed)
        if self.plan.best_of > 1:
            of = {"of": self.plan.best_of, "candidate": number + 1, "seed": frame.seed}
            told = {BEST_OF: of}
        seed = candidate_seed(frame.seed, number)
        return replace(request, seed=seed, story={**request.story, **told})

    # The best of several candidates (see `story.best_of`).

    def before(self, frame: FramePlan, **seen: Any) -> tuple[str, ...]:
        """What must be drawn before a frame of a story with `best_of` may be: the candidates of
        the frames that it is compared with, and that others read. They are submitted if they were
        not; ids of what is left, none when the frame may be drawn.

        Raises:
            CheckpointError: the weights of what chooses are missing. InputError, LimitError: as
                `draw`.
        """
        left: list[str] = []
        for first in compared(frame, self._firsts):
            if all(index in self._choices for index in first.frames):
                continue
            if first.together and left:
                break  # it reads what is chosen of the others
            key = _trial_key(first)
            if key not in self._trials:
                self._trials[key] = self._try(first, seen)
            trial = self._trials[key]
            left += trial.left
            if not trial.left:
                for index in first.frames:
                    at = self.plan.frames[index]
                    drawn = trial.of(index)
                    self._choices[index] = choose(at, drawn, self.others(at), self._scorer)
                del self._trials[key]
        return tuple(left)

    def candidates(self, frame: FramePlan, **seen: Any) -> list[str | FrameDone]:
        """Submit a frame of the plan as often as it has candidates, in their order, when nothing is
        left `before` it. As `draw`; of a frame that was chosen already it is one alone.
        """
        chosen = self._choices.get(frame.index)
        if chosen is not None:
            return [self.draw(frame, **seen) if self._recipe.anchors else chosen.done]
        return [self.draw(frame, candidate=number, **seen) for number in range(self.plan.best_of)]

    def choose(self, frame: FramePlan, drawn: Sequence[FrameDone]) -> ChosenFrame:
        """The best of what `candidates` submitted, drawn. Raises as `before`."""
        chosen = self._choices.get(frame.index)
        if chosen is not None:
            return replace(chosen, done=drawn[0])  # drawn again, so that others could read it
        return choose(frame, drawn, self.others(frame), self._scorer)

    def others(self, frame: FramePlan) -> list[np.ndarray]:
        """Pictures of whom a frame shows, from the frames that were chosen first; of those who are
        in none the writer's own. Where one shows the same characters, only such.
        """
        found = {
            index: self._choices[index].done.image
            for first in compared(frame, self._firsts)
            for index in first.frames
            if index in self._choices and index != frame.index
        }
        names = {member.name for member in frame.members}
        alike = [i for i in found if {m.name for m in self.plan.frames[i].members} == names]
        if found:
            return [found[index] for index in alike or found]
        size = frame_request(self.plan, frame).size(self._engine.backbone)
        return [_fitted(given, *size) for member in frame.members for given in member.references]

    def _try(self, first: Anchors, seen: Mapping[str, Any]) -> Trial:
        """Submit all candidates of frames that are chosen first. They read nobody, since they are
        whom others read; but for the first frame of several, which reads the anchors of each.
        """
        submit = self._engine.submit
        if first.together:
            for name in first.names:
                if (key := self._key_of_member[name]) not in self._submitted:
                    self._submit_anchors(
                        self._anchors[key], self.plan.frames[first.frames[0]], seen
                    )
            submit = self._shared.submit
        trial = Trial({})
        for index in first.frames:
            for number in range(self.plan.best_of):
                name = self._id(f"{index} candidate {number + 1}")
                request = self._request(self.plan.frames[index], number, id=name, **seen)
                trial.ids[submit(request)] = index, number
        return trial

    @cached_property
    def _scorer(self) -> ScoresFrames:
        from consistent_gen.story.scoring import FrameScorer

        return self._given_scorer or FrameScorer()

    # What a server asks of a cast whose story goes on for as long as somebody draws it.

    def drawn(self, done: FrameDone) -> None:
        """Keep the picture of a frame if it is an anchor, or one that is chosen first."""
        for trial in self._trials.values():
            trial.take(done)
        for anchors in self._submitted.values():
            if (index := anchors.get(done.id)) is not None:
                self._pictures[index] = done

    def amend(self, done: FrameDone) -> str | None:
        """Look at what was drawn last. If it is a first frame that others read, and has to be drawn
        again, its anchors are forgotten: returns their key, and who reads them has to begin again.
        """
        key = self._key_of_id.get(done.id)
        index = None if key is None else self._submitted[key].get(done.id)
        if key is None or index is None or self._anchors[key].together:
            return None
        if not self.mending.again(self.plan.frames[index], done.image):
            return None
        self.forget(key)
        return key

    def key_of(self, frame_id: str) -> str | None:
        """The key of the anchors among which a frame of the engine stands."""
        tried = (key for key, trial in self._trials.items() if frame_id in trial.ids)
        return next(tried, self._key_of_id.get(frame_id))

    def reads(self, frame: FramePlan, key: str) -> bool:
        """Whether a frame needs the anchors with that key."""
        tried = (_trial_key(first) for first in compared(frame, self._firsts))
        return key in self._wanted(frame) or key in tried

    @property
    def has_twins(self) -> bool:
        """Whether a frame with characters is drawn twice, first on its own."""
        return self._recipe.twin

    @property
    def drawing(self) -> bool:
        """Whether anchors are being drawn."""
        return any(self._left.values()) or any(trial.left for trial in self._trials.values())

    @property
    def bytes(self) -> int:
        """Memory of what the anchors left; while they are drawn, of what they will leave."""
        bank = self._shared.run.bank.bytes
        if self.drawing:
            bank = max(bank, self._bytes_of(self._submitted))
        kept = [*self._pictures.values(), *(choice.done for choice in self._choices.values())]
        kept += [done for trial in self._trials.values() for done in trial.drawn.values()]
        return bank + sum(done.image.nbytes for done in kept)

    def predicted_bytes(self, frame: FramePlan) -> int:
        """What the anchors that `frame` reads will add."""
        return self._bytes_of(key for key in self._wanted(frame) if key not in self._submitted)

    def _bytes_of(self, keys: Iterable[str]) -> int:
        count = sum(len(self._anchors[key].members) for key in keys)
        return count * self._member_bytes if count else 0

    @cached_property
    def _member_bytes(self) -> int:
        return self._shared.predicted_bytes(frame_request(self.plan, self.plan.frames[0]))

    def settle(self) -> None:
        """Note which anchors have left the engine."""
        live = {state.id for state in self._engine.frames} if self.drawing else set()
        for left in self._left.values():
            left &= live

    def stop(self) -> None:
        """Forget the anchors that are being drawn; finished ones stay."""
        self.settle()
        for key in [*(key for key, left in self._left.items() if left), *self._trials]:
            self.forget(key)

    def forget(self, key: str) -> None:
        """Stop drawing anchors that failed or are not wanted, and drop them and what reads them."""
        for frame_id in self._trials.pop(key, Trial({})).ids:
            self._engine.cancel(frame_id)
        submitted = self._submitted.pop(key, None)
        if submitted is None:
            return
        del self._left[key]
        for other in list(self._anchors.values()):
            first = self.plan.frames[other.frames[0]] if other.together else None
            if first is not None and other.key != key and self.reads(first, key):
                self.forget(other.key)
        for frame_id, index in submitted.items():
            self._engine.cancel(frame_id)
            del self._key_of_id[frame_id]
            self._pictures.pop(-1 if index is None else index, None)
        forgotten = self._anchors[key]
        drop = self._shared.drop_together if forgotten.together else self._shared.drop
        drop(key if forgotten.together else forgotten.names[0])


def _fitted(reference: Path | bytes, width: int, height: int) -> np.ndarray:
    """A reference picture, uint8 [h w 3], cut to the frame's shape around its middle."""
    import numpy as np

    return np.asarray(ImageOps.fit(open_picture(reference), (width, height)))
