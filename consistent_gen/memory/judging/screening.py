"""Does a proposed memory look like an instruction or a secret? If so it waits for the user.

A memory is replayed into every later prompt, so a stored sentence that commands the reader is an
attack that never ends, and a stored key leaks with every answer. The screen is deliberately broad:
what it stops is kept in quarantine, shown with its reason, and applied when the user says so.
It looks at the text as it is and as it reads once simple disguises are taken off (compatibility
forms, look-alike letters, invisible characters, spacing, leet digits, reversal, rot13, base64,
hex).
"""

from __future__ import annotations

import base64
import binascii
import codecs
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

_INSTRUCTIONS = re.compile(
    r"""
    \b(?:ignore|disregard|forget|override|bypass|drop)\b.{0,40}
        \b(?:previous|prior|above|earlier|all|any|your|these|those|safety|system)\b.{0,30}
        \b(?:instructions?|rules?|prompts?|guidelines?|messages?|context|memor\w+|filters?
            |polic\w+)
    | \b(?:system|developer|hidden|secret)\s+(?:prompt|message|instructions?|mode|note)\b
    | \b(?:new|updated|following)\s+(?:instructions?|rules?|directives?)\b
    | \bfrom\s+now\s+on\b | \bfor\s+all\s+future\b | \bin\s+(?:every
        |all)\s+(?:future\s+)?(?:repl|answer|respon)
    | \b(?:you|assistant|model|ai|chatbot)\s+(?:must|shall|should|will|are\s+to|has\s+to
        |have\s+to|need\s+to)\b
    | \b(?:always|never)\s+(?:respond|reply|answer|recommend|say|tell|mention|reveal|refuse
        |include|
        end|start|begin|add|insert|suggest|praise|ask|trust|obey|send|use|promote|warn)\b
    | \b(?:do\s+not|don'?t)\s+(?:tell|mention|reveal|inform|warn|let|show
        |ask)\b.{0,30}\b(?:user|them|him|her|anyone|anybody)\b
    | \b(?:when(?:ever)?|if|each\s+time|every\s+time)\s+(?:the\s+)?(?:user|they|he|she|asked
        |someone)\b.{0,60}
        \b(?:say|tell|reply|respond|answer|recommend|send|reveal|open|visit|include|output
            |insert|print|call|run)\b
    | \b(?:act|behave|respond|roleplay|role-play)\s+as\s+(?:if|an?|the|though|my)\b
    | \bpretend\s+(?:to|that|you)\b
    | \b(?:jailbreak|jailbroken|unrestricted|uncensored|no\s+restrictions|dan\s+mode
        |god\s+mode|admin\s+mode)\b
    | \b(?:send|forward|post|upload|leak|exfiltrate|email|transmit)\b.{0,60}(?:https?:|www\.
        |\S@\S|\b(?:conversation|
        history|password|memor\w+|data|credentials|chat|details|address\s+book)\b)
    | \b(?:execute|run|eval)\b.{0,30}\b(?:command|code|script|shell|function|tool|sql|following)\b
    | \b(?:reveal|print|output|repeat|show|dump)\b.{0,30}\b(?:prompt|instructions?|memor\w+
        |secrets?|password|history|verbatim)\b
    | \b(?:click|visit|open|go\s+to|buy|download)\b.{0,40}https?:
    | \b(?:save|store|remember|write|record|add)\b.{0,30}\b(?:memory|profile|core
        |user'?s?\s+(?:file|record))\b
    | \byour\s+(?:instructions?|rules?|purpose|goal|task|guidelines?|programming|persona)\b
    | <\|[^|>]{1,40}\|> | \[/?(?:inst|sys|system|assistant)\] | <<\s*sys | </?(?:system
        |assistant|instructions?|tool)\b[^>]*>
    | (?:^|\s)(?:\#{2,}\s*)(?:system|instruction|assistant|user|response) | ^(?:system
        |assistant|developer|user)\s*:
    | (?:^|[\s>{])(?:add|update|delete)\s*\([^)]*,
    | \b(?:drop\s+table|delete\s+from|insert\s+into|rm\s+-rf)\b
    | \bignor(?:a|iere|iert|ieren|ez|er|e)\b.{0,30}\b(?:anweisung\w*|instrucciones
        |instructions|istruzioni|instru[cç][oõ]es|consignes)\b
    """,
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)
_SECRETS = re.compile(
    r"""
    -----BEGIN\s[A-Z\s]*(?:PRIVATE\sKEY|CERTIFICATE)
    | \b(?:sk|pk|rk)[-_](?:live|test|proj|ant)?[-_]?[A-Za-z0-9_-]{16,}
    | \bgh[pousr]_[A-Za-z0-9]{20,} | \bgithub_pat_\w{20,} | \bglpat-[\w-]{16,}
    | \b(?:AKIA|ASIA)[A-Z0-9]{12,} | \bAIza[\w-]{30,} | \bxox[abprs]-[\w-]{10,}
    | \bhf_[A-Za-z0-9]{20,}
    | \beyJ[\w-]{8,}\.[\w-]{8,}\.
    | (?<![^\W_])(?i:  # a name may stand before it, as in SERVICE_API_KEY
        (?:password|passwd|passphrase|passcode|api[\s_-]?keys?|client[\s_-]?secret
            |(?:access|auth|bearer|refresh)[\s_-]?tokens?|(?:secret|private|access)[\s_-]?keys?
            |recovery\s+(?:phrase|code)|seed\s+phrase)
            (?:[_-]id)?(?![^\W_])["'`]?
            (?:\s+(?:for|of|to|at|i|we|you|he|she|they)\s[^.!?\n]{0,40}?|,[^.!?\n]{0,40}?,)?
        |(?:pin(?:\s+code)?|cvv)\b
        )(?:\s*(?:=|:|->|→)|\s+(?i:is|are|was|will\s+be)\b|['\u2019]s\b|\s+(?=["'`]\w))\s*\S{1,400}
    | \b\d{3}-\d{2}-\d{4}\b
    """,
    re.VERBOSE,
)
_LOOKALIKES = str.maketrans(
    "аеорсухіѕјԁӏвкмнтгΑΒΕΖΗΙΚΜΝΟΡΤΧΥοαενρτυχι",
    "aeopcyxisjdlbkmhtrABEZHIKMNOPTXYoaevptuxi",
)
_LEET = str.maketrans("013457@$!", "oieastasi")
_ENCODED = re.compile(r"[A-Za-z0-9+/_-]{16,}={0,2}")
_CARD = re.compile(r"\b(?:\d[ -]?){13,19}\b")
_SPACED = re.compile(r"\b(?:\w[ ._*|-]){4,}\w\b")


