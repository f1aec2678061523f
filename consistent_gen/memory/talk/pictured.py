"""Talk about pictures: who is shown, what somebody wears, and what the user puts right about both.

"Who is this?" with a picture is answered by the prototypes of those who were taught. "What does Bo
wear in the last picture?" is answered as far as a reader of pictures sees. "No, that's Rex, not
Bo" moves the picture that was taken for Bo; "Bo is not a cat, he is a dog" changes what Bo is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from consistent_gen.errors import InputError
from consistent_gen.memory.data.operations import Batch, Update
from consistent_gen.memory.data.records import Concept, Media
from consistent_gen.memory.data.store import Scope, Store
from consistent_gen.memory.recall.concepts import ConceptBook, Proposal
from consistent_gen.memory.recall.pictures import Picture, crop, grow, read_picture

# What somebody wears in a picture ("a hat", "overalls"); nothing worn is an empty tuple, and None
# is what one says that cannot tell.
ClothesReader = Callable[[Picture], tuple[str, ...] | None]

_NAME = r"[^\W\d_a-z][\w'\u2019-]*(?: [A-Z][\w'\u2019-]*){0,2}"
_KIND = r"(?:an?|my|our) [a-z][a-z -]{1,39}?"
_IT_IS = r"(?:that|this|it)(?:['\u2019]s| is| was)"
_ITS = r"(?:(?:he|she|it|they)(?: is|['\u2019]s| are|['\u2019]re) |is )?"
_START, _END = r"^\W*(?:no|nope|wrong|sorry|actually)?[\s,.!;:-]*", r"[\s.!]*$"
_WHO = re.compile(
    r"^\W*(?:and |so |ok |do you know |can you tell(?: me)? )*(?:who|what)(?: is|['\u2019]s) "
    r"(?:this|that|(?:in |on )?(?:this|the) (?:picture|photo(?:graph)?))(?: then| one)?[\s?!.]*$"
    r"|^\W*(?:who (?:do you see|is it)|do you (?:recogni[sz]e|know) (?:this|him|her|them|it))\b.*$",
    re.IGNORECASE,
)
_WORN = re.compile(
    rf"^\W*(?:and |so )?(?i:what (?:does|did|is|was)) (?P<name>{_NAME}) (?i:wear(?:ing)?|"
    r"have on|has on) (?i:in|on) (?i:the|that|this|my|your) (?i:last |latest |newest |first )?"
    r"(?i:picture|photo(?:graph)?|drawing|one)[\s?!.]*$"
)
_NOT_HIM = tuple(
    re.compile(pattern)
    for pattern in (
        rf"(?i:{_START}{_IT_IS} )(?P<right>{_NAME}),? (?i:and )?(?i:not) (?P<wrong>{_NAME}){_END}",
        rf"(?i:{_START}{_IT_IS} not )(?P<wrong>{_NAME})[,;.]? (?i:but |{_IT_IS} |it is )"
        rf"(?P<right>{_NAME}){_END}",
        rf"(?i:^\W*(?:no|nope|wrong)[\s,.!;:-]+{_IT_IS} )(?P<right>{_NAME})(?P<wrong>){_END}",
    )
)
_OTHER_KIND = tuple(
    re.compile(pattern)
    for pattern in (
        rf"(?i:{_START})(?P<name>{_NAME})(?: is not|['\u2019]s not| isn['\u2019]t) "
        rf"(?P<wrong>{_KIND})[,;.]? (?i:but )?(?i:{_ITS})(?P<kind>{_KIND}){_END}",
        rf"(?i:{_START})(?P<name>{_NAME})(?: is|['\u2019]s) (?P<kind>{_KIND}),? (?:and )?not "
        rf"(?P<wrong>{_KIND}){_END}",
    )
)

# For how many turns "that" still means the picture that was taught or shown.
LATELY = 3
NO_READER = "No reader of pictures is connected, so I cannot see what is worn."
CANNOT_TELL = "I cannot tell from that picture."
NOBODY = "I recognise nobody that I know in this picture."


@dataclass(frozen=True)
class WhoRequest:
    """ "Who is this?", of a picture that comes with it."""


@dataclass(frozen=True)
class WornRequest:
    """ "What does Bo wear in the last picture?" """

    name: str


@dataclass(frozen=True)
class NotHim:
    """ "No, that's Rex, not Bo"; ``wrong`` is empty in "No, that's Rex"."""

    right: str
    wrong: str


@dataclass(frozen=True)
class OtherKind:
    """ "Bo is not a cat, he is a dog": ``kind`` is "a dog", ``wrong`` is "a cat"."""

    name: str
    kind: str
    wrong: str


PictureRequest = WhoRequest | WornRequest | NotHim | OtherKind


def read_picture_request(text: str) -> PictureRequest | None:
    """What a sentence asks or puts right about a picture, or ``None``."""
    if _WHO.match(text):
        return WhoRequest()
    if match := _WORN.match(text):
        return WornRequest(match["name"])
    for pattern in _NOT_HIM:
        if match := pattern.match(text):
            return NotHim(match["right"], match["wrong"])
    for pattern in _OTHER_KIND:
        if match := pattern.match(text):
            return OtherKind(match["name"], match["kind"], match["wrong"])
    return None


@dataclass
class PictureTalk:
    """What was last shown and what it was taken for; one per conversation.

    reader: tells what is worn; None where no network that reads pictures is connected.
    """

    store: Store
    book: ConceptBook
    reader: ClothesReader | None = None
    _shown: tuple[bytes, str] | None = None
    _turns: int = LATELY

    def turn(self) -> None:
        """The user says something more."""
        self._turns += 1

    def taught(self) -> None:
        """A picture is being taught: "that" means it, and not what was shown before."""
        self._shown, self._turns = None, 0

    def who(self, picture: bytes) -> str:
        """Who is in a picture; it is kept in mind, not stored, for a correction."""
        whole = read_picture(picture)
        boxed = crop(whole, grow(self.book.boxes(whole), whole, 0.03))
        seen = [*self.book.recognise(whole), *self.book.recognise(boxed)]
        best = max(seen, key=lambda match: match[1], default=None)
        self._shown, self._turns = (picture, "" if best is None else best[0].name), 0
        if best is None:
            return NOBODY
        kind = f", {_a(best[0].class_name)}" if best[0].class_name else ""
        return f"That looks like {best[0].name}{kind} ({best[1]:.2f})."

    def worn(self, name: str) -> str | None:
        """What somebody wears in the newest picture of them; None for an unknown name."""
        concept = self._named(name)
        if concept is None:
            return None
        if self.reader is None:
            return NO_READER
        newest = self._newest(concept, ("photo", "generated"))
        if newest is None:
            return f"I have no picture of {concept.name}."
        cut = next((c for c in self._cut_from(newest) if c.confirmed), newest)
        worn = self.reader(read_picture(self.store.get_media(cut.media[0])))
        if worn is None:
            return CANNOT_TELL
        day = f"{newest.valid_from:%Y-%m-%d}" if newest.valid_from else "an unknown day"
        listed = " and ".join([", ".join(worn[:-1]), worn[-1]] if len(worn) > 1 else worn)
        return f"In the last picture, of {day}, {concept.name} wears {listed or 'nothing special'}."

    def renamed(self, request: NotHim, pending: Proposal | None) -> Proposal | str | None:
        """What to ask about next, or what was done; ``None`` where no picture was taken for
        somebody else in the last `LATELY` turns, so that the sentence is ordinary talk.

        A picture that is being taught gets the other name. One that was only shown is proposed for
        the right one. Else the newest photograph of the wrong one changes hands.
        """
        if pending is not None and request.wrong in ("", pending.name):
            return replace(
                pending, name=request.right, class_name=self._kind(request.right, pending)
            )
        if self._turns > LATELY:
            return None
        if self._shown is not None and request.wrong in ("", self._shown[1]):
            (picture, name), self._shown = self._shown, None
            known = self._named(request.right) or self._named(name)
            kind = known.class_name if known else ""
            return self.book.propose(request.right, kind, picture)
        wrong = self._named(request.wrong)
        photo = None if wrong is None else self._newest(wrong, ("photo",))
        crops = () if photo is None else self._cut_from(photo)
        if wrong is None or photo is None or not crops or wrong == self._named(request.right):
            return None
        return self._handed_over(wrong, request.right, photo, crops)

    def _handed_over(
        self, wrong: Concept, right: str, photo: Media, crops: tuple[Media, ...]
    ) -> str:
        for cut in crops:
            left, top, end, bottom = cut.box
            self.book.confirm(
                Proposal(
                    name=right, class_name=wrong.class_name, box=(left, top, end, bottom),
                    picture=read_picture(self.store.get_media(photo.media[0])),
                ),
                at=photo.valid_from,
            )  # fmt: skip
        # Only what nothing else is known of goes with its only picture.
        told = self.store.list("fact", subject=wrong.id, limit=1) or self._newest(
            wrong, ("generated",)
        )
        if self.book.crops(wrong.id, outliers=True) == crops and not told:
            self.book.forget(wrong)
            return f"That picture shows {right}. I know nobody called {wrong.name} any more."
        self.store.purge(Scope(ids=(photo.id, *(cut.id for cut in crops))))
        return f"That picture shows {right} now, and {wrong.name} no longer."

    def other_kind(self, request: OtherKind) -> str | None:
        """Change what a taught one is; ``None`` where the sentence is about something else."""
        concept = self._named(request.name)
        wrong, noun = request.wrong.split()[-1], request.kind.split()[-1]
        if concept is None or wrong.casefold() != concept.class_name.casefold():
            return None
        described = re.sub(
            rf"\ban? ((?:\w+ )*){re.escape(wrong)}\b", rf"a \1{noun}", concept.text, flags=re.I
        )
        if described == concept.text:
            described = f"{concept.name}, {_a(noun)}"
        change = Update(
            kind="concept", target=concept.id, value=re.sub(r"\ba (?=[aeiou])", "an ", described),
            fields={"class_name": noun}, correction=True,
        )  # fmt: skip
        outcome = self.store.apply(Batch(ops=(change,), author="system")).outcomes[0]
        if outcome.status not in ("applied", "normalised"):
            raise InputError(f"{concept.name} was not changed: {outcome.reason}")
        return f"{concept.name} is {_a(noun)}, not {_a(wrong)}."

    def _named(self, name: str) -> Concept | None:
        wanted = name.casefold()
        return next(
            (c for c in self.book.all() if wanted in map(str.casefold, (c.name, *c.aliases))), None
        )

    def _kind(self, name: str, pending: Proposal) -> str:
        known = self._named(name)
        return known.class_name if known else pending.class_name

    def _newest(self, concept: Concept, roles: Sequence[str]) -> Media | None:
        media = self.store.list("media", subject=concept.id)
        found = [m for m in media if isinstance(m, Media) and m.role in roles]
        return found[-1] if found else None

    def _cut_from(self, photo: Media) -> tuple[Media, ...]:
        crops = self.book.crops(photo.subject, outliers=True)
        return tuple(crop for crop in crops if crop.source == photo.id)


def _a(noun: str) -> str:
    return f"{'an' if noun[:1].lower() in 'aeiou' else 'a'} {noun}"
