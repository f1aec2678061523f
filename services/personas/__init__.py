"""Assistants that remember: `open_personas` has a memory for each, `recollections` shows one."""

from __future__ import annotations

from services.personas.open_personas import OpenPersonas
from services.personas.recollections import Recollections

__all__ = ["OpenPersonas", "Recollections"]
