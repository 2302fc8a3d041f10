"""N batches in a fixed cycle: one drafts while another is verified, as in DiP-SD but with equal lengths."""

from shared.planning.policies.closing import close_in_turn
from shared.planning.policies.unplanned import Unplanned
from shared.planning.policy import Plan, Selection
from shared.planning.session_index import SessionIndex
from shared.planning.views import SessionView, VerifierView


class CyclicK(Unplanned):
    """`cyclic-k`: a batch closes when it is its turn and all its members are ready.

    Of the lanes with sessions to verify, it is the turn of the one whose last batch closed longest ago. A batch may
    close while another is being verified, so that the verifier never waits for a message.
    """

    name = "cyclic-k"

    def __init__(self, k: int, batches: int) -> None:
        self.k = k
        self.lanes = batches

    def select(
        self, sessions: SessionIndex, verifier: VerifierView, plan: Plan | None, now: float
    ) -> Selection:
        """The batch whose turn it is, once all its members are ready."""
        return close_in_turn(sessions, verifier.max_rows)

    def next_length(self, session: SessionView, plan: Plan | None, now: float) -> int:
        """The fixed draft length."""
        return self.k


def make(k: int, batches: int) -> CyclicK:
    """Make the policy, for the registry."""
    return CyclicK(k, batches)
