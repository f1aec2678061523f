"""English words: which of them carry meaning, which are numbers, and which say yes or no."""

from __future__ import annotations

import re

# So frequent that they tell no two texts apart.
_LISTED = """
a an and are as at be been but by can could did do does for from had has have he her hers him
his how i if in into is it its me my of on or our she should so some than that the their them
then there these they this those to us was we were what when where which who whom whose why
will with would you your about tell know remember ever any also just not now today
"""


def word_set(listed: str) -> frozenset[str]:
    """The words of a text that only lists them."""
    return frozenset(listed.split())


STOP_WORDS = word_set(_LISTED)

# Number words, "zero" to "twenty", and the ordinals of days, "first" to "thirty-first".
_COUNTED = """
zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen
sixteen seventeen eighteen nineteen twenty
"""
_ORDINALS = """
first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth
fourteenth fifteenth sixteenth seventeenth eighteenth nineteenth twentieth
"""
COUNTED = {word: number for number, word in enumerate(_COUNTED.split())}
ORDINALS = {word: number for number, word in enumerate(_ORDINALS.split(), 1)}
ORDINALS |= {f"twenty-{word}": 20 + number for word, number in tuple(ORDINALS.items())[:9]}
ORDINALS |= {"thirtieth": 30, "thirty-first": 31}
_WORD = re.compile(r"[\w'\u2019-]+")
_YES = re.compile(
    r"^\s*(?:yes|yes please|y|yep|yeah|ok|okay|sure|confirm|do it|correct)[.!]*\s*$", re.I
)
_NO = re.compile(r"^\s*(?:no|n|nope|cancel|stop|don'?t|no thanks)[.!]*\s*$", re.I)


# "I am a ..." tells of a job only when what follows names one, so the list is closed.
_OCCUPATIONS = """
accountant actor actress actuary analyst anaesthetist archaeologist architect archivist artist
astronomer athlete attorney auditor baker banker barber barista bartender beekeeper biologist
blacksmith bookbinder bookkeeper botanist builder butcher captain caretaker carpenter cartographer
cashier chef chemist cleaner clerk coach cobbler coder composer conductor conservator consultant
contractor cook counsellor counselor courier curator dancer dentist designer detective developer
dietitian diplomat director diver doctor driver economist editor electrician engineer entrepreneur
farmer firefighter fisherman florist gardener geologist glassblower glazier goldsmith guard guide
hairdresser historian illustrator interpreter inventor janitor jeweller jeweler joiner journalist
judge lawyer lecturer librarian lifeguard locksmith luthier machinist manager mason mathematician
mechanic midwife miner model musician nanny notary nurse nutritionist officer optician painter
paralegal paramedic pastor pharmacist photographer physicist physiotherapist pianist pilot plumber
poet politician porter postman potter priest principal printer producer professor programmer
proofreader psychiatrist psychologist ranger receptionist recruiter reporter researcher sailor
salesman scientist sculptor secretary shepherd shopkeeper singer smith soldier solicitor surgeon
surveyor tailor teacher technician therapist trainer translator tutor undertaker upholsterer vet
veterinarian violinist waiter waitress watchmaker weaver welder writer zookeeper zoologist
"""
OCCUPATION = (
    r"(?:[a-z-]+ ){0,3}?(?:"
    + "|".join(_OCCUPATIONS.split())
    + r")(?: (?:at|for|in) [^,.!?;]{2,40})?"
)
DIETS = (
    r"(?:vegetarian|vegan|pescatarian|flexitarian|keto|paleo|kosher|halal|"
    r"(?:gluten|lactose|dairy|sugar)[- ]free|low[- ](?:salt|sodium|carb|fat|sugar))"
)
# What "I'm ..." with a capital letter says besides names.
_NOT_NAMES = """
african albanian american arab argentinian asian australian austrian belgian brazilian british
bulgarian canadian catholic chilean chinese christian colombian croatian cuban czech danish dutch
egyptian english estonian european finnish french german greek hindu hungarian indian indonesian
iranian iraqi irish israeli italian jamaican japanese jewish kenyan korean latvian lithuanian
malaysian mexican moroccan muslim nigerian norwegian pakistani peruvian polish portuguese protestant
romanian russian scottish serbian slovak slovenian spanish swedish swiss syrian thai turkish
ukrainian vietnamese welsh back fine good great happy here new sorry sure
"""
NOT_NAMES = frozenset(_NOT_NAMES.split())


