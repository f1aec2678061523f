"""Audits of cards, one at a time, beside the requests; each card has its newest one.

What is asked of an audit and what became of it are a file in the card's folder, so that one that a
stop of the server cut off is told as such and not as running for ever.
"""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from consistent_gen.client.persona_lab import AuditFigure, AuditOut
from consistent_gen.errors import Cancelled, ConsistentGenError, OutputError
from consistent_gen.language.embedders import TextEmbedder
from consistent_gen.language.models import LanguageModel
from consistent_gen.persona.evaluate.audit import MAX_STATEMENTS, PAGE, audit
from consistent_gen.persona.judging import PairScorer
from consistent_gen.persona.measurement import Measurement
from consistent_gen.persona.persona import Persona
from services.errors import BusyError, NotFound, QuotaError
from services.persona_lab.cards import CardShelf, KeptCard

MAX_WAITING, MAX_WAITING_OF_OWNER = 32, 4
_STATE, _REPORT = "audit.json", "report.html"
_CUT_OFF = "the server was stopped meanwhile; start the audit again"
_log = logging.getLogger("services.persona_lab")


class Audits:
    """The audits of one server; `close` ends the one that runs at its next question."""

    def __init__(self, shelf: CardShelf) -> None:
        self._shelf = shelf
        self._lock = threading.Lock()
        self._waiting: dict[Path, str] = {}  # folder of the card -> owner
        self._cancelled: set[Path] = set()
        self._closed = False
        self._pool = ThreadPoolExecutor(1, "audit")

    def start(
        self,
        owner: str,
        kept: KeptCard,
        questions: int,
        model: Callable[[Callable[[], bool]], LanguageModel],
        tools: Callable[[], tuple[PairScorer, TextEmbedder]],
    ) -> AuditOut:
        """Put an audit into the queue; where one of the card is there already, that one is meant.

        model: the one that speaks, stopped by what it is given. tools: what measures, made when
        the audit begins.

        Raises:
            Conflict: the card has errors. QuotaError, BusyError: too many wait.
        """
        persona, folder = kept.sound(), kept.folder
        with self._lock:
            if folder in self._waiting:
                return self.get(folder)
            mine = sum(other == owner for other in self._waiting.values())
            if mine >= MAX_WAITING_OF_OWNER:
                raise QuotaError(f"{mine} of your audits are waiting; wait for one to end", 10.0)
            if len(self._waiting) >= MAX_WAITING or self._closed:
                raise BusyError("too many audits are waiting; try again later", 30.0)
            total = len(persona.statements)
            covers = f"the first {MAX_STATEMENTS} of {total} statements"
            state = AuditOut(
                state="queued", created_at=datetime.now(UTC),
                covers=covers if total > MAX_STATEMENTS else "",
            )  # fmt: skip
            self._write(folder, state)
            self._waiting[folder] = owner
            self._cancelled.discard(folder)

        def work() -> None:
            speaker = model(lambda: self._closed or folder in self._cancelled)
            self._run(folder, state, persona, questions, speaker, tools)

        self._pool.submit(work)
        return state

    def get(self, folder: Path) -> AuditOut:
        """The audit of a card as it stands."""
        try:
            told = AuditOut.model_validate_json((folder / _STATE).read_bytes())
        except FileNotFoundError:
            return AuditOut(state="none")
        if told.state in ("queued", "running") and folder not in self._waiting:
            return told.model_copy(update={"state": "failed", "problem": _CUT_OFF})
        return told

    def report(self, folder: Path) -> bytes:
        """The page of the last audit that succeeded. Raises ``NotFound``."""
        try:
            return (folder / _REPORT).read_bytes()
        except FileNotFoundError:
            raise NotFound("there is no report; POST an audit first, and wait for it") from None

    def cancel(self, folder: Path) -> None:
        """End the audit of a card at its next question, and take its report away."""
        with self._lock:
            if folder in self._waiting:
                self._cancelled.add(folder)
        for name in (_STATE, _REPORT):
            (folder / name).unlink(missing_ok=True)

    def close(self) -> None:
        """Stop; what waits is told as cut off."""
        self._closed = True
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _run(
        self,
        folder: Path,
        state: AuditOut,
        persona: Persona,
        questions: int,
        model: LanguageModel,
        tools: Callable[[], tuple[PairScorer, TextEmbedder]],
    ) -> None:
        state = state.model_copy(update={"state": "running", "by": model.name})
        try:
            self._write(folder, state)
            scorer, embedder = tools()
            out = Path(tempfile.mkdtemp(prefix="audit-"))
            try:
                report = audit(persona, model, out, ask=questions, scorer=scorer, embedder=embedder)
                self._shelf.write(folder, _REPORT, (out / PAGE).read_bytes())
            finally:
                shutil.rmtree(out, ignore_errors=True)
            figures = [_figure(measurement) for measurement in report.measurements]
            ended = {"state": "succeeded", "figures": figures}
        except Cancelled:
            ended = {"state": "failed", "problem": _CUT_OFF if self._closed else "cancelled"}
        except ConsistentGenError as error:
            ended = {"state": "failed", "problem": str(error)}
        except Exception as error:
            _log.error("fault in an audit: %s", type(error).__name__)
            ended = {"state": "failed", "problem": "the server made a mistake; tell its operator"}
        with self._lock:
            self._waiting.pop(folder, None)
            if folder in self._cancelled:
                self._cancelled.discard(folder)
                return
        finished = state.model_copy(update=ended | {"finished_at": datetime.now(UTC)})
        try:
            self._write(folder, finished)
        except (NotFound, OutputError) as error:  # the card was deleted, or the disk is full
            _log.warning("an audit was not kept: %s", type(error).__name__)

    def _write(self, folder: Path, state: AuditOut) -> None:
        data = json.dumps(state.model_dump(mode="json"), ensure_ascii=False)
        self._shelf.write(folder, _STATE, data.encode("utf-8"))


def _figure(measurement: Measurement) -> AuditFigure:
    told = measurement.as_json()
    return AuditFigure(**{name: told[name] for name in AuditFigure.model_fields})
