"""`oracle`: the window controller that knows what every draft will be worth. The yardstick of all others.

Before each batch it knows how many tokens of its sessions' next drafts would match (simulator/truth.py), and the true
costs: links, draft times, the law of a pass. A draft is never longer than it matches, so every drafted token is one
token gained. What is left to choose is how long the batch waits for drafts, since all its sessions wait for each other:

    argmax over D of (M + Σ k_m(D)) / (D + pass(M rows, Σ k_m(D) drafted))      k_m(D) = what device m drafts within D

over M sessions; D = 0 is a batch without drafts. Batching is that of `fixed-k`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shared.planning.problem import Server
from shared.planning.views import SessionView
from shared.planning.windows.window import MAX_K, Decision, Load, RoundOutcome
from shared.scenario.scenario import DeviceSpec
from simulator.device_delays import DeviceDelays
from simulator.truth import Truth

Floats = npt.NDArray[np.floating]
ROUND_HOPS = 4  # from one pass to the next without a draft: verdict and batch, each to the broker and on
DRAFT_HOPS = 2  # further ones of a draft: verdict to the device, draft to the scheduler


@dataclass(frozen=True)
class TrueCosts:
    """What rounds cost in this simulation, in milliseconds. hop_ms: from any process to the broker."""

    devices: Mapping[str, DeviceSpec]
    delays: DeviceDelays
    server: Server
    hop_ms: float

    def away_ms(self, address: str) -> Floats:
        """From a pass to the arrival of a draft, beyond a round without one, by its length: [MAX_K + 1]."""
        device = self.devices[address.partition(":")[0]]
        link_ms = 2 * (1e3 * self.delays[device.name] + device.jitter_ms) + DRAFT_HOPS * self.hop_ms
        away = link_ms + device.draft_ms * np.arange(MAX_K + 1)
        away[0] = 0.0
        return away

    def pass_ms(self, rows: int, longest: Floats, drafted: Floats, cached: int) -> Floats:
        """A pass, and the hops to the next one. cached: tokens of all rows together."""
        took = self.server.verify_ms(rows, longest, drafted, cached / rows, cached)
        return np.asarray(took + ROUND_HOPS * self.hop_ms, dtype=float)


class Oracle:
    """The deadline of each verifier's batch, and of every session the longest draft within it that matches."""

    name = "oracle"

    def __init__(self, truth: Truth, costs: TrueCosts) -> None:
        self._truth, self._costs = truth, costs
        self._deadlines: dict[str, tuple[int, float]] = {}  # by verifier: its step, and milliseconds

    def observe(self, session: str, outcome: RoundOutcome) -> None:
        """Nothing is learnt: everything is known."""

    def decide(self, session: SessionView, load: Load) -> Decision:
        """The longest draft of the session that matches and comes before the batch's deadline."""
        step, deadline_ms = self._deadlines.get(load.verifier, (-1, 0.0))
        if step != load.step:
            rows = [view for view in load.sessions if view.phase == "ready"] or [session]
            deadline_ms = self._deadline_ms(rows)
            self._deadlines[load.verifier] = load.step, deadline_ms
        return Decision.draft(int(np.sum(self._away_ms(session) <= deadline_ms)))

    def forget(self, session: str) -> None:
        """Nothing is held of a session."""

    def _deadline_ms(self, rows: Sequence[SessionView]) -> float:
        """How long the sessions of these rows should wait for drafts; 0.0 = they should not draft."""
        away = [self._away_ms(view) for view in rows]
        lengths = np.concatenate([np.arange(1, len(one) + 1) for one in away])
        order = np.argsort(np.concatenate(away), kind="stable")
        waits = np.concatenate([[0.0], np.concatenate(away)[order]])
        longest = np.maximum.accumulate(np.concatenate([[0], lengths[order]]))
        drafted = np.arange(len(waits), dtype=float)
        took = self._costs.pass_ms(len(rows), longest, drafted, sum(view.length for view in rows))
        return float(waits[np.argmax((len(rows) + drafted) / (waits + took))])

    def _away_ms(self, view: SessionView) -> Floats:
        """Until its draft of 1, 2, … tokens is there, as far as they match: [0 to MAX_K]."""
        if not view.can_draft or not view.device:
            return np.empty(0)
        accepted = self._truth.matches(view.session, view.device, view.length, view.drafted)
        at, left = view.length + accepted + 1, view.remaining - accepted - 2
        matches = self._truth.matches(view.session, view.device, at, max(0, min(MAX_K, left)))
        return self._costs.away_ms(view.device)[1 : matches + 1]