def content_words(query: str) -> tuple[str, ...]:
    """The words of a question that can tell records apart; all its words when none can."""
    words = tuple(dict.fromkeys(_WORD.findall(query.casefold())))
    return tuple(word for word in words if word not in STOP_WORDS) or words


_ASKING = re.compile(
    r"\?[\s\"')\]]*$"
    # "When is it" asks; "When I was small" and "What a day" do not.
    r"|^\W*(?:and |so |but |ok |hey |oh |wait |also )*(?:"
    r"(?:which|how (?:many|much|old|long|often))(?! (?:i|we|he|she|it|they|you)\b) [\w' -]{2,40}$|"
    r"(?:what|when|where|why|how|which|whose)(?:'?s|'?re|\u2019s|\u2019re)\b"
    r"|(?:what|when|where|why|how|which|whose)(?! (?:i|we|he|she|they|you|it|my|our|"
    r"the|a|an|his|her|their|this|that)\b)(?: [\w'-]+){0,3}? (?:is|are|am|was|were|do|does|did|"
    r"have|has|had|can|could|will|would|should|shall|must)\b"
    r"|(?:what|which) (?:time|day|date|year|month|name|number|size|colou?r|kind|sort)"
    r"(?:'s|\u2019s)\b|how (?:old|far|long|tall|big)(?:'s|\u2019s)\b"
    r"|since when (?:am|is|are|was|were|do|does|did|have|has|had)\b"
    r"|who(?:'?s|\u2019s)?\b(?! knows\b)|whom\b"
    r"|(?:do|does|did|is|are|am|was|were|can|could|will|would|have|has|had|should|shall) "
    r"(?:i|you|u|we|he|she|they|it|my|our|the|this|that|there|your|his|her|their|(?-i:[A-Z][a-z]+))\b"
    r")",
    re.IGNORECASE,
)
# "Remind me of the name of my driver", "tell me again which day it is": what was said is asked for.
# "Remind me to call Ann" is not, and "tell me the truth" is no more than talk.
_REMIND = re.compile(
    r"^\W*(?:(?:please|and|so|ok|hey|also|now|(?:can|could|would|will) you)[, ]+)*"
    r"(?:remind me(?: again)?,? (?:of|about|what|who|whom|whose|when|where|which|how|the name)\b"
    r"|tell me(?: again)?,? (?:what|who|whom|whose|when|where|which|my|how (?:much|many|old|long|"
    r"often)|the (?:name|date|day|time|address|number))\b)",
    re.IGNORECASE,
)
# Of who types short: "Metoprolol. How much.", "First board meeting is when", "Her fella. Name."
_SHORT = re.compile(
    r"(?:^|[.!,;:] )(?:and |so )?(?:when|where|who|which (?:one|day)|what (?:time|day|date|year|"
    r"name|number|colou?r|size|dose)|how (?:much|many|long|often|old|far))(?: [\w'-]+){0,2}[ .!]*$"
    r"|^(?!.*\b(?:know|knows|knew|idea|matter|tell|said|says?|remember|forg[eo]t|or|else|any|not|"
    r"n't|wonder\w*|ask\w*)\b).{3,60}\b(?:is|are|was|were|at|on|in|for|with) (?:when|where|who|"
    r"what time|how (?:much|many|long|often|old))[ .!]*$"
    r"|[.!,;:] (?:name|date|day|time|address|number|age|dose|price|cost)[ .!]*$"
    r"|^(?:(?:my|our|the|his|her) )?[\w-]+(?:'s|\u2019s) (?:name|surname|address|number|dose)"
    r"[ .!]*$"
    r"|^how (?:much|many|often|long|old) (?:i|we|he|she|they|it)\b(?! (?:love|like|hate|miss|want|"
    r"enjoy|care|appreciate|need|look|admire|cr[iy]))[\w' ]{3,40}$",
    re.IGNORECASE,
)


def is_question(text: str) -> bool:
    """Whether a sentence asks: by its mark, its order of words, or as who types short does."""
    text = text.strip()
    return any(pattern.search(text) for pattern in (_ASKING, _REMIND, _SHORT))


def asks_again(text: str) -> bool:
    """Whether somebody wants to be reminded of something: "remind me of her name"."""
    return _REMIND.search(text) is not None


def read_consent(text: str) -> bool | None:
    """True for yes, False for no, ``None`` for anything else."""
    if _YES.match(text):
        return True
    return False if _NO.match(text) else None
