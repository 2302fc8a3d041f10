"""The target alone, all users in one batch: what batching gives without speculation."""

from shared.planning.policies.closing import close_when_all_are_ready
from shared.planning.policies.unplanned import Unplanned
from shared.planning.policy import Plan, Selection
from shared.planning.session_index import SessionIndex
from shared.planning.views import SessionView, VerifierView


class GreedyBatch(Unplanned):
    """`greedy-batch`: one token per user and forward pass, everybody in every pass."""

    name = "greedy-batch"
    k = 0
    lanes = 1

    def select(
        self, sessions: SessionIndex, verifier: VerifierView, plan: Plan | None, now: float
    ) -> Selection:
        """See Policy.select."""
        return close_when_all_are_ready(sessions, verifier.max_rows)

    def next_length(self, session: SessionView, plan: Plan | None, now: float) -> int:
        """See Policy.next_length."""
        return 0


def make(k: int, batches: int) -> GreedyBatch:
    """For the registry."""
    return GreedyBatch()
