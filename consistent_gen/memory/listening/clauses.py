"""Sentences to clauses that say how things are: who each is about, and which say nothing so.

A clause passes when its speaker means it as true. Questions, conditions, wishes, what others think
or say of the user, quotations, pasted texts and games do not pass; what a question takes for
granted ("a present for my sister Ida, who turned 40") may.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from consistent_gen.language.words import is_question, word_set

# How people type: what the parser must see with an apostrophe or a capital letter.
_TYPED = tuple(
    (re.compile(rf"\b{plain}\b", re.IGNORECASE), full)
    for plain, full in (
        ("im", "I'm"), ("ive", "I've"), ("i", "I"), ("dont", "don't"), ("doesnt", "doesn't"),
        ("didnt", "didn't"), ("cant", "can't"), ("wont", "won't"), ("isnt", "isn't"),
        ("wasnt", "wasn't"), ("arent", "aren't"), ("havent", "haven't"), ("hasnt", "hasn't"),
        ("hes", "he's"), ("shes", "she's"), ("theyre", "they're"), ("thats", "that's"),
        ("wouldnt", "wouldn't"), ("couldnt", "couldn't"), ("u", "you"), ("ur", "your"),
        ("theres", "there's"), ("youre", "you're"), ("whats", "what's"),
    )
)  # fmt: skip
_TYPED_ID = re.compile(r"\bid (?=(?:get|be|have|love|like|go|do|say|rather|never|just)\b)", re.I)
_QUOTED = re.compile(
    r"\"[^\"\n]{2,2000}\"|\u201c[^\u201d]{2,2000}\u201d|\u00ab[^\u00bb]{2,2000}\u00bb"
    r"|(?<![\w])['\u2018](?=\w)(?:[^'\u2018\u2019\n]|(?<=\w)['\u2019](?=\w)){8,2000}['\u2019](?!\w)"
)
_PASTED = re.compile(
    r"(?:\b(?:translate|proof-?read|rewrite|rephrase|reword|summari[sz]e|shorten|correct|edit|"
    r"paraphrase|check|polish|how (?:do|would) (?:you|i) say)\b[^:\n]{0,80}[:\n]"
    r"|\bhere(?:'s| is| are| comes)? (?:my|the|a|an|his|her|our|what|some|that)\b[^:\n.?!]{0,60}"
    r"(?:essay|draft|letter|e-?mail|article|text|paragraph|poem|story|message|review|post|abstract|"
    r"bio|ad|listing|lyrics|script|speech|chapter|wrote|says|said)[^:\n.?!]{0,40}[:\n]"
    r"|^(?:fwd|fw|re|from|subject|dear)\b.{0,60}[:,]\s*$)",
    re.IGNORECASE | re.MULTILINE,
)
_LINE_OF_A_LIST = re.compile(r"^\s*(?:>|[-*\u2022]\s|\d+[.)]\s|```)")
# Lists of what is to be bought or done say nothing lasting.
_ERRANDS = re.compile(
    r"^\s*(?:shopping|to[- ]?do|to buy|buy|need|groceries|packing|questions?|options?|pros|cons|"
    r"ideas)\b[^:]{0,30}:",
    re.IGNORECASE,
)
_GAME = re.compile(
    r"\b(?:let'?s (?:pretend|play|say|imagine|role-?play)|pretend|role-?play|imagine|suppose|"
    r"hypothetically|(?:you are|you're|be) (?:now )?(?:a|an|the) (?:\w+ )?(?:pirate|wizard|dragon|"
    r"character|dungeon|narrator|king|queen|captain|detective|knight)|my character|for the game|"
    r"in (?:my|the|this|that|a) (?:\w+ )?(?:novel|story|book|dream|film|movie|game|series|show|"
    r"play|sketch|comic)\b|in my (?:head|mind)|dream(?:t|ed)|riddle|lyrics|it goes|knock knock|"
    r"repeat after me|"
    r"what if|say i\b|in another life|"
    r"(?:comic|story|novel|film|movie|series|episode|sketch|song|poem|book) about|"
    r"(?:thought|thinking|talk|dreamt|dreamed|joked) (?:about|of) (?:a|an|me|us|having|getting|"
    r"buying|taking)\b|considered (?:a|an|getting|buying)|once upon a time|the joke)\b",
    re.IGNORECASE,
)
_TAKEN_BACK = re.compile(
    r"\b(?:just kidding|only kidding|i'?m (?:only |just )?(?:kidding|joking)|jk|only joking|"
    r"just joking|obviously not|as if\b|yeah,? right|not really,? (?:haha|lol))",
    re.IGNORECASE,
)
_SARCASM = re.compile(
    r"^\s*(?:oh,? (?:great|good|sure|yay|joy|wonderful|lovely|brilliant|fantastic|yes,? because)|"
    r"yeah,? (?:because|sure)|sure,? because|because (?:i|we) (?:just|totally|absolutely|so)\b|"
    r"(?:i|we) (?:just|totally|absolutely|so) (?:love|adore|enjoy) (?:it when|when|how|\w+ing)\b|"
    r"i(?:'|\u2019)?m so \w+,? (?:that )?(?:i|my|even)\b)|\U0001f644|/s\s*$",
    re.IGNORECASE,
)
# What did not happen, may happen, or is another's word: "nearly bought a van", "maybe I'll learn
# it", "Her: we're going gluten free", "Aunt Lou's opinion is", "they had me down as".
_NOT_SO = re.compile(
    r"^\W*(?:(?:i|we) )?(?:(?:have|had|'ve) )?(?:very )?(?:nearly|almost) (?:\w+ed|bought|went|got|"
    r"took|came|had|made|sold|left|said|did|told|died)\b"
    r"|^\W*(?:well |oh |so |and |but )?(?:maybe|perhaps|possibly|one day) "
    r"(?:i|we)(?:'ll| will| should| could| might)\b"
    r"|^\W*(?:her|him|he|she|them|they|mum|dad|mom|boss|wife|husband|[A-Z][a-z]+): "
    r"(?=(?:i|i'm|we|we're|you|you're|my|our)\b)"
    r"|\b(?:opinion|view|theory|guess|verdict|idea) (?:is|was)(?: that)? (?=(?:i|we|my|our)\b)"
    r"|\b(?:had|have|has|put) (?:me|us) down as\b",
    re.IGNORECASE,
)
_ASKED_TO_KEEP = re.compile(
    r"^\s*(?:(?:please|and|so|oh|also|but|well|ok|okay|right)[, ]+)*(?:(?:can|could|would|will) "
    r"you )?(?:please )?(?:(?:do )?(?:remember|note|keep in mind|bear in mind|make a note|"
    r"remind me|don'?t (?:let me )?forget|believe|you know|know)|did i (?:tell|mention|say)"
    r"|have i (?:told|mentioned)|i (?:told|mentioned to) you|you should know|just so you know|"
    r"(?:as )?i (?:said|mentioned)|i forgot to (?:say|mention|tell you)|forgot to say|"
    r"i (?:should|ought to|must) (?:say|mention|add|tell you)|turns out|it turns out)"
    r"(?: (?:to )?(?:you|u|for me|somewhere))*(?: that|,|:)* (?=\S+ \S+)",
    re.IGNORECASE,
)
_TAG = re.compile(r",? (?:right|ok|okay|you know|innit|isn't it|don't you think)\?+\s*$", re.I)
_WH = word_set("what who whom whose where when why how which")
_UNREAL_MODALS = word_set("would could might may should ought")
_IF = frozenset(("if", "unless", "whether", "supposing", "provided"))
_WISHED = word_set("like love prefer")
_SAY = word_set(
    "say tell claim insist argue swear joke complain suggest reckon think believe feel assume "
    "call keep worry hope wish imagine pretend dream guess suppose bet fear wonder ask want "
    "announce declare"
)
_OWN_WORD = word_set(
    "think believe guess reckon suppose feel know mean say tell mention find realise realize hear "
    "see notice remember forget decide swear learn discover admit confess bet"
)
_NOTHING_SAID = word_set(
    "thank wonder guess mean suppose swear bet wish hope ask promise dream imagine pretend"
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
_SKIPPED_SUBJECTS = word_set(
    "you what who one everyone everybody anyone anybody nobody someone somebody people folk folks"
)


@dataclass(frozen=True)
class Clause:
    """One thing that was said to be so.

    ``text`` are its words; ``subject`` is ``user``, a pronoun, or the head noun or name as said;
    ``own`` tells that the subject belongs to the user ("my sister"); ``sentence`` counts.
    """

    text: str
    subject: str
    verb: str
    negated: bool
    own: bool
    sentence: int
    nouns: tuple[str, ...]
    names: tuple[str, ...]
    words: tuple[Any, ...] = field(default=(), compare=False, repr=False)


@dataclass(frozen=True)
class StatedClause:
    """The clauses of a sentence that are meant as true, and their words together."""

    text: str
    clauses: tuple[Clause, ...]


def statement_of(clauses: Sequence[Clause]) -> StatedClause:
    """One statement of the clauses of one sentence, which explain each other."""
    tokens = sorted({t.i: t for c in clauses for t in c.words}.items())
    return StatedClause(_text([token for _, token in tokens]), tuple(clauses))


def as_typed(text: str) -> str:
    """The text with the apostrophes and capitals that quick typing leaves out."""
    text = text.replace("\u2019", "'")
    for pattern, full in _TYPED:
        text = pattern.sub(full, text)
    return _TYPED_ID.sub("I'd ", text)


# Stands between the heading of a list and its items once they are one line.
LISTED = " \u2022 "


def own_words(text: str) -> str:
    """What is left of a turn without quotations and pasted texts; a list becomes one line."""
    text = _QUOTED.sub(lambda m: " \u2026 " if len(m[0].split()) > 2 else m[0], text)
    pasted = _PASTED.search(text)
    if pasted is not None:
        text = text[: pasted.start()]
    lines: list[str] = []
    heading = ""
    for line in text.split("\n"):
        item = _LINE_OF_A_LIST.match(line)
        if item is None:
            lines.append(line)
            heading = line if line.rstrip().endswith(":") else ""
        elif heading and not item[0].strip().startswith((">", "```")) and lines:
            # "Medication for Ida:" and its items tell one thing together.
            apart = LISTED if lines[-1].rstrip().endswith(":") else "; "
            lines[-1] += apart + line[item.end() :].strip().rstrip(".;")
    return "\n".join(lines)


def sentences(text: str) -> Iterator[tuple[str, bool]]:
    """Lines and sentences with whether each is asked, without what takes itself back."""
    found: list[str] = []
    for line in text.split("\n"):
        if _ERRANDS.match(line):
            continue
        for piece in re.split(r"(?<=[.!?\u2026])\s+(?=[^a-z]|[a-z]+ )", line):
            abbreviated = found and re.search(
                r"\b(?:Mr|Mrs|Ms|Dr|St|Prof|No|vs|approx)\.$", found[-1]
            )
            if abbreviated:
                found[-1] += " " + piece
            elif piece.strip():
                found.append(piece.strip())
    for number, piece in enumerate(found):
        follows = found[number + 1] if number + 1 < len(found) else ""
        if _TAKEN_BACK.search(piece) or _TAKEN_BACK.match(follows):
            continue
        if _SARCASM.search(piece) or _NOT_SO.search(piece):
            continue
        if _GAME.search(piece):
            # A game goes on to the end of what is said; a mere supposition ends with its sentence.
            if re.search(r"\b(?:role-?play|pretend|play|character|riddle|dream\w*)\b", piece, re.I):
                return
            continue
        kept = _ASKED_TO_KEEP.sub("", _TAG.sub(".", piece))
        asked = is_question(kept)
        if kept != piece:  # "Could you keep in mind that Bo sees the vet on Friday?" tells
            kept = kept.rstrip("? ")
            asked = is_question(kept) or kept.split()[0].lower() in _WH
        yield kept, asked


def clauses_of(doc: Any, number: int, asked: bool) -> list[Clause]:
    """The clauses of one parsed sentence that are meant as true."""
    found: list[Clause] = []
    for sent in doc.sents:
        heads = _heads(sent.root)
        for head in heads:
            if head.dep_ == "ROOT" and _is_fragment(head):
                clause = _fragment(head, heads, number, asked)
            else:
                clause = _clause(head, heads, number, asked)
            if clause is not None and not (asked and clause.words[0].lower_ in _WH):
                found.append(clause)
    return found


def _heads(root: Any) -> list[Any]:
    """The words that clauses of their own hang from, in order of speech."""
    found, waiting = [root], [root]
    while waiting:
        head = waiting.pop()
        for child in head.children:
            verbal = child.pos_ in ("VERB", "AUX")
            joined = child.dep_ == "conj" and verbal
            # Two sentences with a comma between them are read as complement and head.
            spliced = child.dep_ in ("ccomp", "parataxis") and verbal and not _reports(head)
            told = child.dep_ == "ccomp" and verbal and _tells_itself(head)
            # "because my sister moved": true even where what it explains is a question.
            reason = child.dep_ == "advcl" and verbal and _mark(child) in ("because", "since", "as")
            if joined or spliced or told or (reason and _subject(child) is not None):
                if joined and _subject(child) is None and not _own_subject_needed(child):
                    continue
                found.append(child)
                waiting.append(child)
    return sorted(found, key=lambda token: token.i)


def _own_subject_needed(child: Any) -> bool:
    # "I live in Bonn and work as a nurse": two things about one subject.
    return bool(child.head.pos_ in ("VERB", "AUX") and len(list(child.subtree)) > 2)


def _mark(head: Any) -> str:
    return next((c.lower_ for c in head.children if c.dep_ in ("mark", "advmod")), "")


def _reports(head: Any) -> bool:
    return head.lemma_.lower() in _SAY | _OWN_WORD


def _tells_itself(head: Any) -> bool:
    subject = _subject(head)
    mine = subject is None or subject.lower_ in ("i", "we")
    if head.lemma_.lower() == "decide":
        # "I have decided that Pip was a sergeant" invents.
        of = next((_subject(c) for c in head.children if c.dep_ == "ccomp"), None)
        mine = mine and (of is None or of.lower_ in ("i", "we", "it"))
    return mine and head.lemma_.lower() in _OWN_WORD and not _negated(head)


def _subject(head: Any) -> Any:
    for child in head.children:
        if child.dep_ in ("nsubj", "nsubjpass", "csubj", "expl"):
            return child
    return None


def _inherited(head: Any) -> Any:
    subject = _subject(head)
    while subject is None and head.dep_ == "conj":
        head = head.head
        subject = _subject(head)
    return subject


def _negated(head: Any) -> bool:
    return any(c.dep_ == "neg" or c.lower_ in ("never", "not", "no") for c in head.children)


def _is_fragment(head: Any) -> bool:
    return bool(_subject(head) is None and head.pos_ not in ("VERB", "AUX"))


def _words(head: Any, heads: Sequence[Any]) -> list[Any]:
    """The words of a clause: what hangs from its head and from no other clause."""
    others = {h.i for h in heads if h is not head}
    kept, waiting = [head], [head]
    while waiting:
        for child in waiting.pop().children:
            if child.i in others or _blocked(child):
                continue
            if not (child.dep_ in ("cc", "preconj") and child.i < head.i):
                kept.append(child)
                waiting.append(child)
    kept.sort(key=lambda token: token.i)
    while kept and (kept[0].is_punct or kept[0].dep_ == "cc" or kept[0].lower_ in _OPENERS):
        kept.pop(0)
    while kept and (kept[-1].is_punct or kept[-1].dep_ == "cc"):
        kept.pop()
    return kept


def _blocked(child: Any) -> bool:
    """Whether a clause inside another is no fact, so that the other goes without it."""
    inner = ("conj", "ccomp", "parataxis", "relcl", "advcl")
    if child.dep_ not in inner or child.pos_ not in ("VERB", "AUX"):
        return False
    subject = _subject(child)
    if child.dep_ == "ccomp" and child.head.lemma_.lower() in _SAY | _OWN_WORD:
        return False  # judged with the word that reports it
    return subject is not None and child.dep_ != "advcl" and _unreal(child, subject)


_OPENERS = word_set(
    "and but so well oh ok okay yes yeah no anyway also plus hi hello lol haha ah right because "
    "since as that btw"
)


def _text(words: Sequence[Any]) -> str:
    """The words with the spaces that they had; a gap where another clause stood is one space."""
    pieces = []
    for token, following in zip(words, [*words[1:], None], strict=True):
        gap = following is not None and following.i != token.i + 1
        pieces.append(token.text + (" " if gap else token.whitespace_))
    return re.sub(r"\s+", " ", re.sub(r"\s+([,.;:!?])", r"\1", "".join(pieces))).strip(
        " ,;:-\u2026"
    )


def _clause(head: Any, heads: Sequence[Any], number: int, asked: bool) -> Clause | None:
    subject = _inherited(head)
    words = _words(head, heads)
    if subject is None:
        # "Registered him at last." speaks of the user; "Take it out." commands.
        told = head.tag_ in ("VBD", "VBG", "VBN") and head.dep_ == "ROOT" and not asked
        return _made("user", False, head, words, number) if told and len(words) > 2 else None
    if asked and not (head.dep_ == "advcl" or (head is not heads[-1] and _declared(head, subject))):
        return None
    if not _declared(head, subject) or _unreal(head, subject):
        return None
    who, own = _who(subject)
    if not who or (who == "user" and head.lemma_.lower() in _NOTHING_SAID):
        return None
    if _subject(head) is None and head.dep_ == "conj":
        # The subject that it shares is said again, so that the clause stands alone.
        whole = [t for t in subject.subtree if t.i <= subject.i + 2]
        words = [*whole, *words]
    return _made(who, own, head, words, number)


def _declared(head: Any, subject: Any) -> bool:
    """Whether the word order is that of a statement."""
    first = min(t.i for t in head.subtree)
    asks = head.doc[first].lower_ in _WH and head.dep_ in ("ROOT", "conj")
    inverted = any(c.dep_ in ("aux", "auxpass") and c.i < subject.i for c in head.children)
    if head.pos_ == "AUX" and head.i < subject.i and subject.dep_ != "expl":
        inverted = inverted or (head.dep_ == "ROOT" and subject.i - head.i <= 2)
    if asks and head.doc[first].lower_ in ("when", "where", "which", "what", "how"):
        # "When I was small we lived in Bonn" states; "when is it" asks.
        asks = inverted or any(c.i == first and c.dep_ in ("attr", "dobj") for c in head.children)
    return not asks and not inverted


def _unreal(head: Any, subject: Any) -> bool:
    lemma = head.lemma_.lower()
    for child in head.children:
        if child.dep_ == "aux" and _modal(child, head) in _UNREAL_MODALS and lemma not in _WISHED:
            return True
        if child.dep_ == "mark" and child.lower_ in _IF:
            return True
        if child.dep_ == "advcl" and any(
            c.lower_ in _IF for c in child.children if c.dep_ == "mark"
        ):
            return True
    above = head
    while above.dep_ in ("conj", "advcl", "ccomp", "xcomp", "relcl") and above.head is not above:
        above = above.head
        if (
            above.dep_ == "ROOT"
            and any(c.dep_ == "aux" and _modal(c, above) in _UNREAL_MODALS for c in above.children)
            and head.dep_ == "conj"
            and _subject(head) is None
        ):
            return True
    complement = next((c for c in head.children if c.dep_ == "ccomp"), None)
    if lemma in _SAY and complement is not None and complement.i > head.i:
        return _hearsay(subject, complement, lemma)
    if lemma in _SAY and complement is None and subject.lower_ not in ("i", "we"):
        return lemma in ("say", "think", "reckon", "believe", "want", "wish", "suggest", "feel")
    return subject.lower_ in ("i", "we") and lemma in _OWN_WORD and complement is not None


def _modal(aux: Any, head: Any) -> str:
    if aux.lower_ in ("'d", "\u2019d"):
        after = next((t for t in aux.doc[aux.i + 1 :] if t.pos_ != "ADV"), head)
        return "had" if after.tag_ in ("VBN", "VBD") or after.lower_ == "better" else "would"
    return str(aux.lower_)


def _hearsay(subject: Any, complement: Any, lemma: str) -> bool:
    """Whether somebody's word is not to be taken for a fact, even with their name to it."""
    of = _subject(complement)
    if subject.lower_ in ("i", "we"):
        return True  # the complement stands for itself
    asked = any(c.lower_ in _IF for c in complement.children if c.dep_ == "mark")
    if asked or (of is not None and of.lower_ == "you"):
        return True  # "asked if I grind my teeth", "says you have high cortisol"
    if any(t.lower_ in _AUTHORITY for t in subject.subtree):
        return lemma in _SUPPOSED
    return lemma != "say" or of is None or of.lower_ not in _FAIR


