"""`threshold`: the device drafts on while it is sure enough that everything so far will be accepted.

The baseline of the DSD paper that looks at the draft model's own confidence: on while 1 - Π p ≤ 0.7, p being the
probabilities of the drafted tokens. The device decides, token by token; the scheduler only says where to stop.
"""

from typing import Final

from shared.planning.views import SessionView
from shared.planning.windows.window import MAX_K, Decision, Load, RoundOutcome
from shared.speculative.survival import to_byte

STOP_BELOW: Final = to_byte(0.3)  # 1 - 0.7


class Threshold:
    """The longest draft, which the device ends."""

    name = "threshold"

    def observe(self, session: str, outcome: RoundOutcome) -> None:
        """Nothing is learnt."""

    def decide(self, session: SessionView, load: Load) -> Decision:
        """The same for everybody."""
        return Decision.draft(MAX_K, STOP_BELOW)

    def forget(self, session: str) -> None:
        """Nothing is held."""


def make(k: int) -> Threshold:
    """Make the controller, for the registry. It needs no first length."""
    return Threshold()
