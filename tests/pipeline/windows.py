"""Settings by method that make every rule act in few steps; the published windows are short."""

from __future__ import annotations

from typing import Any

WIDE: dict[str, dict[str, Any]] = {
    "consistory": {"mixing_steps": 0.5, "injection_steps": (0.25, 0.75)},
    "consistyle": {
        "mixing_steps": 0.5, "structure_steps": (0.25, 0.75), "style_steps": (0.3, 0.7),
    },
    "story_diffusion": {"id_frames": 2},
}  # fmt: skip
