"""Tokens become items: a phrase of the lexicon, a name, a pronoun, a sign or an unknown word."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from consistent_gen.story.wording.lexicon import Lexicon, Sense
from consistent_gen.story.wording.people import TITLES, given_name
from consistent_gen.story.wording.tokens import Token
from consistent_gen.story.wording.types import Fate, Word

INDEFINITE = ("a", "an", "some", "another", "any", "every", "each", "no")
OWNERS = ("my", "your", "his", "her", "its", "our", "their")
DETERMINERS = (
    *INDEFINITE,
    *OWNERS,
    "the",
    "this",
    "that",
    "these",
    "those",
    "all",
    "both",
    "both of",
)
PREPOSITIONS = (
    "of", "in", "on", "at", "by", "from", "with", "without", "into", "onto", "off", "over",
    "under", "above", "below", "between", "among", "through", "along", "around", "round", "near",
    "behind", "beside", "towards", "past", "before", "after", "during", "for", "across", "against",
    "like", "than", "out of", "about", "inside of", "next to", "beyond", "atop",
)  # fmt: skip
SUBJECTS = ("i", "you", "he", "she", "it", "we", "they", "who", "that")
BE = ("is", "are", "was", "were", "be", "been", "being", "am", "isn't", "aren't", "wasn't",
      "weren't", "i'm", "he's", "she's", "it's", "we're", "they're", "you're", "that's", "there's",
      "wasnt", "isnt", "im", "shes", "hes", "thats", "feel", "feels", "felt", "feeling", "seems",
      "seemed", "looks", "looked", "become", "becomes", "became", "get", "gets", "got")  # fmt: skip
HELPERS = (
    "has", "have", "had", "will", "would", "can", "could", "do", "does", "did", "to", "not", "n't",
    "never", "can't", "cannot", "won't", "don't", "doesn't", "didn't", "couldn't", "wouldn't",
    "shall", "should", "may", "might", "must", "let", "lets", "i'll", "he'll", "she'll", "they'll",
    "we'll", "starts", "started", "start", "begins", "began", "beginning to", "going to", "tries",
    "has to", "had to", "have to", "wants", "gonna", "dont", "cant", "didnt", "doesnt", "keep on",
    "couldnt",
)  # fmt: skip
NEGATIONS = (
    "not", "n't", "never", "no", "isn't", "aren't", "wasn't", "weren't", "don't", "doesn't",
    "didn't", "can't", "cannot", "won't", "wouldn't", "couldn't", "hasn't", "haven't", "hadn't",
    "without", "nobody", "no one", "nothing", "neither", "nor", "no longer", "wasnt", "isnt",
    "dont", "doesnt", "didnt", "cant", "wont", "unable to", "none", "hardly", "barely",
)  # fmt: skip
_TELLING = ("story", "tale", "book", "poem", "song", "film", "movie", "read", "talk", "tell",
            "dream", "think", "sing", "write", "hear", "argue", "joke", "chat", "programme",
            "stories", "letter", "lesson", "worry")  # fmt: skip
_PICTURES = ("picture", "photo", "photograph", "painting", "drawing", "poster", "statue", "smell",
             "sketch", "draw", "dream", "idea", "map", "story", "tale")  # fmt: skip
_REACH = 3  # words of what is compared
_ALIKE_FROM = 6  # letters; shorter words are too near to others
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_VOWELS = "aeiouy"


@dataclass
class Item:
    """A piece of a text that is understood as a whole.

    start, end, said: where it stands and what it says. kind: "sense" (a phrase of the lexicon),
    "name", "pronoun", "small", "number", "sign", "speech" or "unknown". low: in lower case.
    options: all senses; sense: the chosen one. people: whom a name or pronoun stands for.
    named: whether it is the name of somebody who is no character. compared: whether something is
    only like it: the church of "big as a church".
    """

    start: int
    end: int
    said: str
    kind: str
    low: str
    options: Sequence[Sense] = ()
    sense: Sense | None = None
    possessive: bool = False
    negated: bool = False
    token: Token | None = None
    word: Word | None = None
    spelled: str = ""
    people: list[str] = field(default_factory=list)
    named: bool = False
    compared: bool = False

    @property
    def category(self) -> str:
        """Of the chosen sense; "" without one."""
        return self.sense.category if self.sense else ""

    def become(
        self, fate: Fate, drawn: str = "", why: str = "", nearest: tuple[str, ...] = ()
    ) -> None:
        """Write down what became of it; what was written first stays."""
        if self.word is None:
            if fate in ("same", "near") and drawn.casefold() == self.said.casefold():
                fate, why = "kept", ""
            self.word = Word(self.start, self.end, self.said, fate, drawn, why, nearest)


def items(
    tokens: Sequence[Token], text: str, lexicon: Lexicon, pronouns: Sequence[str] = ()
) -> list[Item]:
    """The items of `tokens`, each with the sense that its neighbours suggest.

    pronouns: words that stand for somebody here; elsewhere they are small words.
    """
    found: list[Item] = []
    at = 0
    while at < len(tokens):
        item, taken = _item(tokens, at, text, lexicon, pronouns)
        found.append(item)
        at += taken
    for place, item in enumerate(found):
        if item.options:
            item.sense = _chosen(found, place)
            if item.sense.category == "small":
                item.kind = "small"
    _mark_negated(found)
    _mark_compared(found)
    return found


def nearest_spelling(word: str, lexicon: Lexicon) -> str | None:
    """The word of the lexicon that a misspelt one was meant to be; None when none is so close."""
    if len(word) < _ALIKE_FROM:
        return None
    return next((slip for slip in _slips(word) if slip in lexicon), None)


def _slips(word: str) -> Iterator[str]:
    """What a word may have been meant to be: swapped, dropped or doubled letters, wrong vowels.

    Another consonant makes another word: "scattered" is not "shattered".
    """
    for at in range(1, len(word)):
        before, letter, after = word[:at], word[at], word[at + 1 :]
        if after:
            yield before + after[0] + letter + after[1:]
        if letter == word[at - 1]:
            yield before + after
        yield from (before + other + letter + after for other in _LETTERS)
        if letter in _VOWELS and after:
            yield from (before + other + after for other in _VOWELS)
            yield before + after


def _item(
    tokens: Sequence[Token], at: int, text: str, lexicon: Lexicon, pronouns: Sequence[str]
) -> tuple[Item, int]:
    token = tokens[at]
    if token.kind != "word":
        kind = {"name": "name", "speech": "speech", "number": "number"}.get(token.kind, "sign")
        item = Item(token.start, token.end, token.text, kind, token.low, token=token)
        item.possessive = token.possessive
        return item, 1
    run = _run(tokens, at)
    count, senses = lexicon.match(run)
    owned = at > 0 and tokens[at - 1].low in OWNERS
    if owned and count > 1 and all(sense.speech == "v" for sense in senses):
        count, senses = lexicon.match(run[:1])  # "barked her head off"
    if token.low in pronouns and count <= 1:
        return Item(token.start, token.end, token.text, "pronoun", token.low, token=token), 1
    if not senses and token.possessive:
        count, senses = lexicon.match([token.low + "'s"])
    if (named := _named(tokens, at, text, bool(senses))) is not None:
        return named
    if not senses:
        return _unknown(token, lexicon), 1
    last = tokens[at + count - 1]
    item = Item(token.start, last.end, text[token.start : last.end], "sense",
                " ".join(run[:count]), senses, token=token)  # fmt: skip
    item.possessive = last.possessive
    return item, count


def _named(tokens: Sequence[Token], at: int, text: str, known: bool) -> tuple[Item, int] | None:
    """Somebody with a title or a given name who is no character: "Mrs Dobbs", "Danny"."""
    token, count = tokens[at], 1
    gender = given_name(token.low)
    if not gender or not token.text[:1].isupper():
        return None
    following = tokens[at + 1 : at + 3]
    if following and following[0].text == "." and token.low in TITLES:
        following, count = following[1:], 2
    surname = following[0] if following and following[0].kind == "word" else None
    if surname is not None and surname.text[:1].isupper() and not token.possessive:
        count += 1
    elif known or token.low in TITLES:
        return None  # "Rose" may be a flower, and "Miss" a verb
    last = tokens[at + count - 1]
    said = text[token.start : last.end]
    kind = {"she": "kind.woman", "he": "kind.man"}[gender]
    sense = Sense((kind,), "near", "n", last.low)
    item = Item(token.start, last.end, said, "sense", last.low, (sense,), token=token)
    item.possessive, item.named = last.possessive, True
    return item, count


def _run(tokens: Sequence[Token], at: int) -> list[str]:
    """The words from `at` on that no sign, name or 's stands between."""
    found = []
    for token in tokens[at : at + 6]:
        if token.kind != "word":
            break
        found.append(token.low)
        if token.possessive:
            break
    return found


