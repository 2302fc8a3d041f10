"""What the window controller `awc` sees of a verifier: its load in numbers without units, and goodput's prediction.

Times are relative to a pass of one row with one token, so that what is learnt on one verifier holds on another that is
ten times as fast.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log, log1p, sqrt
from typing import Final

import numpy as np
import numpy.typing as npt

from shared.planning.views import SessionView
from shared.planning.windows.rates import predicted_rates
from shared.planning.windows.window import MAX_K, Load, RoundOutcome

FloatArray = npt.NDArray[np.float32]
FAST: Final = 0.25  # weight of the newest round in a session's fast averages
SLOW: Final = 0.02  # weight of the newest look in the slow average of the number of sessions
SHAPE: Final = (0, 1, 2, 4, 8, 16)  # draft lengths at which the prediction itself is a feature
MIN_RATIO: Final = 1e-3  # of a ratio whose logarithm is taken
FEATURES: Final = (
    "link",  # log of the mean link's time
    "draft",  # log of the mean time of a drafted token
    "uneven",  # log of the slowest draft of four tokens over the mean one
    "per_token",  # log of a further token's time in a pass
    "sessions",  # log of their number
    "rows",  # log of the mean rows of a pass over the sessions: how the policy batches
    "alpha",  # mean acceptance, slow average
    "alpha_spread",  # its standard deviation over sessions
    "alpha_fast",  # mean acceptance of the last few rounds
    "prefill",  # share of sessions that wait for their prompt
    "queue",  # log of the time until the verifier has finished what is staged
    "busy",  # share of a round in which the verifier works for this session's batch
    "trend",  # log of the number of sessions over its slow average
    "excess",  # log of the measured round over the predicted one
    "tpot",  # log of the measured time per token
    "k",  # present draft length, as a share of the longest
    *(f"shape_{k}" for k in SHAPE),  # log cost predicted by goodput, less its mean over these
)


@dataclass(slots=True)
class Rounds:
    """Fast averages of one session's rounds: accepted tokens, rejections, emitted tokens, milliseconds."""

    accepted: float = 0.0
    rejected: float = 0.0
    tokens: float = 0.0
    round_ms: float = 0.0

    def observe(self, outcome: RoundOutcome) -> None:
        """Add a round."""
        if outcome.drafted:
            self.accepted += FAST * (outcome.accepted - self.accepted)
            self.rejected += FAST * ((outcome.accepted < outcome.drafted) - self.rejected)
        if outcome.round_s:
            weight = FAST if self.round_ms else 1.0
            self.tokens += weight * (outcome.accepted + 1 - self.tokens)
            self.round_ms += weight * (1e3 * outcome.round_s - self.round_ms)

    def alpha(self, slow: float) -> float:
        """Acceptance of the last rounds. slow: the average to begin from."""
        return (self.accepted + FAST * slow) / (self.accepted + self.rejected + FAST)


@dataclass(frozen=True, slots=True)
class Reading:
    """A look at a verifier: its features [FEATURES], and goodput's log of milliseconds per token by k [MAX_K + 1]."""

    features: FloatArray
    predicted: FloatArray


class Sensors:
    """Averages of the sessions' rounds, and of each verifier's number of sessions."""

    def __init__(self) -> None:
        self._rounds: dict[str, Rounds] = {}
        self._usual: dict[str, float] = {}  # number of sessions, by verifier

    def observe(self, session: str, outcome: RoundOutcome) -> None:
        """A round of the session was verified."""
        self._rounds.setdefault(session, Rounds()).observe(outcome)

    def forget(self, session: str) -> None:
        """The session has ended."""
        self._rounds.pop(session, None)

    def read(self, session: SessionView, load: Load, k: int) -> Reading:
        """Look at the session's verifier, at which k tokens are drafted at present."""
        views = list(load.sessions) or [session]
        drafting = [view for view in views if view.can_draft] or [session]
        unit_ms = load.law.beta_ms + load.law.per_token_ms + load.law.per_context_ms * load.cached
        predicted = np.log(len(views) / predicted_rates(load))
        usual = self._usual.get(load.verifier, float(len(views)))
        self._usual[load.verifier] = usual + SLOW * (len(views) - usual)
        shape = predicted[list(SHAPE)]
        values = {
            **_of_devices(drafting, unit_ms),
            **_of_load(load, views, unit_ms),
            **self._of_rounds(load, views, float(predicted[k]), unit_ms),
            "alpha_fast": self._alpha_fast(drafting),
            "trend": log(len(views) / usual),
            "k": k / MAX_K,
            **{f"shape_{at}": value for at, value in zip(SHAPE, shape - shape.mean(), strict=True)},
        }
        features = np.array([values[name] for name in FEATURES], dtype=np.float32)
        return Reading(features, predicted.astype(np.float32))

    def _alpha_fast(self, drafting: Sequence[SessionView]) -> float:
        new = Rounds()
        alphas = [self._rounds.get(view.session, new).alpha(view.alpha) for view in drafting]
        return sum(alphas) / len(alphas)

    def _of_rounds(
        self, load: Load, views: Sequence[SessionView], predicted: float, unit_ms: float
    ) -> dict[str, float]:
        """What rounds took, beside what was predicted; as predicted while there are none."""
        seen = [self._rounds[view.session] for view in views if view.session in self._rounds]
        seen = [rounds for rounds in seen if rounds.round_ms]
        if not seen:
            return {"excess": 0.0, "tpot": predicted - log(unit_ms), "busy": 0.5}
        round_ms = sum(rounds.round_ms for rounds in seen) / len(seen)
        tokens = sum(rounds.tokens for rounds in seen) / len(seen)
        new = load.rows * tokens
        pass_ms = load.law.beta_ms + load.law.per_token_ms * new + load.law.per_context_ms * load.cached
        tpot = log(max(round_ms / tokens / unit_ms, MIN_RATIO))
        return {
            "excess": tpot + log(unit_ms) - predicted,
            "tpot": tpot,
            "busy": min(2.0, pass_ms * len(views) / load.rows / round_ms),
        }


def _of_devices(drafting: Sequence[SessionView], unit_ms: float) -> dict[str, float]:
    """Links, draft times and acceptance of the sessions that can draft."""
    count = len(drafting)
    link_ms = 1e3 * sum(view.link_s for view in drafting) / count
    draft_ms = 1e3 * sum(view.draft_s_per_token for view in drafting) / count
    slowest_ms = 1e3 * max(view.link_s + 4 * view.draft_s_per_token for view in drafting)
    alpha = sum(view.alpha for view in drafting) / count
    return {
        "link": log(max(link_ms / unit_ms, MIN_RATIO)),
        "draft": log(max(draft_ms / unit_ms, MIN_RATIO)),
        "uneven": log(max(slowest_ms, MIN_RATIO) / max(link_ms + 4 * draft_ms, MIN_RATIO)),
        "alpha": alpha,
        "alpha_spread": sqrt(sum((view.alpha - alpha) ** 2 for view in drafting) / count),
    }


def _of_load(load: Load, views: Sequence[SessionView], unit_ms: float) -> dict[str, float]:
    """The law of a pass, the sessions and the queue."""
    count = len(views)
    waiting = sum(view.phase in ("prefill", "prefilling") for view in views)
    return {
        "per_token": log(max(load.law.per_token_ms / unit_ms, MIN_RATIO)),
        "sessions": log(count),
        "rows": log(load.rows / count),
        "prefill": waiting / count,
        "queue": log1p(1e3 * load.queue_s / unit_ms),
    }
