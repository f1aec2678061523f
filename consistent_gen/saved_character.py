"""A character of a user's own pipeline, and the file it is kept in.

The file holds the recipe (prompts, seeds, settings) and no tensors.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from consistent_gen.checkpoints import read_json, write_json
from consistent_gen.errors import InputError

FORMAT = "consistent-gen character 1"
_KEPT = ("name", "subject", "prompts", "seeds", "strength", "settings")


@dataclass(frozen=True, kw_only=True)
class SavedCharacter:
    """A character for later frames. images: its anchors, as the pipeline returned them."""

    name: str
    subject: str
    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    strength: float
    settings: Mapping[str, Any]
    images: tuple[Any, ...] = ()

    def save(self, path: str | Path) -> None:
        """Write what is needed to draw the anchors again, as JSON.

        Raises:
            OutputError: the file cannot be written.
        """
        write_json(Path(path), {"format": FORMAT, **{key: getattr(self, key) for key in _KEPT}})


def read_character(path: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What `SavedCharacter.save` wrote.

    settings: those under which its anchors will be drawn.

    Raises:
        InputError: the file is no saved character, or was saved under other settings.
    """
    saved = read_json(path)
    if not isinstance(saved, dict) or saved.get("format") != FORMAT:
        raise InputError(f"{path} is not a saved character; expected format {FORMAT!r}")
    if missing := [key for key in _KEPT if key not in saved]:
        raise InputError(f"{path} does not say {', '.join(missing)}; save the character again")
    now = json.loads(json.dumps(dict(settings)))
    # Files from before a setting was kept do not say what it was.
    for key in sorted(saved["settings"].keys() & now.keys()):
        was, found = saved["settings"][key], now[key]
        if was != found:
            raise InputError(f"{path} was saved with {key} {was!r}; this story has {found!r}")
    return saved