# What no person says about themselves: somebody speaks as the system, or about "the user".
_FORGED = re.compile(
    r"""
    \b(?:ignore|disregard|forget|override|bypass)\b.{0,40}
        \b(?:previous|prior|above|earlier|all|any|your|these|those|safety|system)\b.{0,30}
        \b(?:instructions?|rules?|prompts?|guidelines?|messages?|context|filters?|polic\w+)
    | \b(?:system|developer)\s+(?:prompt|message|instructions?|mode|note|notice|update|override)\b
    | \b(?:new|updated|following)\s+(?:instructions?|directives?)\b
    | \b(?:remember|note|store|save|record|memori[sz]e|update|set|write|add|conclude|log)\b
        .{0,60}\b(?:the|this)\s+(?:current\s+)?(?:user|human|account\s+holder)\b
    | \b(?:the|this)\s+(?:current\s+)?user(?:'?s|\s+\w+)?\b.{0,40}\b(?:must|shall|should)\s+be\b
    | \b(?:the\s+)?user'?s?\s+(?:new\s+|real\s+|true\s+|actual\s+)?
        (?:name|home|address|job|employer|birthday|partner|diet|profile|memory|record|identity)\b
    | \b(?:write|store|save|put|insert|add|commit)\b.{0,60}
        \b(?:memory|memories|profile|core|tree|leaf|long-term)\b
    | \b(?:act|behave|respond|speak)\s+as\s+(?:if\s+you|the\s+system|an?\s+\w+\s+(?:model|ai))
    | \bpretend\s+(?:that\s+)?you\b | \byou\s+are\s+now\b
    | \b(?:jailbreak|jailbroken|unrestricted|dan\s+mode|god\s+mode|admin\s+mode|debug\s+mode
        |maintenance\s+mode)\b
    | <\|[^|>]{1,40}\|> | \[/?(?:inst|sys|system|assistant)\] | <<\s*sys
    | </?(?:system|assistant|instructions?|tool|memory|function)\b[^>]*>
    | (?:^|\s)(?:\#{2,}\s*)(?:system|instruction|assistant|response)
    | (?:^|[\n.!?\s])(?:system|assistant|developer|tool|admin|root)\s*:
    | (?:^|[\s>{`(])(?:add|update|delete)\s*\([^)]*[,"]
    | ["']?(?:op|operation|action)["']?\s*[:=]\s*["']?(?:add|update|delete)\b
    | ["'](?:target|path)["']\s*:\s*["']
    | \bignor(?:a|iere|iert|ieren|ez|er|e|i)\b.{0,40}\b(?:anweisung\w*|instrucciones
        |instructions|istruzioni|instru[cç][oõ]es|instrucoes|consignes|instructies|regeln)\b
    | \bnegeer\b.{0,40}\binstructies | \bzignoruj\b.{0,40}\b(?:instrukcj|polece)
    | игнорируй|забудь\s+(?:все\s+)?инструкции | 忽略.{0,12}(?:指令|指示|说明) | 無視し | 指示を無視
    | تجاهل | अनदेखा | 이전\s*지시 | önceki\s+talimat
    """,
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True)
class Suspicion:
    """The rule that fired (``instruction_like`` or ``secret_like``) and a sentence about it."""

    rule: str
    reason: str


