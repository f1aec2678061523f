"""Which folder a model is in, without a library being loaded."""

from __future__ import annotations

import re
from pathlib import Path

from consistent_gen.checkpoints import weights_folder
from consistent_gen.errors import CheckpointError
from consistent_gen.models import DEFAULT_MODEL
from consistent_gen.models.single_file import single_file_fault
from consistent_gen.registry import nearest

INDEX = "model_index.json"
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
_HUB_FOLDER = "models--"  # what the hub's cache puts before "owner--name"


def find_folder(path: str | Path | None) -> Path:
    """The folder that a user means by a path, a name or an id (see `models.load_backbone`).

    Raises:
        CheckpointError: there is none, or it has no index.
    """
    if path is None:
        folder = weights_folder(DEFAULT_MODEL)
    elif Path(path).is_dir():
        folder = Path(path).resolve()
    elif Path(path).is_file():
        raise single_file_fault(Path(path))
    elif len(Path(path).parts) == 1:
        folder = weights_folder(str(path))
    else:
        folder = _from_hub_cache(str(path))
    if not (folder / INDEX).is_file():
        raise CheckpointError(
            f"{folder} has no {INDEX}; expected a model folder in diffusers format, "
            "with unet/ or transformer/, vae/, text_encoder/, tokenizer/ and scheduler/ in it"
        )
    return folder


def _from_hub_cache(name: str) -> Path:
    """The folder of a model that somebody has fetched from the Hugging Face hub, by its id there.

    Raises:
        CheckpointError: it is no id, or was not fetched.
    """
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        found = snapshot_download(name, local_files_only=True, cache_dir=constants.HF_HUB_CACHE)
    except (HFValidationError, LocalEntryNotFoundError):
        raise CheckpointError(_missing(Path(name))) from None
    return Path(found)


def _missing(path: Path) -> str:
    siblings = [p.name for p in path.parent.iterdir() if p.is_dir()] if path.parent.is_dir() else []
    guess = nearest(path.name, siblings)
    hint = f"; did you mean {path.parent / guess}?" if guess else ""
    if not hint and _HUB_ID.fullmatch(str(path)):
        hint = f", nor has it been fetched from the Hugging Face hub: hf download {path}"
    return f"no model folder at {path}{hint}"


def model_name(folder: Path) -> str:
    """What a model in a folder is called; in the hub's cache, where folders have names of
    revisions, as on the hub.
    """
    fetched = folder.parent.parent.name
    if folder.parent.name == "snapshots" and fetched.startswith(_HUB_FOLDER):
        return fetched.rpartition("--")[2]
    return folder.name
