"""The draft length of all sessions of a verifier, decided anew every few of its batches, with probes where it is 0.

All sessions get one length because a round's costs are shared: alone, each would let the others wait for its longer
draft. Each stops sooner where its next token is not worth the time that it takes of the pass.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

from shared.planning.views import SessionView
from shared.planning.windows.rates import stop_byte
from shared.planning.windows.window import MAX_K, Decision, Load, Mode

DECIDE_EVERY: Final = 8  # batches of a verifier between two decisions
# Who does not draft learns nothing about acceptance. So where k = 0 all sessions of one batch draft a token now and
# then: after so many batches, and after twice as many each time that it changes nothing.
FIRST_PROBE: Final = 32
MAX_PROBE: Final = 1024


class Choice(NamedTuple):
    """Who drafts, and how far. price: tokens that a further drafted token must bring, of a device's draft."""

    mode: Mode
    k: int
    price: float = 0.0


@dataclass(slots=True)
class Setpoint:
    """Where a verifier's draft length is, and where it goes.

    choice: the last decision. k: the present length. decided_at, moved_at: the verifier's steps. probe_at, probe_pause:
    the next batch that probes, and the pause after it.
    """

    choice: Choice
    k: int
    decided_at: int
    moved_at: int
    probe_at: int
    probe_pause: int = FIRST_PROBE

    def turn(self, choice: Choice, step: int) -> None:
        """Take a new decision."""
        if choice[:2] != self.choice[:2]:
            self.probe_at, self.probe_pause = step + FIRST_PROBE, FIRST_PROBE
        elif step > self.probe_at:
            self.probe_pause = min(2 * self.probe_pause, MAX_PROBE)
            self.probe_at = step + self.probe_pause
        if choice.mode != self.choice.mode and "fused" in (choice.mode, self.choice.mode):
            self.k = choice.k  # another drafter: no way lies between
        self.choice, self.decided_at = choice, step

    def move(self, step: int, max_step: int) -> None:
        """Go towards the target in this batch, by so many tokens at most."""
        if step != self.moved_at:
            self.k += max(-max_step, min(max_step, self.choice.k - self.k))
            self.moved_at = step

    def decision(self, session: SessionView, step: int) -> Decision:
        """What the session does in this batch."""
        if self.choice.mode == "fused":
            return Decision.fuse(self.k)
        if self.k:
            return Decision.draft(self.k, stop_byte(session, self.choice.price))
        return Decision.draft(int(step == self.probe_at))


class Setpoints:
    """The setpoint of each verifier. max_step: tokens by which a length changes from one batch to the next."""

    def __init__(self, max_step: int = MAX_K) -> None:
        self._max_step = max_step
        self._setpoints: dict[str, Setpoint] = {}

    def decide(self, session: SessionView, load: Load, choose: Callable[[Choice | None], Choice]) -> Decision:
        """The session's next draft. choose: for its verifier, from the present choice if there is one."""
        setpoint = self._setpoints.get(load.verifier)
        if setpoint is None or load.step < setpoint.decided_at:  # a restarted verifier begins anew
            choice = choose(None)
            setpoint = Setpoint(choice, choice.k, load.step, load.step, load.step + FIRST_PROBE)
            self._setpoints[load.verifier] = setpoint
        elif load.step - setpoint.decided_at >= DECIDE_EVERY:
            setpoint.turn(choose(setpoint.choice), load.step)
        setpoint.move(load.step, self._max_step)
        return setpoint.decision(session, load.step)
