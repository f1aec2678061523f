"""API keys and their limits: the file of hashes, and who shows a right one (`ring`).

`python -m services.keys add FILE ID` makes a key.
"""

from __future__ import annotations

from services.keys.ring import (
    ANONYMOUS,
    ANONYMOUS_ID,
    Key,
    KeyRing,
    Quota,
    create_key,
    retire_key,
    revoke_key,
    rotate_key,
)

__all__ = [
    "ANONYMOUS",
    "ANONYMOUS_ID",
    "Key",
    "KeyRing",
    "Quota",
    "create_key",
    "retire_key",
    "revoke_key",
    "rotate_key",
]
