"""Artifacts as files, since Gradio shows and offers files.

The bytes are kept as they come from the server, so a downloaded picture has its metadata.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from consistent_gen.checkpoints import atomic_file
from ui.client import StudioClient

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

_SUFFIXES = {b"\x89PNG": ".png", b"\xff\xd8\xff": ".jpg", b"RIFF": ".webp", b"GIF8": ".gif"}
_ID = re.compile(r"[a-z]+_[0-9a-z]{4,64}")
_UNSAFE_IN_NAMES = re.compile(r"[^\w.-]+")
MAX_FILES = 4000
PICTURES = "pictures"  # what addresses call the folder


class PictureFiles:
    """A folder of artifacts. It is a cache: whatever is missing is fetched again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, client: StudioClient, artifact: str) -> Path:
        """The file of an artifact of `client`. Raises ConsistentGenError when there is none."""
        known = self.known(artifact)
        if known is not None:
            return known
        data = client.artifact(artifact)
        suffix = next((s for magic, s in _SUFFIXES.items() if data.startswith(magic)), ".bin")
        path = self.folder / f"{_stem(artifact)}{suffix}"
        with atomic_file(path) as temporary:
            temporary.write_bytes(data)
        return path

    def known(self, artifact: str) -> Path | None:
        """The file of an artifact that was fetched before, None for others."""
        stem = _stem(artifact)
        places = (self.folder / f"{stem}{suffix}" for suffix in (*_SUFFIXES.values(), ".bin"))
        return next((place for place in places if place.is_file()), None)

    def export(self, name: str, suffix: str, data: bytes) -> Path:
        """A file to download, named after a story; one folder for each content."""
        digest = hashlib.sha256(data).hexdigest()[:16]
        clean = _UNSAFE_IN_NAMES.sub("_", name).strip("._")[:60] or "story"
        path = self.folder / "exports" / digest / f"{clean}.{suffix}"
        with atomic_file(path) as temporary:
            temporary.write_bytes(data)
        return path

    def trim(self) -> None:
        """Drop the oldest files beyond the bound."""
        files = [file for file in self.folder.rglob("*") if file.is_file()]
        if len(files) <= MAX_FILES:
            return
        by_age = sorted(files, key=lambda file: file.stat().st_mtime)
        for file in by_age[: len(files) - MAX_FILES]:
            file.unlink(missing_ok=True)


def _stem(artifact: str) -> str:
    """A file name for an id. Ids that do not look like ours never become paths."""
    if _ID.fullmatch(artifact):
        return artifact
    return hashlib.sha256(artifact.encode("utf-8", "replace")).hexdigest()[:32]


class PictureAddresses:
    """ASGI around the page: an address names a picture, and no folder of this machine."""

    def __init__(self, page: ASGIApp, folder: Path) -> None:
        self._page, self._folder = page, folder.resolve()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand a request to the page, with the place of the picture that it asks for."""
        before, found, name = str(scope.get("path", "")).partition(f"/file={PICTURES}/")
        if found:
            path = f"{before}/file={self._folder / name}"
            scope = {**scope, "path": path, "raw_path": quote(path).encode()}
        await self._page(scope, receive, send)
