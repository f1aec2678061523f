"""In which scope a clause stands: whether its speaker means it as true, read from the parse.

A clause is not asserted when it stands below a condition, a modal, a comparison with "as though",
or a verb of saying or thinking whose subject is somebody else, however many steps above; when an
adverb or "according to" gives it to others; when "nearly" takes it back; when a verb of saying
follows it with its subject behind ("I'm Irish now, says the ad"). What stands behind a label that
announces a text or a speaker ("Draft: ...", "Person A: ...") is not asserted either, as far as the
label reaches: to the end of its paragraph.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from consistent_gen.language.words import word_set

_UNREAL_MODALS = word_set("would could might may should ought")
_IF = frozenset(("if", "unless", "whether", "supposing", "provided"))
_WISHED = word_set("like love prefer")
SAYING = word_set(
    "say tell claim insist argue swear joke complain suggest reckon think believe feel assume "
    "call keep worry hope wish imagine pretend dream guess suppose bet fear wonder ask want "
    "announce declare"
)
OWN_WORD = word_set(
    "think believe guess reckon suppose feel know mean say tell mention find realise realize hear "
    "see notice remember forget decide swear learn discover admit confess bet"
)
# Who is believed when they say something of the user: it is kept with their name.
_AUTHORITY = word_set(
    "doctor gp dr vet nurse midwife consultant surgeon dentist physio optician teacher school "
    "hospital surgery clinic landlord landlady solicitor council scan test result letter therapist "
    "paediatrician pediatrician radiologist cardiologist specialist pharmacist"
)
# What even they only suppose.
_SUPPOSED = word_set("think ask wonder hope wish guess suppose assume imagine fear worry bet dream")
_FAIR = word_set("he she they")
_MINE = word_set("i we me us my our")
_OTHERS_SAY = word_set("apparently allegedly supposedly reportedly")
_TAKEN_BACK = word_set("nearly almost practically virtually")
_CHARGED = word_set("accuse suspect blame")
# Of "I thought it was a heart attack" the opposite is usually meant.
_MISTAKEN = word_set("think believe assume suppose reckon guess")
# Whose plural without an article is the speaker's own, as a rule: "kids are 11 and 8".
_THEIRS = word_set("kid child parent twin boy girl lad grandkid grandchild neighbour neighbor folk")
# "Draft for my profile: ...", "Lyrics: ...", "My nephew's story starts: ...", "Person A: ...".
_LABEL = re.compile(
    r"^\W*(?:(?:[\w'\u2019-]+ ){0,6}?(?:draft|story|tale|profile|lyrics?|headline|caption|advert|"
    r"ad|quote|script|poem|essay|bio|review|joke|speech|chapter|verse|chorus|scene|dialogue|"
    r"monologue|slogan|motto|horoscope|fortune|subject|excerpt|extract|quiz|meme|status|tweet)\b"
    r"(?: [\w'\u2019-]+){0,4}|(?:[\w'\u2019-]+ ){1,5}(?:starts?|begins?|goes|reads|went|read|wrote)"
    r"|(?:person|speaker|actor|voice|player) \w+|[A-C])(?: (?:so far|again))?: (?=\S)",
    re.IGNORECASE,
)
# Two interjections, or one that a conjunction goes on with, mock what follows.
_MOCKED = re.compile(
    r"^\W*(?:sure|right|yeah|yes|oh)[, ]+(?:(?:sure|right|yeah|yes)[, ]+(?:i|we|because|cos)\b|"
    r"and (?:i|we|my|pigs|monkeys)\b|because\b|cos\b)",
    re.IGNORECASE,
)


def labelled(sentence: str) -> bool:
    """Whether a label announces what follows as a text or as another's words."""
    return _LABEL.match(sentence) is not None


def mocked(sentence: str) -> bool:
    """Whether the opening says that the opposite is meant."""
    return _MOCKED.match(sentence) is not None


def supposes(doc: Any) -> bool:
    """Whether a sentence has a condition or a modal anywhere."""
    return any(
        (t.dep_ == "mark" and t.lower_ in _IF)
        or (t.dep_ == "aux" and modal(t, t.head) in _UNREAL_MODALS)
        for t in doc
    )


def compared(head: Any) -> bool:
    """Whether a clause only compares: "as though I'd run a marathon"."""
    return any(c.dep_ == "mark" and _compares(c) for c in head.children)


def subject_of(head: Any) -> Any:
    """The subject that hangs from a verb, or nothing."""
    for child in head.children:
        if child.dep_ in ("nsubj", "nsubjpass", "csubj", "expl"):
            return child
    return None


def unasserted(head: Any, subject: Any) -> bool:
    """Whether the clause of ``head`` with its ``subject`` is not meant as true."""
    return (
        _unreal(head)
        or _general(head, subject)
        or _given_to_others(head)
        or any(_says_of_me(above, head) for above in _above(head))
        or _reported(head, subject)
    )


def _above(head: Any) -> Iterator[Any]:
    while head.dep_ in ("conj", "advcl", "ccomp", "xcomp", "relcl", "acl", "pcomp", "prep"):
        if head.head is head:
            return
        head = head.head
        yield head


