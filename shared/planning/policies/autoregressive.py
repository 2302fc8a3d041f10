"""The target alone, one user a forward pass: the floor that every speed-up is counted from."""

from itertools import chain

from shared.planning.policies.unplanned import Unplanned
from shared.planning.policy import Plan, Selection
from shared.planning.session_index import SessionIndex
from shared.planning.views import SessionView, VerifierView


class Autoregressive(Unplanned):
    """`autoregressive`: users in turn, the longest waiting first; a prompt's chunk is a turn like any other."""

    name = "autoregressive"
    k = 0
    lanes = 1

    def select(
        self, sessions: SessionIndex, verifier: VerifierView, plan: Plan | None, now: float
    ) -> Selection:
        """See Policy.select."""
        waiting = chain(sessions.ready(0)[:1], sessions.prefills())
        first = min(waiting, key=lambda view: (view.since, view.joined), default=None)
        return Selection((first.session,), alone=True) if first else Selection(alone=True)

    def next_length(self, session: SessionView, plan: Plan | None, now: float) -> int:
        """See Policy.next_length."""
        return 0


def make(k: int, batches: int) -> Autoregressive:
    """For the registry."""
    return Autoregressive()
