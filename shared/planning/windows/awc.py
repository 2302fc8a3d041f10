"""`awc`: adaptive window control (DSD). A small network learnt from simulations predicts what a token costs.

Every few batches of a verifier it predicts the log cost of a token for every mode and draft length, and takes the
least: by simulated outcomes, so with the queues, prompts and waits that goodput's formula leaves out. It departs from
goodput's length, and from the present one, only for a predicted gain of 5 %, and moves by at most two tokens a batch.
Where load or devices are unlike all that the network has seen, goodput's formula decides, and a warning says so.

All sessions of a verifier get one length, as with `goodput`: they wait for each other.
"""

from dataclasses import dataclass, field
from math import log
from typing import Final

import structlog

from shared.planning.views import SessionView
from shared.planning.windows.cost_network import CostNetwork, predicted_of, read_weights
from shared.planning.windows.goodput import best_length
from shared.planning.windows.sensors import FloatArray, Reading, Sensors
from shared.planning.windows.window import Decision, Load, Mode, RoundOutcome

GAIN: Final = log(1.05)  # predicted gain that a change must bring
MAX_STEP: Final = 2  # tokens by which the length changes from one batch to the next
DECIDE_EVERY: Final = 8  # batches of a verifier between two decisions
# Without drafts nothing is learnt of α: now and then all sessions of a batch draft a token, ever more rarely.
FIRST_PROBE: Final = 32
MAX_PROBE: Final = 1024

logger = structlog.get_logger()


@dataclass(slots=True)
class Setpoint:
    """Where a verifier's draft length is, and where it goes.

    mode, target: the last decision. k: the present length. decided_at, moved_at: the verifier's steps. probe_at,
    probe_pause: the next batch that probes, and the pause after it.
    """

    mode: Mode
    target: int
    k: int
    decided_at: int
    moved_at: int
    probe_at: int
    probe_pause: int = FIRST_PROBE

    @classmethod
    def begin(cls, mode: Mode, k: int, step: int) -> "Setpoint":
        """A setpoint that has arrived."""
        return cls(mode, k, k, step, step, step + FIRST_PROBE)

    def turn(self, mode: Mode, k: int, step: int) -> None:
        """Take a new decision."""
        if (mode, k) != (self.mode, self.target):
            self.probe_at, self.probe_pause = step + FIRST_PROBE, FIRST_PROBE
        elif step > self.probe_at:
            self.probe_pause = min(2 * self.probe_pause, MAX_PROBE)
            self.probe_at = step + self.probe_pause
        if mode != self.mode and "fused" in (mode, self.mode):
            self.k = k  # another drafter: no way lies between
        self.mode, self.target, self.decided_at = mode, k, step

    def decision(self, step: int) -> Decision:
        """The length of this batch: the target, at most MAX_STEP from that of the batch before."""
        if step != self.moved_at:
            self.k += max(-MAX_STEP, min(MAX_STEP, self.target - self.k))
            self.moved_at = step
        if self.mode == "fused":
            return Decision.fuse(self.k)
        return Decision.draft(self.k or int(step == self.probe_at))


@dataclass(slots=True)
class Awc:
    """One draft length for each verifier's sessions. warned: features that were outside of the training range."""

    network: CostNetwork
    name: str = "awc"
    warned: set[str] = field(default_factory=set)
    _sensors: Sensors = field(default_factory=Sensors)
    _setpoints: dict[str, Setpoint] = field(default_factory=dict)

    def observe(self, session: str, outcome: RoundOutcome) -> None:
        """Average the round."""
        self._sensors.observe(session, outcome)

    def forget(self, session: str) -> None:
        """Free the session's averages."""
        self._sensors.forget(session)

    def decide(self, session: SessionView, load: Load) -> Decision:
        """The verifier's length, decided anew every few batches."""
        setpoint = self._setpoints.get(load.verifier)
        if setpoint is None or load.step < setpoint.decided_at:  # a restarted verifier begins anew
            mode, k = self.choose(session, load, None)
            setpoint = self._setpoints[load.verifier] = Setpoint.begin(mode, k, load.step)
        elif load.step - setpoint.decided_at >= DECIDE_EVERY:
            setpoint.turn(*self.choose(session, load, setpoint), load.step)
        return setpoint.decision(load.step)

    def choose(self, session: SessionView, load: Load, setpoint: Setpoint | None) -> tuple[Mode, int]:
        """Mode and draft length of least predicted cost, or the present ones if that is hardly less."""
        reading = self._sensors.read(session, load, setpoint.k if setpoint else 0)
        if self._is_outside(reading):
            k = best_length(load, setpoint.target if setpoint else None)
            return ("distributed" if k else "none"), k
        choices = self.network.choices
        predicted = predicted_of(choices, reading.predicted)
        costs = self.network.log_costs(reading.features, predicted)
        chosen = best(costs, predicted)
        present = (setpoint.mode, setpoint.target) if setpoint else None
        if present in choices and costs[choices.index(present)] - costs[chosen] < GAIN:
            return present
        return choices[chosen]

    def _is_outside(self, reading: Reading) -> bool:
        name = self.network.outside(reading.features)
        if name is not None and name not in self.warned:
            self.warned.add(name)
            logger.warning("awc is outside of its training range, goodput decides", feature=name)
        return name is not None


def best(costs: FloatArray, predicted: FloatArray) -> int:
    """Index of the choice of least log cost, or of goodput's if that is hardly more. costs, predicted: [C]

    A network that has learnt from few simulations is wrong by some percent itself.
    """
    cheapest, goodput = int(costs.argmin()), int(predicted.argmin())
    return cheapest if costs[goodput] - costs[cheapest] >= GAIN else goodput


def make(k: int) -> Awc:
    """Make the controller with the shipped weights, for the registry. It needs no first length."""
    return Awc(read_weights())
