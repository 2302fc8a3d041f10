"""The target alone, all users in one batch: batching without speculation."""

from shared.planning.policies.closing import close_when_all_are_ready
from shared.planning.policies.unplanned import Unplanned
from shared.planning.policy import Plan, Selection
from shared.planning.session_index import SessionIndex
from shared.planning.views import SessionView, VerifierView


class GreedyBatch(Unplanned):
    """`greedy-batch`: every forward pass has all users and gives each one token."""

    name = "greedy-batch"
    k = 0
    lanes = 1

    def select(
        self, sessions: SessionIndex, verifier: VerifierView, plan: Plan | None, now: float
    ) -> Selection:
        """One batch of all sessions, once all are ready."""
        return close_when_all_are_ready(sessions, verifier.max_rows)

    def next_length(self, session: SessionView, plan: Plan | None, now: float) -> int:
        """0: devices never draft."""
        return 0


def make(k: int, batches: int) -> GreedyBatch:
    """Make the policy, for the registry."""
    return GreedyBatch()
