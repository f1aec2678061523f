"""Frozen perception: networks that look at pictures and say what is in them."""

from __future__ import annotations

ENCODERS: dict[str, str] = {
    "reader": "consistent_gen.encoders.reader:Reader",
    "judge": "consistent_gen.encoders.judge:Judge",
}
