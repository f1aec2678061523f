"""Everything one gateway holds, opened together and closed together."""

from __future__ import annotations

import functools
import re
import secrets
from asyncio import Semaphore
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from threading import BoundedSemaphore
from typing import TypeVar

from anyio import CapacityLimiter, to_thread

from services.errors import NotFound, Refusal
from services.jobs import JobStore, WorkerBoard
from services.jobs.silence import ListeningClock
from services.keys import KeyRing
from services.persona_lab import PersonaLab
from services.personas import OpenPersonas
from services.plans import Planner
from services.safety import Safety
from services.scores import PictureScorer, open_scorer
from services.settings import Settings
from services.store import ArtifactStore, Database, Library, StoryStore, open_database
from services.store.identifiers import new_id
from services.store.lock import FolderLock
from services.store.opening import lock_folder, pair
from services.store.pictures import CheckedPicture, read_picture
from services.telemetry.traces import Traces, open_traces
from services.web.events import Feed
from services.web.intake import CleanPicture, PictureIntake
from services.web.metrics import Metrics, ServerGauges

CHAT_DRAWINGS, EXPORTS = 16, 2  # at once
PERSONA_THREADS, WORKER_THREADS = 32, 32
_T = TypeVar("_T")
_ARTIFACT = re.compile(r"[a-z]+_[0-9a-z]{16,40}")


@dataclass
class ServerState:
    """The parts of a gateway. `worker_token` is what workers show, made at start when not set."""

    settings: Settings
    database: Database
    keys: KeyRing
    artifacts: ArtifactStore
    stories: StoryStore
    jobs: JobStore
    library: Library
    planner: Planner
    intake: PictureIntake
    safety: Safety
    scorer: PictureScorer
    personas: OpenPersonas
    persona_lab: PersonaLab
    workers: WorkerBoard
    worker_token: str
    listening: ListeningClock
    lock: FolderLock | None  # None: others may use the store as well
    feed: Feed = field(default_factory=Feed)
    # Both hold a thread for long: talks that wait for a drawing, and exports that fill a core.
    chat_drawings: BoundedSemaphore = field(default_factory=lambda: BoundedSemaphore(CHAT_DRAWINGS))
    exports: BoundedSemaphore = field(default_factory=lambda: BoundedSemaphore(EXPORTS))
    metrics: Metrics = field(default_factory=Metrics)
    traces: Traces = field(default_factory=Traces)
    # Requests about personas wait for each other in a thread. More than these wait without one, so
    # that there are always threads for the others.
    persona_turns: Semaphore = field(default_factory=lambda: Semaphore(PERSONA_THREADS))
    # Workers are never kept waiting by callers: a lease that cannot be renewed would lapse.
    worker_threads: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(WORKER_THREADS))
    closed: bool = False
    _unsubscribe: Callable[[], None] | None = None

    def check_ready(self) -> int:
        """Whether a frame that is asked for now can be drawn and kept; how many workers are ready.
        Looks at the disk.

        Raises:
            StorageFull: no room. Refusal: no worker.
        """
        self.artifacts.check_room()
        ready = sum(self.workers.states().values())
        if not ready:
            detail = "no worker is ready; jobs are accepted and wait"
            raise Refusal(503, "not_ready", detail, retry_after=2.0)
        return ready

    async def for_workers(self, work: Callable[[], _T]) -> _T:
        """Do something for a worker on a thread that callers do not use."""
        return await to_thread.run_sync(work, limiter=self.worker_threads)

    def check_persona_room(self, owner: str, more: int = 0) -> None:
        """Whether a persona or a card of this key may grow by so many bytes. Raises StorageFull."""
        cards = self.persona_lab.shelf.used_bytes(owner)
        self.artifacts.check_room(owner, beside=self.personas.used_bytes(owner) + cards + more)

    def picture(self, owner: str, artifact: str) -> bytes:
        """The bytes of a picture. Raises ``Refusal`` (422) for what is no artifact of the owner."""
        if not _ARTIFACT.fullmatch(artifact):
            detail = (
                "a picture is named by the id of an artifact (art_...); addresses and paths are "
            )
            raise Refusal(
                422, "not_an_artifact", detail + "never fetched: POST /v1/artifacts first"
            )
        try:
            return self.artifacts.read(owner, artifact)
        except NotFound:
            raise Refusal(422, "unknown_artifact", "there is no such artifact of yours") from None

    def clean(self, owner: str, data: bytes) -> CleanPicture:
        """An upload, drawn anew and looked at as its owner's key wants it. Raises ``Refusal``."""
        return _cleaned(self.intake, self.safety, owner, data)

    def admitted(self, owner: str, data: bytes) -> CheckedPicture:
        """The same, with our opinion of it as a reference. Raises ``Refusal``."""
        return _admitted(self.intake, self.safety, owner, data)

    def stop_streams(self) -> None:
        """Let event streams end, so that the server can stop; call it before shutting down."""
        self.feed.close()

    def close(self) -> None:
        """Close everything; calling it again does nothing."""
        self.feed.close()
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None
        self.personas.close()
        self.persona_lab.close()
        self.scorer.close()
        if not self.closed:
            self.workers.leave()
        self.closed = True
        self.database.close()
        self.traces.close()
        if self.lock is not None:
            self.lock.close()


