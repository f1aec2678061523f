"""Named things one can see: teaching, recognising, handing over to be drawn, checking, forgetting.

A concept is taught with words and a picture. A box is proposed, the user confirms it, and only
then photo, crop and vector are stored. The prototype is the mean direction of the confirmed crops
and is folded on every read, so forgetting one photo leaves no stale average. A crop far from the
prototype is kept but flagged, and not averaged in. RAP (arXiv 2410.13360) is the pattern: a new
concept needs no training.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

import numpy as np

from consistent_gen.errors import InputError
from consistent_gen.language.embedders import TextEmbedder, Vectors
from consistent_gen.memory.data.operations import Add, Batch, Update
from consistent_gen.memory.data.records import Concept, Media
from consistent_gen.memory.data.store import ErasureReceipt, Outcome, Scope, Store
from consistent_gen.memory.recall.indexing import IMAGE_ROLE
from consistent_gen.memory.recall.mentions import ConceptMention, find_mentions
from consistent_gen.memory.recall.pictures import (
    Box,
    ImageEmbedder,
    Picture,
    crop,
    grow,
    png_bytes,
    propose_box,
    read_picture,
    sharpness,
)

MAX_REFERENCES = 4
# Cosine to the prototype from which a crop counts as the concept, before there is enough to tell.
DEFAULT_THRESHOLD = 0.8
THRESHOLD_RANGE = (0.72, 0.92)
CROPS_FOR_A_THRESHOLD = 3
_MARGIN = 0.05


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """What would be stored if the user says yes: nothing of it is stored yet.

    ``similar`` names a known concept that the crop resembles, with the cosine.
    """

    name: str
    class_name: str
    picture: Picture
    box: Box
    description: str = ""
    aliases: tuple[str, ...] = ()
    similar: tuple[str, float] | None = None


@dataclass(frozen=True, kw_only=True)
class Taught:
    """``outlier`` tells that the crop is far from the earlier ones and was not averaged in."""

    concept: Concept
    photo: str
    crop: str
    outlier: bool = False


@dataclass(frozen=True, kw_only=True)
class Prototype:
    """The mean direction (d, unit) of ``crops`` confirmed crops and the cosine to accept from."""

    vector: Vectors
    threshold: float
    crops: int


@dataclass(frozen=True, kw_only=True)
class RememberedIdentity:
    """A concept as the story engine takes it: words, head noun and reference pictures.

    ``words`` are a full first mention ("a brown dog with a red scarf"); ``references`` are PNG
    files, best first; ``avoid`` are words for the negative prompt; ``assets`` are adapters.
    """

    concept: str
    version: int
    name: str
    words: str
    noun: str
    references: tuple[bytes, ...]
    avoid: tuple[str, ...] = ()
    assets: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Checked:
    """The best of the drawn pictures, its cosine to the prototype, and every attempt's.

    ``passed`` is False when the budget ran out below ``threshold``: the picture is still given,
    with its score, so that the user can judge.
    """

    picture: Picture
    score: float
    threshold: float
    passed: bool
    scores: tuple[float, ...]
    attempt: int


@dataclass
class ConceptBook:
    """The visual concepts of one store.

    boxes: proposes a box for a picture; the default finds what differs from the border.
    forgetters: called with the blob names that an erasure removes, for caches outside the store.
    """

    store: Store
    image_embedder: ImageEmbedder
    text_embedder: TextEmbedder | None = None
    boxes: Callable[[Picture], Box] = propose_box
    forgetters: Sequence[Callable[[Sequence[str]], None]] = field(default_factory=tuple)

    def __post_init__(self) -> None:
        space = self.image_embedder.space
        self.store.create_space(space, self.image_embedder.dimensions)
        active = self.store.active_space(IMAGE_ROLE)
        if active is None:
            self.store.switch_space(IMAGE_ROLE, space)
        elif active != space:
            raise InputError(
                f"this memory's pictures are in space {active}, the embedder's is {space}; "
                "open it with that embedder, or re-embed its pictures (reembed_pictures)"
            )

    def all(self) -> tuple[Concept, ...]:
        """The live concepts."""
        return tuple(c for c in self.store.list("concept") if isinstance(c, Concept))

    # teaching --------------------------------------------------------------------------------
    def propose(
        self,
        name: str,
        class_name: str,
        picture: bytes,
        *,
        description: str = "",
        aliases: tuple[str, ...] = (),
        box: Box | None = None,
    ) -> Proposal:
        """Look at a picture file and propose what to store. Writes nothing."""
        pixels = read_picture(picture)
        chosen = grow(self.boxes(pixels), pixels, 0.03) if box is None else box
        seen = self.recognise(crop(pixels, chosen))
        similar = (seen[0][0].name, seen[0][1]) if seen else None
        return Proposal(
            name=name, class_name=class_name, picture=pixels, box=chosen,
            description=description, aliases=aliases, similar=similar,
        )  # fmt: skip

    def confirm(
        self,
        proposal: Proposal,
        *,
        box: Box | None = None,
        consent: Mapping[str, str] | None = None,
        evidence: tuple[str, ...] = (),
        at: datetime | None = None,
    ) -> Taught:
        """Store what the user confirmed; a known name gets one more photo.

        consent: who agreed (``by``), to what (``purpose``), until when (``until``, ISO date).
        Raises ``InputError`` when the executor refuses the concept, with its reason.
        """
        box = proposal.box if box is None else box
        pixels = crop(proposal.picture, box)
        concept = self._concept(proposal, consent or {"by": "user"}, evidence, at)
        photo = self._picture(proposal.picture, concept, evidence, at, role="photo")
        vector = self.image_embedder.image([pixels])[0]
        prototype = self.prototype(concept.id)
        outlier = prototype is not None and (
            float(prototype.vector @ vector) < prototype.threshold - _MARGIN
        )
        cut = self._picture(
            pixels, concept, evidence, at, role="crop", source=photo, box=box, confirmed=True,
            quality=sharpness(pixels), details={"outlier": True} if outlier else {},
        )  # fmt: skip
        self.store.put_vector(cut, self.image_embedder.space, vector)
        return Taught(concept=concept, photo=photo, crop=cut, outlier=outlier)

    def _concept(
        self,
        proposal: Proposal,
        consent: Mapping[str, str],
        evidence: tuple[str, ...],
        at: datetime | None,
    ) -> Concept:
        known = self.store.list("concept", label=proposal.name)
        if known:
            assert isinstance(known[0], Concept)
            return known[0]
        text = proposal.description or f"{proposal.name}, a {proposal.class_name or 'thing'}"
        fields = {
            "class_name": proposal.class_name,
            "aliases": proposal.aliases,
            "consent": dict(consent),
        }
        op = Add(
            kind="concept", target=proposal.name, value=text, fields=fields, evidence=evidence,
            at=at,
        )  # fmt: skip
        outcome = self._apply(op, evidence)
        made = self.store.get([outcome.record])
        if not made:
            raise InputError(f"{proposal.name} was not remembered: {outcome.reason}")
        assert isinstance(made[0], Concept)
        return made[0]

    def _apply(self, op: Add | Update, evidence: tuple[str, ...]) -> Outcome:
        receipt = self.store.apply(Batch(ops=(op,), turns=evidence, author="system"))
        return receipt.outcomes[0]

    def _picture(
        self,
        pixels: Picture,
        concept: Concept,
        evidence: tuple[str, ...],
        at: datetime | None,
        **fields: Any,
    ) -> str:
        name = self.store.put_media(png_bytes(pixels))
        height, width = pixels.shape[:2]
        media = Media(
            text=concept.name, media=(name,), subject=concept.id, width=width, height=height,
            evidence=evidence, valid_from=at, **fields,
        )  # fmt: skip
        return self.store.record([media]).ids[0]

    # recognising -----------------------------------------------------------------------------
    def crops(self, concept: str, *, outliers: bool = False) -> tuple[Media, ...]:
        """The confirmed crops of a concept id, oldest first."""
        media = self.store.list("media", subject=concept)
        found = [m for m in media if isinstance(m, Media) and m.role == "crop" and m.confirmed]
        return tuple(m for m in found if outliers or not m.details.get("outlier"))

    def prototype(self, concept: str) -> Prototype | None:
        """Folded from the crops that are stored now; ``None`` when there is none."""
        space = self.image_embedder.space
        vectors = self.store.vectors(space, [m.id for m in self.crops(concept)])
        if not vectors:
            return None
        rows = np.stack(list(vectors.values()))
        mean = rows.mean(0)
        own = self.store.get([concept])
        fixed = own[0].threshold.get(space) if own and isinstance(own[0], Concept) else None
        threshold = derived_threshold(rows) if fixed is None else fixed
        return Prototype(vector=mean / np.linalg.norm(mean), threshold=threshold, crops=len(rows))

    def recognise(self, pixels: Picture) -> tuple[tuple[Concept, float], ...]:
        """Concepts whose prototype a crop matches, best first."""
        vector = self.image_embedder.image([pixels])[0]
        matches = []
        for concept in self.all():
            prototype = self.prototype(concept.id)
            if prototype is not None:
                cosine = float(prototype.vector @ vector)
                if cosine >= prototype.threshold:
                    matches.append((concept, cosine))
        return tuple(sorted(matches, key=lambda match: (-match[1], match[0].id)))

    def mentions(self, text: str) -> tuple[ConceptMention, ...]:
        """The concepts that a sentence mentions; see `consistent_gen.memory.recall.mentions`."""
        return find_mentions(text, self.all(), self.text_embedder)

    # drawing ---------------------------------------------------------------------------------
    def identity(self, concept: Concept, *, today: datetime | None = None) -> RememberedIdentity:
        """The concept as the story engine takes it.

        Raises ``InputError`` when the consent has run out.
        """
        until = concept.consent.get("until")
        if until and today is not None and today.date().isoformat() > until:
            raise InputError(f"the consent to draw {concept.name} ended on {until}; renew it first")
        best = sorted(self.crops(concept.id), key=lambda m: (-m.quality, m.id))[:MAX_REFERENCES]
        noun = concept.class_name or concept.name
        words = concept.text
        if words.partition(" ")[0].lower() not in ("a", "an", "the"):
            words = f"{'an' if noun[0].lower() in 'aeiou' else 'a'} {noun}"
        return RememberedIdentity(
            concept=concept.id, version=concept.version, name=concept.name, words=words, noun=noun,
            references=tuple(self.store.get_media(m.media[0]) for m in best),
            avoid=concept.avoid, assets=concept.assets,
        )  # fmt: skip

    def similarity(self, concept: str, picture: Picture) -> float:
        """Cosine to the prototype of the best of the whole picture and its proposed box."""
        prototype = self.prototype(concept)
        if prototype is None:
            raise InputError("this concept has no confirmed crop to compare with")
        views = [picture, crop(picture, self.boxes(picture))]
        return float(np.max(self.image_embedder.image(views) @ prototype.vector))

    def draw_checked(
        self,
        concept: Concept,
        draw: Callable[[int], Picture],
        *,
        budget: int = 4,
        details: Callable[[], Mapping[str, Any]] = dict,
        at: datetime | None = None,
    ) -> tuple[Checked, str]:
        """Draw until the picture matches the prototype or ``budget`` is spent; record the best.

        draw: gives the picture of attempt 0, 1, ... (another seed each).
        details: asked after the drawing for what reproduces it (prompt, seed, model); the
            concept's version and the scores are added.

        Returns the check and the id of the recorded picture.
        """
        if budget < 1:
            raise InputError(f"the budget is {budget}; expected at least one attempt")
        prototype = self.prototype(concept.id)
        if prototype is None:
            raise InputError(f"{concept.name} has no confirmed picture yet; teach one first")
        scores: list[float] = []
        best: tuple[float, Picture] | None = None
        for attempt in range(budget):
            picture = draw(attempt)
            scores.append(self.similarity(concept.id, picture))
            if best is None or scores[-1] > best[0]:
                best = scores[-1], picture
            if scores[-1] >= prototype.threshold:
                break
        assert best is not None
        checked = Checked(
            picture=best[1], score=best[0], threshold=prototype.threshold,
            passed=best[0] >= prototype.threshold, scores=tuple(scores),
            attempt=scores.index(best[0]),
        )  # fmt: skip
        log = {
            **details(), "concept": concept.id, "concept_version": concept.version,
            "space": self.image_embedder.space, "scores": [round(s, 4) for s in scores],
            "attempt": checked.attempt, "passed": checked.passed,
        }  # fmt: skip
        return checked, self._picture(
            checked.picture, concept, (), at, role="generated", details=log
        )

    # forgetting ------------------------------------------------------------------------------
    def forget(
        self,
        concept: Concept,
        *,
        also: tuple[str, ...] = (),
        generated: Literal["erase", "keep"] = "erase",
    ) -> ErasureReceipt:
        """Erase a concept with crops, vectors, facts and, by ``generated``, pictures of it.

        also: ids of other records that speak of it. Caches outside are told the blob names.
        """
        media = [m for m in self.store.list("media", subject=concept.id) if isinstance(m, Media)]
        gone = [m.media[0] for m in media if m.role != "generated" or generated == "erase"]
        receipt = self.store.purge(Scope(ids=(concept.id, *also), generated=generated))
        for forget in self.forgetters:
            forget(gone)
        return receipt


def derived_threshold(rows: Vectors) -> float:
    """Two standard deviations below the mean cosine of each crop to the others' mean.

    ``rows`` n d unit. With fewer than three crops nothing is known of the spread.
    """
    if len(rows) < CROPS_FOR_A_THRESHOLD:
        return DEFAULT_THRESHOLD
    rest = rows.sum(0)[None] - rows
    cosines = (rows * rest / np.linalg.norm(rest, axis=1, keepdims=True)).sum(1)
    low, high = THRESHOLD_RANGE
    return float(min(high, max(low, cosines.mean() - 2 * cosines.std())))


def reembed_pictures(store: Store, embedder: ImageEmbedder) -> int:
    """Move all crops to another embedder's space, then switch; returns how many there were."""
    old = store.active_space(IMAGE_ROLE)
    store.create_space(embedder.space, embedder.dimensions)
    done = 0
    for record in store.list("media"):
        if isinstance(record, Media) and record.role == "crop":
            pixels = read_picture(store.get_media(record.media[0]))
            store.put_vector(record.id, embedder.space, embedder.image([pixels])[0])
            done += 1
    store.switch_space(IMAGE_ROLE, embedder.space)
    if old is not None and old != embedder.space:
        store.drop_space(old)
    return done
