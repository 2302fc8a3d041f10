"""`fused`: the core itself drafts, beside the target, always the same length. The simplest use of its drafter.

A row that the core drafts for needs no device: two hops a round, however far devices are.
"""

from shared.planning.views import SessionView
from shared.planning.windows.window import Decision, Load, RoundOutcome


class Fused:
    """The same k in every row."""

    name = "fused"

    def __init__(self, k: int) -> None:
        self._k = k

    def observe(self, session: str, outcome: RoundOutcome) -> None:
        """Nothing is learnt."""

    def decide(self, session: SessionView, load: Load) -> Decision:
        """The fixed length, at the core."""
        return Decision.fuse(self._k)

    def forget(self, session: str) -> None:
        """Nothing is held."""


def make(k: int) -> Fused:
    """Make the controller, for the registry."""
    return Fused(k)
