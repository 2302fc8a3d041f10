"""Expected tokens per millisecond of a verifier by its sessions' draft length, and what a drafted token must bring.

    u(k) = (1 - α^(k+1)) / (1 - α)      a session's expected tokens of a round
    T(k) = max(away + pass + late, B · pass + n · prompt)
    away = max over sessions (link + k · draft), 0 for k = 0

The policy verifies the sessions in B batches in turn; pass is that of one batch, with k + 1 new tokens of each of its
sessions.

n prompts of new sessions arrive in T. Where the verifier is always at work they are read with the next batch. Where it
waits for devices (B = 1, k > 0), those that arrive meanwhile, if any do, are read in a pass of their own. It begins
half way through the wait on average, and drafts that are back before its end are late:

    late = (1 - exp(-n)) · max(0, beta + max(1, n) · prompt - away / 2)
"""

import math
from collections.abc import Collection
from typing import Final

import numpy as np
import numpy.typing as npt

from shared.planning.calibration import BIN, BINS
from shared.planning.problem import MAX_PROMPT_SHARE
from shared.planning.views import SessionView
from shared.planning.windows.window import MAX_K, Load

GAIN: Final = 1.05  # predicted ratio of tokens per second that a change of length must bring
KS: Final = np.arange(MAX_K + 1)
HOPE: Final = 1.0  # standard deviations of α that are hoped for where no draft seems to pay
MAX_ALPHA: Final = 0.999
ROUNDS: Final = 6  # in which the number of prompts of a round is found to a few per cent

Floats = npt.NDArray[np.float64]


def hopeful_length(load: Load, present: int | None) -> int:
    """The best length by what is known; where that is 0, the best one by what can be hoped for."""
    return best_length(load, present) or best_length(load, 0, HOPE)


def best_length(load: Load, present: int | None, hope: float = 0.0) -> int:
    """The length with the highest predicted rate, or the present one if that is hardly better. hope: of α."""
    rates = predicted_rates(load, hope)
    best = int(rates.argmax())
    return best if present is None or rates[best] > GAIN * rates[present] else present


def predicted_rates(load: Load, hope: float = 0.0) -> Floats:
    """Expected tokens per millisecond of all sessions together for k = 0 to MAX_K, [MAX_K + 1].

    hope: standard deviations by which each α is better than estimated.
    """
    drafting = [view for view in load.sessions if view.can_draft]
    others = len(load.sessions) - len(drafting)
    tokens = _expected_tokens(drafting, hope) + others
    link_ms, draft_ms = (np.array(values) * 1e3 for values in _times(drafting))
    away_ms = (link_ms[:, None] + draft_ms[:, None] * KS).max(axis=0, initial=0.0)
    away_ms[0] = 0.0
    law, batches = load.law, batches_of(load)
    new = (len(drafting) * (KS + 1) + others) / batches
    cached = load.cached * len(load.sessions) / batches
    pass_ms = law.beta_ms + law.per_token_ms * new + law.per_context_ms * cached
    rates: Floats = tokens / _round_ms(load, away_ms, pass_ms, batches)
    return rates


def _round_ms(load: Load, away_ms: Floats, pass_ms: Floats, batches: int) -> Floats:
    """T by draft length. It depends on the prompts that arrive in it, so it is found by going round."""
    prompts = load.prompts
    waits = (away_ms > 0) & (batches == 1)
    round_ms = np.maximum(away_ms + pass_ms, batches * pass_ms)
    for _ in range(ROUNDS if prompts.per_ms else 0):
        read = prompts.per_ms * round_ms
        reading_ms = load.law.beta_ms + np.maximum(1.0, read) * prompts.each_ms
        late_ms = np.where(waits, -np.expm1(-read) * np.maximum(0.0, reading_ms - away_ms / 2), 0.0)
        with_batch_ms = np.where(waits, 0.0, np.minimum(read * prompts.each_ms, MAX_PROMPT_SHARE * round_ms))
        round_ms = np.maximum(away_ms + pass_ms + late_ms, batches * pass_ms + with_batch_ms)
    return round_ms


def batches_of(load: Load) -> int:
    """Batches in which the policy verifies the sessions in turn, by the rows of a pass."""
    return max(1, round(len(load.sessions) / load.rows)) if load.rows else 1


def token_price(load: Load, k: int) -> float:
    """Tokens that the verifier emits in the time that a further drafted token takes of a pass with drafts of k."""
    return float(predicted_rates(load)[k]) * load.law.per_token_ms


def stop_byte(view: SessionView, price: float) -> int:
    """The survival byte below which the next token of the session's draft is not worth its price."""
    worth = (at for at, survival in enumerate(view.survival) if survival * view.alpha >= price)
    return BIN * next(worth, BINS - 1)


def _expected_tokens(drafting: Collection[SessionView], hope: float) -> Floats:
    """Σ u(k), [MAX_K + 1]."""
    alpha = np.minimum([view.alpha + hope * _deviation(view) for view in drafting], MAX_ALPHA)[:, None]
    total: Floats = ((1 - alpha ** (KS + 1)) / (1 - alpha)).sum(axis=0)
    return total


def _deviation(view: SessionView) -> float:
    """Standard deviation of α after the session's own observations and those that its prior counts for."""
    return math.sqrt(view.alpha * (1 - view.alpha) / (view.prior_weight + view.seen))


def _times(drafting: Collection[SessionView]) -> tuple[list[float], list[float]]:
    """Seconds of each session's link, and of its drafted tokens."""
    return [view.link_s for view in drafting], [view.draft_s_per_token for view in drafting]
