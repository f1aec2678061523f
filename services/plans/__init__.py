"""From a request to a plan, for the gateway that accepts it and for the painter that draws it.

`planner` says what is wrong with a story before it is drawn, knowing a model without its weights,
and `orders` is one frame of a story as it travels in a lease.
"""

from __future__ import annotations

from services.plans.orders import FrameOrder, PlanBook
from services.plans.planner import Planner, validate_story

__all__ = ["FrameOrder", "PlanBook", "Planner", "validate_story"]
