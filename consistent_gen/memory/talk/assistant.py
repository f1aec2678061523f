"""An assistant that remembers: the three parts of PersonaVLM (arXiv 2604.13074) put together.

*Remembering*: every turn is stored before it is answered, a listener proposes what to keep, and
an ended conversation becomes episodes. *Reasoning*: the think / retrieve / answer loop.
*Response alignment*: the evolving personality and, when the user enabled it, a bounded style.
By default everything runs on rules, offline, and says so.

Ours differs from the paper in four ways: the executor judges every write; the time window
filters; a reading that failed is no observation; and `close` consolidates the last session
instead of leaving it until the user returns.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo

from consistent_gen.errors import InputError
from consistent_gen.language.embedders import TextEmbedder
from consistent_gen.language.models import LanguageModel
from consistent_gen.language.words import content_words, is_question, read_consent
from consistent_gen.memory.data.operations import Batch, Delete, Op, Update
from consistent_gen.memory.data.records import (
    Concept,
    Kind,
    Record,
    StyleObservation,
    TraitObservation,
    Turn,
    utc_now,
)
from consistent_gen.memory.data.store import Outcome, Store
from consistent_gen.memory.data.tree_schema import COMPACT, TreeSchema
from consistent_gen.memory.listening.consolidation import SESSION_GAP, episodes, sessions
from consistent_gen.memory.listening.listener import KnownState, Listener, view_of
from consistent_gen.memory.listening.parsed_listener import default_listener
from consistent_gen.memory.listening.replacement import ReplacementFinder
from consistent_gen.memory.recall.concepts import Checked, ConceptBook, Proposal, RememberedIdentity
from consistent_gen.memory.recall.indexing import index_text
from consistent_gen.memory.recall.pictures import ColourLayout, ImageEmbedder, Picture, read_picture
from consistent_gen.memory.recall.prompts import data_block
from consistent_gen.memory.recall.retriever import Retriever
from consistent_gen.memory.talk import replies
from consistent_gen.memory.talk.forgetting import ForgetPlan, carry_out, plan_forgetting
from consistent_gen.memory.talk.personality import Personality, RunningFold, alignment_lines
from consistent_gen.memory.talk.pictured import (
    ClothesReader,
    NotHim,
    OtherKind,
    PictureRequest,
    PictureTalk,
    WhoRequest,
    WornRequest,
    read_picture_request,
)
from consistent_gen.memory.talk.ranking import PassageScorer
from consistent_gen.memory.talk.reading import read_once
from consistent_gen.memory.talk.reasoning import Reasoned, reason
from consistent_gen.memory.talk.requests import (
    DrawRequest,
    ForgetRequest,
    ProfileRequest,
    TeachRequest,
    read_request,
)
from consistent_gen.memory.talk.rule_model import RuleModel, meaning_of, recall
from consistent_gen.memory.talk.style_policy import (
    StylePolicy,
    check_style,
    read_style,
    style_lines,
)

RECENT_TURNS = 12
_LOOK_BACK = 64  # turns that are looked through at first for those since an episode
FIRST_SIGHT: dict[Kind, int] = {"fact": 8, "habit": 2}
BUDGET_TOKENS = {"profile": 600, "notes": 400, "recent conversation": 800}
# A question that says what is asked and not about what.
_ABOUT_NOTHING = re.compile(
    r"^\W*(?:and |so |ok |but )*(?:at |on |in |for |from )?(?:when|where|why|who|which (?:one|day)|"
    r"what (?:time|day|date|year|number)|how (?:much|many|long|often|old|far))(?: exactly| again)?"
    r"\W*$",
    re.IGNORECASE,
)


@dataclass(frozen=True, kw_only=True)
class DrawJob:
    """What a drawer is asked for: ``prompt`` has the identities' words in place of names."""

    prompt: str
    identities: tuple[RememberedIdentity, ...]
    attempt: int


Drawer = Callable[[DrawJob], Picture]


@dataclass(frozen=True, kw_only=True)
class Said:
    """What the assistant says back, and what happened.

    ``changes`` are lines of the memory's difference; ``outcomes`` the executor's verdicts;
    ``asks`` is True while a yes or no is awaited; ``drawn`` is a picture and its check.
    """

    text: str
    changes: tuple[str, ...] = ()
    outcomes: tuple[Outcome, ...] = ()
    reasoned: Reasoned | None = None
    problems: tuple[str, ...] = ()
    asks: bool = False
    drawn: Checked | None = None


