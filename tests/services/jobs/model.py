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
    expires: float = 0.0
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

    def unfinished(self, owner: str | None = None) -> int:
        return sum(not job.finished for job in self.jobs.values() if owner in (None, job.owner))

    def holder(self, lease: str) -> tuple[ModelJob, ModelFrame] | None:
        for job in self.jobs.values():
            for frame in job.frames.values():
                if frame.lease == lease:
                    return job, frame
        return None

    def expire(self, now: float) -> int:
        taken = 0
        for job in self.jobs.values():
            for frame in job.frames.values():
                lapsed = frame.state == "running" and frame.expires <= now
                if frame.state in ENDED or not (lapsed or job.past(now)):
                    continue
                taken += 1
                if frame.cancelling:
                    frame.end("cancelled")
                elif job.past(now):
                    frame.end("failed", "deadline")
                elif frame.attempt >= MAX_ATTEMPTS:
                    frame.end("failed", "worker_lost")
                else:
                    frame.end("queued")
        return taken

    def renew(self, lease: str, now: float) -> bool:
        found = self.holder(lease)
        if found is None:
            return False
        job, frame = found
        if frame.cancelling:
            frame.end("cancelled")
        elif job.past(now):
            frame.end("failed", "deadline")
        else:
            frame.expires = now + LEASE_S
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

    def fail(self, lease: str, retryable: bool) -> None:
        found = self.holder(lease)
        if found is None:
            return
        frame = found[1]
        if frame.cancelling:
            frame.end("cancelled")
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

    def possible(self, running_per_key: int) -> tuple[int, dict[str, int]]:
        """How many frames may be leased now, and how many more of each owner."""
        kinds: dict[str, list[str]] = {}
        for job in self.jobs.values():
            kinds.setdefault(job.owner, []).extend(f.state for f in job.frames.values())
        room = {who: running_per_key - found.count("running") for who, found in kinds.items()}
        return sum(min(room[who], found.count("queued")) for who, found in kinds.items()), room
