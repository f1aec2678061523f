"""The assistant: answers, requests to the memory itself, personality and style."""

from __future__ import annotations

from consistent_gen.language.models import LANGUAGE_MODELS

# Who can answer: the language models, and rules that need none.
ANSWERERS = {"rules": "consistent_gen.memory.talk.rule_model:RuleModel", **LANGUAGE_MODELS}
