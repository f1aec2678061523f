"""Takedown of somebody's pictures: everything that shows them or was made from them, on one server.

`survey` finds what goes, `removal` takes it away and looks for what is left.
`python -m services.takedown` is the command.
"""

from __future__ import annotations

from services.takedown.removal import Remains, remove
from services.takedown.survey import Sought, Takedown, survey

__all__ = ["Remains", "Sought", "Takedown", "remove", "survey"]
