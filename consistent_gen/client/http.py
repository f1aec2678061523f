"""A small synchronous client of the HTTP API, with the server's own types.

>>> with Client("http://127.0.0.1:7860") as client:                      # doctest: +SKIP
...     job = client.wait(client.create_story(story).job)
...     png = client.artifact(job.frames[0].artifact)

Calls that would do something twice carry an idempotency key, so that a broken connection can be
tried again without drawing anything twice. Event streams resume where they broke off.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

import httpx
from pydantic import BaseModel

from consistent_gen.client import persona_lab as lab
from consistent_gen.client import types as wire
from consistent_gen.client.connection import (
    FIRST_PAUSE_S,
    ApiError,
    Connection,
    EndOfStream,
    Wire,
    garbled,
    path_id,
    problem,
    read,
)
from consistent_gen.client.types import WordingOut

DEFAULT_URL = "http://127.0.0.1:7860"
PASSING = (0, 408, 429, 500, 502, 503, 504)  # a stream may come back after these


class Client:
    """One server, one caller. May be shared between threads.

    Args:
        url: address of the server. key: API key, None where the server asks for none.
        user: names the end user within a key, for fair sharing. timeout: seconds per answer.
        transport: instead of the network (tests, a server in this process).
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        key: str | None = None,
        user: str | None = None,
        timeout: float = 30.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._connection = Connection(url, key, user, timeout, transport)
        self.url = self._connection.url

    def close(self) -> None:
        """Close the connections; the client is also a context manager."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # Stories and jobs ---------------------------------------------------------------------------
    def create_story(
        self, story: wire.StoryIn, idempotency_key: str | None = None
    ) -> wire.Accepted:
        """Put a story into the queue. The same key with the same story is the same job."""
        return self._create("/v1/stories", story, idempotency_key)

    def check_story(self, story: wire.StoryIn) -> WordingOut:
        """What would be drawn of a story, and what keeps it from that; nothing is ordered."""
        answer = self._connection.send("POST", "/v1/stories/check", body=story, repeat=True)
        return read(WordingOut, answer)

    def write_story(self, idea: wire.IdeaIn) -> wire.IdeaOut:
        """A story from an idea, to be edited and drawn; nothing is ordered."""
        answer = self._connection.send("POST", "/v1/stories/ideas", body=idea, repeat=True)
        return read(wire.IdeaOut, answer)

    def image(
        self, image: wire.ImageIn, idempotency_key: str | None = None, wait_s: float = 0.0
    ) -> wire.Accepted | wire.Job:
        """Draw one picture. With `wait_s` the finished job is the answer if it is done by then."""
        headers = {"Idempotency-Key": idempotency_key or uuid.uuid4().hex}
        if wait_s > 0:
            headers["Prefer"] = f"wait={wait_s:g}"
        answer = self._connection.send(
            "POST", "/v1/images", body=image, headers=headers, repeat=True, extra_s=wait_s
        )
        done = answer.status_code == 200
        return read(wire.Job, answer) if done else read(wire.Accepted, answer)

    def job(self, job: str) -> wire.Job:
        """A job as it stands."""
        return self._get(wire.Job, f"/v1/jobs/{path_id(job)}")

    def jobs(
        self, state: wire.JobState | str | None = None, after: str | None = None, limit: int = 50
    ) -> wire.JobPage:
        """A page of jobs, newest first; `after` is the page before's `next`."""
        return self._get(wire.JobPage, "/v1/jobs", state=state, after=after, limit=limit)

    def cancel(self, job: str) -> wire.Job:
        """Stop a job; what is drawn stays."""
        return read(
            wire.Job, self._connection.send("DELETE", f"/v1/jobs/{path_id(job)}", repeat=True)
        )

    def retry(self, job: str) -> wire.Job:
        """Draw again what failed or was cancelled."""
        return read(
            wire.Job, self._connection.send("POST", f"/v1/jobs/{path_id(job)}/retry", repeat=True)
        )

    def events(self, job: str, after: int = 0, patience_s: float = 60.0) -> Iterator[wire.Event]:
        """What happens to a job, from the event after number `after` on, until `done`.

        A broken stream is taken up again where it ended; ``ApiError`` once the server has not been
        reached for `patience_s`.
        """
        patience = _Patience(patience_s)
        while True:
            try:
                for event in self._connection.stream(f"/v1/jobs/{path_id(job)}/events", after):
                    after = event.id
                    patience.reset()
                    yield event
                    if event.type is wire.EventType.done:
                        return
                patience.pause()
            except EndOfStream:
                return
            except ApiError as error:
                patience.endure(error)

    def wait(self, job: str, timeout_s: float | None = None, patience_s: float = 60.0) -> wire.Job:
        """The job when it is finished; a server that is away for `patience_s` is waited for.

        Raises ``ApiError`` (code "timeout") after `timeout_s`; the job goes on.
        """
        if timeout_s is None:  # told at once, where asking would be up to a second late
            for _ in self.events(job, patience_s=patience_s):
                pass
        end = None if timeout_s is None else time.monotonic() + timeout_s
        patience = _Patience(patience_s, longest_s=1.0)
        while True:
            try:
                state = self.job(job)
                if state.state.finished:
                    return state
                patience.answered()
            except ApiError as error:
                patience.endure(error)
            if end is not None and time.monotonic() > end:
                detail = f"{job} is not finished after {timeout_s:g} s; it goes on"
                raise ApiError(problem(0, "timeout", detail))
            patience.pause()

    def reroll(
        self,
        story: str,
        index: int,
        reroll: wire.RerollIn | None = None,
        idempotency_key: str | None = None,
    ) -> wire.Accepted:
        """Draw frame `index` (from 0) again; the other frames keep their bytes."""
        path = f"/v1/stories/{path_id(story)}/frames/{index}/reroll"
        return self._create(path, reroll or wire.RerollIn(), idempotency_key)

    def redraw(
        self,
        story: str,
        index: int,
        redraw: wire.RedrawIn,
        *,
        idempotency_key: str | None = None,
    ) -> wire.Accepted:
        """Draw a part of one frame's drawing again, as a new version."""
        path = f"/v1/stories/{path_id(story)}/frames/{index}/redraw"
        return self._create(path, redraw, idempotency_key)

    def change_story(self, story: str, change: wire.StoryChange) -> wire.Changed:
        """Make another story of it; only what that changes is drawn again. 409 as `patch_story`,
        and while the story is being drawn.
        """
        path = f"/v1/stories/{path_id(story)}/changes"
        return read(wire.Changed, self._connection.send("POST", path, body=change))

    def story(self, story: str) -> wire.StoryOut:
        """A story with all drawings of its frames."""
        return self._get(wire.StoryOut, f"/v1/stories/{path_id(story)}")

    def missing(self, story: str) -> wire.MissingOut:
        """Who of a story is missing from the drawings that count; 503 where nobody can tell."""
        return self._get(wire.MissingOut, f"/v1/stories/{path_id(story)}/missing")

    def stories(self, after: str | None = None, limit: int = 50) -> wire.StoryList:
        """A page of stories, newest first."""
        return self._get(wire.StoryList, "/v1/stories", after=after, limit=limit)

    def patch_story(self, story: str, patch: wire.StoryPatch) -> wire.StoryOut:
        """Change title, layout, captions, bubbles or chosen versions; 409 when it has changed."""
        return read(
            wire.StoryOut, self._connection.send("PUT", f"/v1/stories/{path_id(story)}", body=patch)
        )

    def delete_story(self, story: str) -> None:
        """Delete a story with its drawings."""
        self._connection.send("DELETE", f"/v1/stories/{path_id(story)}", repeat=True)

    def export(
        self,
        story: str,
        format: str = "pdf",
        layout: str | None = None,
        enlarge: int | None = None,
    ) -> bytes:
        """The story as one file: pdf, cbz, zip, gif or png. enlarge: 2 or 4, for printing."""
        asked = {"format": format, "layout": layout, "enlarge": enlarge}
        parameters = {name: str(value) for name, value in asked.items() if value is not None}
        path = f"/v1/stories/{path_id(story)}/export"
        return self._connection.send(
            "GET", path, parameters=parameters, repeat=True, extra_s=60.0
        ).content

    # Files --------------------------------------------------------------------------------------
    def artifact(self, artifact: str) -> bytes:
        """The bytes of a stored file."""
        return self._connection.send(
            "GET", f"/v1/artifacts/{path_id(artifact)}", repeat=True
        ).content

    def upload(self, data: bytes, media_type: str = "image/png") -> wire.Artifact:
        """Store a picture (PNG, JPEG or WebP). The server draws it anew, without metadata."""
        return read(
            wire.Artifact, self._connection.send("POST", "/v1/artifacts", file=(data, media_type))
        )

    def delete_artifact(self, artifact: str) -> None:
        """Delete a file that no story and no character shows."""
        self._connection.send("DELETE", f"/v1/artifacts/{path_id(artifact)}", repeat=True)

    # Characters ---------------------------------------------------------------------------------
    def characters(self) -> wire.LibraryCharacterList:
        """The library."""
        return self._get(wire.LibraryCharacterList, "/v1/characters")

    def create_character(self, character: wire.LibraryCharacterIn) -> wire.LibraryCharacter:
        """Add a character to the library."""
        return read(
            wire.LibraryCharacter, self._connection.send("POST", "/v1/characters", body=character)
        )

    def character(self, character: str) -> wire.LibraryCharacter:
        """One character."""
        return self._get(wire.LibraryCharacter, f"/v1/characters/{path_id(character)}")

    def patch_character(
        self, character: str, patch: wire.LibraryCharacterPatch
    ) -> wire.LibraryCharacter:
        """Change name, description or strength."""
        answer = self._connection.send("PATCH", f"/v1/characters/{path_id(character)}", body=patch)
        return read(wire.LibraryCharacter, answer)

    def delete_character(self, character: str) -> None:
        """Delete a character with its references and all that was derived from them."""
        self._connection.send("DELETE", f"/v1/characters/{path_id(character)}", repeat=True)

    def add_reference(
        self, character: str, data: bytes, media_type: str = "image/png"
    ) -> wire.Reference:
        """Add a reference picture; the answer judges its quality."""
        path = f"/v1/characters/{path_id(character)}/references"
        return read(wire.Reference, self._connection.send("POST", path, file=(data, media_type)))

    def delete_reference(self, character: str, reference: str) -> None:
        """Delete one reference picture."""
        path = f"/v1/characters/{path_id(character)}/references/{path_id(reference)}"
        self._connection.send("DELETE", path, repeat=True)

    def export_character(self, character: str) -> bytes:
        """A character as a portable archive."""
        path = f"/v1/characters/{path_id(character)}/export"
        return self._connection.send("GET", path, repeat=True).content

    def import_character(self, archive: bytes) -> wire.LibraryCharacter:
        """Add a character from such an archive."""
        answer = self._connection.send(
            "POST", "/v1/characters/import", file=(archive, "application/zip")
        )
        return read(wire.LibraryCharacter, answer)

    # Personas -----------------------------------------------------------------------------------
    def personas(self) -> wire.PersonaList:
        """The caller's personas."""
        return self._get(wire.PersonaList, "/v1/personas")

    def create_persona(self, name: str) -> wire.PersonaOut:
        """A new persona with an empty memory."""
        body = wire.PersonaIn(name=name)
        return read(wire.PersonaOut, self._connection.send("POST", "/v1/personas", body=body))

    def persona(self, persona: str) -> wire.PersonaOut:
        """One persona."""
        return self._get(wire.PersonaOut, f"/v1/personas/{path_id(persona)}")

    def delete_persona(self, persona: str) -> None:
        """Erase a persona and everything it remembers."""
        self._connection.send("DELETE", f"/v1/personas/{path_id(persona)}", repeat=True)

    def say(
        self, persona: str, text: str, picture: str | None = None, wait_s: float = 600.0
    ) -> wire.SaidOut:
        """Say something; "draw ..." draws before it answers, for which `wait_s` is allowed."""
        body = wire.SayIn(text=text, picture=picture)
        path = f"/v1/personas/{path_id(persona)}/say"
        return read(wire.SaidOut, self._connection.send("POST", path, body=body, extra_s=wait_s))

    def memories(self, persona: str) -> wire.MemoryList:
        """What a persona remembers, newest first."""
        return self._get(wire.MemoryList, f"/v1/personas/{path_id(persona)}/memories")

    def add_memory(self, persona: str, text: str) -> wire.MemoryOut:
        """Tell the memory a fact."""
        path = f"/v1/personas/{path_id(persona)}/memories"
        return read(
            wire.MemoryOut, self._connection.send("POST", path, body=wire.MemoryIn(text=text))
        )

    def correct_memory(self, persona: str, memory: str, text: str) -> wire.MemoryOut:
        """Replace a memory that was never right."""
        path = f"/v1/personas/{path_id(persona)}/memories/{path_id(memory)}"
        return read(
            wire.MemoryOut, self._connection.send("PUT", path, body=wire.MemoryIn(text=text))
        )

    def forget_memory(self, persona: str, memory: str) -> None:
        """Erase a memory with what it was learnt from."""
        path = f"/v1/personas/{path_id(persona)}/memories/{path_id(memory)}"
        self._connection.send("DELETE", path, repeat=True)

    def search(
        self, persona: str, text: str | None = None, picture: str | None = None, k: int = 8
    ) -> wire.MemoryList:
        """Memories that fit words, a picture (an artifact), or both; best first."""
        body = wire.MemorySearchIn(text=text, picture=picture, k=k)
        path = f"/v1/personas/{path_id(persona)}/search"
        return read(wire.MemoryList, self._connection.send("POST", path, body=body, repeat=True))

    # The persona lab ----------------------------------------------------------------------------
    def cards(self) -> lab.CardList:
        """The caller's character cards."""
        return self._get(lab.CardList, "/v1/persona-lab/cards")

    def create_card(self, data: bytes) -> lab.CardOut:
        """Import a card (PNG, JSON or .charx); the answer has what the validator says."""
        kind = "image/png" if data.startswith(b"\x89PNG") else "application/json"
        answer = self._connection.send("POST", "/v1/persona-lab/cards", file=(data, kind))
        return read(lab.CardOut, answer)

    def card(self, card: str) -> lab.CardOut:
        """One card."""
        return self._get(lab.CardOut, _card(card))

    def mend_card(self, card: str, changes: lab.CardMendIn) -> lab.CardOut:
        """Put new texts into fields; the card is validated again."""
        answer = self._connection.send("PUT", _card(card), body=changes, repeat=True)
        return read(lab.CardOut, answer)

    def delete_card(self, card: str) -> None:
        """Erase a card with its talk and its audit."""
        self._connection.send("DELETE", _card(card), repeat=True)

    def export_card(self, card: str, format: str = "json", picture: str | None = None) -> bytes:
        """The card as a file, json or png. picture: an artifact that a PNG is put into."""
        asked = {"format": format} | ({} if picture is None else {"picture": picture})
        path = _card(card) + "/export"
        return self._connection.send("GET", path, parameters=asked, repeat=True).content

    def talk(self, card: str) -> lab.TalkOut:
        """The talk with a card so far."""
        return self._get(lab.TalkOut, _card(card) + "/talk")

    def talk_with_card(
        self, card: str, text: str, wait_s: float = 300.0, looks: str | None = None
    ) -> lab.TalkOut:
        """Say one line to a persona; the talk with its reply, and the drift of its turns.

        looks: what it is drawn from, where the line asks for a picture of it.
        """
        body, path = lab.TalkIn(text=text, looks=looks), _card(card) + "/talk"
        return read(lab.TalkOut, self._connection.send("POST", path, body=body, extra_s=wait_s))

    def forget_talk(self, card: str) -> None:
        """Begin the talk anew."""
        self._connection.send("DELETE", _card(card) + "/talk", repeat=True)

    def audit_card(self, card: str, questions: int = 12) -> lab.AuditOut:
        """Start an audit; `audit` tells how far it is."""
        body, path = lab.AuditIn(questions=questions), _card(card) + "/audit"
        return read(lab.AuditOut, self._connection.send("POST", path, body=body, repeat=True))

    def audit(self, card: str) -> lab.AuditOut:
        """A card's newest audit as it stands."""
        return self._get(lab.AuditOut, _card(card) + "/audit")

    def cancel_audit(self, card: str) -> None:
        """Stop a card's audit, and take its report away."""
        self._connection.send("DELETE", _card(card) + "/audit", repeat=True)

    def audit_report(self, card: str) -> bytes:
        """The HTML page of the newest audit that succeeded."""
        return self._connection.send("GET", _card(card) + "/audit/report", repeat=True).content

    def card_character(
        self, card: str, name: str | None = None, looks: str | None = None
    ) -> wire.LibraryCharacter:
        """Keep a persona's appearance as a character of the library."""
        body = lab.CardCharacterIn(name=name, looks=looks)
        answer = self._connection.send("POST", _card(card) + "/character", body=body)
        return read(wire.LibraryCharacter, answer)

    def card_story(
        self, card: str, name: str | None = None, looks: str | None = None
    ) -> wire.StoryIn:
        """A story with a persona as its character, to edit and draw."""
        body = lab.CardCharacterIn(into="story", name=name, looks=looks)
        path = _card(card) + "/character"
        return read(wire.StoryIn, self._connection.send("POST", path, body=body, repeat=True))

    # Scores and the server ----------------------------------------------------------------------
    def score(self, artifacts: list[str], prompts: list[str] | None = None) -> wire.ScoreOut:
        """How well pictures agree with each other, and with prompts."""
        body = wire.ScoreIn(artifacts=artifacts, prompts=prompts)
        answer = self._connection.send("POST", "/v1/score", body=body, repeat=True, extra_s=60.0)
        return read(wire.ScoreOut, answer)

    def limits(self) -> wire.Limits:
        """What the server accepts."""
        return self._get(wire.Limits, "/v1/limits")

    def model(self) -> wire.ModelInfo:
        """The model that draws, and the names a story may use."""
        answer = self._connection.send("GET", "/v1/models", repeat=True)
        try:
            return wire.ModelInfo.model_validate(answer.json()["data"][0])
        except (ValueError, KeyError, IndexError, TypeError):
            raise garbled(answer) from None

    def ready(self) -> bool:
        """Whether the server can draw now; False also when it cannot be reached."""
        try:
            return self._connection.send("GET", "/readyz").status_code == 200
        except ApiError:
            return False

    def _create(self, path: str, body: BaseModel, key: str | None) -> wire.Accepted:
        headers = {"Idempotency-Key": key or uuid.uuid4().hex}
        answer = self._connection.send("POST", path, body=body, headers=headers, repeat=True)
        return read(wire.Accepted, answer)

    def _get(self, kind: type[Wire], path: str, **parameters: Any) -> Wire:
        given = {name: str(value) for name, value in parameters.items() if value is not None}
        return read(kind, self._connection.send("GET", path, parameters=given, repeat=True))


