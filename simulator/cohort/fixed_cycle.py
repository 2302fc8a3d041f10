"""A fixed cycle of given batches with one draft length, as a policy."""

from collections.abc import Sequence

from shared.planning.policies.unplanned import Unplanned
from shared.planning.policy import Plan, Selection
from shared.planning.session_index import SessionIndex
from shared.planning.views import SessionView, VerifierView


class FixedCycle(Unplanned):
    """Serves once all sessions are ready: batch after batch in turn, each as soon as all its members are ready.

    It is no policy for a deployment: it knows who will come, and serves one cohort.
    """

    name = "fixed-cycle"
    k = 0
    lanes = 1

    def __init__(self, batches: Sequence[Sequence[int]], length: int) -> None:
        """batches: of sessions by their order of arrival, from 0 on."""
        self._batches, self._length = [frozenset(batch) for batch in batches], length
        self._turn = 0
        self._begun = False

    def select(
        self, sessions: SessionIndex, verifier: VerifierView, plan: Plan | None, now: float
    ) -> Selection:
        """The batch whose turn it is; its sessions that have ended are missed by nobody."""
        views = list(sessions)
        ready = sum(view.phase == "ready" for view in views)
        self._begun = self._begun or ready == sum(map(len, self._batches))
        for _ in self._batches if self._begun else ():
            members = [view for view in views if view.joined in self._batches[self._turn]]
            if any(view.phase != "ready" for view in members):
                return Selection()
            self._turn = (self._turn + 1) % len(self._batches)
            if members:
                return Selection(tuple(view.session for view in members))
        return Selection()

    def next_length(self, session: SessionView, plan: Plan | None, now: float) -> int:
        """The given length, or 0 before the cycle begins."""
        return self._length if self._begun else 0
