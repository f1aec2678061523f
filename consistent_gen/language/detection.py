"""Which language is a text in? English is recognised by its own words, others by py3langid."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable

_WORD = re.compile(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)?")
# Words that only English has, or has far more often than its neighbours.
_LISTED = """
the a an and or but i i'm i've i'd i'll my me mine we our us you your he she it its they their them
his her is are was were be been have has had do does did don't doesn't didn't won't can can't will
would could should not no yes of to in on at for with from by about as that this these those there
what who when where why how which so if than then now just very really like love want live work
new name home family please thanks thank hi hello hey too also still every day today it's that's
"""
_ENGLISH = frozenset(_LISTED.split())
_ENOUGH = 0.2
# Shorter texts tell the detector too little to be believed against the usual language.
_LEAST_LETTERS, _LEAST_CERTAIN = 12, 0.9
# "I read English only; what was said is kept as it is." in the languages of most speakers.
ENGLISH_ONLY = {
    "de": "Ich verstehe nur Englisch: das Gesagte ist gespeichert, aber nicht ausgewertet.",
    "es": "Solo entiendo ingl\u00e9s: lo dicho queda guardado, pero no se interpreta.",
    "fr": "Je ne comprends que l'anglais : ce qui est dit est gard\u00e9, mais pas analys\u00e9.",
    "it": "Capisco solo l'inglese: quanto detto \u00e8 conservato, ma non interpretato.",
    "pt": "S\u00f3 entendo ingl\u00eas: o que foi dito fica guardado, mas n\u00e3o interpretado.",
    "nl": "Ik begrijp alleen Engels: het gezegde is bewaard, maar niet gelezen.",
    "pl": "Rozumiem tylko angielski: tekst jest zapisany, ale nie odczytany.",
    "ru": "\u042f \u043f\u043e\u043d\u0438\u043c\u0430\u044e \u0442\u043e\u043b\u044c\u043a\u043e "
    "\u043f\u043e-\u0430\u043d\u0433\u043b\u0438\u0439\u0441\u043a\u0438.",
    "zh": "\u6211\u53ea\u80fd\u8bfb\u61c2\u82f1\u8bed\uff1a\u5185\u5bb9\u5df2\u4fdd\u5b58\u3002",
    "ja": "\u82f1\u8a9e\u3060\u3051\u3092\u7406\u89e3\u3057\u307e\u3059\u3002",
    "en": "I read English only: what was said is kept, but not taken in.",
}


def language_of(text: str) -> str:
    """The ISO 639-1 code of a text's language; ``en`` where nothing speaks against it.

    English needs no package. Without ``py3langid`` a text that is plainly not English is ``und``.
    """
    words = [w.casefold().replace("\u2019", "'") for w in _WORD.findall(text[:5_000])]
    letters = sum(len(word) for word in words)
    if not words or sum(w in _ENGLISH for w in words) >= _ENOUGH * len(words):
        return "en"
    identify = _identifier()
    if identify is None:
        return "en" if text.isascii() else "und"
    found, certain = identify(text[:5_000])
    if letters < _LEAST_LETTERS and text.isascii():
        return "en"
    return found if certain >= _LEAST_CERTAIN or not text.isascii() else "en"


@functools.cache
def _identifier() -> Callable[[str], tuple[str, float]] | None:
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ModuleNotFoundError:
        return None
    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)

    def identify(text: str) -> tuple[str, float]:
        language, certain = identifier.classify(text)
        return str(language), float(certain)

    return identify
