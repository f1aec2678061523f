"""Consistency methods by name: one paper, one file.

`METHODS` is what `--method` and the `method:` of a story file choose from.
"""

from __future__ import annotations

METHODS: dict[str, str] = {
    "vanilla": "consistent_gen.methods.vanilla:Vanilla",
}
DEFAULT_METHOD = "vanilla"
