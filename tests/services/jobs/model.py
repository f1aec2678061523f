"""The rules of the job store in a few lines: what its tests compare it with."""

from __future__ import annotations

from dataclasses import dataclass, field

LEASE_S, MAX_ATTEMPTS = 4.0, 2
ENDED = ("succeeded", "failed", "cancelled")


@dataclass
class ModelFrame:
    index: int
    version: int
    state: str = "queued"
    attempt: int = 0
    code: str | None = None
    lease: str | None = None
    worker: str = ""
    renewed: float = 0.0
    suspect: bool = False
    cancelling: bool = False

    def end(self, state: str, code: str | None = None) -> None:
        self.state, self.code, self.lease, self.cancelling = state, code, None, False


@dataclass
class ModelJob:
    owner: str
    user: str
    story: str
    bulk: bool
    deadline_s: float | None
    deadline: float | None
    frames: dict[int, ModelFrame]
    seen_events: set[int] = field(default_factory=set)
    accepted: list[int] = field(default_factory=list)

    @property
    def state(self) -> str:
        kinds = [frame.state for frame in self.frames.values()]
        if any(kind not in ENDED for kind in kinds):
            return "queued" if set(kinds) == {"queued"} else "running"
        drawn, failed = kinds.count("succeeded"), kinds.count("failed")
        if drawn == len(kinds):
            return "succeeded"
        if drawn and failed:
            return "partial"
        return "cancelled" if "cancelled" in kinds else "failed"

    @property
    def finished(self) -> bool:
        return self.state not in ("queued", "running")

    def past(self, now: float) -> bool:
        return self.deadline is not None and self.deadline <= now


class Model:
    """All jobs, as they must be."""

    def __init__(self) -> None:
        self.jobs: dict[str, ModelJob] = {}
        self.heard: dict[str, float] = {}

    def unfinished(self, owner: str | None = None) -> int:
        return sum(not job.finished for job in self.jobs.values() if owner in (None, job.owner))

    def holder(self, lease: str) -> tuple[ModelJob, ModelFrame] | None:
        for job in self.jobs.values():
            for frame in job.frames.values():
                if frame.lease == lease:
                    return job, frame
        return None

    def running(self) -> dict[str, list[tuple[ModelJob, ModelFrame]]]:
        """What each worker draws."""
        found: dict[str, list[tuple[ModelJob, ModelFrame]]] = {}
        for job in self.jobs.values():
            for frame in job.frames.values():
                if frame.state == "running":
                    found.setdefault(frame.worker, []).append((job, frame))
        return found

    def expire(self, now: float, steady: float) -> int:
        """`now` is for deadlines, `steady` for silence."""
        taken = 0
        for worker, held in self.running().items():
            dead = steady - self.heard[worker] >= LEASE_S
            for job, frame in held:
                if not dead and steady - frame.renewed < 2 * LEASE_S:
                    continue
                taken += 1
                if frame.cancelling:
                    frame.end("cancelled")
                elif job.past(now):
                    frame.end("failed", "deadline")
                elif dead and len(held) == 1 and frame.attempt >= MAX_ATTEMPTS:
                    frame.end("failed", "worker_lost")
                else:
                    frame.end("queued")
                    frame.suspect |= dead
                    frame.attempt -= not (dead and len(held) == 1)
        for job in self.jobs.values():
            for frame in job.frames.values() if job.past(now) else ():
                if frame.state not in ENDED:
                    taken += 1
                    frame.end(*(("cancelled",) if frame.cancelling else ("failed", "deadline")))
        return taken

    def restart(self, steady: float) -> None:
        """Whoever listens anew has heard of everything just now."""
        for held in self.running().values():
            for _, frame in held:
                frame.renewed = self.heard[frame.worker] = steady

    def renew(self, lease: str, now: float, steady: float) -> bool:
        found = self.holder(lease)
        if found is None:
            return False
        job, frame = found
        if frame.cancelling:
            frame.end("cancelled")
        elif job.past(now):
            frame.end("failed", "deadline")
        else:
            frame.renewed = self.heard[frame.worker] = steady
        return frame.lease == lease

    def finish(self, lease: str) -> bool:
        found = self.holder(lease)
        if found is None:
            return False
        job, frame = found
        wanted = not frame.cancelling
        frame.end("succeeded" if wanted else "cancelled")
        if wanted:
            job.accepted.append(frame.index)
        return wanted

    def fail(self, lease: str, retryable: bool, alone: bool) -> None:
        found = self.holder(lease)
        if found is None:
            return
        frame = found[1]
        if frame.cancelling:
            frame.end("cancelled")
        elif retryable and not alone:
            frame.end("queued")
            frame.suspect, frame.attempt = True, frame.attempt - 1
        elif retryable and frame.attempt < MAX_ATTEMPTS:
            frame.end("queued")
        else:
            frame.end("failed", "broken")

    def release(self, lease: str) -> None:
        found = self.holder(lease)
        if found is None:
            return
        frame = found[1]
        if frame.cancelling:
            frame.end("cancelled")
        else:
            frame.end("queued")
            frame.attempt -= 1

    def cancel(self, job: str) -> None:
        for frame in self.jobs[job].frames.values():
            if frame.state == "queued":
                frame.end("cancelled")
            elif frame.state == "running":
                frame.cancelling = True

    def retry(self, job: str, now: float) -> None:
        known = self.jobs[job]
        for frame in known.frames.values():
            frame.cancelling = False
            if frame.state in ("failed", "cancelled"):
                frame.end("queued")
                frame.attempt = 0
                known.deadline = known.deadline_s and now + known.deadline_s

    def served(self) -> set[tuple[str, str]]:
        """Owners and users of whom an interactive frame is being drawn."""
        return {
            (job.owner, job.user)
            for job in self.jobs.values()
            if not job.bulk and any(frame.state == "running" for frame in job.frames.values())
        }

    def possible(self, running_per_key: int, suspects: bool) -> tuple[int, dict[str, int]]:
        """How many frames may be leased now, and how many more of each owner."""
        kinds: dict[str, list[str]] = {}
        for job in self.jobs.values():
            kinds.setdefault(job.owner, []).extend(
                f.state for f in job.frames.values() if f.state != "queued" or f.suspect == suspects
            )
        room = {who: running_per_key - found.count("running") for who, found in kinds.items()}
        return sum(min(room[who], found.count("queued")) for who, found in kinds.items()), room

    def turn(self, worker: str, running_per_key: int) -> str:
        """What a worker may be given: "others", "suspect" or "nothing"."""
        running = self.running()
        drawing = {who for who, held in running.items() if any(f.suspect for _, f in held)}
        if worker in drawing:
            return "nothing"
        _, room = self.possible(running_per_key, True)
        queued = [(j, f) for j in self.jobs.values() for f in j.frames.values()]
        queued = [(job, frame) for job, frame in queued if frame.state == "queued"]
        waiting = [job for job, frame in queued if frame.suspect and room[job.owner] > 0]
        urgent = any(not frame.suspect and not job.bulk for job, frame in queued)
        if drawing or not waiting or (all(job.bulk for job in waiting) and urgent):
            return "others"
        return "nothing" if worker in running else "suspect"
