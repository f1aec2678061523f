"""Durable jobs: what is to be drawn, who is drawing it, and whose turn is next.

`store` is the whole; `admission` lets jobs in, and `queue` and `fairness` choose frames.
`records` are the values that go in and out, and `board` knows which workers there are.
"""

from __future__ import annotations

from services.jobs.board import WorkerBoard
from services.jobs.records import Lease, OrderedFrame, OwnerLoad, Progress, QueueState
from services.jobs.store import JobStore

__all__ = [
    "JobStore",
    "Lease",
    "OrderedFrame",
    "OwnerLoad",
    "Progress",
    "QueueState",
    "WorkerBoard",
]
