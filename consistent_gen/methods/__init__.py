"""Consistency methods by name: one paper, one file, one `Recipe` (see `index`)."""

from consistent_gen.methods.index import (
    DEFAULT_METHOD,
    FOR_EVERY_MODEL,
    METHODS,
    default_method,
    why_not,
)

__all__ = ["DEFAULT_METHOD", "FOR_EVERY_MODEL", "METHODS", "default_method", "why_not"]
