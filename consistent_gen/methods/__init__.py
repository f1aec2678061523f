"""Consistency methods by name: one paper, one file, one `Recipe` (see `index`)."""

from consistent_gen.methods.index import DEFAULT_METHOD, METHODS

__all__ = ["DEFAULT_METHOD", "METHODS"]
