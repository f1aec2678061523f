"""Measuring personas: does somebody keep to what is true of them, and who may judge it."""