def _who(subject: Any) -> tuple[str, bool]:
    """The subject in a word, and whether it is something of the user's."""
    said = subject.lower_
    if said in ("i", "we"):
        return "user", True
    if said in ("that", "this", "these", "those", "which"):
        return "that", False
    if said == "there":  # "there's our Neil": somebody of the user's
        theirs = any(t.lower_ in ("my", "our") for t in subject.head.subtree)
        return ("user", True) if theirs else ("", False)
    if said in _SKIPPED_SUBJECTS:
        return "", False
    if said in ("he", "she", "they", "it"):
        return said, False
    own = any(c.dep_ == "poss" and c.lower_ in ("my", "our") for c in subject.subtree)
    name = next((c for c in subject.children if c.dep_ == "appos" and c.pos_ == "PROPN"), subject)
    return name.text, own


def _made(who: str, own: bool, head: Any, words: Sequence[Any], number: int) -> Clause | None:
    text = _text(words)
    if len([t for t in words if t.is_alpha or t.like_num]) < 3 and who not in ("user", "that"):
        return None
    return Clause(
        text=text,
        subject=who,
        verb=head.lemma_.lower(),
        negated=_negated(head),
        own=own,
        sentence=number,
        nouns=tuple(t.lemma_.lower() for t in words if t.pos_ in ("NOUN", "PROPN")),
        names=tuple(t.text for t in words if t.pos_ == "PROPN"),
        words=tuple(words),
    )


def _fragment(head: Any, heads: Sequence[Any], number: int, asked: bool) -> Clause | None:
    """ "8 week jabs on 10 Feb at 9.20": no verb, but a number, a name or something of one's own."""
    if asked:
        return None
    words = _words(head, heads)
    telling = any(
        t.like_num or t.pos_ in ("NUM", "PROPN") or t.lower_ in ("my", "our") for t in words
    )
    weighty = sum(t.pos_ in ("NOUN", "PROPN", "NUM", "VERB", "ADJ") for t in words)
    if weighty < 1 or head.pos_ in ("INTJ", "SYM"):
        return None
    whole = telling and weighty >= 2
    return _made("user" if whole else "that", False, head, words, number)