def _card(card: str) -> str:
    return f"/v1/persona-lab/cards/{path_id(card)}"


class _Patience:
    """Growing pauses, and an end to them once nothing was heard for `patience_s`."""

    def __init__(self, patience_s: float, longest_s: float = 5.0) -> None:
        self._patience_s, self._longest_s = patience_s, longest_s
        self._silent_since: float | None = None
        self._pause_s = FIRST_PAUSE_S / 4

    def answered(self) -> None:
        """The server is there; pauses go on growing."""
        self._silent_since = None

    def reset(self) -> None:
        """There was progress: short pauses again."""
        self._silent_since, self._pause_s = None, FIRST_PAUSE_S / 4

    def endure(self, error: ApiError) -> None:
        """Pause after `error`, or raise it: when it will not pass, or lasted too long."""
        now = time.monotonic()
        self._silent_since = now if self._silent_since is None else self._silent_since
        if error.status not in PASSING or now - self._silent_since >= self._patience_s:
            raise error
        # What another machine asks for is a wish: it lasts no longer than our patience.
        wish = error.problem.retry_after or 0.0
        left = self._patience_s - (now - self._silent_since)
        time.sleep(min(wish, left) if wish > 0.0 else 0.0)
        self.pause()

    def pause(self) -> None:
        """Sleep, a little longer than the last time."""
        time.sleep(self._pause_s)
        self._pause_s = min(2 * self._pause_s, self._longest_s)
