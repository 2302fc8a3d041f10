"""An arm of the sweep: a window controller that drafts one length throughout and notes what `awc` would have seen."""

from collections.abc import Sequence
from dataclasses import dataclass

from shared.planning.views import SessionView
from shared.planning.windows.awc import DECIDE_EVERY, Setpoint
from shared.planning.windows.sensors import FloatArray, Sensors
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
        self._setpoints: dict[str, Setpoint] = {}

    def observe(self, session: str, outcome: RoundOutcome) -> None:
        """Average the round."""
        self._sensors.observe(session, outcome)

    def forget(self, session: str) -> None:
        """Free the session's averages."""
        self._sensors.forget(session)

    def decide(self, session: SessionView, load: Load) -> Decision:
        """The arm's choice; a look every few batches."""
        setpoint = self._setpoints.get(load.verifier)
        if setpoint is None:
            setpoint = self._setpoints[load.verifier] = Setpoint.begin(self._mode, self._k, load.step)
            self._look(session, load)
        elif load.step - setpoint.decided_at >= DECIDE_EVERY:
            setpoint.turn(self._mode, self._k, load.step)
            self._look(session, load)
        return setpoint.decision(load.step)

    def _look(self, session: SessionView, load: Load) -> None:
        reading = self._sensors.read(session, load, self._k)
        requests = [view.joined for view in load.sessions]
        self.looks.append(Look(reading.features, reading.predicted, requests))