def open_state(settings: Settings, *, planner: Planner | None = None) -> ServerState:
    """Open the stores in ``storage.data_dir`` (made when missing) and at ``store.url``.

    planner: one whose model is in memory already; else it reads the model's configs when needed.

    Raises:
        InputError: settings, folder and database that do not fit together, or another gateway has
            the folder.
        StorageFull, StorageError, BusyError: the folder or the database cannot be used.
    """
    settings.check()
    lock = lock_folder(settings)
    try:
        database = open_database(settings)
        try:
            database.claim()
            pair(database, settings.storage.data_dir)
            return _opened(settings, database, lock, planner)
        except BaseException:
            database.close()
            raise
    except BaseException:
        if lock is not None:
            lock.close()
        raise


def _opened(
    settings: Settings, database: Database, lock: FolderLock | None, planner: Planner | None
) -> ServerState:
    folder = settings.storage.data_dir
    gateway = new_id("gate")
    keys = KeyRing(settings.auth.keys_file)
    artifacts = ArtifactStore(
        folder / "artifacts", database, settings.storage, quota_of=keys.quota_of
    )
    listening = ListeningClock()
    jobs = JobStore(
        database,
        settings.limits,
        listening=listening,
        lease_s=settings.engine.lease_s,
        max_attempts=settings.storage.max_attempts,
        quota_of=keys.quota_of,
        gateway=gateway,
    )
    stories = StoryStore(database)
    intake = PictureIntake(settings.limits.image_pixels)
    safety = Safety(settings.safety, keys.quota_of)
    planner = planner or Planner(settings.engine.model, settings.engine.lora_files)
    state = ServerState(
        settings=settings,
        database=database,
        keys=keys,
        artifacts=artifacts,
        stories=stories,
        jobs=jobs,
        library=Library(database, artifacts, admit=functools.partial(_admitted, intake, safety)),
        planner=planner,
        intake=intake,
        safety=safety,
        scorer=open_scorer(),
        personas=OpenPersonas(folder / "personas"),
        persona_lab=PersonaLab(folder / "persona-lab", settings.language),
        workers=WorkerBoard(
            settings.engine.lease_s, listening, database if database.shared else None, gateway
        ),
        listening=listening,
        lock=lock,
        traces=open_traces(settings.telemetry, "gateway"),
        worker_token=settings.auth.worker_token or secrets.token_urlsafe(32),
    )
    state._unsubscribe = jobs.subscribe(state.feed.changed)
    state.metrics.watch(
        ServerGauges(
            database,
            jobs.queue,
            artifacts.used_bytes,
            lambda: len(state.feed),
            state.workers.all,
            settings.storage,
        )
    )
    return state


def _cleaned(intake: PictureIntake, safety: Safety, owner: str, data: bytes) -> CleanPicture:
    clean = intake.read(data)
    safety.refuse(owner, clean.data)
    return clean


def _admitted(intake: PictureIntake, safety: Safety, owner: str, data: bytes) -> CheckedPicture:
    clean = _cleaned(intake, safety, owner, data)
    return replace(read_picture(clean.data, max_pixels=intake.max_pixels), data=clean.data)