@dataclass
class Assistant:
    """One conversation partner over one store. Not for use by several threads at once.

    model: answers, and writes episodes unless it is the rule model.
    listener: proposes operations; the parser where it is installed, else the rules.
    text_embedder: None searches by words only.
    style: how far answers follow the user's style; static by default.
    drawer: draws a picture from a `DrawJob`; None says that nothing can be drawn here. What its
        ``details`` say, if it has any, is recorded with the picture.
    reader: tells what somebody wears in a picture; None says that nothing can be seen here.
    clock: the time of a turn when `say` is given none; zone: for dates in prompts.
    once: the model is too small to plan look-ups. It is asked once, with the sentences that fit,
        and only questions: statements and episodes are left to the rules.
    """

    store: Store
    model: LanguageModel = field(default_factory=RuleModel)
    listener: Listener = field(default_factory=default_listener)
    text_embedder: TextEmbedder | None = None
    image_embedder: ImageEmbedder = field(default_factory=ColourLayout)
    style: StylePolicy = field(default_factory=StylePolicy)
    drawer: Drawer | None = None
    boxes: Callable[[Picture], tuple[int, int, int, int]] | None = None
    reader: ClothesReader | None = None
    tree_schema: TreeSchema = COMPACT
    zone: tzinfo = UTC
    clock: Callable[[], datetime] = utc_now
    draw_budget: int = 4
    once: bool = False

    def __post_init__(self) -> None:
        self.book = ConceptBook(self.store, self.image_embedder, self.text_embedder)
        if self.boxes is not None:
            self.book.boxes = self.boxes
        self._pictured = PictureTalk(self.store, self.book, self.reader)
        self.retriever = Retriever(self.store, self.text_embedder, self.image_embedder)
        self._scorer = PassageScorer(meaning_of(self.text_embedder))
        self._pending: Proposal | ForgetPlan | None = None
        self._consolidated = False  # whether sessions that ended before this one were looked for
        self._traits = RunningFold(
            self.store, "trait_obs", Personality(), lambda state, seen: state.after(seen.scores)
        )
        self._style = RunningFold(
            self.store, "style_obs", self.style.start,
            lambda own, seen: self.style.step(own, check_style(seen.values)),
        )  # fmt: skip
        if isinstance(self.model, RuleModel) and not self.model.by_meaning:
            self.model = RuleModel(meaning_of(self.text_embedder))

    @property
    def description(self) -> str:
        """What this assistant is made of, in one line."""
        meaning = self.text_embedder.description if self.text_embedder else "words only"
        return f"{self.model.name}; {self.listener.description}; search: {meaning}"

    # talking ---------------------------------------------------------------------------------
    def say(
        self,
        text: str,
        *,
        picture: bytes | None = None,
        documents: Sequence[str] = (),
        at: datetime | None = None,
    ) -> Said:
        """One user turn and the answer to it.

        documents: texts the user attached; they are stored as documents, never as their words.
        Raises ``InputError`` for an empty turn or broken input; nothing is stored then.
        """
        if not text.strip():
            raise InputError("an empty turn says nothing; write something")
        pixels = None if picture is None else read_picture(picture)
        at = self.clock() if at is None else at
        since = self.store.last_write
        self._pictured.turn()
        erasing = isinstance(self._pending, ForgetPlan)
        before = replies.snapshot(self.store) if erasing else None
        ended = self._consolidate(at)
        said = self._put_right(text, at) or self._confirmed(text, at)
        said = said or self._requested(text, picture, at)
        if said is None:
            said = self._talk(text, pixels, picture, documents, at)
        if before is None:
            changes = replies.changed(self.store, since)
        else:
            changes = replies.difference(before, replies.snapshot(self.store))
        return Said(**{**vars(said), "changes": changes, "outcomes": ended + said.outcomes})

    def close(self) -> tuple[Outcome, ...]:
        """Write the episodes of the last session now, whenever its last turn was."""
        return self._consolidate(None)

    def _talk(
        self,
        text: str,
        pixels: Picture | None,
        picture: bytes | None,
        documents: Sequence[str],
        at: datetime,
    ) -> Said:
        turns = [Turn(text=text, role="user", valid_from=at)]
        turns += [Turn(text=d, role="document", valid_from=at) for d in documents]
        ids = self.store.record(turns).ids
        stored = [t for t in self.store.get(ids) if isinstance(t, Turn)]
        outcomes, problems = self._remember(stored)
        self._index()
        changed = replies.written(self.store, outcomes)
        ruled = (self.once or isinstance(self.model, RuleModel)) and not is_question(text)
        before: tuple[Record, ...] = ()
        asked = self._in_full(text, ids)
        if ruled:
            reasoned = Reasoned(answer=replies.acknowledged(outcomes, changed), steps=())
        elif self.once:
            reasoned = read_once(
                self.model, self.retriever, self._scorer, asked, now=at, zone=self.zone, exclude=ids
            )
        elif isinstance(self.model, RuleModel) and pixels is None:
            reasoned = recall(self.retriever, self._scorer, asked, zone=self.zone, exclude=ids)
        else:
            reasoned, before = self._reason(asked, pixels, picture, ids)
        sources = self._sources(reasoned, (*before, *changed))
        answer = Turn(
            text=reasoned.answer or "...", role="assistant", valid_from=at, derived_from=sources
        )
        self.store.record([answer])
        return Said(text=reasoned.answer, outcomes=outcomes, reasoned=reasoned, problems=problems)

    def _in_full(self, text: str, ids: Sequence[str]) -> str:
        """A question that does not say what it is about ("What time?"), behind the one before it in
        the same session; any other text as it is.
        """
        if not _ABOUT_NOTHING.match(text):
            return text
        session = [*sessions(self._turns(RECENT_TURNS))][-1]  # the question's own
        said = [t.text for t in session if t.role == "user" and t.id not in ids]
        return f"{said[-1]} {text}" if said and is_question(said[-1]) else text

    def _reason(
        self, text: str, pixels: Picture | None, picture: bytes | None, ids: Sequence[str]
    ) -> tuple[Reasoned, tuple[Record, ...]]:
        """The loop of look-ups, and what the model had in front of it before them."""
        recent = self._recent(ids)
        profile = self.store.list("core")
        notes = self._notes(text, pixels)
        before = (*profile, *notes, *recent)
        reasoned = reason(
            self.model, self.retriever, text, context=self._context(profile, notes, recent),
            picture=pixels, pictures=() if picture is None else (picture,),
            exclude=[*(record.id for record in before), *ids], zone=self.zone,
        )  # fmt: skip
        return reasoned, before

    # remembering -----------------------------------------------------------------------------
    def _remember(self, turns: Sequence[Turn]) -> tuple[tuple[Outcome, ...], tuple[str, ...]]:
        view = view_of(self.store, self.tree_schema)
        heard = self.listener.listen(turns, view)
        ops = (*heard.ops, *self._ended(turns, view, heard.ops))
        outcomes: tuple[Outcome, ...] = ()
        if ops:
            batch = Batch(ops=ops, turns=tuple(turn.id for turn in turns))
            outcomes = self.store.apply(batch).outcomes
        self._observe(turns, heard.traits)
        return outcomes, heard.problems

    def _ended(self, turns: Sequence[Turn], view: KnownState, heard: Sequence[Op]) -> list[Delete]:
        """The ends of older facts that only their meaning tells; none where nothing was heard."""
        embedder = meaning_of(self.text_embedder)
        if embedder is None or not heard or not view.facts:
            return []
        self._index()  # the turns, to be compared with those before
        finder = ReplacementFinder(self.store, embedder)
        decided = {op.target for op in heard if isinstance(op, Update | Delete)}
        said = [turn for turn in turns if turn.role == "user"]
        return [end for turn in said for end in finder.ended_by(turn, view.facts, decided)]

    def _observe(self, turns: Sequence[Turn], traits: object) -> None:
        scores = dict(traits) if isinstance(traits, dict) else {}
        seen: list[Record] = [
            TraitObservation(scores=scores[t.id], evidence=(t.id,), valid_from=t.valid_from)
            for t in turns
            if t.id in scores
        ]
        if self.style.name != "static":  # what is not used is not collected
            seen += [
                StyleObservation(
                    values=read_style(t.text), evidence=(t.id,), valid_from=t.valid_from
                )
                for t in turns
                if t.role == "user"
            ]
        if seen:
            self.store.record(seen)

    def _consolidate(self, at: datetime | None) -> tuple[Outcome, ...]:
        """Episodes of every session that has ended by ``at`` (all when None) and has none yet."""
        newest = self._turns(1)
        goes_on = at is not None and newest and _soon_after(newest[0], at)
        if goes_on and self._consolidated:
            return ()
        self._consolidated = True
        last = self.store.list("episode", limit=1, newest_first=True)
        done = {
            t for e in self.store.list("episode", limit=8, newest_first=True) for t in e.evidence
        }
        since = last[0].valid_from if last else None
        turns = [t for t in self._since(since) if t.id not in done]
        outcomes: tuple[Outcome, ...] = ()
        for session in sessions(turns):
            if at is not None and _soon_after(session[-1], at):
                continue
            model = None if self.once or isinstance(self.model, RuleModel) else self.model
            ops = episodes(session, model)
            if ops:
                batch = Batch(ops=ops, turns=tuple(t.id for t in session), author="system")
                outcomes += self.store.apply(batch).outcomes
        return outcomes

    def _since(self, start: datetime | None) -> list[Turn]:
        """The turns from ``start`` on, found from the newest back, in order of time."""
        taken = _LOOK_BACK
        while True:
            turns = self._turns(None if start is None else taken)
            if start is None or len(turns) < taken or (turns[0].valid_from or start) < start:
                return [t for t in turns if start is None or (t.valid_from or start) >= start]
            taken *= 4

    def _index(self) -> None:
        if self.text_embedder is not None:
            index_text(self.store, self.text_embedder)

    # aligning --------------------------------------------------------------------------------
    @property
    def personality(self) -> Personality:
        """Folded from the stored observations."""
        return self._traits.now()

    def alignment(self) -> tuple[str, ...]:
        """The lines of advice that go into the prompt: personality, then style if enabled."""
        lines = alignment_lines(self.personality)
        if self.style.name == "static":
            return lines
        return lines + style_lines(self._style.now())

    def _context(
        self, profile: Sequence[Record], notes: Sequence[Record], recent: Sequence[Turn]
    ) -> str:
        sections = {"profile": profile, "notes": notes, "recent conversation": recent}
        replaced = self.retriever.replaced(recent)
        parts = [data_block(sections, self.zone, BUDGET_TOKENS, replaced)]
        if lines := self.alignment():
            parts.append("How to speak with this person:\n" + "\n".join(f"- {x}" for x in lines))
        return "\n\n".join(parts)

    def _notes(self, text: str, pixels: Picture | None) -> tuple[Record, ...]:
        """What fits the turn at first sight: facts on concepts that are named or shown, then
        facts and habits by search."""
        mentioned = [m.candidates[0] for m in self.book.mentions(text) if m.how == "alias"]
        seen = [] if pixels is None else [c for c, _ in self.book.recognise(pixels)[:2]]
        ids = dict.fromkeys(concept.id for concept in (*mentioned, *seen))
        about = [f for id in ids for f in self.store.list("fact", subject=id, limit=4)]
        found = [f.record for f in self.retriever.search(text, caps=FIRST_SIGHT)]
        return tuple({record.id: record for record in (*about, *found)}.values())

    def _recent(self, besides: Sequence[str]) -> tuple[Turn, ...]:
        turns = [t for t in self._turns(RECENT_TURNS) if t.id not in besides]
        last = list(sessions(turns))
        return last[-1] if last else ()

    def _turns(self, newest: int | None) -> tuple[Turn, ...]:
        found = self.store.list("turn", limit=newest, newest_first=newest is not None)
        turns = [t for t in found if isinstance(t, Turn)]
        return tuple(reversed(turns) if newest is not None else turns)

    def _sources(self, reasoned: Reasoned, before: Sequence[Record]) -> tuple[str, ...]:
        """What the answer repeats: erasing one of these must erase the answer too."""
        said = set(content_words(reasoned.answer))
        shown = {r.id: r for r in (*before, *(found.record for found in reasoned.found))}
        return tuple(id for id, r in shown.items() if said & set(content_words(r.text)))[:200]

    # requests --------------------------------------------------------------------------------
    def _confirmed(self, text: str, at: datetime) -> Said | None:
        pending, self._pending = self._pending, None
        consent = read_consent(text)
        if pending is None or consent is None:
            return None
        if not consent:
            return Said(text=replies.UNCHANGED)
        if isinstance(pending, Proposal):
            taught = self.book.confirm(pending, at=at)
            self._pictured.taught()
            self._index()
            return Said(text=replies.taught(taught.concept.name, outlier=taught.outlier))
        receipts = carry_out(self.store, pending, self.book)
        self._index()
        left = self.store.still_holds(pending.words)
        return Said(text=replies.erased(receipts, left))

    def _requested(self, text: str, picture: bytes | None, at: datetime) -> Said | None:
        request = read_request(text)
        if request is None:
            return self._asked_of_pictures(read_picture_request(text), picture)
        if isinstance(request, ForgetRequest):
            return self._ask_to_forget(request)
        if isinstance(request, ProfileRequest):
            return Said(text=replies.all_remembered(self.store))
        if isinstance(request, DrawRequest):
            return self._draw(request, at)
        if isinstance(request, TeachRequest) and picture is not None:
            return self._ask_to_teach(request, picture)
        return None

    def _ask_to_forget(self, request: ForgetRequest) -> Said:
        plan = plan_forgetting(
            self.store, request.what, self.book, everything=request.everything,
            embedder=meaning_of(self.text_embedder),
        )  # fmt: skip
        if plan.empty:
            return Said(text=replies.NOTHING_KNOWN)
        self._pending = plan
        return Said(text=replies.shall_i_erase(plan.lines(), bool(plan.records)), asks=True)

    def _ask_to_teach(self, request: TeachRequest, picture: bytes) -> Said:
        proposal = self.book.propose(
            request.name, request.noun, picture, description=request.description
        )
        self._pending = proposal
        self._pictured.taught()
        question = replies.is_it_there(request.name, proposal.box, proposal.similar)
        return Said(text=question, asks=True)

    def _put_right(self, text: str, at: datetime) -> Said | None:
        """What the user corrects of a picture: who is in it, or what somebody is."""
        request = read_picture_request(text)
        if isinstance(request, NotHim):
            pending = self._pending if isinstance(self._pending, Proposal) else None
            done = self._pictured.renamed(request, pending)
            if isinstance(done, Proposal):
                self._pending = done
                question = replies.is_it_there(done.name, done.box, done.similar)
                return Said(text=question, asks=True)
        elif isinstance(request, OtherKind):
            done = self._pictured.other_kind(request)
            if done is not None:
                self.store.record([Turn(text=text, role="user", valid_from=at)])
        else:
            return None
        if done is None:
            return None
        self._pending = None
        self._index()
        return Said(text=done)

    def _asked_of_pictures(
        self, request: PictureRequest | None, picture: bytes | None
    ) -> Said | None:
        if isinstance(request, WhoRequest) and picture is not None:
            return Said(text=self._pictured.who(picture))
        if isinstance(request, WornRequest):
            worn = self._pictured.worn(request.name)
            return None if worn is None else Said(text=worn)
        return None

    def _draw(self, request: DrawRequest, at: datetime) -> Said:
        mentions = self.book.mentions(request.what)
        ties = [mention for mention in mentions if mention.tie]
        if ties:
            return Said(text=ties[0].question)
        if not mentions:
            return Said(text=replies.UNKNOWN_NAME)
        concepts = [mention.candidates[0] for mention in mentions]
        identities = tuple(self.book.identity(c, today=at) for c in concepts)
        prompt = with_words(request.what, concepts, identities)
        if self.drawer is None:
            return Said(text=replies.would_draw(prompt))
        drawer = self.drawer
        checked, _ = self.book.draw_checked(
            concepts[0],
            lambda attempt: drawer(DrawJob(prompt=prompt, identities=identities, attempt=attempt)),
            budget=self.draw_budget,
            at=at,
            details=lambda: {"prompt": prompt, **getattr(drawer, "details", {})},
        )
        return Said(text=replies.drawn(prompt, checked), drawn=checked)


def _soon_after(turn: Turn, at: datetime) -> bool:
    """Whether a session that ends with ``turn`` goes on at ``at``."""
    return turn.valid_from is not None and at - turn.valid_from <= SESSION_GAP


def with_words(
    text: str, concepts: Sequence[Concept], identities: Sequence[RememberedIdentity]
) -> str:
    """``text`` with each name replaced by the identity's words: what a drawing model can read."""
    for concept, identity in zip(concepts, identities, strict=True):
        for name in sorted((concept.name, *concept.aliases), key=len, reverse=True):
            place = text.casefold().find(name.casefold())
            if place >= 0:
                text = text[:place] + identity.words + text[place + len(name) :]
                break
    return text
