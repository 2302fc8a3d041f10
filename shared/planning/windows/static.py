"""`static`: always the same draft length. The baseline of all window controllers."""

from shared.planning.views import SessionView
from shared.planning.windows.window import Decision, Load, RoundOutcome


class Static:
    """The same k in every round."""

    name = "static"

    def __init__(self, k: int) -> None:
        self._k = k

    def observe(self, session: str, outcome: RoundOutcome) -> None:
        """Nothing is learnt."""

    def decide(self, session: SessionView, load: Load) -> Decision:
        """The fixed length."""
        return Decision.draft(self._k)

    def forget(self, session: str) -> None:
        """Nothing is held."""


def make(k: int) -> Static:
    """Make the controller, for the registry."""
    return Static(k)