def _unknown(token: Token, lexicon: Lexicon) -> Item:
    item = Item(token.start, token.end, token.text, "unknown", token.low, token=token)
    item.possessive = token.possessive
    spelled = nearest_spelling(token.low, lexicon)
    if spelled is not None and not token.text[:1].isupper():
        item.kind, item.options, item.spelled = "sense", lexicon.of(spelled), spelled
    return item


def _chosen(found: Sequence[Item], place: int) -> Sense:
    """The sense of the item that fits best between its neighbours."""
    options = found[place].options
    if len(options) == 1:
        return options[0]
    owner = found[place - 1] if place else None
    if owner is not None and (owner.possessive or owner.low in OWNERS):
        body = [s for s in options if s.category == "body" or s.concepts == ("cheeks.blush",)]
        if body:
            return body[0]  # "her palms" are no trees
    expected = _expected(found, place)
    before_noun = _noun_follows(found, place)

    def fit(pair: tuple[int, Sense]) -> float:
        order, sense = pair
        score = -0.05 * order + (0.3 if sense.relation in ("same",) else 0.0)
        if sense.category == "small":
            score += 0.4
        elif sense.relation == "none":
            score -= 0.2
        if expected and sense.speech in "nva":
            # Where a noun may stand, an adjective before one may: "in orange overalls" is no fruit.
            fits = sense.speech in expected or (sense.speech == "a" and before_noun)
            score += 1.0 if fits else -0.5
        if sense.plural:
            score -= 0.1
        if sense.speech == "a" and before_noun:
            score += 1.2
        return score

    return max(enumerate(options), key=fit)[1]


