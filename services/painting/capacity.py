"""How many more leases a painter takes, and which further ones it would draw at once.

A painter belongs to one thread; the numbers here may be read from others.
"""

from __future__ import annotations

from collections.abc import Iterable

from consistent_gen.engine.state import FrameState
from services.jobs import Lease
from services.painting.ordering_rules import CallChoice


class Capacity:
    """Rows of the calls to come, and who has them.

    Args:
        rows: of a denoiser call; most frames take two.
        max_frames: most leases at once, but for newcomers.
        late_join: whether leases may join before all others are drawn.
    """

    def __init__(self, rows: int, max_frames: int, late_join: bool) -> None:
        self.max_frames = max_frames
        self.calls = 0
        self._late_join = late_join
        self._rows = rows
        self._frames = min(max_frames, rows // 2)  # of a call
        self._first_call = 0  # calls made before the present batch
        self._busy_rows = 0
        self._leases = 0
        self._users = 0

    @property
    def leases(self) -> int:
        """How many more leases the next calls have rows for."""
        if not self._late_join and self.calls > self._first_call and self._leases > 0:
            return 0
        free = self.max_frames - self._leases
        return max(0, min(free, -(-(self._rows - self._busy_rows) // 2)))

    @property
    def newcomers(self) -> int:
        """How many users of whom nothing is drawn would get a row in the next call from users who
        have several, when `leases` more have come. Their leases may exceed `max_frames`, at most
        by as many again.
        """
        if not self._late_join:
            return 0
        return max(0, self._frames - self._users - self.leases)

    def joined(self, rows: int, leases: Iterable[Lease]) -> None:
        """A lease was taken on that needs so many rows; `leases` are all that are held now."""
        if self._leases == 0:
            self._first_call = self.calls
        self._busy_rows += rows
        self.hold(leases)

    def hold(self, leases: Iterable[Lease]) -> None:
        """Take note of the leases that are held now."""
        held = list(leases)
        self._leases = len(held)
        # Bulk frames are passed over by whoever comes.
        self._users = len({(lease.owner, lease.user) for lease in held if not lease.bulk})

    def emptied(self) -> None:
        """The engine has nothing to do."""
        self._busy_rows = 0

    def called(self, choice: CallChoice, left: Iterable[FrameState]) -> None:
        """A step is over: how many rows will be taken once the next call is over too, as far as can
        be told? `left` are the frames that have not left the engine.

        A lease takes about as long to come as a call takes. One that comes before there is room
        waits in the engine, where those that have begun go first; one that comes late leaves a
        hole in a call.
        """
        self.calls += bool(choice.called)
        states = {state.id: state for state in left}
        staying = [g.rows for g in choice.ready if g.frames[0].id in states]
        ending = [s.rows for s in states.values() if s.started and _ends_with_next_call(s)]
        self._busy_rows = max(0, sum(staying) - sum(ending))


def _ends_with_next_call(state: FrameState) -> bool:
    return not state.request.hidden and state.index == state.request.settings.steps - 1
