"""N batches in a fixed cycle: one drafts while another is verified (the order of DiP-SD, lengths all equal)."""

from shared.planning.policies.closing import close_in_turn
from shared.planning.policies.unplanned import Unplanned
from shared.planning.policy import Plan, Selection
from shared.planning.session_index import SessionIndex
from shared.planning.views import SessionView, VerifierView


class CyclicK(Unplanned):
    """`cyclic-k`: a batch closes when it is its turn and all its members are ready.

    Its turn: of the lanes with somebody to verify, the one whose last batch closed longest ago. It may close
    while another is being verified, so that the verifier never waits for a hop.
    """

    name = "cyclic-k"

    def __init__(self, k: int, batches: int) -> None:
        self.k = k
        self.lanes = batches

    def select(
        self, sessions: SessionIndex, verifier: VerifierView, plan: Plan | None, now: float
    ) -> Selection:
        """See Policy.select."""
        return close_in_turn(sessions, verifier.max_rows)

    def next_length(self, session: SessionView, plan: Plan | None, now: float) -> int:
        """See Policy.next_length."""
        return self.k


def make(k: int, batches: int) -> CyclicK:
    """For the registry."""
    return CyclicK(k, batches)
