"""`goodput`: the draft length with the most expected tokens per predicted second at this load, k = 0 included.

What the best engines do, with the devices' links and speeds in the prediction (rates.py): one length for all sessions
of a verifier, argmax over k of Σ u(k) / T(k). Acceptance, speeds and the law of a pass are the scheduler's estimates.
Who does not draft learns nothing about acceptance. So where k = 0 seems best, drafting goes on as long as it would pay
if α were HOPE deviations better than estimated; what is learnt meanwhile makes the deviation small.

Within that length a device stops at the token whose survival, by the device's own word as far as it proved true, makes
the next one not worth its part of the pass.
"""

from shared.planning.views import SessionView
from shared.planning.windows.rates import hopeful_length, token_price
from shared.planning.windows.setpoint import Choice, Setpoints
from shared.planning.windows.window import Decision, Load, RoundOutcome


class Goodput:
    """One draft length for each verifier's sessions, with hysteresis."""

    name = "goodput"

    def __init__(self) -> None:
        self._setpoints = Setpoints()

    def observe(self, session: str, outcome: RoundOutcome) -> None:
        """Nothing is learnt here: acceptance and costs are the scheduler's estimates."""

    def decide(self, session: SessionView, load: Load) -> Decision:
        """The verifier's length, decided anew every few batches."""

        def choose(present: Choice | None) -> Choice:
            k = hopeful_length(load, present.k if present else None)
            return Choice("distributed" if k else "none", k, token_price(load, k))

        return self._setpoints.decide(session, load, choose)

    def forget(self, session: str) -> None:
        """Nothing is held of a session."""


def make(k: int) -> Goodput:
    """Make the controller, for the registry. It needs no first length."""
    return Goodput()
