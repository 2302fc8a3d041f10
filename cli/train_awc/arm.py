"""An arm of the sweep: a window controller that drafts one length throughout and notes what `awc` would have seen."""

from collections.abc import Sequence
from dataclasses import dataclass

from shared.planning.views import SessionView
from shared.planning.windows.awc import MAX_STEP
from shared.planning.windows.rates import token_price
from shared.planning.windows.sensors import FloatArray, Sensors
from shared.planning.windows.setpoint import Choice, Setpoints
from shared.planning.windows.window import Decision, Load, Mode, RoundOutcome


@dataclass(frozen=True, slots=True)
class Look:
    """What `awc` would have decided on. features: [F]; predicted: [MAX_K + 1]; requests: of its
    sessions, by arrival.
    """

    features: FloatArray
    predicted: FloatArray
    requests: Sequence[int]


class Arm:
    """Always the same mode and length, with `awc`'s probes where nobody drafts."""

    name = "arm"

    def __init__(self, mode: Mode, k: int) -> None:
        self.looks: list[Look] = []
        self._mode, self._k = mode, k
        self._sensors = Sensors()
        self._setpoints = Setpoints(MAX_STEP)

    def observe(self, session: str, outcome: RoundOutcome) -> None:
        """Average the round."""
        self._sensors.observe(session, outcome)

    def forget(self, session: str) -> None:
        """Free the session's averages."""
        self._sensors.forget(session)

    def decide(self, session: SessionView, load: Load) -> Decision:
        """The arm's choice; a look every few batches."""

        def choose(_: Choice | None) -> Choice:
            self._look(session, load)
            return Choice(self._mode, self._k, token_price(load, self._k))

        return self._setpoints.decide(session, load, choose)

    def _look(self, session: SessionView, load: Load) -> None:
        reading = self._sensors.read(session, load, self._k)
        requests = [view.joined for view in load.sessions]
        self.looks.append(Look(reading.features, reading.predicted, requests))
