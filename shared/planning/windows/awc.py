"""`awc`: adaptive window control (DSD). A small network learnt from simulations predicts what a token costs.

Every few batches of a verifier it predicts the log cost of a token for every mode and draft length, and takes the
least: by simulated outcomes, so with the queues, prompts and waits that goodput's formula leaves out. It departs from
goodput's length, and from the present one, only for a predicted gain of 5 %, and moves by at most two tokens a batch.
Where load or devices are unlike all that the network has seen, goodput's formula decides, and a warning says so.

All sessions of a verifier get one length, as with `goodput`: they wait for each other. And as long as goodput hopes for
something from drafts they draft: who does not learns nothing about acceptance, and would believe it ever after.
"""

from dataclasses import dataclass, field
from math import log
from typing import Final

import numpy as np
import structlog

from shared.planning.views import SessionView
from shared.planning.windows.cost_network import CostNetwork, predicted_of, read_weights
from shared.planning.windows.rates import best_length, hopeful_length, token_price
from shared.planning.windows.sensors import FloatArray, Reading, Sensors
from shared.planning.windows.setpoint import Choice, Setpoints
from shared.planning.windows.window import Decision, Load, Mode, RoundOutcome

GAIN: Final = log(1.05)  # predicted gain that a change must bring
MAX_STEP: Final = 2  # tokens by which the length changes from one batch to the next

logger = structlog.get_logger()


@dataclass(slots=True)
class Awc:
    """One draft length for each verifier's sessions. warned: features that were outside of the training range."""

    network: CostNetwork
    name: str = "awc"
    warned: set[str] = field(default_factory=set)
    _sensors: Sensors = field(default_factory=Sensors)
    _setpoints: Setpoints = field(default_factory=lambda: Setpoints(MAX_STEP))

    def observe(self, session: str, outcome: RoundOutcome) -> None:
        """Average the round."""
        self._sensors.observe(session, outcome)

    def forget(self, session: str) -> None:
        """Free the session's averages."""
        self._sensors.forget(session)

    def decide(self, session: SessionView, load: Load) -> Decision:
        """The verifier's length, decided anew every few batches."""
        return self._setpoints.decide(session, load, lambda present: self.choose(session, load, present))

    def choose(self, session: SessionView, load: Load, present: Choice | None) -> Choice:
        """What costs least by the prediction, or the present choice if that costs hardly more."""
        reading = self._sensors.read(session, load, present.k if present else 0)
        if self._is_outside(reading):
            k = best_length(load, present.k if present else None)
            mode: Mode = "distributed" if k else "none"
        else:
            mode, k = self._of_network(reading, present, hopeful_length(load, None) > 0)
        return Choice(mode, k, token_price(load, k))

    def _of_network(self, reading: Reading, present: Choice | None, drafts: bool) -> tuple[Mode, int]:
        choices = self.network.choices
        predicted = predicted_of(choices, reading.predicted)
        costs = self.network.log_costs(reading.features, predicted)
        if drafts:
            costs = np.where([k > 0 for _, k in choices], costs, np.float32(np.inf))
        chosen = best(costs, predicted)
        if present and present[:2] in choices and costs[choices.index(present[:2])] - costs[chosen] < GAIN:
            return present[:2]
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
