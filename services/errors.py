"""What the server raises on purpose, as branches of the package's tree of errors.

The gateway turns each class into one HTTP status; a worker or a script can catch the same classes.
What a client sent wrong in itself (an unknown index, a bad cursor) is an
:class:`~consistent_gen.errors.InputError`, as everywhere else.

============  ======  ==================================================================
class         status  when
============  ======  ==================================================================
NotFound      404     no such thing, or it is another owner's: the two look the same
Conflict      409     idempotency key with another body, old revision, name taken
Gone          410     it was there and was deleted
QuotaError    429     this caller has too much waiting; others may go on
BusyError     503     the whole server has too much waiting
StorageFull   507     no room: quota, disk full, or a folder that cannot be written
StorageError  500     the database is damaged or was written by a newer version
Refusal       any     an answer whose status and code are said outright
============  ======  ==================================================================
"""

from __future__ import annotations

from collections.abc import Mapping

from consistent_gen.errors import ConsistentGenError


class ServiceError(ConsistentGenError):
    """Base of what the stores raise. ``status`` is the HTTP status, ``code`` a word for programs.

    ``retry_after`` is in seconds, None where trying again alone does not help.
    """

    status = 500
    code = "internal"

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class NotFound(ServiceError):
    """There is no such thing for this owner."""

    status = 404
    code = "not_found"


class Conflict(ServiceError):
    """The request contradicts what is stored (revision, idempotency key, taken name)."""

    status = 409
    code = "conflict"


class _TryLater(ServiceError):
    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message, retry_after=retry_after)
        self.retry_after: float = retry_after


class QuotaError(_TryLater):
    """This owner has reached a limit of their own; ``retry_after`` in seconds."""

    status = 429
    code = "quota"


class BusyError(_TryLater):
    """The server as a whole cannot take more now; ``retry_after`` in seconds."""

    status = 503
    code = "busy"


class StorageFull(ServiceError):
    """Nothing can be written: a quota, a full disk, or a folder without permission."""

    status = 507
    code = "storage_full"


class StorageError(ServiceError):
    """The database is damaged, or of a newer version of this software."""

    status = 500
    code = "storage"


class Refusal(ConsistentGenError):
    """An answer other than success, with its HTTP status and code said outright.

    retry_after: seconds after which the same request may succeed.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        retry_after: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.code = status, code
        self.retry_after = retry_after
        self.headers = dict(headers or {})
