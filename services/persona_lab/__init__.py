"""The persona lab: `cards` keeps them, `talks` speaks with them, `audits` measures them."""

from __future__ import annotations

from services.persona_lab.lab import PersonaLab

__all__ = ["PersonaLab"]