def screen(text: str) -> Suspicion | None:
    """The first suspicion about ``text``, or ``None``. Pure; linear in its length."""
    if any(secrets_in(text)):
        return Suspicion("secret_like", "it looks like a password, key or card number")
    hidden = (unicodedata.category(c) == "Cf" and c not in "\u200c\u200d\u00ad" for c in text)
    if not text.isascii() and any(hidden):
        return Suspicion("instruction_like", "it holds invisible or direction-changing characters")
    for how, reading in _readings(text):
        if _INSTRUCTIONS.search(reading):
            return Suspicion("instruction_like", f"it reads like an instruction ({how})")
    return None


def secrets_in(text: str) -> Iterator[str]:
    """What of a text looks like a key, a password or a card number, as it stands there."""
    yield from (match.group() for match in _SECRETS.finditer(text))
    yield from (match.group() for match in _CARD.finditer(text) if _luhn(match.group()))


def forged(text: str) -> bool:
    """Whether a turn, as written or in disguise, speaks as a system or about "the user".

    Narrower than `screen`: people do say "you should", and what they say so is theirs.
    """
    return any(_FORGED.search(reading) for _, reading in _readings(text))


def _readings(text: str) -> Iterator[tuple[str, str]]:
    """What a text may say, each reading once: most disguises leave a plain text as it is."""
    known: set[str] = set()
    for how, reading in _undisguised(text):
        if reading not in known:
            known.add(reading)
            yield how, reading


def _undisguised(text: str) -> Iterator[tuple[str, str]]:
    yield "as written", text
    plain = text if text.isascii() else _in_plain_letters(text)
    yield "in plain letters", plain
    yield "without odd spacing", _SPACED.sub(lambda m: re.sub(r"[ ._*|-]", "", m.group()), plain)
    if text.count(" ") >= len(text) // 3:
        tight = re.sub(r"(?<=\S) (?=\S)", "", plain)
        yield "without any spacing", re.sub(r"\s+", " ", tight)
    yield "with separators as spaces", re.sub(r"[_.*|~+/\\-]+", " ", plain)
    yield "with digits as letters", plain.translate(_LEET)
    yield "backwards", plain[::-1]
    yield "in rot13", codecs.encode(plain, "rot13")
    for match in _ENCODED.finditer(plain):
        for decoded in _decoded(match.group()):
            yield "decoded", decoded


def _in_plain_letters(text: str) -> str:
    folded = unicodedata.normalize("NFKC", text).translate(_LOOKALIKES)
    folded = "".join(c for c in folded if unicodedata.category(c) != "Cf")
    plain = unicodedata.normalize("NFKD", folded)
    return "".join(c for c in plain if not unicodedata.combining(c))


def _decoded(token: str) -> Iterator[str]:
    # Either codec may refuse the token or give bytes that are no text: then there is no reading.
    bare = token.rstrip("=")
    padded = (bare + "=" * (-len(bare) % 4)).replace("-", "+").replace("_", "/")
    for decode in (base64.b64decode, binascii.unhexlify):
        try:
            yield decode(padded if decode is base64.b64decode else token).decode("ascii")
        except (ValueError, binascii.Error):
            continue


def _luhn(text: str) -> bool:
    digits = [int(c) for c in text if c.isdecimal()][::-1]
    doubled = [d * 2 - 9 * (d > 4) for d in digits[1::2]]
    return sum(digits[::2]) + sum(doubled) != 0 and (sum(digits[::2]) + sum(doubled)) % 10 == 0