def _expected(found: Sequence[Item], place: int) -> str:
    """The parts of speech that may stand after what stands before; "" for any."""
    before = found[place - 1] if place else None
    if before is not None and before.kind == "small" and before.low in _ADVERBS and place > 1:
        before = found[place - 2]
    if before is None or before.kind in ("sign", "speech"):
        return ""
    low = before.low
    if before.possessive or low in DETERMINERS or before.kind == "number":
        return "na"
    if low in BE:
        return "va"
    if low in HELPERS:
        return "v"
    if low in PREPOSITIONS:
        return "n"
    if before.kind == "name" or (before.kind == "pronoun" and low not in OWNERS) or low in SUBJECTS:
        return "v"
    if before.kind == "pronoun":
        return "na"
    if before.sense is not None and before.sense.speech == "a":
        return "na" if _noun_follows(found, place) else "n"
    if before.sense is not None and before.sense.speech == "v":
        return "na"
    if before.category == "kind":
        return "v"
    if before.sense is not None and before.sense.plural:
        return "va"
    if before.sense is not None and before.sense.speech == "n" and _closes(found, place):
        return "n"  # "beside the gift shop."
    return ""


def _closes(found: Sequence[Item], place: int) -> bool:
    """Whether a clause ends here and a preposition stands before its last nouns."""
    ends = place + 1 == len(found) or found[place + 1].kind == "sign"
    return ends and any(i.low in PREPOSITIONS for i in found[max(0, place - 3) : place])


_ADVERBS = ("very", "really", "so", "too", "quite", "rather", "just", "still", "always", "already",
            "almost", "nearly", "only", "even", "also", "often", "now", "then", "suddenly", "a bit",
            "both", "all", "up", "well")  # fmt: skip


def _noun_follows(found: Sequence[Item], place: int) -> bool:
    following = found[place + 1] if place + 1 < len(found) else None
    if following is None:
        return False
    if following.kind == "name":
        return True
    return any(sense.speech in "na" and sense.category != "small" for sense in following.options)


def _mark_compared(found: Sequence[Item]) -> None:
    """Mark what follows "like", "than" or "as ... as", up to the next sign or other clause."""
    reach = 0
    for place, item in enumerate(found):
        verb = item.sense is not None and item.sense.speech == "v"
        if reach and (
            item.kind in ("sign", "name", "speech")
            or item.low in ("and", "or", "but", "so", "that", "who", "which", "with")
            or (item.low in PREPOSITIONS and item.low != "of")
            or (verb and reach < _REACH)
        ):
            reach = 0
        if _compares(found, place):
            reach = _REACH
        elif reach and item.kind in ("sense", "unknown"):
            item.compared = True
            reach -= 1


def _compares(found: Sequence[Item], place: int) -> bool:
    item = found[place]
    before = found[place - 1] if place else None
    after = found[place + 1] if place + 1 < len(found) else None
    if before is None or after is None or item.kind == "sign":
        return False
    noun = after.kind not in ("name", "pronoun")
    if item.low == "like":
        wish = before.low in (*HELPERS, *SUBJECTS) or before.kind in ("pronoun", "name")
        return noun and not wish
    described = before.kind == "unknown" or (
        before.sense is not None and (before.sense.speech == "a" or "a" in _speeches(before))
    )
    if item.low == "as":
        doubled = any(i.low == "as" for i in found[max(0, place - 3) : place])
        bare = after.kind in ("sense", "unknown") and "n" in _speeches(after)
        return described and noun and (doubled or after.low in ("a", "an") or bare)
    if item.low == "about":
        told = before.sense is not None and set(before.sense.base.split()) & set(_TELLING)
        return noun and bool(told)
    if item.low == "of" and before.sense is not None and before.sense.base in _PICTURES:
        return noun
    return item.low == "than" or (item.low == "of" and before.low in ("size", "colour", "color"))


def _speeches(item: Item) -> str:
    return "".join(sense.speech for sense in item.options)


def _mark_negated(found: Sequence[Item]) -> None:
    """Mark what "not", "without" or "no" stands before, up to the next sign or other clause."""
    reach = 0
    for item in found:
        if (
            (item.kind == "sign" and item.low != "-")
            or item.kind in ("name",)
            or item.low in ("and", "but", "so", "because")
        ):
            reach = 0
        elif item.low in NEGATIONS:
            reach = 2
        elif item.kind in ("sense", "unknown") and reach:
            item.negated = True
            reach = 1 if item.sense is not None and item.sense.speech == "a" and reach > 1 else 0
