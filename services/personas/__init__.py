"""Assistants that remember: the `desk` keeps one memory per persona, `recollections` shows it."""

from __future__ import annotations

from services.personas.desk import PersonaDesk
from services.personas.recollections import Recollections

__all__ = ["PersonaDesk", "Recollections"]
