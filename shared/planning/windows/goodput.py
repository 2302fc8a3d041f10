"""`goodput`: the draft length with the most expected tokens per predicted second at this load, k = 0 included.

What the best engines do, with the devices' links and speeds in the prediction: one length for all sessions of a
verifier, argmax over k of Σ u(k) / T(k). u(k) = (1 - α^(k+1)) / (1 - α) are a session's expected tokens of a round.

    T(k) = max(away + pass, pass / (1 - s))        away = max over sessions (link + k · draft), 0 for k = 0

pass is that of rows · (k + 1) new tokens, and s the share of the verifier's time that new sessions' prompts take: it
reads them while devices draft, and keeps everybody waiting where they do not.

All sessions get one length because a round's costs are shared: alone, each would let the others wait for its longer
draft. Acceptance, speeds and the law of a pass are the scheduler's estimates. Who does not draft learns nothing about
acceptance. So where k = 0 seems best, drafting goes on as long as it would pay if α were HOPE deviations better than
estimated; what is learnt meanwhile makes the deviation small.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

import numpy as np

from shared.planning.views import SessionView
from shared.planning.windows.window import MAX_K, Decision, Load, RoundOutcome

GAIN: Final = 1.05  # predicted ratio of tokens per second that a change of length must bring
KS: Final = np.arange(MAX_K + 1)
DECIDE_EVERY: Final = 8  # batches of a verifier between two decisions
HOPE: Final = 1.0  # standard deviations of α that are hoped for where no draft seems to pay
# Where k = 0 even so, all sessions of one batch draft a token now and then, so that α is learnt: after so many batches,
# and after twice as many each time that it changes nothing.
FIRST_PROBE: Final = 32
MAX_PROBE: Final = 1024
MAX_ALPHA: Final = 0.999


@dataclass(slots=True)
class _Length:
    k: int
    decided_at: int  # the verifier's step
    probe_at: int
    probe_pause: int = FIRST_PROBE


class Goodput:
    """One draft length for each verifier's sessions, with hysteresis."""

    name = "goodput"

    def __init__(self) -> None:
        self._lengths: dict[str, _Length] = {}

    def observe(self, session: str, outcome: RoundOutcome) -> None:
        """Nothing is learnt here: acceptance and costs are the scheduler's estimates."""

    def decide(self, session: SessionView, load: Load) -> Decision:
        """The verifier's length, decided anew every few batches."""
        length = self._lengths.get(load.verifier)
        if length is None:
            length = _Length(hopeful_length(load, None), load.step, load.step + FIRST_PROBE)
            self._lengths[load.verifier] = length
        elif not 0 <= load.step - length.decided_at < DECIDE_EVERY:
            self._decide(length, load)
        return Decision.draft(length.k or int(load.step == length.probe_at))

    def _decide(self, length: _Length, load: Load) -> None:
        k = hopeful_length(load, length.k)
        if k != length.k or load.step < length.decided_at:  # a restarted verifier begins anew
            length.probe_at, length.probe_pause = load.step + FIRST_PROBE, FIRST_PROBE
        elif load.step > length.probe_at:
            length.probe_pause = min(2 * length.probe_pause, MAX_PROBE)
            length.probe_at = load.step + length.probe_pause
        length.k, length.decided_at = k, load.step

    def forget(self, session: str) -> None:
        """Nothing is held of a session."""


def hopeful_length(load: Load, present: int | None) -> int:
    """The best length by what is known; where that is 0, the best one by what can be hoped for."""
    return best_length(load, present) or best_length(load, 0, HOPE)


def best_length(load: Load, present: int | None, hope: float = 0.0) -> int:
    """The length with the highest predicted rate, or the present one if that is hardly better. hope: of α."""
    rates = predicted_rates(load, hope, load.prompt_share)
    best = int(rates.argmax())
    return best if present is None or rates[best] > GAIN * rates[present] else present


def predicted_rates(load: Load, hope: float = 0.0, prompt_share: float = 0.0) -> np.ndarray:
    """Expected tokens per millisecond of all sessions together for k = 0 to MAX_K, [MAX_K + 1].

    hope: standard deviations by which each α is better than estimated. prompt_share: s.
    """
    drafting = [view for view in load.sessions if view.can_draft]
    others = len(load.sessions) - len(drafting)
    tokens = _expected_tokens(drafting, hope) + others
    link_ms, draft_ms = (np.array(values) * 1e3 for values in _times(drafting))
    away_ms = (link_ms[:, None] + draft_ms[:, None] * KS).max(axis=0, initial=0.0)
    away_ms[0] = 0.0
    law = load.law
    new = len(drafting) * (KS + 1) + others
    pass_ms = law.beta_ms + law.per_token_ms * new + law.per_context_ms * load.cached * len(load.sessions)
    rates: np.ndarray = tokens / np.maximum(away_ms + pass_ms, pass_ms / (1 - prompt_share))
    return rates


def _expected_tokens(drafting: Collection[SessionView], hope: float) -> np.ndarray:
    """Σ u(k), [MAX_K + 1]."""
    alpha = np.minimum([view.alpha + hope * _deviation(view) for view in drafting], MAX_ALPHA)[:, None]
    total: np.ndarray = ((1 - alpha ** (KS + 1)) / (1 - alpha)).sum(axis=0)
    return total


def _deviation(view: SessionView) -> float:
    """Standard deviation of α after the session's own observations and those that its prior counts for."""
    return math.sqrt(view.alpha * (1 - view.alpha) / (view.prior_weight + view.seen))


def _times(drafting: Collection[SessionView]) -> tuple[list[float], list[float]]:
    """Seconds of each session's link, and of its drafted tokens."""
    return [view.link_s for view in drafting], [view.draft_s_per_token for view in drafting]


def make(k: int) -> Goodput:
    """Make the controller, for the registry. It needs no first length."""
    return Goodput()
