"""The target alone, one user a forward pass: the baseline of every speed-up."""

from itertools import chain

from shared.planning.policies.unplanned import Unplanned
from shared.planning.policy import Plan, Selection
from shared.planning.session_index import SessionIndex
from shared.planning.views import SessionView, VerifierView


class Autoregressive(Unplanned):
    """`autoregressive`: users in turn, the longest waiting first. A prefill chunk takes a turn too."""

    name = "autoregressive"
    k = 0
    lanes = 1

    def select(
        self, sessions: SessionIndex, verifier: VerifierView, plan: Plan | None, now: float
    ) -> Selection:
        """The session or prefill chunk that has waited longest, alone."""
        waiting = chain(sessions.ready(0)[:1], sessions.prefills())
        first = min(waiting, key=lambda view: (view.since, view.joined), default=None)
        return Selection((first.session,), alone=True) if first else Selection(alone=True)

    def next_length(self, session: SessionView, plan: Plan | None, now: float) -> int:
        """0: devices never draft."""
        return 0


def make(k: int, batches: int) -> Autoregressive:
    """Make the policy, for the registry."""
    return Autoregressive()
