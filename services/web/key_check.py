"""Bearer tokens of calls: right ones are remembered for a moment, guessing is slowed down."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable

from starlette.concurrency import run_in_threadpool

from services.errors import Refusal
from services.keys import Key, KeyRing

WRONG_KEYS_PER_MINUTE = 30
KEY_REMEMBERED_S = 10.0
MAX_REMEMBERED = 4096


class KeyCheck:
    """Verifies bearer tokens: right ones are remembered for a moment, guessing is slowed down."""

    def __init__(self, keys: KeyRing, clock: Callable[[], float] = time.monotonic) -> None:
        self._keys, self._clock = keys, clock
        self._known: dict[bytes, tuple[Key, float]] = {}
        self._wrong: Counter[str] = Counter()
        self._minute = 0

    async def verify(self, token: str, client: str) -> Key:
        """The token's key. Raises ``Refusal``: 401 for a wrong one, 429 after many wrong ones."""
        if not token:
            raise unauthorized("send your API key as 'Authorization: Bearer KEY'")
        now = self._clock()
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        key, until = self._known.get(digest, (None, 0.0))
        if key is not None and now < until:
            return key
        if int(now / 60) != self._minute:
            self._minute = int(now / 60)
            self._wrong.clear()
        if self._wrong[client] >= WRONG_KEYS_PER_MINUTE:
            raise Refusal(429, "too_many_wrong_keys", "too many wrong keys", retry_after=60.0)
        # Hashing takes time on purpose, which must not be the event loop's.
        key = await run_in_threadpool(self._keys.verify, token)
        if key is None:
            if len(self._wrong) < MAX_REMEMBERED:
                self._wrong[client] += 1
            raise unauthorized("this API key is not known; ask the operator for one")
        if len(self._known) >= MAX_REMEMBERED:
            self._known.clear()
        self._known[digest] = (key, now + KEY_REMEMBERED_S)
        return key


def unauthorized(detail: str) -> Refusal:
    """The answer to a call without a right key."""
    return Refusal(401, "unauthorized", detail, headers={"WWW-Authenticate": "Bearer"})
