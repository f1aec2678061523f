"""diffusers' own pipelines of tiny folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from consistent_gen.checkpoints import read_json


def stock_pipeline(folder: Path) -> Any:
    """The pipeline that a folder's index names."""
    import diffusers

    index = read_json(folder / "model_index.json")
    missing = {name: None for name, entry in index.items() if entry == [None, None]}
    made = getattr(diffusers, index["_class_name"]).from_pretrained(
        folder, local_files_only=True, **missing
    )
    made.set_progress_bar_config(disable=True)
    return made
