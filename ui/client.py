"""What the studio needs of a server, as a protocol, and the one that speaks HTTP.

The methods are those of `consistent_gen.client.Client`; all raise `ConsistentGenError` with a
sentence that can be shown. The studio never touches the server's tables or files.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from consistent_gen.client.types import (
    Accepted,
    Artifact,
    Changed,
    Event,
    IdeaIn,
    IdeaOut,
    Job,
    JobPage,
    LibraryCharacter,
    LibraryCharacterIn,
    LibraryCharacterList,
    LibraryCharacterPatch,
    MemoryList,
    MemoryOut,
    MissingOut,
    ModelInfo,
    PersonaList,
    PersonaOut,
    RedrawIn,
    Reference,
    RerollIn,
    SaidOut,
    ScoreOut,
    StoryChange,
    StoryIn,
    StoryList,
    StoryOut,
    StoryPatch,
    WordingOut,
)
from consistent_gen.registry import resolve

# Imported when a studio is opened: a page can be built and tested without an HTTP library.
_CLIENTS = {"http": "consistent_gen.client:Client"}


class StudioClient(Protocol):
    """A server, as the studio sees it. Ids are opaque; bytes are whole files."""

    url: str  # where it is, as this process reaches it

    def model(self) -> ModelInfo: ...

    def create_story(self, story: StoryIn, idempotency_key: str | None = None) -> Accepted: ...
    def check_story(self, story: StoryIn) -> WordingOut: ...
    def write_story(self, idea: IdeaIn) -> IdeaOut: ...
    def story(self, story: str) -> StoryOut: ...
    def stories(self, after: str | None = None, limit: int = 50) -> StoryList: ...
    def patch_story(self, story: str, patch: StoryPatch) -> StoryOut: ...
    def missing(self, story: str) -> MissingOut: ...
    def change_story(self, story: str, change: StoryChange) -> Changed: ...
    def delete_story(self, story: str) -> None: ...
    def reroll(
        self,
        story: str,
        index: int,
        reroll: RerollIn | None = None,
        idempotency_key: str | None = None,
    ) -> Accepted: ...
    def redraw(
        self,
        story: str,
        index: int,
        redraw: RedrawIn,
        *,
        idempotency_key: str | None = None,
    ) -> Accepted: ...
    def export(
        self,
        story: str,
        format: str = "pdf",
        layout: str | None = None,
        *,
        enlarge: int | None = None,
    ) -> bytes: ...

    def job(self, job: str) -> Job: ...
    def jobs(
        self, state: str | None = None, after: str | None = None, limit: int = 50
    ) -> JobPage: ...
    def events(self, job: str, after: int = 0) -> Iterator[Event]: ...
    def cancel(self, job: str) -> Job: ...
    def retry(self, job: str) -> Job: ...

    def artifact(self, artifact: str) -> bytes: ...
    def upload(self, data: bytes, media_type: str = "image/png") -> Artifact: ...

    def characters(self) -> LibraryCharacterList: ...
    def character(self, character: str) -> LibraryCharacter: ...
    def create_character(self, character: LibraryCharacterIn) -> LibraryCharacter: ...
    def patch_character(self, character: str, patch: LibraryCharacterPatch) -> LibraryCharacter: ...
    def delete_character(self, character: str) -> None: ...
    def add_reference(
        self, character: str, data: bytes, media_type: str = "image/png"
    ) -> Reference: ...
    def delete_reference(self, character: str, reference: str) -> None: ...
    def export_character(self, character: str) -> bytes: ...
    def import_character(self, archive: bytes) -> LibraryCharacter: ...

    def personas(self) -> PersonaList: ...
    def create_persona(self, name: str) -> PersonaOut: ...
    def delete_persona(self, persona: str) -> None: ...
    def say(self, persona: str, text: str, picture: str | None = None) -> SaidOut: ...
    def memories(self, persona: str) -> MemoryList: ...
    def search(
        self, persona: str, text: str | None = None, picture: str | None = None, k: int = 8
    ) -> MemoryList: ...
    def add_memory(self, persona: str, text: str) -> MemoryOut: ...
    def correct_memory(self, persona: str, memory: str, text: str) -> MemoryOut: ...
    def forget_memory(self, persona: str, memory: str) -> None: ...

    def score(self, artifacts: list[str], prompts: list[str] | None = None) -> ScoreOut: ...


def open_studio(url: str, *, key: str | None = None, user: str | None = None) -> StudioClient:
    """A client of the server at `url`, with an API `key` and an end user within it where given."""
    client: StudioClient = resolve(_CLIENTS, "http")(url, key=key, user=user)
    return client