def _unreal(head: Any) -> bool:
    """Below a condition or a modal, compared, or nearly so."""
    lemma = head.lemma_.lower()
    for child in head.children:
        if child.dep_ == "aux" and modal(child, head) in _UNREAL_MODALS and lemma not in _WISHED:
            return True
        if child.dep_ == "mark" and (child.lower_ in _IF or _compares(child)):
            return True
        if child.dep_ == "advmod" and child.lower_ in _TAKEN_BACK and child.i == head.i - 1:
            return True
        if child.dep_ == "advcl" and any(
            c.lower_ in _IF for c in child.children if c.dep_ == "mark"
        ):
            return not any(_compares(c) for c in child.children)
    if head.dep_ == "conj" and subject_of(head) is None:
        return any(
            above.dep_ == "ROOT"
            and any(c.dep_ == "aux" and modal(c, above) in _UNREAL_MODALS for c in above.children)
            for above in _above(head)
        )
    return False


def _general(head: Any, subject: Any) -> bool:
    """ "Owners of cats live longer": a plural without an article, now, of nobody in particular."""
    bare = subject.tag_ == "NNS" and subject.lemma_.lower() not in _THEIRS
    bare = bare and not any(c.dep_ in ("det", "poss", "nummod", "amod") for c in subject.children)
    now = head.tag_ in ("VBP", "VB") and not any(c.dep_ == "aux" for c in head.children)
    words = list(head.subtree)
    return bool(
        bare and now and head.lemma_ != "be"
        and not any(t.lower_ in _MINE or t.pos_ in ("PROPN", "NUM") for t in words)
    )  # fmt: skip


def mistaken(head: Any) -> bool:
    """Whether a verb of thinking stands in the past: "I thought it was a heart attack"."""
    return bool(head.lemma_.lower() in _MISTAKEN and head.tag_ == "VBD")


def _compares(mark: Any) -> bool:
    """ "As though I'd run": "though" or "if" after "as"."""
    return bool(mark.lower_ in ("though", "if") and mark.i and mark.doc[mark.i - 1].lower_ == "as")


def _given_to_others(head: Any) -> bool:
    """ "Apparently", "according to the quiz", "..., says the ad"."""
    for child in head.children:
        if child.dep_ == "advmod" and child.lower_ in _OTHERS_SAY:
            return True
        if child.dep_ == "prep" and child.lower_ == "according":
            return not any(t.lower_ in _AUTHORITY for t in child.subtree)
        if child.dep_ in ("ccomp", "parataxis") and _said_behind(child):
            return True
    return head.dep_ == "ccomp" and head.i < head.head.i and _said_behind(head.head)


def _said_behind(verb: Any) -> bool:
    """A verb of saying with its subject, somebody else, behind it."""
    of = subject_of(verb)
    return bool(
        verb.lemma_.lower() in SAYING and of is not None and of.i > verb.i
        and of.lower_ not in _MINE and not any(t.lower_ in _AUTHORITY for t in of.subtree)
    )  # fmt: skip


def _says_of_me(above: Any, head: Any) -> bool:
    """Whether a verb above gives the clause to somebody else: "used to tell people I was ..."."""
    if above.lemma_.lower() not in SAYING or above.i > head.i:
        return False
    of = subject_of(above)
    while of is None and above.dep_ in ("xcomp", "conj") and above.head is not above:
        above = above.head
        of = subject_of(above)
    if of is None or of.lower_ in _MINE or any(t.lower_ in _AUTHORITY for t in of.subtree):
        return False
    mine = subject_of(head)
    return mine is not None and mine.lower_ in _MINE


def _reported(head: Any, subject: Any) -> bool:
    """Whether the clause only tells what somebody says, thinks or charges the user with."""
    lemma = head.lemma_.lower()
    if lemma in _CHARGED:
        return any(c.dep_ == "dobj" and c.lower_ in _MINE for c in head.children)
    told = next((c for c in head.children if c.dep_ == "xcomp" and c.lemma_ in SAYING), None)
    if told is not None and subject.lower_ not in _MINE:
        # "My ex used to tell people I was a model"
        complement = next((c for c in told.children if c.dep_ == "ccomp"), None)
        of = subject_of(complement) if complement is not None else None
        if of is not None and of.lower_ in _MINE:
            return True
    complement = next((c for c in head.children if c.dep_ == "ccomp"), None)
    if lemma in SAYING and complement is not None and complement.i > head.i:
        return _hearsay(subject, complement, lemma)
    if lemma in SAYING and complement is None and subject.lower_ not in ("i", "we"):
        return lemma in ("say", "think", "reckon", "believe", "want", "wish", "suggest", "feel")
    return subject.lower_ in ("i", "we") and lemma in OWN_WORD and complement is not None


def modal(aux: Any, head: Any) -> str:
    """The auxiliary in full: "'d" is had or would."""
    if aux.lower_ in ("'d", "\u2019d"):
        after = next((t for t in aux.doc[aux.i + 1 :] if t.pos_ != "ADV"), head)
        return "had" if after.tag_ in ("VBN", "VBD") or after.lower_ == "better" else "would"
    return str(aux.lower_)


def _hearsay(subject: Any, complement: Any, lemma: str) -> bool:
    """Whether somebody's word is not to be taken for a fact, even with their name to it."""
    of = subject_of(complement)
    if subject.lower_ in ("i", "we"):
        return True  # the complement stands for itself
    asked = any(c.lower_ in _IF for c in complement.children if c.dep_ == "mark")
    if asked or (of is not None and of.lower_ == "you"):
        return True  # "asked if I grind my teeth", "says you have high cortisol"
    if any(t.lower_ in _AUTHORITY for t in subject.subtree):
        return lemma in _SUPPOSED
    return lemma != "say" or of is None or of.lower_ not in _FAIR
