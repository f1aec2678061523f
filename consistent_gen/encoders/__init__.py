"""Frozen perception: networks that look at pictures and say what is in them."""

from consistent_gen.encoders.index import ENCODERS, FACE_ANALYZERS, IMAGE_ENCODERS

__all__ = ["ENCODERS", "FACE_ANALYZERS", "IMAGE_ENCODERS"]
