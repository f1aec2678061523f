"""Whether pictures may be kept: uploads are refused, drawings withheld, with a reason."""

from __future__ import annotations

from services.safety.check import Safety

__all__ = ["Safety"]
